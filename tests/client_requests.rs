//! Messages that ask for more than the defaults: time-outs of their own, and being sent again.

mod common;
#[path = "common/hold.rs"]
mod hold;

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, echo_server, establishment, eventually, key, server};
use falcotcp_sync::{
    Addresses, Client, Error, ForwardSecrecy, Phase, ServerHandle, SharedClient, SharedRequest,
};
use hold::Hold;

const SHORT: Duration = Duration::from_millis(100);

/// Longer than it takes until somebody begins to connect.
const HASTY: Duration = Duration::from_secs(1);

/// Accepts connections, each of which gets this many establishments answered and nothing else; the first closes at a message.
fn silent() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut peer = common::Peer::from(stream.expect("a connection"));
            peer.receive(establishment(&key()).len());
            peer.stream.write_all(&[0xFF]).expect("accepting");
            open.push(peer);
        }
    });
    addr
}

fn builder() -> falcotcp_sync::ClientBuilder {
    Client::builder(key()).request_timeout(PATIENCE).forward_secrecy(ForwardSecrecy::Off)
}

fn assert_timed_out(error: &Error, within: Duration, begun: Instant) {
    let is_it = matches!(error, Error::TimedOut { phase: Phase::Receive, limit, .. } if *limit == within);
    assert!(is_it, "{error:?}");
    assert!(begun.elapsed() >= within && begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
}

#[test]
fn a_message_has_a_time_out_of_its_own_and_the_next_one_the_clients() {
    let mut client = builder().connect(silent()).expect("connecting");
    let begun = Instant::now();
    let error = client.request(b"hello").timeout(SHORT).send().expect_err("nobody answers");
    assert_timed_out(&error, SHORT, begun);

    let hold = Hold::default();
    let server = hold.spawn(server(1));
    let mut client = builder().request_timeout(SHORT).connect(server.local_addr()).expect("connecting");
    let mut response = b"what was there".to_vec();
    client.request(b"hello").timeout(PATIENCE).send_into(&mut response).expect("an answer");
    assert_eq!(response, b"hello");
    let refused = client.request(b"hello").timeout(Duration::ZERO).send();
    assert!(matches!(refused, Err(Error::InvalidSetting { setting: "timeout", .. })), "{refused:?}");
    assert!(client.is_open());
    let begun = Instant::now();
    assert_timed_out(&client.message(b"wait").expect_err("it is held"), SHORT, begun);
    hold.open();
}

#[test]
fn a_message_is_not_shown_before_it_is_sent() {
    let server = echo_server(server(1));
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let shared = builder().connect_shared(server.local_addr()).expect("connecting");
    for shown in [format!("{:?}", client.request(b"ABC")), format!("{:?}", shared.request(b"ABC"))] {
        assert!(shown.contains("size: 3") && !shown.contains("65, 66"), "{shown}");
    }
}

#[test]
fn calls_of_a_shared_client_end_each_in_its_own_time() {
    let client = builder().connect_shared(silent()).expect("connecting");
    let begun = Instant::now();
    let long = client.start(b"long").expect("room");
    let longer = client.request(b"longer").timeout(3 * SHORT).start().expect("room");
    let short = client.request(b"short").timeout(SHORT).start().expect("room");
    let (sender, told) = std::sync::mpsc::channel();
    // Nobody waits for this one, so the background thread ends it, though an earlier one has more time.
    short.then(move |outcome| sender.send(outcome.expect_err("nobody answers")).expect("the test waits"));
    assert_timed_out(&told.recv_timeout(PATIENCE).expect("it ends"), SHORT, begun);
    assert!(!long.is_done());
    assert_timed_out(&longer.wait().expect_err("nobody answers"), 3 * SHORT, begun);
    let begun = Instant::now();
    let future = client.request(b"short").timeout(SHORT).call();
    assert_timed_out(&pollster::block_on(future).expect_err("nobody answers"), SHORT, begun);
    let begun = Instant::now();
    assert_timed_out(&client.request(b"short").timeout(SHORT).send().expect_err("nobody"), SHORT, begun);
    assert!(client.request(b"short").timeout(Duration::ZERO).start().is_err());
    let tried = client.request(b"short").timeout(SHORT).try_start().expect("room");
    assert_timed_out(&tried.wait().expect_err("nobody answers"), SHORT, begun);
    assert!(!long.is_done() && client.is_open());
}

#[test]
fn idempotent_calls_are_sent_again_however_they_are_begun() {
    let server = echo_server(server(1).forward_secrecy(ForwardSecrecy::Off));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addrs = [listener.local_addr().expect("its address"), server.local_addr()];
    // It takes all three messages and closes, and then nobody listens there.
    let closes = thread::spawn(move || {
        let mut peer = common::Peer::from(listener.accept().expect("a connection").0);
        peer.receive(establishment(&key()).len());
        peer.stream.write_all(&[0xFF]).expect("accepting");
        drop(listener);
        peer.receive(3 * (9 + 28 + 5));
    });
    let client = builder().reconnect(true).connect_shared(addrs.as_slice()).expect("connecting");
    let started = client.request(b"start").idempotent().start().expect("room");
    let once = client.start(b"once!").expect("room");
    let called = pollster::block_on(client.request(b"call!").idempotent().call());
    assert_eq!(called.expect("an answer"), b"call!");
    assert_eq!(started.wait().expect("an answer"), b"start");
    assert!(once.wait().expect_err("it may have been processed").was_sent());
    closes.join().expect("no panic");
}

#[test]
fn a_call_with_a_long_time_out_is_not_ended_by_the_short_one_of_the_client() {
    let server = server(1).bind("127.0.0.1:0").expect("binding");
    let server = server
        .spawn(|message: &[u8]| {
            thread::sleep(4 * SHORT);
            message.to_vec()
        })
        .expect("spawning");
    let client = builder().request_timeout(SHORT).connect_shared(server.local_addr()).expect("connecting");
    // By a caller that reads, and by the background thread.
    assert_eq!(client.request(b"slow").timeout(PATIENCE).send().expect("an answer"), b"slow");
    let future = client.request(b"slow").timeout(PATIENCE).call();
    assert_eq!(pollster::block_on(future).expect("an answer"), b"slow");
}

#[test]
fn what_an_idempotent_call_may_have_done_is_told_though_it_was_to_be_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    // Each of the two clients is accepted, and closed when it has sent its message; then nobody listens.
    let closes = thread::spawn(move || {
        let mut peers = [(); 2].map(|()| {
            let mut peer = common::Peer::from(listener.accept().expect("a connection").0);
            peer.receive(establishment(&key()).len());
            peer.stream.write_all(&[0xFF]).expect("accepting");
            peer
        });
        drop(listener);
        for peer in &mut peers {
            peer.receive(9 + 28 + 5);
        }
    });
    let builder = builder().reconnect(true);
    let mut client = builder.connect(addr).expect("connecting");
    let shared = builder.connect_shared(addr).expect("connecting");
    let failed = client.request(b"hello").idempotent().timeout(5 * SHORT);
    thread::scope(|scope| {
        let sent = scope.spawn(|| shared.request(b"hello").idempotent().timeout(5 * SHORT).send());
        for outcome in [failed.send(), sent.join().expect("no panic")] {
            let error = outcome.expect_err("nobody listens");
            assert!(matches!(error, Error::ClosedByServer { .. }) && error.was_sent(), "{error:?}");
        }
    });
    closes.join().expect("no panic");
}

/// A client that has lost its connection, and finds no other before the test opens the hold.
fn unconnected(server: &ServerHandle, builder: &falcotcp_sync::ClientBuilder) -> (SharedClient, Hold) {
    let (addr, hold, is_held) = (server.local_addr(), Hold::default(), Arc::new(AtomicBool::new(false)));
    let name = Addresses::from_fn("a name", {
        let (hold, is_held) = (hold.clone(), Arc::clone(&is_held));
        move || {
            if is_held.load(SeqCst) {
                hold.pass();
            }
            Ok(vec![addr])
        }
    });
    let client = builder.clone().reconnect(true).connect_shared(name).expect("connecting");
    is_held.store(true, SeqCst);
    assert!(server.keys().withdraw("default"));
    eventually("the connection is over", || server.stats().open == 0);
    server.keys().add("default", key()).expect("a name that is free");
    (client, hold)
}

#[test]
fn a_call_with_more_time_outlives_the_attempt_to_connect_for_a_shorter_one() {
    let server = echo_server(server(1));
    let (client, hold) = unconnected(&server, &builder());
    let hasty = client.request(b"hasty").timeout(HASTY).start().expect("room");
    hold.await_entered();
    let patient = client.start(b"patient").expect("room");
    let error = hasty.wait().expect_err("there is no connection");
    assert!(matches!(error, Error::TimedOut { phase: Phase::Connect, limit: HASTY, .. }), "{error:?}");
    // Its time is over, so the attempt fails.
    hold.open();
    assert_eq!(patient.wait().expect("an answer"), b"patient");
}

#[test]
fn the_room_of_a_call_that_ends_without_a_connection_is_given_to_the_next() {
    let ways: [fn(SharedRequest<'_>); 3] = [
        |request| {
            let call = request.timeout(2 * PATIENCE).start().expect("room");
            thread::sleep(HASTY);
            drop(call);
        },
        |request| drop(request.send().expect_err("there is no connection")),
        |request| request.start().expect("room").then(drop),
    ];
    for way in ways {
        let server = echo_server(server(1));
        let (client, hold) = unconnected(&server, &builder().request_timeout(2 * PATIENCE).max_in_flight(1));
        thread::scope(|scope| {
            let hasty = scope.spawn(|| way(client.request(b"hasty").timeout(HASTY)));
            hold.await_entered();
            let next = scope.spawn(|| client.start(b"next"));
            hasty.join().expect("no panic");
            eventually("it has room", || next.is_finished());
            drop(next.join().expect("no panic").expect("room"));
        });
        hold.open();
    }
}
