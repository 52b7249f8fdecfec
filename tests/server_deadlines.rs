//! When a server ends a connection by itself, and what keeps one alive.
//!
//! Lower bounds are exact, since a server must not be early; upper bounds are generous, since a loaded machine may be late.

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::{PING, Peer, echo_server, establishment, eventually, key, server};

const SHORT: Duration = Duration::from_millis(300);

/// A lifetime that is not over although a loaded machine pauses a thread for most of a second.
const LONG: Duration = Duration::from_millis(1500);

/// A connection is not over before its deadline; what the clocks of both ends may differ by.
const EARLY: Duration = Duration::from_millis(5);

fn assert_expires(peer: &mut Peer, since: Instant, after: Duration) {
    peer.assert_closed_in_silence();
    assert!(since.elapsed() + EARLY >= after, "closed after {:?} instead of {after:?}", since.elapsed());
}

#[test]
fn an_idle_connection_ends_with_its_lifetime() {
    let server = echo_server(server(2).lifetime(SHORT));
    let begun = Instant::now();
    let mut peer = Peer::establish(server.local_addr());
    assert_expires(&mut peer, begun, SHORT);
    eventually("it is counted", || server.stats().expired == 1 && server.stats().open == 0);
}

#[test]
fn messages_and_pings_and_establishments_extend_the_lifetime() {
    let server = echo_server(server(2).lifetime(LONG));
    let addr = server.local_addr();
    let interactions: [fn(&mut Peer); 3] = [
        |peer| peer.send(PING),
        |peer| peer.assert_served(),
        |peer| {
            peer.send(&establishment(&key()));
            assert_eq!(peer.receive(1), [0xFF]);
        },
    ];
    let lives = interactions.map(|interaction| {
        std::thread::spawn(move || {
            let mut peer = Peer::establish(addr);
            let mut last = Instant::now();
            for _ in 0..4 {
                assert!(peer.is_open_for(LONG / 3));
                last = Instant::now();
                interaction(&mut peer);
            }
            assert_expires(&mut peer, last, LONG);
        })
    });
    for life in lives {
        life.join().expect("a connection that lives as long as it should");
    }
}

#[test]
fn what_is_not_an_interaction_does_not_extend_the_lifetime() {
    let server = echo_server(server(2).lifetime(SHORT));
    let unregistered = vec![3, 200];
    let damaged = [&[1, 0, 0, 0, 0, 0, 0, 0, 28][..], &[0; 28]].concat();
    let too_short = vec![1, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    for saying in [unregistered, damaged, too_short] {
        let begun = Instant::now();
        let mut peer = Peer::establish(server.local_addr());
        talk(&peer, &[], &saying);
        // The empty responses to what was damaged come before the end.
        assert!(peer.rest().iter().all(|byte| *byte == 0));
        assert!(begun.elapsed() + EARLY >= SHORT, "closed after {:?}", begun.elapsed());
    }
}

#[test]
fn bytes_of_a_message_that_never_becomes_complete_do_not_extend_the_lifetime() {
    let server = echo_server(server(2).lifetime(SHORT));
    let begun = Instant::now();
    let mut peer = Peer::establish(server.local_addr());
    talk(&peer, &[1, 0, 0, 0, 0, 0, 1, 0, 0], &[0; 3]);
    assert_expires(&mut peer, begun, SHORT);
}

/// Says `first`, and then `again` every few milliseconds until the server has closed.
fn talk(peer: &Peer, first: &[u8], again: &[u8]) {
    let mut hand = peer.second_hand();
    let (first, again) = (first.to_vec(), again.to_vec());
    std::thread::spawn(move || {
        let mut outcome = hand.stream.write_all(&first);
        while outcome.is_ok() {
            std::thread::sleep(SHORT / 20);
            outcome = hand.stream.write_all(&again);
        }
    });
}

#[test]
fn a_peer_that_never_establishes_ends_at_its_own_deadline() {
    let server = echo_server(server(2).handshake_timeout(SHORT));
    let establishment = establishment(&key());
    for length in [0, 1, 100, 156] {
        let begun = Instant::now();
        let mut peer = Peer::connect(server.local_addr());
        peer.send(&establishment[..length]);
        assert_expires(&mut peer, begun, SHORT);
    }
}

#[test]
fn an_establishment_that_dribbles_in_does_not_get_more_time() {
    let server = echo_server(server(2).handshake_timeout(SHORT));
    let mut peer = Peer::connect(server.local_addr());
    let mut dribbler = peer.second_hand();
    let begun = Instant::now();
    let dribbling = std::thread::spawn(move || {
        for byte in establishment(&key()) {
            std::thread::sleep(SHORT / 20);
            if dribbler.stream.write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    assert_expires(&mut peer, begun, SHORT);
    dribbling.join().expect("the dribbler");
}

#[test]
fn a_lifetime_does_not_run_out_while_a_handler_runs() {
    let server = server(2)
        .lifetime(LONG)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(|message: &[u8]| {
            std::thread::sleep(LONG * 4 / 3);
            message.to_vec()
        })
        .expect("spawning");
    let mut peer = Peer::establish(server.local_addr());
    assert_eq!(peer.exchange(b"slow").as_deref(), Some(&b"slow"[..]));
    let answered = Instant::now();
    // The clock of the server started when it wrote, at most the scheduling of this thread before.
    peer.assert_closed_in_silence();
    assert!(answered.elapsed() + Duration::from_millis(500) >= LONG, "closed after {:?}", answered.elapsed());
}

#[test]
fn a_peer_that_reads_nothing_ends_at_the_write_deadline_and_not_with_its_lifetime() {
    let server = echo_server(server(2).lifetime(LONG).write_timeout(2 * LONG));
    let mut peer = Peer::establish(server.local_addr());
    let mut sender = peer.second_hand();
    // Each is through long before the lifetime's end; all of them are far more than the buffers of both sockets take.
    let frame = sender.message(&vec![7; 256 << 10]);
    let begun = Instant::now();
    let sending = std::thread::spawn(move || while sender.stream.write_all(&frame).is_ok() {});
    eventually("it is closed", || server.stats().expired == 1 && server.stats().open == 0);
    assert!(begun.elapsed() + EARLY >= 2 * LONG, "closed after {:?}", begun.elapsed());
    sending.join().expect("the sender");
    let _ = peer.stream.shutdown(std::net::Shutdown::Both);
    drop(peer.rest());
}

#[test]
fn a_peer_that_reads_slowly_is_served_beyond_the_write_deadline() {
    let server = echo_server(server(2).write_timeout(LONG));
    let mut peer = Peer::establish(server.local_addr());
    let text = vec![7; 12 << 20];
    let begun = Instant::now();
    peer.send_message(&text);
    let length = peer.receive(8);
    assert_eq!(length, (text.len() as u64 + 28).to_be_bytes());
    let mut left = text.len() + 28;
    while left > 0 {
        // Each piece is far more than the buffers between hold back, so that every pause sees progress.
        if begun.elapsed() < 2 * LONG {
            std::thread::sleep(LONG / 5);
        }
        let piece = left.min(1 << 20);
        peer.receive(piece);
        left -= piece;
    }
    peer.assert_served();
}
