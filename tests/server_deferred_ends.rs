//! Answers that come later: how many may wait, how long, and what the end of a connection makes of them.

mod common;
#[path = "common/deferred.rs"]
mod deferred;

use std::net::Shutdown;
use std::time::{Duration, Instant};

use common::{PATIENCE, Peer, eventually, server};
use deferred::{Job, answer_to, jobs};
use falcotcp_sync::{Error, NotWanted};
use socket2::SockRef;

const SHORT: Duration = Duration::from_millis(300);

/// So long that a test gets as far as it wants within it.
const LIFETIME: Duration = Duration::from_millis(1500);

fn send(peer: &mut Peer, messages: &[&str]) {
    let frames: Vec<_> = messages.iter().map(|text| peer.message(text.as_bytes())).collect();
    peer.send(&frames.concat());
}

#[test]
fn limits_that_allow_nothing_are_errors() {
    for (name, builder) in [
        ("max_deferred", server(1).max_deferred(0)),
        ("deferred_timeout", server(1).deferred_timeout(Duration::ZERO)),
    ] {
        let error = builder.bind("127.0.0.1:0").expect_err("an error");
        assert!(matches!(error, Error::InvalidSetting { setting, .. } if setting == name), "{error}");
    }
}

#[test]
fn no_more_messages_are_handled_than_may_wait() {
    let (server, todo) = jobs(server(1).max_deferred(2));
    let mut peer = Peer::establish(server.local_addr());
    send(&mut peer, &["later 1", "later 2", "later 3", "at once", "later 4"]);
    let (first, second) = (todo.next(), todo.next());
    let mut other = Peer::establish(server.local_addr());
    (0..3).for_each(|_| other.assert_served());
    assert!(todo.try_next().is_none(), "a third one was handled");
    second.answer();
    (0..3).for_each(|_| other.assert_served());
    assert!(todo.try_next().is_none(), "one that is finished behind another counts as well");
    first.answer();
    todo.take(1).into_iter().for_each(Job::answer);
    todo.next().answer();
    for text in ["later 1!", "later 2!", "later 3!", "at once", "later 4!"] {
        assert_eq!(peer.response().as_deref(), Some(text.as_bytes()));
    }
}

#[test]
fn an_answer_has_its_time_and_the_connection_goes_on() {
    let (server, todo) = jobs(server(1).deferred_timeout(SHORT));
    let mut peer = Peer::establish(server.local_addr());
    send(&mut peer, &["later 1", "at once"]);
    let late = todo.next();
    assert_eq!(peer.response(), None, "it was rejected");
    assert_eq!(peer.response().as_deref(), Some(&b"at once"[..]));
    assert!(!late.reply.is_wanted());
    assert_eq!(late.reply.send(*b"late"), Err(NotWanted(b"late".to_vec())));
    peer.assert_served();
    assert_eq!(server.stats().deferred_now, 0);
}

#[test]
fn the_lifetime_does_not_run_out_while_an_answer_is_outstanding() {
    let (server, todo) = jobs(server(1).lifetime(LIFETIME).deferred_timeout(None));
    let mut peer = Peer::establish(server.local_addr());
    send(&mut peer, &["later 1"]);
    let job = todo.next();
    assert!(peer.is_open_for(LIFETIME + SHORT));
    job.answer();
    assert_eq!(peer.response(), Some(answer_to(b"later 1")));
    let begun = Instant::now();
    peer.assert_closed_in_silence();
    assert!(begun.elapsed() >= LIFETIME / 2, "it began anew: {:?}", begun.elapsed());
}

#[test]
fn a_peer_that_half_closes_gets_what_is_given_within_a_lifetime() {
    let (server, todo) = jobs(server(1).lifetime(LIFETIME));
    let mut peer = Peer::establish(server.local_addr());
    send(&mut peer, &["later 1", "later 2"]);
    peer.stream.shutdown(Shutdown::Write).expect("a half-close");
    let (first, second) = (todo.next(), todo.next());
    first.answer();
    assert_eq!(peer.response(), Some(answer_to(b"later 1")));
    peer.assert_closed_in_silence();
    eventually("nobody waits for it", || !second.reply.is_wanted());
    assert_eq!(server.stats().deferred_now, 0);
}

#[test]
fn a_reset_makes_replies_unwanted_at_once() {
    let (server, todo) = jobs(server(1).max_deferred(2));
    for messages in [&["later 1"][..], &["later 1", "later 2", "later 3"]] {
        let mut peer = Peer::establish(server.local_addr());
        send(&mut peer, messages);
        let waiting = todo.take(messages.len().min(2));
        SockRef::from(&peer.stream).set_linger(Some(Duration::ZERO)).expect("an option");
        drop(peer);
        eventually("nobody waits for them", || waiting.iter().all(|job| !job.reply.is_wanted()));
        eventually("it is closed", || server.stats().open == 0);
        assert_eq!(server.stats().deferred_now, 0);
    }
}

#[test]
fn a_stop_waits_for_answers_as_long_as_it_may() {
    let (server, todo) = jobs(server(1));
    let mut peer = Peer::establish(server.local_addr());
    send(&mut peer, &["later 1"]);
    let job = todo.next();
    let stopper = server.stopper();
    stopper.stop_within(PATIENCE);
    job.answer();
    assert_eq!(peer.response(), Some(answer_to(b"later 1")));
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (1, 0));

    let (server, todo) = jobs(common::server(1));
    let mut peer = Peer::establish(server.local_addr());
    send(&mut peer, &["later 1"]);
    let job = todo.next();
    let report = server.shutdown(SHORT).expect("a report");
    assert_eq!((report.drained, report.cut), (0, 1));
    assert_eq!(job.reply.send(*b"late"), Err(NotWanted(b"late".to_vec())));
}

#[test]
fn a_message_behind_an_answer_that_is_awaited_is_not_handled_after_a_stop() {
    let (server, todo) = jobs(server(1));
    let mut peer = Peer::establish(server.local_addr());
    send(&mut peer, &["later 1"]);
    let job = todo.next();
    server.stopper().stop_within(PATIENCE);
    std::thread::sleep(SHORT);
    send(&mut peer, &["later 2"]);
    std::thread::sleep(SHORT / 2);
    job.answer();
    assert_eq!(peer.response(), Some(answer_to(b"later 1")));
    peer.assert_closed_in_silence();
    server.wait().expect("a report");
}
