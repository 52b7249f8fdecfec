//! Ends of connections that a handler is told of when something else goes wrong as well: a logger that panics, a stop.

mod common;
#[cfg(feature = "forward-secrecy")]
#[path = "common/forward_secret.rs"]
mod forward_secret;
#[path = "common/hold.rs"]
mod hold;
#[path = "common/reactions.rs"]
mod reactions;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{PATIENCE, Peer, establishment, eventually, key, server};
use falcotcp_sync::{
    ConnectionId, ConnectionInfo, EndReason, Handler, Reply, Request, Response, ServerBuilder, ServerHandle,
};
use hold::Hold;
use reactions::{Watched, at_each_line};

/// Keeps what it is told in the order in which that comes, and is held where an end is told, if the test wants.
#[derive(Default)]
struct Hooks {
    told: Mutex<Vec<(ConnectionId, Option<EndReason>)>>,
    replies: Mutex<Vec<Reply>>,
    hold: Option<Hold>,
}

impl Handler for Hooks {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        response.extend_from_slice(request.message());
        if request.message().ends_with(b"later") {
            self.replies.lock().expect("no panic").push(response.defer());
        }
        if request.message().starts_with(b"close") {
            response.close();
        }
    }

    fn established(&self, connection: ConnectionInfo<'_>) {
        self.told.lock().expect("no panic").push((connection.id(), None));
    }

    fn ended(&self, connection: ConnectionId, reason: EndReason) {
        self.told.lock().expect("no panic").push((connection, Some(reason)));
        if let Some(hold) = &self.hold {
            hold.pass();
        }
    }
}

impl Hooks {
    /// What it was told, in order: `None` for an establishment.
    fn told(&self) -> Vec<Option<EndReason>> {
        self.told.lock().expect("no panic").iter().map(|(_, told)| *told).collect()
    }
}

fn spawn(builder: ServerBuilder, hooks: Hooks) -> (ServerHandle, Arc<Hooks>) {
    let hooks = Arc::new(hooks);
    let server = builder.bind("127.0.0.1:0").expect("binding").spawn(Arc::clone(&hooks)).expect("spawning");
    (server, hooks)
}

#[test]
fn the_end_after_a_panic_in_a_turn_holds_up_no_other_connection() {
    let hold = Hold::default();
    let hooks = Hooks { hold: Some(hold.clone()), ..Hooks::default() };
    let (server, hooks) = spawn(server(2).max_message_size(100), hooks);
    // The first and the third are the first worker's.
    let mut peers: Vec<_> = (0..4).map(|_| Peer::establish(server.local_addr())).collect();
    let watched = Watched::default();
    watched.add(&peers[0]);
    at_each_line(move |line| {
        assert!(!(line.contains("over the limit") && watched.is_in(line)), "as the test wants");
    });
    peers[0].send_message(&[7; 101]);
    hold.await_entered();
    peers[2].assert_served();
    hold.open();
    assert_eq!(hooks.told()[4..], [Some(EndReason::Error)]);
    peers[0].assert_closed_in_silence();
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
    assert_eq!(hooks.told()[5..], [Some(EndReason::Stop); 3]);
}

#[test]
fn no_end_is_told_without_its_establishment() {
    let (server, hooks) = spawn(server(1), Hooks::default());
    let mut peer = Peer::connect(server.local_addr());
    let watched = Watched::default();
    watched.add(&peer);
    at_each_line(move |line| {
        assert!(!(line.contains("established") && watched.is_in(line)), "as the test wants");
    });
    peer.send(&establishment(&key()));
    peer.assert_closed_in_silence();
    eventually("its end is told", || server.stats().open == 0);
    assert_eq!(hooks.told(), [None, Some(EndReason::Error)]);
}

#[test]
fn a_stop_that_does_not_wait_for_a_last_answer_counts_its_connection_as_cut() {
    let (server, hooks) = spawn(server(1), Hooks::default());
    let mut peer = Peer::establish(server.local_addr());
    peer.send_message(b"close later");
    eventually("it is deferred", || server.stats().deferred == 1);
    let report = server.shutdown(Duration::from_millis(50)).expect("a report");
    peer.assert_closed_in_silence();
    assert_eq!((report.drained, report.cut), (0, 1));
    assert_eq!(hooks.told(), [None, Some(EndReason::Handler)]);
}

#[cfg(feature = "forward-secrecy")]
#[test]
fn a_stop_that_does_not_wait_for_a_last_answer_rejects_it_and_says_goodbye() {
    use forward_secret::{MESSAGE, Said};

    type Ending = fn(&mut forward_secret::Peer, &ServerHandle);
    let endings: [(&[u8], Ending, EndReason); 3] = [
        (b"close later", |peer, _| peer.send(MESSAGE, b"behind it"), EndReason::Handler),
        (b"later", |peer, _| peer.send_raw(&forward_secret::header(MESSAGE, 1 << 40)), EndReason::Error),
        (b"later", |_, server| assert!(server.keys().withdraw("default")), EndReason::Withdrawn),
    ];
    for (message, end, reason) in endings {
        let (server, hooks) = spawn(server(1), Hooks::default());
        let mut peer = forward_secret::Peer::establish(server.local_addr());
        peer.send_messages(&[b"before", message]);
        assert_eq!(peer.next(), forward_secret::response(b"before"));
        eventually("it is deferred", || server.stats().deferred == 1);
        end(&mut peer, &server);
        let stopping = std::thread::spawn(move || server.shutdown(Duration::from_millis(100)));
        assert_eq!(peer.rest(), [Said::Rejection(0), Said::Goodbye(2), Said::End], "{reason}");
        drop(peer);
        let report = stopping.join().expect("no panic").expect("a report");
        assert_eq!((report.drained, report.cut), (0, 1), "{reason}");
        assert_eq!(hooks.told(), [None, Some(reason)]);
    }
}
