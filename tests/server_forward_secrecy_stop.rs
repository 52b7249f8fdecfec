//! How forward-secret sessions end with their server.

#![cfg(feature = "forward-secrecy")]

mod common;
#[path = "common/forward_secret.rs"]
mod forward_secret;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, eventually, server};
use falcotcp_sync::{Reply, ServerHandle};
use forward_secret::Said::{self, Cut, End, Goodbye, Pong, Rejection};
use forward_secret::{LARGE, MESSAGE, PING, Peer, header, job, response, serve};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn however_a_server_is_stopped_it_says_goodbye() {
    let stops: [fn(ServerHandle); 3] = [
        |server| {
            let report = server.shutdown(PATIENCE).expect("a report");
            assert_eq!((report.drained, report.cut), (20, 0));
        },
        |server| {
            server.stopper().stop();
            assert_eq!(server.wait().expect("a report").drained, 20);
        },
        drop,
    ];
    for stop in stops {
        let (server, _, _) = serve(server(2));
        let mut peers: Vec<_> = (0..20).map(|_| Peer::establish(server.local_addr())).collect();
        peers.iter_mut().take(7).for_each(Peer::assert_served);
        let stopping = thread::spawn(move || stop(server));
        for (index, peer) in peers.iter_mut().enumerate() {
            assert_eq!(peer.rest(), [Goodbye(u64::from(index < 7)), End]);
        }
        drop(peers);
        stopping.join().expect("a stop");
    }
}

/// Whatever its workers are at just then.
#[test]
fn without_any_time_for_draining_too() {
    for _ in 0..100 {
        let (server, _, _) = serve(server(2));
        let mut peers: Vec<_> = (0..6).map(|_| Peer::establish(server.local_addr())).collect();
        server.stopper().stop_within(Duration::ZERO);
        for peer in &mut peers {
            assert_eq!(peer.rest(), [Goodbye(0), End]);
        }
        drop(peers);
        let report = server.wait().expect("a report");
        assert_eq!(report.drained + report.cut, 6);
    }
}

#[test]
fn what_arrived_before_is_answered_and_counted() {
    let (server, gate, _) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"wait", b"two", b"three"]);
    peer.send(PING, b"");
    gate.entered();
    server.stopper().stop_within(PATIENCE);
    gate.open();
    let expected = [response(b""), response(b"two"), response(b"three"), Pong, Goodbye(3), End];
    assert_eq!(peer.rest(), expected);
    drop(peer);
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (1, 0));
}

#[test]
fn a_frame_that_becomes_whole_while_draining_is_the_last() {
    let (server, _, _) = serve(server(2));
    let mut peer = Peer::establish(server.local_addr());
    let mut idle = Peer::establish(server.local_addr());
    let (first, second) = (peer.frame(MESSAGE, b"in two halves"), peer.frame(MESSAGE, b"too late"));
    peer.send_raw(&first[..20]);
    server.stopper().stop_within(PATIENCE);
    assert_eq!(idle.rest(), [Goodbye(0), End]);
    assert!(peer.is_open_for(SHORT));
    peer.send_raw(&[&first[20..], &second].concat());
    assert_eq!(peer.rest(), [response(b"in two halves"), Goodbye(1), End]);
    drop((peer, idle));
    assert_eq!(server.wait().expect("a report").cut, 0);
}

#[test]
fn half_a_frame_at_the_end_of_the_drain_is_not_counted() {
    let (server, _, _) = serve(server(2));
    let mut peer = Peer::establish(server.local_addr());
    peer.assert_served();
    peer.send_raw(&header(MESSAGE, 100));
    let begun = Instant::now();
    server.stopper().stop_within(SHORT);
    assert_eq!(peer.rest(), [Goodbye(1), End]);
    assert!(begun.elapsed() >= SHORT);
    drop(peer);
    assert_eq!(server.wait().expect("a report").cut, 1);
}

#[test]
fn answers_that_have_not_come_by_the_end_of_the_drain_are_rejections() {
    let (server, _, replies) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"later", b"later"]);
    peer.send(PING, b"");
    peer.send_messages(&[b"later"]);
    let unwanted: Vec<_> = (0..3).map(|_| job(&replies)).collect();
    server.stopper().stop_within(SHORT);
    assert_eq!(peer.rest(), [Rejection(0), Rejection(0), Pong, Rejection(0), Goodbye(3), End]);
    drop(peer);
    assert_eq!(server.wait().expect("a report").cut, 1);
    for reply in unwanted {
        assert!(reply.send(b"too late").is_err());
    }
}

#[test]
fn what_was_not_taken_up_by_the_end_of_the_drain_is_not_counted() {
    let (server, _, replies) = serve(server(1).max_deferred(2));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"later", b"later", b"not taken up", b"nor this"]);
    let _unanswered: Vec<_> = (0..2).map(|_| job(&replies)).collect();
    server.stopper().stop_within(SHORT);
    assert_eq!(peer.rest(), [Rejection(0), Rejection(0), Goodbye(2), End]);
    assert_eq!(server.stats().messages, 2);
}

/// And the others of its worker are told.
#[test]
fn where_a_handler_still_runs_at_the_end_of_the_drain_the_connection_is_cut() {
    let (server, gate, _) = serve(server(1));
    // Two, so that they are not taken for the busy one in the report.
    let mut idle = [(); 2].map(|()| Peer::establish(server.local_addr()));
    let mut busy = Peer::establish(server.local_addr());
    busy.assert_served();
    busy.send_messages(&[b"wait"]);
    gate.entered();
    let begun = Instant::now();
    server.stopper().stop_within(SHORT);
    for peer in &mut idle {
        assert_eq!(peer.rest(), [Goodbye(0), End]);
    }
    assert!(begun.elapsed() >= SHORT);
    gate.open();
    let rest = busy.rest();
    assert!(!rest.iter().any(|said| matches!(said, Goodbye(_))), "{rest:?}");
    drop((idle, busy));
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (2, 1));
}

/// Then the goodbye has nobody to reach.
#[test]
fn one_whose_peer_has_gone_is_counted_all_the_same() {
    let (server, gate, _) = serve(server(1));
    let mut idle = Peer::establish(server.local_addr());
    let mut busy = Peer::establish(server.local_addr());
    let gone = Peer::establish(server.local_addr());
    busy.send_messages(&[b"wait"]);
    gate.entered();
    drop(gone);
    server.stopper().stop_within(Duration::ZERO);
    assert_eq!(idle.rest(), [Goodbye(0), End]);
    gate.open();
    busy.rest();
    drop((idle, busy));
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (2, 1));
}

#[test]
fn a_client_that_has_gone_does_not_keep_its_connection_from_ending_with_its_key() {
    let (server, gate, _) = serve(server(1));
    let mut busy = Peer::establish(server.local_addr());
    let gone = Peer::establish(server.local_addr());
    busy.send_messages(&[b"wait"]);
    gate.entered();
    drop(gone);
    assert!(server.keys().withdraw("default"));
    gate.open();
    busy.rest();
    drop(busy);
    eventually("both are over", || server.stats().open == 0);
    assert_eq!(server.stats().withdrawn, 2);
}

#[test]
fn a_large_answer_goes_out_before_it() {
    let (server, _, _) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"large"]);
    eventually("it is handled", || server.stats().messages == 1);
    server.stopper().stop_within(PATIENCE);
    assert!(peer.rest() == [response(&vec![7; LARGE]), Goodbye(1), End]);
    drop(peer);
    assert_eq!(server.wait().expect("a report").cut, 0);
}

#[test]
fn a_peer_that_does_not_read_is_cut() {
    let (server, _, _) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"large"]);
    eventually("it is handled", || server.stats().messages == 1);
    assert_eq!(server.shutdown(SHORT).expect("a report").cut, 1);
    assert_eq!(peer.rest(), [Cut]);
}

#[test]
fn a_peer_that_keeps_sending_reads_it_also_when_the_drain_is_over() {
    let (server, _, replies) = serve(server(1).max_deferred(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"later"]);
    let _reply = job(&replies);
    let sending = peer.send_on();
    server.stopper().stop_within(SHORT);
    thread::sleep(3 * SHORT / 2);
    assert_eq!(peer.rest(), [Rejection(0), Goodbye(1), End]);
    server.wait().expect("a report");
    sending.join().expect("the sender");
}

/// So much in the sockets and before them that it takes several looks.
#[test]
fn what_a_peer_still_sends_is_read_to_its_fin_when_the_drain_is_over() {
    let (server, _, replies) = serve(server(1).max_deferred(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"later"]);
    let _reply = job(&replies);
    let mut stream = peer.stream.try_clone().expect("cloning");
    let sending = thread::spawn(move || stream.write_all(&vec![0; 4 << 20]).and(Ok(stream)));
    server.stopper().stop_within(SHORT);
    assert_eq!(peer.rest(), [Rejection(0), Goodbye(1), End]);
    sending.join().expect("the sender").expect("no reset before everything is sent");
}

/// And soon, since it may be a replay.
#[test]
fn before_the_client_has_shown_the_keys_it_ends_in_silence() {
    let (server, _, _) = serve(server(2).handshake_timeout(4 * PATIENCE));
    let mut peers: Vec<_> = (0..5).map(|_| Peer::unproven(server.local_addr())).collect();
    server.stopper().stop_within(4 * PATIENCE);
    for peer in &mut peers {
        assert_eq!(peer.rest(), [End]);
    }
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (5, 0));
}

/// Its first message may be on its way, and only a goodbye tells that nothing was done with that.
#[test]
fn a_client_whose_offer_was_answered_just_before_may_still_show_the_keys() {
    let (server, _, _) = serve(server(1));
    let mut idle = Peer::establish(server.local_addr());
    let mut peer = Peer::unproven(server.local_addr());
    server.stopper().stop_within(PATIENCE);
    assert_eq!(idle.rest(), [Goodbye(0), End]);
    let frames = [peer.frame(PING, b""), peer.frame(MESSAGE, b"too late")].concat();
    peer.send_raw(&frames);
    // It may have come before the worker looked again.
    let rest = peer.rest();
    let answered = [Pong, forward_secret::response(b"too late"), Goodbye(1), End];
    assert!(rest == [Pong, Goodbye(0), End] || rest == answered, "{rest:?}");
    drop((idle, peer));
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (2, 0));
}

/// A server that drains, and a client that shows the keys only then, by a message whose answer comes later.
fn proven_while_draining() -> (ServerHandle, Peer, Reply) {
    let (server, _, replies) = serve(server(1));
    let mut idle = Peer::establish(server.local_addr());
    let mut peer = Peer::unproven(server.local_addr());
    server.stopper().stop_within(PATIENCE);
    assert_eq!(idle.rest(), [Goodbye(0), End]);
    // As a rule the worker has looked at it by then.
    assert!(peer.is_open_for(SHORT));
    peer.send_messages(&[b"later"]);
    (server, peer, job(&replies))
}

#[test]
fn a_client_that_shows_the_keys_while_draining_is_served_as_any() {
    let (_server, mut peer, reply) = proven_while_draining();
    // Longer than the server would have waited for nothing.
    assert!(peer.is_open_for(Duration::from_millis(1500)));
    reply.send(b"at last").expect("a wanted answer");
    assert_eq!(peer.rest(), [response(b"at last"), Goodbye(1), End]);
}

#[test]
fn and_may_be_cut_as_any() {
    let (server, mut peer, _unanswered) = proven_while_draining();
    // A handler that runs at the end of the drain costs the connection its goodbye.
    eventually("its handler has returned", || server.stats().workers_busy == 0);
    server.stopper().stop_within(Duration::ZERO);
    assert_eq!(peer.rest(), [Rejection(0), Goodbye(1), End]);
    drop(peer);
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (1, 1));
}

/// Every message is answered or known not to have been taken up, in the middle of whatever the stop comes.
#[test]
fn under_load_the_count_is_of_what_was_handled() {
    for round in 1..5 {
        let (server, _, _) = serve(server(2));
        let peers: Vec<_> = (0..6).map(|_| Peer::establish(server.local_addr())).collect();
        let clients: Vec<_> =
            peers.into_iter().map(|peer| thread::spawn(move || pipeline_until_goodbye(peer))).collect();
        eventually("it is under load", || server.stats().messages > 500 * round);
        server.stopper().stop_within(PATIENCE);
        let answered: u64 = clients.into_iter().map(|client| client.join().expect("a client")).sum();
        let messages = server.stats().messages;
        assert_eq!(answered, messages);
        assert_eq!(server.wait().expect("a report").cut, 0);
    }
}

/// Sends without waiting for answers until the server says goodbye, and gives its count.
fn pipeline_until_goodbye(mut peer: Peer) -> u64 {
    let mut sender = peer.stream.try_clone().expect("cloning");
    let frames: Vec<_> = (0..200_000).map(|_| peer.frame(MESSAGE, b"under load")).collect();
    let sending = thread::spawn(move || frames.iter().all(|frame| sender.write_all(frame).is_ok()));
    let mut answers = 0;
    let count = loop {
        match peer.next() {
            Said::Response(text) if text == b"under load" => answers += 1,
            Goodbye(count) => break count,
            other => panic!("{other:?} after {answers} answers"),
        }
    };
    assert_eq!(answers, count);
    assert_eq!(peer.next(), End);
    let _ = peer.stream.shutdown(std::net::Shutdown::Both);
    let _ = sending.join().expect("the sender");
    count
}
