//! How a server ends: what is answered, what is cut, and that everything is given back.

mod common;
#[path = "common/hold.rs"]
mod hold;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::{Echo, PATIENCE, Peer, echo_server, eventually, server};
use falcotcp_sync::ServerHandle;
use hold::Hold;

const SHORT: Duration = Duration::from_millis(200);

#[test]
fn an_idle_server_stops_at_once_and_closes_idle_connections() {
    let server = echo_server(server(3));
    let addr = server.local_addr();
    let mut peers: Vec<_> = (0..20).map(|_| Peer::establish(addr)).collect();
    let begun = Instant::now();
    let report = server.shutdown(PATIENCE).expect("a report");
    assert!(begun.elapsed() < PATIENCE);
    assert_eq!((report.drained, report.cut), (20, 0));
    for peer in &mut peers {
        peer.assert_closed_in_silence();
    }
    assert!(TcpStream::connect(addr).is_err(), "somebody still listens");
}

/// A server whose handler for `wait` enters the barrier and leaves when the gate opens.
fn gated(workers: usize) -> (ServerHandle, Arc<Barrier>, Arc<AtomicBool>) {
    let entered = Arc::new(Barrier::new(2));
    let open = Arc::new(AtomicBool::new(false));
    let (barrier, gate) = (Arc::clone(&entered), Arc::clone(&open));
    let handle = server(workers)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            if message == b"wait" {
                barrier.wait();
                while !gate.load(SeqCst) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            message.to_vec()
        })
        .expect("spawning");
    (handle, entered, open)
}

#[test]
fn a_running_handler_finishes_and_its_answer_goes_out() {
    let (server, entered, open) = gated(2);
    let mut peer = Peer::establish(server.local_addr());
    let stream = [peer.message(b"wait"), peer.message(b"behind it")].concat();
    peer.send(&stream);
    entered.wait();
    let stopper = server.stopper();
    stopper.stop_within(PATIENCE);
    open.store(true, SeqCst);
    assert_eq!(peer.response().as_deref(), Some(&b"wait"[..]));
    assert_eq!(peer.response().as_deref(), Some(&b"behind it"[..]));
    peer.assert_closed_in_silence();
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (1, 0));
}

#[test]
fn messages_that_wait_behind_a_handler_are_answered_by_other_workers_while_draining() {
    let (server, entered, open) = gated(2);
    let addr = server.local_addr();
    let mut peers: Vec<_> = (0..10).map(|_| Peer::establish(addr)).collect();
    let mut waiting = Peer::establish(addr);
    waiting.send_message(b"wait");
    entered.wait();
    for peer in &mut peers {
        peer.send_message(b"last words");
    }
    server.stopper().stop_within(PATIENCE);
    for peer in &mut peers {
        assert_eq!(peer.response().as_deref(), Some(&b"last words"[..]));
        peer.assert_closed_in_silence();
    }
    open.store(true, SeqCst);
    assert_eq!(waiting.response().as_deref(), Some(&b"wait"[..]));
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (11, 0));
}

#[test]
fn half_a_message_and_an_unread_answer_are_cut_when_the_drain_is_over() {
    let server = echo_server(server(2));
    let addr = server.local_addr();
    let mut half = Peer::establish(addr);
    half.send(&[1, 0, 0, 0]);
    half.assert_open();
    let mut deaf = Peer::establish(addr);
    let mut sender = deaf.second_hand();
    let sending = thread::spawn(move || {
        let frame = sender.message(&vec![7; 8 << 20]);
        while sender.stream.write_all(&frame).is_ok() {}
    });
    eventually("answers are waiting", || server.stats().messages >= 1);
    let begun = Instant::now();
    let report = server.shutdown(SHORT).expect("a report");
    assert!(begun.elapsed() >= SHORT);
    assert_eq!(report.cut, 2);
    half.assert_closed_in_silence();
    sending.join().expect("the sender");
    drop(deaf.rest());
}

#[test]
fn a_message_that_becomes_complete_while_draining_is_answered() {
    let server = echo_server(server(2));
    let mut peer = Peer::establish(server.local_addr());
    let message = peer.message(b"in two halves");
    peer.send(&message[..20]);
    eventually("its first half has been read", || server.stats().bytes_in >= 157 + 20);
    server.stopper().stop_within(PATIENCE);
    assert!(peer.is_open_for(Duration::from_millis(50)));
    peer.send(&message[20..]);
    assert_eq!(peer.response().as_deref(), Some(&b"in two halves"[..]));
    peer.assert_closed_in_silence();
    assert_eq!(server.wait().expect("a report").cut, 0);
}

#[test]
fn no_answer_is_lost_when_a_server_stops_under_load() {
    for _ in 0..10 {
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        let server = server(3)
            .bind("127.0.0.1:0")
            .expect("binding")
            .spawn(move |message: &[u8]| {
                count.fetch_add(1, SeqCst);
                message.to_vec()
            })
            .expect("spawning");
        let addr = server.local_addr();
        let peers: Vec<_> = (0..8).map(|_| Peer::establish(addr)).collect();
        let clients: Vec<_> =
            peers.into_iter().map(|peer| thread::spawn(move || pipeline_until_closed(peer))).collect();
        eventually("it is under load", || server.stats().messages > 1000);
        let report = server.shutdown(PATIENCE).expect("a report");
        let answers: u64 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
        assert_eq!(answers, handled.load(SeqCst));
        assert_eq!(report.cut, 0);
    }
}

/// Sends without waiting for answers until the server closes, and counts the answers.
fn pipeline_until_closed(mut peer: Peer) -> u64 {
    let frame = peer.message(b"under load");
    let mut sender = peer.second_hand();
    let sending = thread::spawn(move || {
        while sender.stream.write_all(&frame).is_ok() {}
        let _ = sender.stream.shutdown(Shutdown::Both);
    });
    let mut answers = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = peer.stream.read(&mut piece) {
        answers.extend_from_slice(&piece[..count]);
    }
    // The sender sees the end as well when nothing of what it sends is acknowledged any more.
    let _ = peer.stream.shutdown(Shutdown::Both);
    sending.join().expect("the sender");
    let length = 8 + 28 + "under load".len();
    assert_eq!(answers.len() % length, 0, "half an answer");
    (answers.len() / length) as u64
}

#[test]
fn a_stop_does_not_wait_for_slow_peers() {
    let server = echo_server(server(2));
    let addr = server.local_addr();
    let mut half = Peer::establish(addr);
    half.send(&[1, 0, 0, 0]);
    let stopper = server.stopper();
    let begun = Instant::now();
    stopper.clone().stop();
    server.wait().expect("a report");
    assert!(begun.elapsed() < PATIENCE / 2);
    half.assert_closed_in_silence();
    // Stopping again does no harm.
    stopper.stop();
    stopper.stop_within(PATIENCE);
}

#[test]
fn dropping_the_handle_stops_the_server_and_the_port_can_be_used_at_once() {
    let addr = {
        let server = echo_server(server(2));
        let mut peer = Peer::establish(server.local_addr());
        peer.assert_served();
        server.local_addr()
    };
    for _ in 0..5 {
        let server = server(2).bind(addr).expect("the same port").spawn(Echo).expect("spawning");
        let mut peer = Peer::establish(addr);
        peer.assert_served();
        drop(server);
        peer.assert_closed_in_silence();
    }
}

#[test]
fn a_handler_may_stop_the_server() {
    let stopper = Arc::new(std::sync::OnceLock::<falcotcp_sync::Stopper>::new());
    let own = Arc::clone(&stopper);
    let server = server(2)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            own.get().expect("set before any message").stop();
            message.to_vec()
        })
        .expect("spawning");
    stopper.set(server.stopper()).expect("set once");
    let mut peer = Peer::establish(server.local_addr());
    peer.send_message(b"stop");
    assert_eq!(peer.response().as_deref(), Some(&b"stop"[..]));
    server.wait().expect("a report");
}

#[test]
fn a_server_that_was_bound_and_never_spawned_gives_its_port_back() {
    let bound = server(2).bind("127.0.0.1:0").expect("binding");
    let addr = bound.local_addr();
    drop(bound);
    drop(server(2).bind(addr).expect("the same port"));
}

#[test]
fn no_message_gets_anothers_answer_when_the_server_stops_in_the_middle_of_a_frame() {
    let large = 12 << 20;
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| if message == b"large" { vec![7; large] } else { message.to_vec() })
        .expect("spawning");
    let mut peer = Peer::establish(server.local_addr());
    let (first, second, third) = (peer.message(b"large"), peer.message(b"second"), peer.message(b"third"));
    peer.send(&first[..10]);
    eventually("half a frame has arrived", || server.stats().bytes_in >= 157 + 10);
    let mut behind_it = Peer::establish(server.local_addr());
    let stopper = server.stopper();
    stopper.stop_within(PATIENCE);
    // The only worker gives its connections their turns of the end in order: it has seen that the frame has only begun.
    behind_it.assert_closed_in_silence();
    peer.assert_open();
    peer.send(&[&first[10..], &second[..]].concat());
    eventually("its answer waits for the peer to read", || server.stats().messages == 1);
    // The connection may have ended by now, so that this is no error of ours.
    let _ = peer.stream.write_all(&third);
    assert_eq!(peer.response(), Some(vec![7; large]));
    assert_eq!(peer.rest(), b"", "an answer after the last one");
    server.wait().expect("a report");
}

#[test]
fn a_stop_in_the_middle_of_accepting_closes_every_connection() {
    for round in 0..200u64 {
        let server = echo_server(server(1));
        let stopper = server.stopper();
        let mut peers: Vec<_> = (0..6).map(|_| Peer::connect(server.local_addr())).collect();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(round % 40 * 5) {
            std::hint::spin_loop();
        }
        server.shutdown(Duration::ZERO).expect("a report");
        // Also while something keeps the server's memory.
        for peer in &mut peers {
            peer.assert_closed_in_silence();
        }
        drop(stopper);
    }
}

#[test]
fn counters_can_be_read_while_the_server_drains_and_after_its_end() {
    let hold = Hold::default();
    let server = hold.spawn(server(1));
    let monitor = server.monitor();
    let mut waiting = Peer::establish(server.local_addr());
    hold.hold(&mut waiting);
    server.stopper().stop_within(PATIENCE);
    let waits = thread::spawn(move || server.wait().expect("a report"));
    let draining = monitor.stats();
    assert_eq!((draining.open, draining.messages, draining.workers_busy), (1, 1, 1));
    hold.release(&mut waiting);
    let report = waits.join().expect("no panic");
    assert_eq!(report.stats, monitor.stats());
    assert_eq!((report.stats.open, report.stats.messages, report.drained), (0, 1, 1));
}
