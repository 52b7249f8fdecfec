//! Where a server says goodbye, what it counts, and where it ends in silence.

#![cfg(feature = "forward-secrecy")]

mod common;
#[path = "common/forward_secret.rs"]
mod forward_secret;

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, eventually, server};
use falcotcp_sync::ServerKeys;
use forward_secret::Said::{Cut, End, Goodbye, Pong, Rejection};
use forward_secret::{LARGE, MESSAGE, PING, Peer, header, job, response, serve};

const SHORT: Duration = Duration::from_millis(300);

/// So long that a test gets as far as it wants within it.
const LIFETIME: Duration = Duration::from_millis(1500);

const LIMIT: usize = 1000;

#[test]
fn at_the_end_of_the_lifetime() {
    let (server, _, _) = serve(server(2).lifetime(LIFETIME));
    let mut peer = Peer::establish(server.local_addr());
    let last = Instant::now();
    peer.send_messages(&[b"one", b"two"]);
    assert_eq!(peer.rest(), [response(b"one"), response(b"two"), Goodbye(2), End]);
    assert!(last.elapsed() >= LIFETIME);
    eventually("it is counted", || server.stats().expired == 1);
}

#[test]
fn half_a_frame_at_the_end_of_the_lifetime_is_not_counted() {
    let (server, _, _) = serve(server(2).lifetime(LIFETIME));
    let mut peer = Peer::establish(server.local_addr());
    peer.assert_served();
    let frame = peer.frame(MESSAGE, b"never whole");
    peer.send_raw(&frame[..frame.len() - 1]);
    assert_eq!(peer.rest(), [Goodbye(1), End]);
    assert_eq!(server.stats().messages, 1);
}

#[test]
fn over_the_limit_on_the_header_alone() {
    let (server, _, _) = serve(server(2).max_message_size(LIMIT));
    for length in [LIMIT as u64 + 17, 1 << 32, u64::MAX - 9, u64::MAX] {
        for kind in [0, MESSAGE, PING, 77] {
            let mut peer = Peer::establish(server.local_addr());
            assert_eq!(peer.max_message_size, LIMIT as u64);
            let frame = peer.frame(MESSAGE, &[5; LIMIT]);
            peer.send_raw(&[&frame[..], &header(kind, length)].concat());
            assert_eq!(
                peer.rest(),
                [response(&[5; LIMIT]), Goodbye(1), End],
                "{length} bytes of type {kind}"
            );
        }
    }
}

#[test]
fn over_the_limit_behind_an_answer_that_comes_later() {
    let (server, _, replies) = serve(server(1).max_message_size(LIMIT));
    let mut peer = Peer::establish(server.local_addr());
    let frames = [peer.frame(MESSAGE, b"later"), peer.frame(MESSAGE, b"at once"), header(PING, u64::MAX)];
    peer.send_raw(&frames.concat());
    let reply = job(&replies);
    assert!(peer.is_open_for(SHORT), "the goodbye waits for the answers before it");
    reply.send(b"at last").expect("a wanted answer");
    assert_eq!(peer.rest(), [response(b"at last"), response(b"at once"), Goodbye(2), End]);
}

#[test]
fn after_the_clients_fin() {
    let (server, _, _) = serve(server(1));
    let whole: &[&[u8]] = &[b"one", b"two", b"three"];
    for cut in [0, 1, 8, 9, 20, 32] {
        let mut peer = Peer::establish(server.local_addr());
        peer.send_messages(whole);
        let half = peer.frame(MESSAGE, b"half of it");
        peer.send_raw(&half[..cut]);
        peer.half_close();
        let expected = [response(b"one"), response(b"two"), response(b"three"), Goodbye(3), End];
        assert_eq!(peer.rest(), expected, "{cut} bytes of a frame");
    }
    eventually("all have ended", || server.stats().open == 0);
}

#[test]
fn after_the_clients_fin_and_an_answer_that_comes_later() {
    let (server, _, replies) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"later", b"at once"]);
    peer.send(PING, b"");
    peer.half_close();
    let reply = job(&replies);
    assert!(peer.is_open_for(SHORT));
    reply.send(b"at last").expect("a wanted answer");
    assert_eq!(peer.rest(), [response(b"at last"), response(b"at once"), Pong, Goodbye(2), End]);
}

/// A peer that is gone for good looks the same as one that has sent its FIN.
#[test]
fn an_answer_that_does_not_come_within_a_lifetime_from_the_fin_is_rejected() {
    let (server, _, replies) = serve(server(1).lifetime(LIFETIME));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"later"]);
    peer.send(PING, b"");
    peer.half_close();
    let reply = job(&replies);
    assert_eq!(peer.rest(), [Rejection(0), Pong, Goodbye(1), End]);
    eventually("nobody waits for it", || !reply.is_wanted());
}

#[test]
fn when_the_key_is_withdrawn_from_an_idle_connection() {
    let (server, _, _) = serve(server(2));
    let mut peers: Vec<_> = (0..10).map(|_| Peer::establish(server.local_addr())).collect();
    peers.iter_mut().take(3).for_each(Peer::assert_served);
    assert!(server.keys().withdraw("default"));
    for (index, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.rest(), [Goodbye(u64::from(index < 3)), End]);
    }
    eventually("they are counted", || server.stats().withdrawn == 10);
}

#[test]
fn when_the_key_is_withdrawn_while_a_handler_answers() {
    let (server, gate, _) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"one", b"wait", b"too late"]);
    gate.entered();
    assert!(server.keys().withdraw("default"));
    gate.open();
    assert_eq!(peer.rest(), [response(b"one"), response(b""), Goodbye(2), End]);
    assert_eq!(server.stats().messages, 2);
}

#[test]
fn when_a_handler_withdraws_the_key_itself() {
    let keys = Arc::new(OnceLock::<ServerKeys>::new());
    let own = Arc::clone(&keys);
    let builder = server(1).bind("127.0.0.1:0").expect("binding");
    let server = builder
        .spawn(move |message: &[u8]| {
            own.get().expect("set before any message").withdraw("default");
            message.to_vec()
        })
        .expect("spawning");
    keys.set(server.keys()).expect("set once");
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"the last", b"too late", b"too late"]);
    assert_eq!(peer.rest(), [response(b"the last"), Goodbye(1), End]);
    assert_eq!(server.stats().messages, 1);
}

#[test]
fn when_the_key_is_withdrawn_before_an_answer_that_comes_later() {
    let (server, _, replies) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"later"]);
    let reply = job(&replies);
    assert!(server.keys().withdraw("default"));
    peer.send_messages(&[b"too late"]);
    assert!(peer.is_open_for(SHORT));
    reply.send(b"at last").expect("a wanted answer");
    assert_eq!(peer.rest(), [response(b"at last"), Goodbye(1), End]);
}

#[test]
fn when_the_key_is_withdrawn_with_a_large_answer_unsent() {
    let (server, _, _) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"large", b"too late"]);
    eventually("it is handled", || server.stats().messages == 1);
    assert!(server.keys().withdraw("default"));
    assert!(peer.rest() == [response(&vec![7; LARGE]), Goodbye(1), End]);
    assert_eq!(server.stats().messages, 1);
}

#[test]
fn none_after_a_bad_frame() {
    type Bad<'a> = &'a dyn Fn(&mut Peer) -> Vec<u8>;
    let (server, _, _) = serve(server(1));
    let bad: [Bad<'_>; 6] = [
        &|peer| flipped(peer.frame(MESSAGE, b"text"), 0),
        &|peer| flipped(peer.frame(MESSAGE, b"text"), 9),
        &|peer| flipped(peer.frame(MESSAGE, b"text"), 28),
        &|peer| peer.frame(PING, b"not empty"),
        &|_| [header(MESSAGE, 15), vec![0; 15]].concat(),
        &|_| header(77, 0),
    ];
    for (index, bad) in bad.iter().enumerate() {
        let mut peer = Peer::establish(server.local_addr());
        peer.assert_served();
        let bad = bad(&mut peer);
        peer.send_raw(&bad);
        let behind = peer.frame(MESSAGE, b"behind it");
        // The server may have closed by now.
        let _ = std::io::Write::write_all(&mut peer.stream, &behind);
        let rest = peer.rest();
        assert!(rest == [End] || rest == [Cut], "{index}: {rest:?}");
    }
    let stats = server.stats();
    assert_eq!((stats.messages, stats.unauthenticated), (6, 6));
}

fn flipped(mut frame: Vec<u8>, byte: usize) -> Vec<u8> {
    frame[byte] ^= 4;
    frame
}

#[test]
fn none_before_the_client_has_shown_the_keys() {
    let (server, _, _) = serve(server(1).max_message_size(LIMIT));
    let ends: [&dyn Fn(&mut Peer); 4] = [
        &|peer| peer.half_close(),
        &|peer| peer.send_raw(&header(MESSAGE, u64::MAX)),
        &|peer| peer.send_raw(&[header(PING, 16), vec![0; 16]].concat()),
        &|_| _ = server.keys().withdraw("default"),
    ];
    for end in ends {
        let mut peer = Peer::unproven(server.local_addr());
        end(&mut peer);
        assert_eq!(peer.rest(), [End]);
    }
    eventually("all have ended", || server.stats().open == 0);
    assert_eq!((server.stats().established_forward_secret, server.stats().messages), (0, 0));
}

#[test]
fn none_for_a_peer_that_does_not_read() {
    let (server, _, _) = serve(server(1).write_timeout(SHORT));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"large"]);
    eventually("its time is over", || server.stats().expired == 1);
    assert_eq!(peer.rest(), [Cut]);
}

#[test]
fn a_peer_that_keeps_sending_reads_it_and_nothing_it_sends_is_handled() {
    let (server, _, _) = serve(server(1).max_message_size(LIMIT));
    let mut peer = Peer::establish(server.local_addr());
    peer.assert_served();
    let late = peer.frame(MESSAGE, b"too late");
    let before = Instant::now();
    peer.send_raw(&header(MESSAGE, u64::MAX));
    peer.send_raw(&late);
    let sending = peer.send_on();
    // By now far more has been sent than the socket holds.
    thread::sleep(SHORT);
    assert_eq!(peer.rest(), [Goodbye(1), End]);
    // The server reads on for a second, and not for ever.
    sending.join().expect("the sender");
    eventually("it has ended", || server.stats().open == 0);
    assert!(before.elapsed() >= Duration::from_secs(1) && before.elapsed() < PATIENCE / 2);
    assert_eq!((server.stats().messages, server.stats().expired), (1, 0));
}

#[test]
fn behind_it_the_server_reads_on_for_a_second_unless_the_client_ends_before() {
    let (server, _, _) = serve(server(1).max_message_size(LIMIT));
    let goodbye = || {
        let before = Instant::now();
        let mut peer = Peer::establish(server.local_addr());
        peer.send_raw(&header(MESSAGE, u64::MAX));
        assert_eq!(peer.rest(), [Goodbye(0), End]);
        (peer, before)
    };
    let (silent, before) = goodbye();
    eventually("the second is over", || server.stats().open == 0);
    assert!(before.elapsed() >= Duration::from_secs(1));
    drop(silent);

    let is_quick = || {
        let (peer, before) = goodbye();
        peer.half_close();
        eventually("it has ended", || server.stats().open == 0);
        before.elapsed() < Duration::from_secs(1)
    };
    assert!((0..5).any(|_| is_quick()), "the client's FIN ends it");
}

#[test]
fn one_that_lost_the_last_place_before_its_first_frame_hears_that_nothing_was_done() {
    let server = common::echo_server(server(2).max_connections(1));
    let [mut ping, mut message] = [(); 2].map(|()| Peer::unproven(server.local_addr()));
    let mut first = Peer::establish(server.local_addr());
    ping.send(PING, b"");
    assert_eq!(ping.rest(), [Pong, Goodbye(0), End]);
    message.send(MESSAGE, b"for nobody");
    assert_eq!(message.rest(), [Rejection(0), Goodbye(1), End]);
    first.assert_served();
    let stats = server.stats();
    assert_eq!((stats.refused, stats.messages, stats.established_forward_secret), (2, 1, 1));
}
