//! A turn ends in time: for the answers before a slow message, for the others' deadlines, and for a stop.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Peer, echo_server, eventually, server};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn the_answer_to_a_slow_message_does_not_wait_for_the_next_one() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            released.lock().expect("one at a time").recv().expect("the test releases each message");
            // Slow beyond doubt, whatever the test's thread does meanwhile.
            thread::sleep(Duration::from_millis(5));
            message.to_vec()
        })
        .expect("spawning");
    // The only connection, so that nobody else needs the watchdog.
    let mut peer = Peer::establish(server.local_addr());
    let stream: Vec<u8> = (0..5).flat_map(|number| peer.message(&[number])).collect();
    peer.send(&stream);
    for number in 0..5 {
        release.send(()).expect("the handler waits");
        assert_eq!(peer.response(), Some(vec![number]));
    }
}

#[test]
fn peers_that_flood_without_an_interaction_end_with_their_lifetime() {
    let server = echo_server(server(1).lifetime(SHORT));
    let begun = Instant::now();
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let mut peer = Peer::establish(server.local_addr());
            thread::spawn(move || while peer.stream.write_all(&vec![0x77; 64 << 10]).is_ok() {})
        })
        .collect();
    for flood in floods {
        flood.join().expect("a flood");
    }
    assert!(begun.elapsed() >= SHORT);
    eventually("all are closed", || server.stats().open == 0);
    assert_eq!(server.stats().expired, 4);
}

#[test]
fn a_slow_handler_and_a_reset_do_not_age_the_connections_that_come_after() {
    let entered = Arc::new(Barrier::new(2));
    let barrier = Arc::clone(&entered);
    let lifetime = 5 * SHORT;
    let server = server(1)
        .lifetime(lifetime)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            if message == b"slow" {
                barrier.wait();
                thread::sleep(lifetime + SHORT);
            }
            message.to_vec()
        })
        .expect("spawning");
    let mut slow = Peer::establish(server.local_addr());
    let message = slow.message(b"slow");
    slow.send(&[&message[..], &[1, 0]].concat());
    entered.wait();
    // Bytes that are not read when it closes reset the connection, so that writing the answer fails.
    drop(slow);
    let mut next = Peer::establish(server.local_addr());
    next.assert_served();
}

#[test]
fn a_stop_ends_a_long_turn_after_the_message_that_it_is_at() {
    let handled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&handled);
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            count.fetch_add(1, SeqCst);
            thread::sleep(Duration::from_millis(50));
            message.to_vec()
        })
        .expect("spawning");
    let mut peer = Peer::establish(server.local_addr());
    let stream: Vec<u8> = (0..100).flat_map(|number| peer.message(&[number])).collect();
    peer.send(&stream);
    eventually("the first is in its handler", || handled.load(SeqCst) > 0);
    let report = server.shutdown(Duration::from_millis(100)).expect("a report");
    assert_eq!(report.cut, 1);
    // All hundred would have taken five seconds.
    assert!(handled.load(SeqCst) < 50, "{} messages were handled after the stop", handled.load(SeqCst));
}

#[test]
fn what_waits_behind_a_handler_longer_than_the_drain_counts_as_cut() {
    let entered = Arc::new(Barrier::new(2));
    let barrier = Arc::clone(&entered);
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            if message == b"slow" {
                barrier.wait();
                thread::sleep(2 * SHORT);
            }
            message.to_vec()
        })
        .expect("spawning");
    let mut waiting = Peer::establish(server.local_addr());
    let mut slow = Peer::establish(server.local_addr());
    slow.send_message(b"slow");
    entered.wait();
    waiting.send_message(b"behind it");
    eventually("both are open", || server.stats().open == 2);
    let report = server.shutdown(SHORT / 3).expect("a report");
    assert_eq!(slow.response().as_deref(), Some(&b"slow"[..]), "a running handler's answer goes out");
    assert_eq!((report.drained, report.cut), (1, 1));
}
