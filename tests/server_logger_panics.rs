//! Loggers that panic, wherever the server writes a line: that costs one connection at most.

mod common;
#[path = "common/hold.rs"]
mod hold;
#[path = "common/reactions.rs"]
mod reactions;

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use common::{Echo, PATIENCE, Peer, echo_server, establishment, eventually, key, server};
use hold::Hold;
use reactions::{TOO_SHORT, Watched, at_each_line};

const FAR: Duration = Duration::from_secs(600);

#[test]
fn a_panic_at_the_line_about_a_withdrawn_key_leaves_no_connection_open() {
    let hold = Hold::default();
    // Without a deadline at which a worker would look by itself.
    let server = hold.spawn(server(2).handshake_timeout(FAR).lifetime(FAR));
    let mut peers: Vec<_> = (0..6).map(|_| Peer::establish(server.local_addr())).collect();
    // A panic at a line costs the connection that it is about, so not at that of the one with an answer to come.
    let watched = Watched::default();
    for peer in &peers[1..] {
        watched.add(peer);
    }
    let panics = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&panics);
    at_each_line(move |line| {
        if line.contains("withdrawn") && watched.is_in(line) {
            count.fetch_add(1, SeqCst);
            panic!("as the test wants");
        }
    });
    // The first worker is in its handler, so that its connections are closed by whoever withdraws the key, or by the
    // watchdog if that is at the table just then.
    hold.hold(&mut peers[0]);
    let keys = server.keys();
    let _ = panic::catch_unwind(AssertUnwindSafe(|| keys.withdraw("default")));
    // The other worker's are closed as well, although it has not been woken by anything else.
    for peer in &mut peers[1..] {
        peer.assert_closed_in_silence();
    }
    assert!(panics.load(SeqCst) > 0, "nothing was logged");
    hold.release(&mut peers[0]);
    peers[0].assert_closed_in_silence();
    eventually("all are counted", || server.stats().open == 0 && server.stats().withdrawn == 6);
    server.keys().add("default", key()).expect("the name is free");
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
}

#[test]
fn a_panic_at_the_first_line_of_a_server_leaves_nothing_of_it() {
    let bound = server(2).bind("127.0.0.1:0").expect("binding");
    let addr = bound.local_addr();
    let first_line = format!("serving on {addr} ");
    let panics = AtomicUsize::new(0);
    at_each_line(move |line| {
        assert!(!line.starts_with(&first_line) || panics.fetch_add(1, SeqCst) > 0, "as the test wants");
    });
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| bound.spawn(Echo)));
    assert!(outcome.is_err(), "the logger did not panic");
    let server = server(2).bind(addr).expect("the same port").spawn(Echo).expect("spawning");
    Peer::establish(addr).assert_served();
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
}

/// What a panic may carry.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in the drop of a panic's payload");
    }
}

#[test]
fn a_payload_that_panics_when_it_is_dropped_is_a_panic_like_any_other() {
    let fragile = Watched::default();
    let watched = fragile.clone();
    at_each_line(move |line| {
        if line.contains("skipped") && watched.is_in(line) {
            panic::panic_any(PanicsWhenDropped);
        }
    });
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(|message: &[u8]| {
            if message == b"panic" {
                panic::panic_any(PanicsWhenDropped);
            }
            message.to_vec()
        })
        .expect("spawning");
    let mut peer = Peer::establish(server.local_addr());
    for _ in 0..3 {
        assert_eq!(peer.exchange(b"panic"), None);
        peer.assert_served();
        let mut other = Peer::establish(server.local_addr());
        fragile.add(&other);
        other.send(&[0x77]);
        other.assert_closed_in_silence();
    }
    assert_eq!(server.stats().panics, 3);
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
}

#[test]
fn a_panic_where_connections_are_accepted_does_not_end_that() {
    let server = echo_server(server(1).max_connections(1));
    let panics = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&panics);
    at_each_line(move |line| {
        if line.contains("refused, max_connections") {
            count.fetch_add(1, SeqCst);
            panic!("as the test wants");
        }
    });
    let mut first = Peer::establish(server.local_addr());
    let mut further = Peer::connect(server.local_addr());
    further.send(&establishment(&key()));
    further.assert_closed_in_silence();
    assert_eq!(panics.load(SeqCst), 1);
    first.assert_served();
    drop(first);
    eventually("there is room", || server.stats().open == 0);
    Peer::establish(server.local_addr()).assert_served();
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
}

#[test]
fn a_panic_at_the_end_of_a_server_does_not_change_its_report() {
    let hold = Hold::default();
    let server = hold.spawn(server(1));
    let mut waiting = Peer::establish(server.local_addr());
    let mut half = Peer::establish(server.local_addr());
    half.send(&TOO_SHORT.repeat(2));
    assert_eq!([half.response(), half.response()], [None, None]);
    half.send(&[1, 0, 0]);
    eventually("all of it has been read", || server.stats().bytes_in == 2 * 157 + 2 * 9 + 3);
    hold.hold(&mut waiting);
    let watched = Watched::default();
    watched.add(&half);
    let (panics, writer) = (Arc::new(AtomicUsize::new(0)), OnceLock::new());
    let count = Arc::clone(&panics);
    at_each_line(move |line| {
        let this = thread::current().id();
        let is_its_end = line.contains("further") && watched.is_in(line);
        if is_its_end {
            writer.get_or_init(|| this);
        }
        // The thread that ends this connection writes the last line of the server.
        if is_its_end || line.starts_with("stopped: 1 ") && writer.get() == Some(&this) {
            count.fetch_add(1, SeqCst);
            panic!("as the test wants");
        }
    });
    server.stopper().stop();
    // It is closed for its worker, which is still in the handler.
    half.assert_closed_in_silence();
    eventually("its end is logged", || panics.load(SeqCst) == 1);
    hold.release(&mut waiting);
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut, panics.load(SeqCst)), (1, 1, 2));
}
