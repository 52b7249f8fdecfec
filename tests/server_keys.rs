//! Keys that are added and withdrawn while a server runs.

mod common;
#[path = "common/hold.rs"]
mod hold;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, Peer, establishment, eventually};
use falcotcp_sync::{Client, Error, Handler, Key, Request, Response, Server, ServerHandle};
use hold::Hold;

const FAR: Duration = Duration::from_secs(3600);

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32])
}

/// Answers with the name of the key that the message came under.
struct KeyName;

impl Handler for KeyName {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        response.extend_from_slice(request.key_name().as_bytes());
    }
}

fn server() -> ServerHandle {
    Server::builder_with_key("old", key(1))
        .accept_key("new", key(2))
        .workers(2)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(KeyName)
        .expect("spawning")
}

#[test]
fn the_handler_sees_the_name_of_the_key_that_opened_the_establishment() {
    let server = server();
    assert_eq!(server.keys().names(), ["old", "new"]);
    for (byte, name) in [(1, "old"), (2, "new")] {
        let mut client = Client::connect(server.local_addr(), key(byte)).expect("connecting");
        assert_eq!(client.message(b"").expect("an answer"), name.as_bytes());
        assert_eq!(server.keys().connections(name), Some(1));
    }
    assert!(matches!(Client::connect(server.local_addr(), key(3)), Err(Error::Refused { .. })));
    assert_eq!(server.keys().connections("other"), None);
}

#[test]
fn the_first_key_is_called_default() {
    let server =
        Server::builder(key(1)).bind("127.0.0.1:0").expect("binding").spawn(KeyName).expect("spawning");
    let mut client = Client::connect(server.local_addr(), key(1)).expect("connecting");
    assert_eq!(client.message(b"").expect("an answer"), b"default");
}

#[test]
fn two_keys_of_one_name_are_an_error() {
    let bound = Server::builder(key(1)).accept_key("default", key(2)).bind("127.0.0.1:0").expect("binding");
    assert!(matches!(bound.spawn(KeyName), Err(Error::KeyNameTaken { name, .. }) if name == "default"));
    let server = server();
    assert!(matches!(server.keys().add("new", key(3)), Err(Error::KeyNameTaken { .. })));
}

#[test]
fn one_key_under_two_names_and_an_empty_name_are_errors() {
    let outcome = Server::builder(key(1)).accept_key("again", key(1)).bind("127.0.0.1:0");
    assert!(matches!(outcome, Err(Error::KeyTaken { ref name, .. }) if name == "default"), "{outcome:?}");
    for builder in [Server::builder_with_key("", key(1)), Server::builder(key(1)).accept_key("", key(2))] {
        let outcome = builder.bind("127.0.0.1:0");
        assert!(matches!(outcome, Err(Error::InvalidSetting { .. })), "{outcome:?}");
    }
    let server = server();
    assert!(matches!(server.keys().add("again", key(2)), Err(Error::KeyTaken { name, .. }) if name == "new"));
    assert!(matches!(server.keys().add("", key(3)), Err(Error::InvalidSetting { .. })));
    assert_eq!(server.keys().names(), ["old", "new"]);
    // A key that was withdrawn may come back under any name.
    assert!(server.keys().withdraw("new"));
    server.keys().add("again", key(2)).expect("the key is free");
}

#[test]
fn withdrawing_a_key_closes_the_connections_under_it_and_no_others() {
    let server = server();
    let connect = |byte| Client::connect(server.local_addr(), key(byte)).expect("connecting");
    let mut old: Vec<_> = (0..20).map(|_| connect(1)).collect();
    let mut new: Vec<_> = (0..20).map(|_| connect(2)).collect();
    assert!(server.keys().withdraw("old"));
    assert!(!server.keys().withdraw("old"));
    eventually("they are closed", || server.stats().open == 20);
    for client in &mut old {
        assert!(matches!(client.message(b""), Err(Error::ClosedByServer { .. })));
    }
    for client in &mut new {
        assert_eq!(client.message(b"").expect("an answer"), b"new");
    }
    assert!(matches!(Client::connect(server.local_addr(), key(1)), Err(Error::Refused { .. })));
    assert_eq!(server.stats().withdrawn, 20);
    server.keys().add("old", key(1)).expect("the name is free");
    assert_eq!(connect(1).message(b"").expect("an answer"), b"old");
}

#[test]
fn withdrawing_reaches_the_connections_of_a_worker_in_a_handler() {
    let entered = Arc::new(Barrier::new(2));
    let open = Arc::new(AtomicBool::new(false));
    let (barrier, gate) = (Arc::clone(&entered), Arc::clone(&open));
    let server = Server::builder(key(1))
        .workers(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            barrier.wait();
            while !gate.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            message.to_vec()
        })
        .expect("spawning");
    let connect = || Client::connect(server.local_addr(), key(1)).expect("connecting");
    let (mut idle, mut busy) = (connect(), connect());
    let answer = thread::spawn(move || (busy.message(b"running"), busy.message(b"behind it")));
    entered.wait();
    server.keys().withdraw("default");
    // The only worker is in the handler, and still the other connection is gone.
    eventually("it is closed", || server.stats().open == 1);
    assert!(matches!(idle.ping(), Err(Error::ClosedByServer { .. })));
    open.store(true, SeqCst);
    let (running, behind) = answer.join().expect("the client");
    assert_eq!(running.expect("a running handler's answer still goes out"), b"running");
    assert!(matches!(behind, Err(Error::ClosedByServer { .. })), "{behind:?}");
}

#[test]
fn no_withdrawal_passes_over_a_worker_in_its_handler() {
    const OTHERS: u8 = 200;
    let hold = Hold::default();
    // Without a deadline at which anybody would look by itself.
    let builder = Server::builder(common::key()).workers(1).handshake_timeout(FAR).lifetime(FAR);
    let server = hold.spawn(builder);
    let mut blocked = Peer::establish(server.local_addr());
    let name = |number: u8| format!("key {number}");
    let other_key = |number: u8| Key::from_bytes(std::array::from_fn(|index| u8::from(index == 0) * number));
    let mut others: Vec<_> = (0..OTHERS)
        .map(|number| {
            server.keys().add(name(number), other_key(number)).expect("a new name");
            let mut peer = Peer::connect(server.local_addr());
            peer.send(&establishment(&other_key(number)));
            assert_eq!(peer.receive(1), [0xFF]);
            peer
        })
        .collect();
    hold.hold(&mut blocked);
    // Meanwhile the watchdog looks after its connections a thousand times a second, and is in the way now and then.
    for (number, other) in (0..OTHERS).zip(&mut others) {
        assert!(server.keys().withdraw(&name(number)));
        other.assert_closed_in_silence();
    }
    hold.release(&mut blocked);
}

#[test]
fn keys_are_rotated_under_load_without_a_failed_request() {
    let server = Server::builder_with_key("0", key(0))
        .workers(2)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(KeyName)
        .expect("spawning");
    let addr = server.local_addr();
    let current = Arc::new(AtomicU64::new(0));
    let arrived = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (current, arrived, stop) = (Arc::clone(&current), Arc::clone(&arrived), Arc::clone(&stop));
            thread::spawn(move || {
                let mut answered = 0u64;
                while !stop.load(SeqCst) {
                    let generation = current.load(SeqCst);
                    let byte = u8::try_from(generation).expect("few");
                    let mut client = Client::connect(addr, key(byte)).expect("connecting");
                    arrived.fetch_add(1, SeqCst);
                    while generation == current.load(SeqCst) && !stop.load(SeqCst) {
                        let name = client.message(b"").expect("an answer");
                        assert_eq!(name, generation.to_string().as_bytes());
                        answered += 1;
                    }
                }
                answered
            })
        })
        .collect();
    for generation in 1..=5u8 {
        eventually("every client has the current key", || arrived.load(SeqCst) == 6 * u64::from(generation));
        let before = server.stats().messages;
        eventually("it is under load", || server.stats().messages > before + 100);
        server.keys().add(generation.to_string(), key(generation)).expect("a new name");
        current.store(generation.into(), SeqCst);
        eventually("every client has the next key", || {
            arrived.load(SeqCst) == 6 * (u64::from(generation) + 1)
        });
        let old = (generation - 1).to_string();
        eventually("nobody uses the old key", || server.keys().connections(&old) == Some(0));
        assert!(server.keys().withdraw(&old));
    }
    stop.store(true, SeqCst);
    let answered: u64 = clients.into_iter().map(|client| client.join().expect("no request failed")).sum();
    assert_eq!(server.stats().messages, answered);
    assert_eq!(server.stats().withdrawn, 0);
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
}

#[test]
fn a_large_answer_goes_out_under_a_key_that_was_withdrawn_and_nothing_more_is_handled() {
    let entered = Arc::new(Barrier::new(2));
    let open = Arc::new(AtomicBool::new(false));
    let (barrier, gate) = (Arc::clone(&entered), Arc::clone(&open));
    let server = common::server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |_: &[u8]| {
            barrier.wait();
            while !gate.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
            vec![7; 12 << 20]
        })
        .expect("spawning");
    let mut peer = common::Peer::establish(server.local_addr());
    // Large, so that reading goes on in the same turn.
    peer.send_message(&vec![1; 100_000]);
    entered.wait();
    server.keys().withdraw("default");
    peer.send_message(b"too late");
    open.store(true, SeqCst);
    assert_eq!(peer.response(), Some(vec![7; 12 << 20]));
    assert_eq!(peer.rest(), b"");
    assert_eq!((server.stats().messages, server.stats().withdrawn), (1, 1));
}
