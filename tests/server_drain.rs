//! While a server drains: what is still answered, and that nobody can make it last.

mod common;
#[path = "common/hold.rs"]
mod hold;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, PING, Peer, echo_server, establishment, eventually, key, server};
use falcotcp_sync::ServerHandle;
use hold::Hold;

/// So far away that a test would fail by its patience if it had to wait for that.
const FAR: Duration = Duration::from_secs(600);

const SHORT: Duration = Duration::from_millis(500);

/// Bytes that the server reads of an establishment.
const ESTABLISHMENT: u64 = 157;

fn assert_ends(server: ServerHandle, cut: u64) {
    eventually("every connection is closed", || server.stats().open == 0);
    assert_eq!(server.wait().expect("a report").cut, cut);
}

#[test]
fn a_lifetime_ends_also_while_the_server_drains() {
    let server = echo_server(server(2).handshake_timeout(FAR).lifetime(3 * SHORT));
    let mut half = Peer::establish(server.local_addr());
    // Its worker waits without a time-out of its own once the acceptor has promised to wake it.
    for _ in 0..5 {
        half.assert_served();
        thread::sleep(SHORT / 20);
    }
    let before = server.stats().bytes_in;
    let message = half.message(b"in two halves");
    half.send(&message[..20]);
    eventually("its first half has been read", || server.stats().bytes_in == before + 20);
    server.stopper().stop_within(FAR);
    half.assert_closed_in_silence();
    eventually("it is counted", || server.stats().expired == 1);
    assert_ends(server, 0);
}

#[test]
fn a_peer_that_reads_nothing_ends_at_the_write_deadline_also_while_the_server_drains() {
    let server = server(1)
        .lifetime(FAR)
        .write_timeout(SHORT)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(|_: &[u8]| vec![7; 16 << 20])
        .expect("spawning");
    let mut deaf = Peer::establish(server.local_addr());
    deaf.send_message(b"large");
    eventually("its answer is being written", || server.stats().bytes_out > 1000);
    server.stopper().stop_within(FAR);
    assert_ends(server, 0);
}

/// Goes on sending `bytes` until the server closes.
fn flood(peer: &Peer, bytes: Vec<u8>, pause: Duration) -> thread::JoinHandle<()> {
    let mut sender = peer.second_hand();
    thread::spawn(move || {
        while sender.stream.write_all(&bytes).is_ok() {
            thread::sleep(pause);
        }
    })
}

#[test]
fn who_floods_without_a_pause_does_not_make_a_drain_last() {
    let server = echo_server(server(1).lifetime(FAR));
    let floods: Vec<_> = (0..3)
        .map(|_| flood(&Peer::establish(server.local_addr()), PING.repeat(1 << 20), Duration::ZERO))
        .collect();
    eventually("it is flooded", || server.stats().pings > 100_000);
    server.stopper().stop_within(FAR);
    assert_ends(server, 0);
    for flood in floods {
        flood.join().expect("a flood");
    }
}

#[test]
fn who_goes_on_sending_behind_its_last_answer_does_not_make_a_drain_last() {
    let server = echo_server(server(1).lifetime(FAR));
    let mut peer = Peer::establish(server.local_addr());
    let flood = flood(&peer, PING.to_vec(), Duration::from_millis(1));
    peer.assert_served();
    // It has just had an answer, so that the server lets it read that before it closes.
    server.stopper().stop_within(FAR);
    assert_ends(server, 0);
    flood.join().expect("the sender");
}

#[test]
fn connections_on_their_way_to_a_worker_in_a_handler_are_answered_or_closed() {
    for _ in 0..20 {
        let hold = Hold::default();
        let server = hold.spawn(server(1).handshake_timeout(FAR));
        let mut waiting = Peer::establish(server.local_addr());
        hold.hold(&mut waiting);
        let mut talker = Peer::connect(server.local_addr());
        let message = talker.message(b"just in time");
        talker.send(&[establishment(&key()), message].concat());
        let mut silent = Peer::connect(server.local_addr());
        // At once, since the watchdog would soon take them into the worker's table.
        let begun = Instant::now();
        while server.stats().accepted < 3 && begun.elapsed() < PATIENCE {
            std::hint::spin_loop();
        }
        server.stopper().stop_within(FAR);
        hold.release(&mut waiting);
        assert_eq!(talker.receive(1), [0xFF]);
        assert_eq!(talker.response().as_deref(), Some(&b"just in time"[..]));
        for peer in [&mut talker, &mut silent] {
            peer.assert_closed_in_silence();
        }
        drop((waiting, talker));
        assert_ends(server, 0);
    }
}

#[test]
fn a_message_that_a_flood_has_before_it_is_answered_in_the_drain() {
    let hold = Hold::default();
    let server = hold.spawn(server(1));
    let mut waiting = Peer::establish(server.local_addr());
    let mut peer = Peer::establish(server.local_addr());
    hold.hold(&mut waiting);
    // Many turns, all of which lie in the server's socket when it is stopped.
    let message = peer.message(b"behind it all");
    peer.send(&[PING.repeat(20_000), message].concat());
    server.stopper().stop_within(FAR);
    hold.release(&mut waiting);
    assert_eq!(peer.response().as_deref(), Some(&b"behind it all"[..]));
    drop((peer, waiting));
    assert_eq!(server.stats().pings, 20_000);
    assert_ends(server, 0);
}

#[test]
fn a_drain_of_connections_that_never_established_ends_at_once() {
    let server = echo_server(server(2).handshake_timeout(FAR));
    let mut peers: Vec<_> = (0..20).map(|_| Peer::connect(server.local_addr())).collect();
    for peer in &mut peers[..10] {
        peer.send(&establishment(&key())[..100]);
    }
    eventually("they are accepted", || server.stats().bytes_in == 1000 && server.stats().open == 20);
    server.stopper().stop_within(FAR);
    for peer in &mut peers {
        peer.assert_closed_in_silence();
    }
    assert!(server.stats().bytes_in < ESTABLISHMENT * 10);
    assert_ends(server, 0);
}
