//! Nothing that one connection does holds up another.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use common::{Echo, PING, Peer, Random, echo_server, establishment, eventually, key, resident_bytes, server};
use falcotcp_sync::{Handler, Request, Response};

#[test]
fn many_more_connections_than_workers_are_all_served() {
    let server = echo_server(server(2));
    let mut peers: Vec<_> = (0..200).map(|_| Peer::establish(server.local_addr())).collect();
    for _ in 0..3 {
        for peer in &mut peers {
            peer.assert_served();
        }
    }
    let stats = server.stats();
    assert_eq!((stats.open, stats.messages), (200, 600));
    assert!(stats.workers.iter().all(|worker| worker.connections > 0), "dealt unevenly: {stats:?}");
}

#[test]
fn new_connections_go_to_the_worker_with_the_fewest() {
    let server = echo_server(server(4));
    let peers: Vec<_> = (0..8).map(|_| Peer::establish(server.local_addr())).collect();
    assert!(server.stats().workers.iter().all(|worker| worker.connections == 2), "{:?}", server.stats());
    drop(peers);
    eventually("all are closed", || server.stats().open == 0);
}

/// Waits for the test where the message says so.
struct Gate {
    closed: Arc<AtomicBool>,
    entered: Arc<Barrier>,
}

impl Handler for Gate {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        if request.message() == b"wait" {
            self.entered.wait();
            while self.closed.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
            }
        }
        response.extend_from_slice(request.message());
    }
}

#[test]
fn while_three_of_four_workers_are_in_handlers_every_other_connection_is_answered() {
    let closed = Arc::new(AtomicBool::new(true));
    let entered = Arc::new(Barrier::new(4));
    let gate = Gate { closed: Arc::clone(&closed), entered: Arc::clone(&entered) };
    let server = server(4).bind("127.0.0.1:0").expect("binding").spawn(gate).expect("spawning");
    let mut peers: Vec<_> = (0..40).map(|_| Peer::establish(server.local_addr())).collect();
    let mut waiting: Vec<_> = peers.drain(..3).collect();
    for peer in &mut waiting {
        peer.send_message(b"wait");
    }
    entered.wait();
    // Three workers are held up for as long as the test likes; nobody waits for them.
    for _ in 0..5 {
        for peer in &mut peers {
            peer.assert_served();
        }
    }
    let mut late = Peer::establish(server.local_addr());
    late.assert_served();
    eventually("it is seen that they were moved", || server.stats().redealt > 0);
    closed.store(false, SeqCst);
    for peer in &mut waiting {
        assert_eq!(peer.response().as_deref(), Some(&b"wait"[..]));
    }
}

#[test]
fn deadlines_hold_for_the_connections_of_a_worker_in_a_handler() {
    let closed = Arc::new(AtomicBool::new(true));
    let entered = Arc::new(Barrier::new(2));
    let gate = Gate { closed: Arc::clone(&closed), entered: Arc::clone(&entered) };
    let server = server(1)
        .handshake_timeout(Duration::from_millis(200))
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(gate)
        .expect("spawning");
    let mut before = Peer::connect(server.local_addr());
    before.send(&[0, 1, 2]);
    let mut waiting = Peer::establish(server.local_addr());
    waiting.send_message(b"wait");
    entered.wait();
    let mut meanwhile = Peer::connect(server.local_addr());
    // The only worker is held up, and still both are gone at their deadlines.
    before.assert_closed_in_silence();
    meanwhile.assert_closed_in_silence();
    closed.store(false, SeqCst);
    assert_eq!(waiting.response().as_deref(), Some(&b"wait"[..]));
}

#[test]
fn a_request_that_arrives_while_its_connection_is_served_is_not_forgotten() {
    let closed = Arc::new(AtomicBool::new(true));
    let entered = Arc::new(Barrier::new(2));
    let gate = Gate { closed: Arc::clone(&closed), entered: Arc::clone(&entered) };
    let server = server(2).bind("127.0.0.1:0").expect("binding").spawn(gate).expect("spawning");
    // Others on the same worker, so that the watchdog looks at its table.
    let mut others: Vec<_> = (0..10).map(|_| Peer::establish(server.local_addr())).collect();
    let mut peer = Peer::establish(server.local_addr());
    peer.send_message(b"wait");
    entered.wait();
    peer.send_message(b"meanwhile");
    for other in &mut others {
        other.assert_served();
    }
    closed.store(false, SeqCst);
    assert_eq!(peer.response().as_deref(), Some(&b"wait"[..]));
    assert_eq!(peer.response().as_deref(), Some(&b"meanwhile"[..]));
}

#[test]
fn an_answer_does_not_wait_for_the_slow_message_behind_it() {
    let closed = Arc::new(AtomicBool::new(true));
    let entered = Arc::new(Barrier::new(2));
    let gate = Gate { closed: Arc::clone(&closed), entered: Arc::clone(&entered) };
    let server = server(2).bind("127.0.0.1:0").expect("binding").spawn(gate).expect("spawning");
    let mut others: Vec<_> = (0..4).map(|_| Peer::establish(server.local_addr())).collect();
    let mut peer = Peer::establish(server.local_addr());
    let stream = [peer.message(b"wait"), peer.message(b"wait")].concat();
    peer.send(&stream);
    entered.wait();
    // Those on the same worker are answered by the other one, after the watchdog has seen the first handler.
    for other in &mut others {
        other.assert_served();
    }
    closed.store(false, SeqCst);
    // The second handler does not get past its barrier before the first answer is here.
    assert_eq!(peer.response().as_deref(), Some(&b"wait"[..]));
    entered.wait();
    assert_eq!(peer.response().as_deref(), Some(&b"wait"[..]));
}

#[test]
fn a_flood_of_pings_and_messages_gets_its_turn_and_no_more() {
    let server = echo_server(server(1));
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..4)
        .map(|number| {
            let mut peer = Peer::establish(server.local_addr());
            let mut sender = peer.second_hand();
            let stopped = Arc::clone(&stop);
            let flood = if number % 2 == 0 { PING.repeat(100_000) } else { peer.message(b"x").repeat(1000) };
            let sending = thread::spawn(move || {
                while !stopped.load(SeqCst) && sender.stream.write_all(&flood).is_ok() {}
                let _ = sender.stream.shutdown(std::net::Shutdown::Both);
            });
            let reading = thread::spawn(move || drop(peer.rest()));
            (sending, reading)
        })
        .collect();
    let mut peer = Peer::establish(server.local_addr());
    for _ in 0..100 {
        peer.assert_served();
    }
    stop.store(true, SeqCst);
    for (sending, reading) in floods {
        sending.join().expect("a sender");
        reading.join().expect("a reader");
    }
}

#[test]
fn slow_hostile_and_vanished_peers_hold_up_nobody_and_are_gone_at_their_deadlines() {
    let deadline = Duration::from_millis(1500);
    let server = echo_server(
        server(2)
            .handshake_timeout(deadline)
            .lifetime(deadline)
            .write_timeout(deadline)
            .max_message_size(2 << 20),
    );
    let addr = server.local_addr();
    let mut healthy = Peer::establish(addr);
    let memory_before = resident_bytes();

    let mut held: Vec<Peer> = Vec::new();
    for number in 0..50 {
        let mut peer = Peer::connect(addr);
        peer.send(&establishment(&key())[..3 * number]);
        held.push(peer);
        healthy.assert_served();
    }
    for _ in 0..50 {
        let mut peer = Peer::establish(addr);
        let half = peer.message(&[7; 4000]);
        peer.send(&half[..2000]);
        held.push(peer);
        healthy.assert_served();
    }
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let peer = Peer::establish(addr);
        let mut sender = peer.second_hand();
        deaf.push(thread::spawn(move || {
            let frame = sender.message(&vec![7; 1 << 20]);
            while sender.stream.write_all(&frame).is_ok() {}
        }));
        held.push(peer);
        healthy.assert_served();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let garbage: Vec<_> = (0..10u8)
        .map(|number| {
            let stopped = Arc::clone(&stop);
            thread::spawn(move || {
                while !stopped.load(SeqCst) {
                    let mut peer = if number % 2 == 0 { Peer::connect(addr) } else { Peer::establish(addr) };
                    let mut bytes = vec![number + 3; 10_000];
                    bytes[9_000] = 0;
                    let _ = peer.stream.write_all(&bytes);
                    let _ = peer.rest();
                }
            })
        })
        .collect();

    let begun = Instant::now();
    while begun.elapsed() < 2 * deadline {
        healthy.assert_served();
        thread::sleep(Duration::from_millis(5));
    }
    stop.store(true, SeqCst);
    for thread in garbage.into_iter().chain(deaf) {
        thread.join().expect("a hostile peer");
    }
    eventually("only the healthy one is left", || {
        healthy.assert_served();
        server.stats().open == 1
    });
    let grown = resident_bytes().saturating_sub(memory_before);
    assert!(grown < 300 << 20, "{grown} bytes more than before");
    drop(held);
}

#[test]
fn every_message_is_answered_once_in_order_whatever_the_handlers_do() {
    struct Moody;
    impl Handler for Moody {
        fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
            match request.message().get(8) {
                Some(0) => thread::sleep(Duration::from_millis(3)),
                Some(1) => {
                    let begun = Instant::now();
                    while begun.elapsed() < Duration::from_millis(2) {
                        std::hint::spin_loop();
                    }
                }
                Some(2) => std::panic::panic_any("as asked"),
                _ => {}
            }
            response.extend_from_slice(request.message());
        }
    }
    let server = server(3).bind("127.0.0.1:0").expect("binding").spawn(Moody).expect("spawning");
    let addr = server.local_addr();
    let begun = Instant::now();
    let clients: Vec<_> = (0..12u64)
        .map(|seed| {
            thread::spawn(move || {
                let mut random = Random(seed + 1);
                let mut sent = 0;
                while begun.elapsed() < Duration::from_secs(2) {
                    let mut peer = Peer::establish(addr);
                    for _ in 0..random.below(20) {
                        sent += batch(&mut peer, &mut random);
                    }
                    if random.below(4) == 0 {
                        // Leaves in the middle of a message, and for some of them with answers unread.
                        let whole = peer.message(&[9; 3000]);
                        peer.send(&whole[..random.below(whole.len())]);
                    }
                }
                sent
            })
        })
        .collect();
    let sent: usize = clients.into_iter().map(|client| client.join().expect("a client")).sum();
    eventually("all are closed", || server.stats().open == 0);
    assert!(sent > 0);
    assert_eq!(server.stats().messages, sent as u64);
}

/// Sends several messages in pieces and checks their answers.
fn batch(peer: &mut Peer, random: &mut Random) -> usize {
    let count = 1 + random.below(8);
    let mut stream = Vec::new();
    let mut expected = Vec::new();
    for number in 0..count {
        let mut text = number.to_be_bytes().to_vec();
        let mood = u8::try_from(random.below(12)).expect("small");
        text.push(mood);
        let size = if random.below(10) == 0 { random.below(100_000) } else { random.below(200) };
        text.resize(9 + size, mood);
        stream.extend(peer.message(&text));
        expected.push((mood != 2).then_some(text));
    }
    let mut rest = &stream[..];
    while !rest.is_empty() {
        let piece = rest.len().min(1 + random.below(5000));
        peer.send(&rest[..piece]);
        rest = &rest[piece..];
    }
    for text in expected {
        assert_eq!(peer.response(), text);
    }
    count
}

#[test]
fn clients_beyond_the_limit_are_refused_and_room_is_used_again() {
    let server = echo_server(server(2).max_connections(3));
    let mut peers: Vec<_> = (0..3).map(|_| Peer::establish(server.local_addr())).collect();
    for _ in 0..5 {
        let mut further = Peer::connect(server.local_addr());
        further.send(&establishment(&key()));
        further.assert_closed_in_silence();
    }
    assert_eq!(server.stats().refused, 5);
    peers.pop();
    eventually("there is room", || server.stats().open == 2);
    Peer::establish(server.local_addr()).assert_served();
    for peer in &mut peers {
        peer.assert_served();
    }
}

#[test]
fn resets_and_vanishing_peers_leave_nothing_behind() {
    let server = server(2).bind("127.0.0.1:0").expect("binding").spawn(Echo).expect("spawning");
    for number in 0..100 {
        let mut peer = Peer::establish(server.local_addr());
        let message = peer.message(&[7; 5000]);
        peer.send(&message[..if number % 2 == 0 { 5 } else { message.len() }]);
        // Closing with answers unread resets the connection.
        drop(peer);
    }
    eventually("all are closed", || server.stats().open == 0);
    Peer::establish(server.local_addr()).assert_served();
}
