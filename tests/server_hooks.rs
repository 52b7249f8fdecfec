//! A handler is told of connections that begin and end, once each and with the reason, and can end them.

mod common;
#[cfg(feature = "forward-secrecy")]
#[path = "common/forward_secret.rs"]
mod forward_secret;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, Peer, eventually, server};
use falcotcp_sync::{
    ConnectionId, ConnectionInfo, EndReason, Handler, Key, Reply, Request, Response, ServerBuilder,
    ServerHandle,
};

/// Does what a message says, and keeps what it is told, in the order of the connections' numbers.
#[derive(Default)]
struct Hooks {
    open: Mutex<HashMap<ConnectionId, String>>,
    ended: Mutex<Vec<(ConnectionId, EndReason)>>,
    replies: Mutex<Vec<Reply>>,
}

impl Handler for Hooks {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        assert!(
            self.open.lock().expect("no panic").contains_key(&request.connection_id()),
            "not established"
        );
        response.extend_from_slice(request.message());
        match request.message() {
            b"reject" => response.reject(),
            b"close" => response.close(),
            b"close later" => {
                self.replies.lock().expect("no panic").push(response.defer());
                response.close();
            }
            b"panic" => panic!("as the test wants"),
            _ => {}
        }
    }

    fn established(&self, connection: ConnectionInfo<'_>) {
        let was_told =
            self.open.lock().expect("no panic").insert(connection.id(), connection.key_name().to_owned());
        assert_eq!(was_told, None, "established twice");
        assert_ne!(connection.key_name(), "panics");
    }

    fn ended(&self, connection: ConnectionId, reason: EndReason) {
        let key_name =
            self.open.lock().expect("no panic").remove(&connection).expect("established, and not ended");
        self.ended.lock().expect("no panic").push((connection, reason));
        assert_ne!(key_name, "panics");
    }
}

impl Hooks {
    fn reasons(&self) -> Vec<EndReason> {
        let mut ended = self.ended.lock().expect("no panic").clone();
        ended.sort_by_key(|(id, _)| *id);
        ended.into_iter().map(|(_, reason)| reason).collect()
    }

    fn open(&self) -> usize {
        self.open.lock().expect("no panic").len()
    }
}

fn spawn(builder: ServerBuilder) -> (ServerHandle, Arc<Hooks>) {
    let hooks = Arc::new(Hooks::default());
    let server = builder.bind("127.0.0.1:0").expect("binding").spawn(Arc::clone(&hooks)).expect("spawning");
    (server, hooks)
}

#[test]
fn every_end_of_an_established_connection_is_told_with_its_reason() {
    let builder = server(2).max_message_size(100).accept_key("other", Key::from_bytes([9; 32]));
    let (server, hooks) = spawn(builder);
    let addr = server.local_addr();

    let mut strangers = [Peer::connect(addr), Peer::connect(addr)];
    strangers[0].send(&[0x77]);
    strangers[0].assert_closed_in_silence();

    drop(Peer::establish(addr));
    let mut too_large = Peer::establish(addr);
    too_large.send_message(&[7; 101]);
    assert_eq!(too_large.response(), None);
    too_large.half_close();
    let mut by_handler = Peer::establish(addr);
    assert_eq!(by_handler.exchange(b"close").as_deref(), Some(&b"close"[..]));
    assert_eq!(by_handler.rest(), b"");
    drop(by_handler);
    let mut withdrawn = Peer::connect(addr);
    withdrawn.send(&common::establishment(&Key::from_bytes([9; 32])));
    assert_eq!(withdrawn.receive(1), [0xFF]);
    assert!(server.keys().withdraw("other"));
    withdrawn.assert_closed_in_silence();
    eventually("four have ended", || hooks.reasons().len() == 4);
    let mut open = Peer::establish(addr);
    assert_eq!(open.exchange(b"panic"), None);
    open.assert_served();
    server.shutdown(PATIENCE).expect("a report");
    let expected =
        [EndReason::Peer, EndReason::Error, EndReason::Handler, EndReason::Withdrawn, EndReason::Stop];
    assert_eq!(hooks.reasons(), expected);
    assert_eq!(hooks.open(), 0);
    drop(strangers);
}

#[test]
fn lifetimes_and_cut_connections_are_told_as_well() {
    let (server, hooks) = spawn(server(1).lifetime(Duration::from_millis(100)));
    Peer::establish(server.local_addr()).assert_closed_in_silence();
    eventually("its end is told", || hooks.reasons() == [EndReason::Lifetime]);
    let (server, hooks) = spawn(common::server(1));
    let mut half = Peer::establish(server.local_addr());
    half.send(&[1, 0, 0]);
    eventually("it has been read", || server.stats().bytes_in == 157 + 3);
    drop(server);
    assert_eq!(hooks.reasons().len(), 1);
    assert_eq!(hooks.open(), 0);
}

#[test]
fn hooks_that_panic_are_contained() {
    let (server, hooks) = spawn(server(1).accept_key("panics", Key::from_bytes([9; 32])));
    let mut peer = Peer::connect(server.local_addr());
    peer.send(&common::establishment(&Key::from_bytes([9; 32])));
    assert_eq!(peer.receive(1), [0xFF]);
    drop(peer);
    eventually("its end is told", || hooks.reasons() == [EndReason::Peer]);
    Peer::establish(server.local_addr()).assert_served();
    assert_eq!(server.stats().panics, 2);
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
}

#[test]
fn a_handler_rejects_a_message_and_closes_behind_an_answer() {
    let (server, hooks) = spawn(server(1));
    let mut peer = Peer::establish(server.local_addr());
    assert_eq!(peer.exchange(b"reject"), None);
    peer.assert_served();
    let frames = [peer.message(b"close later"), peer.message(b"behind it")].concat();
    peer.send(&frames);
    eventually("it is deferred", || server.stats().deferred == 1);
    peer.assert_open();
    let reply = hooks.replies.lock().expect("no panic").pop().expect("a reply");
    reply.send("later").expect("it is wanted");
    assert_eq!(peer.response().as_deref(), Some(&b"later"[..]));
    assert_eq!(peer.rest(), b"", "what came behind it is not handled");
    peer.half_close();
    eventually("its end is told", || hooks.reasons() == [EndReason::Handler]);
    assert_eq!((server.stats().messages, server.stats().panics), (3, 0));
}

#[cfg(feature = "forward-secrecy")]
#[test]
fn a_client_hears_that_what_came_behind_the_last_answer_was_not_handled() {
    use falcotcp_sync::{Client, Error};

    let (server, hooks) = spawn(server(1));
    let mut client = Client::builder(common::key()).connect(server.local_addr()).expect("connecting");
    let mut outcomes = Vec::new();
    let end = client.pipeline([&b"before"[..], b"reject", b"close", b"behind it"], |outcome| {
        outcomes.push(outcome.map(<[u8]>::to_vec).map_err(|error| error.to_string()));
    });
    assert_eq!(outcomes[0], Ok(b"before".to_vec()));
    assert_eq!(outcomes[1], Err(Error::Rejected.to_string()));
    assert_eq!(outcomes[2], Ok(b"close".to_vec()));
    let error = end.expect_err("the server closed");
    assert!(!error.was_sent(), "{error}");
    eventually("its end is told", || hooks.reasons() == [EndReason::Handler]);
    // With `reconnect` it is sent again by itself.
    let builder = Client::builder(common::key()).reconnect(true);
    let mut client = builder.connect(server.local_addr()).expect("connecting");
    assert_eq!(client.message(b"close").expect("an answer"), b"close");
    assert_eq!(client.message(b"next").expect("an answer"), b"next");
}

#[cfg(feature = "forward-secrecy")]
#[test]
fn a_session_that_nobody_has_proven_is_not_told_of() {
    let (server, hooks) = spawn(server(1));
    let unproven = forward_secret::Peer::unproven(server.local_addr());
    assert_eq!(hooks.open(), 0);
    let _proven = unproven.proven();
    assert_eq!(hooks.open(), 1);
}
