//! Several messages of one connection in one turn: each answer goes out in time, and nothing is handled that must not be.

mod common;

use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, Peer, eventually, server};
use falcotcp_sync::ServerKeys;

#[test]
fn the_answers_before_a_slow_message_go_out_although_the_first_was_quick() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            match message {
                // Slow beyond doubt, however loaded the machine is.
                b"slow" => thread::sleep(Duration::from_millis(300)),
                b"wait" => {
                    released.lock().expect("one at a time").recv_timeout(2 * PATIENCE).expect("a release");
                }
                _ => {}
            }
            message.to_vec()
        })
        .expect("spawning");
    // The only connection, so that nobody else needs the watchdog, by whose ticks a turn sees how long it takes.
    let mut peer = Peer::establish(server.local_addr());
    for _ in 0..3 {
        let stream = [b"fast", b"slow", b"wait"].map(|text| peer.message(text)).concat();
        peer.send(&stream);
        assert_eq!(peer.response().as_deref(), Some(&b"fast"[..]));
        assert_eq!(peer.response().as_deref(), Some(&b"slow"[..]));
        release.send(()).expect("the handler waits");
        assert_eq!(peer.response().as_deref(), Some(&b"wait"[..]));
        // The watchdog is parked again by then.
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn no_message_is_handled_behind_the_one_that_withdraws_its_key() {
    let keys = Arc::new(OnceLock::<ServerKeys>::new());
    let own = Arc::clone(&keys);
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            if message == b"withdraw" {
                assert!(own.get().expect("set before any message").withdraw("default"));
            }
            message.to_vec()
        })
        .expect("spawning");
    assert!(keys.set(server.keys()).is_ok());
    let mut peer = Peer::establish(server.local_addr());
    let stream = [&b"before"[..], b"withdraw", b"behind", b"behind"].map(|text| peer.message(text)).concat();
    peer.send(&stream);
    assert_eq!(peer.response().as_deref(), Some(&b"before"[..]));
    assert_eq!(peer.response().as_deref(), Some(&b"withdraw"[..]));
    assert_eq!(peer.rest(), b"");
    drop(peer);
    eventually("it is counted", || server.stats().open == 0);
    assert_eq!((server.stats().messages, server.stats().withdrawn), (2, 1));
}
