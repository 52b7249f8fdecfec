//! Pipelines whose callers take their time, or decide themselves when to send and when to receive.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::iter;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{PATIENCE, Peer, echo_server, eventually, key, server};
use falcotcp_sync::{Client, ClientBuilder, Error, ForwardSecrecy, Phase, ServerHandle};

const LIFETIME: Duration = Duration::from_secs(1);
const LONGER: Duration = Duration::from_millis(1300);
const SHORT: Duration = Duration::from_millis(300);

fn builder() -> ClientBuilder {
    Client::builder(key()).request_timeout(PATIENCE)
}

/// An echo server that counts the messages which it has, and answers when it may.
fn counting_server(lifetime: Duration) -> (ServerHandle, Arc<AtomicUsize>, Arc<AtomicBool>) {
    let (count, may_answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let (counter, gate) = (Arc::clone(&count), Arc::clone(&may_answer));
    let handler = move |message: &[u8]| {
        counter.fetch_add(1, SeqCst);
        eventually("leave to answer", || gate.load(SeqCst));
        message.to_vec()
    };
    let server =
        server(2).lifetime(lifetime).bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning");
    (server, count, may_answer)
}

/// With each policy, both at the same time: such a test sleeps most of its own.
fn with_each_policy(test: fn(ForwardSecrecy)) {
    thread::scope(|scope| {
        for policy in [ForwardSecrecy::Off, ForwardSecrecy::default()] {
            scope.spawn(move || test(policy));
        }
    });
}

/// A server of one connection, played by `play` after the establishment.
fn played_server<T: Send + 'static>(
    play: impl FnOnce(Peer) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    let thread = thread::spawn(move || {
        let mut peer = Peer::from(listener.accept().expect("a connection").0);
        peer.receive(157);
        peer.send(&[0xFF]);
        play(peer)
    });
    (addr, thread)
}

fn receive_message(peer: &mut Peer) -> Vec<u8> {
    assert_eq!(peer.receive(1), [1]);
    peer.response().expect("a message")
}

fn respond(peer: &mut Peer, text: &[u8]) {
    let frame = peer.message(text);
    peer.send(&frame[1..]);
}

fn wait_until_closed(server: &ServerHandle) {
    eventually("the server closes the connection", || server.stats().open == 0);
}

#[test]
fn results_are_given_while_an_iterator_takes_its_time() {
    let server = echo_server(server(2));
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let given = Cell::new(0);
    let messages = (0..10u8).map(|number| {
        assert!(number < 9 || given.get() > 0, "no result before the last message");
        thread::sleep(Duration::from_millis(50));
        [number]
    });
    client
        .pipeline(messages, |result| given.set(given.get() + result.expect("an answer").len()))
        .expect("in order");
    assert_eq!(given.get(), 10);
}

#[test]
fn messages_from_a_source_without_an_end_go_out_before_its_first_pause() {
    let (server, count, _) = counting_server(PATIENCE);
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let mut number = 0;
    let messages = iter::from_fn(|| {
        number += 1;
        if number == 4 {
            eventually("three messages arrive", || count.load(SeqCst) == 3);
        }
        (number <= 4).then_some("message")
    });
    client.pipeline(messages, |result| assert!(result.is_ok())).expect("in order");
    assert_eq!(count.load(SeqCst), 4);
}

#[test]
fn messages_behind_a_pause_go_out_before_the_next_one() {
    let (server, count, _) = counting_server(PATIENCE);
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let messages = (0..40).map(|number| {
        match number {
            0 => thread::sleep(Duration::from_millis(5)),
            20 => eventually("those before arrive", || count.load(SeqCst) == 20),
            _ => {}
        }
        "message"
    });
    client.pipeline(messages, |result| assert!(result.is_ok())).expect("in order");
}

#[test]
fn an_iterator_that_has_none_for_now_is_asked_again_after_results() {
    let server = echo_server(server(2));
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let queue = RefCell::new(VecDeque::from([0u8]));
    let mut last = 0;
    let messages = iter::from_fn(|| queue.borrow_mut().pop_front().map(|number| [number]));
    client
        .pipeline(messages, |result| {
            last = result.expect("an answer")[0];
            if last < 100 {
                queue.borrow_mut().push_back(last + 1);
            }
        })
        .expect("in order");
    assert_eq!(last, 100);
}

#[test]
fn a_message_may_follow_from_the_result_of_another() {
    let server = echo_server(server(2));
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let mut pipeline = client.pipelined();
    pipeline.send([0]).expect("sent");
    pipeline.send([100]).expect("sent");
    for _ in 0..100 {
        for _ in 0..2 {
            let next = pipeline.receive().expect("in order").expect("two are in flight")[0] + 1;
            pipeline.send([next]).expect("sent");
        }
    }
    assert_eq!(pipeline.in_flight(), 2);
    assert_eq!(pipeline.receive().expect("in order"), Some(&[100][..]));
    assert_eq!(pipeline.receive().expect("in order"), Some(&[200][..]));
    assert_eq!(pipeline.receive().expect("in order"), None);
    drop(pipeline);
    assert_eq!(client.message(b"afterwards").expect("an answer"), b"afterwards");
}

#[test]
fn what_has_not_arrived_is_not_waited_for_unless_that_is_wanted() {
    let (server, _, may_answer) = counting_server(PATIENCE);
    may_answer.store(false, SeqCst);
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let mut pipeline = client.pipelined();
    pipeline.send("message").expect("sent");
    assert_eq!(pipeline.try_receive().expect("in order"), None);
    may_answer.store(true, SeqCst);
    eventually("the answer arrives", || pipeline.try_receive().expect("in order").is_some());
    assert_eq!(pipeline.in_flight(), 0);
}

#[test]
fn sending_goes_on_although_no_response_is_received() {
    for policy in [ForwardSecrecy::Off, ForwardSecrecy::default()] {
        is_only_sent(policy);
    }
}

fn is_only_sent(policy: ForwardSecrecy) {
    let server = echo_server(server(2));
    let mut client = builder().forward_secrecy(policy).connect(server.local_addr()).expect("connecting");
    let message = vec![7; 1 << 20];
    let mut pipeline = client.pipelined();
    for _ in 0..50 {
        pipeline.send(&message).expect("sent");
    }
    for _ in 0..50 {
        assert!(pipeline.receive().expect("in order") == Some(&message));
    }
}

#[test]
fn one_message_that_is_rejected_or_too_large_does_not_end_it() {
    let handler = |message: &[u8]| {
        assert_ne!(message, b"bad");
        message.to_vec()
    };
    let server = server(1).bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning");
    let mut client = builder().max_message_size(4).connect(server.local_addr()).expect("connecting");
    let mut pipeline = client.pipelined();
    pipeline.send("bad").expect("sent");
    let error = pipeline.send("too large").expect_err("over the limit");
    assert!(matches!(error, Error::TooLarge { phase: Phase::Send, size: 9, limit: 4, .. }), "{error}");
    pipeline.send("good").expect("sent");
    assert!(matches!(pipeline.receive(), Err(Error::HandlerFailed)));
    assert_eq!(pipeline.receive().expect("in order"), Some(&b"good"[..]));
    drop(pipeline);
    assert!(client.is_open());
}

#[test]
fn a_message_over_the_servers_limit_is_rejected_behind_the_answers_to_others() {
    // One that does not say its limit.
    let server = echo_server(server(1).max_message_size(1000).forward_secrecy(ForwardSecrecy::Off));
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let mut pipeline = client.pipelined();
    pipeline.send("one").expect("sent");
    // The server closes long before it has all of it.
    let sent = pipeline.send(vec![7; 15 << 20]);
    assert_eq!(pipeline.receive().expect("an answer"), Some(&b"one"[..]), "{sent:?}");
    assert!(matches!(pipeline.receive(), Err(Error::Rejected)), "{sent:?}");
}

#[test]
fn a_connection_is_kept_alive_while_the_iterator_and_each_take_their_time() {
    with_each_policy(is_kept_alive);
}

fn kept_alive(policy: ForwardSecrecy) -> (ServerHandle, Client) {
    let (server, ..) = counting_server(LIFETIME);
    let builder = builder().forward_secrecy(policy).lifetime(LIFETIME).keep_alive(true);
    let client = builder.connect(server.local_addr()).expect("connecting");
    (server, client)
}

fn is_kept_alive(policy: ForwardSecrecy) {
    let (server, mut client) = kept_alive(policy);
    let mut given = 0;
    let messages = (0..3).inspect(|number| {
        if *number == 2 {
            thread::sleep(LONGER);
        }
    });
    client
        .pipeline(messages.map(u32::to_be_bytes), |result| {
            result.expect("an answer");
            if given == 0 {
                thread::sleep(LONGER);
            }
            given += 1;
        })
        .expect("in order");
    assert_eq!(given, 3);
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn a_connection_is_kept_alive_between_the_calls_of_a_pipeline_and_after_it() {
    with_each_policy(is_kept_alive_between_calls);
}

fn is_kept_alive_between_calls(policy: ForwardSecrecy) {
    let (server, mut client) = kept_alive(policy);
    let mut pipeline = client.pipelined();
    pipeline.send("one").expect("sent");
    thread::sleep(LONGER);
    pipeline.send("two").expect("sent");
    assert_eq!(pipeline.receive().expect("in order"), Some(&b"one"[..]));
    assert_eq!(pipeline.receive().expect("in order"), Some(&b"two"[..]));
    thread::sleep(LONGER);
    pipeline.send("three").expect("sent");
    assert_eq!(pipeline.receive().expect("in order"), Some(&b"three"[..]));
    drop(pipeline);
    thread::sleep(LONGER);
    assert_eq!(client.message(b"afterwards").expect("an answer"), b"afterwards");
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn results_that_are_consumed_slowly_do_not_let_the_lifetime_run_out() {
    with_each_policy(is_consumed_slowly);
}

fn is_consumed_slowly(policy: ForwardSecrecy) {
    let (server, ..) = counting_server(LIFETIME);
    let mut client = builder()
        .forward_secrecy(policy)
        .lifetime(LIFETIME)
        .connect(server.local_addr())
        .expect("connecting");
    client
        .pipeline((0..8).map(u32::to_be_bytes), |result| {
            result.expect("an answer");
            thread::sleep(LIFETIME / 4);
        })
        .expect("in order");
    assert_eq!(client.message(b"afterwards").expect("an answer"), b"afterwards");
}

#[test]
fn results_are_given_and_no_ping_is_sent_inside_a_message_that_is_half_sent() {
    with_each_policy(is_half_sent);
}

fn is_half_sent(policy: ForwardSecrecy) {
    // More than the sockets between hold, and through them soon when nothing is in its way.
    const LARGE: usize = 8 << 20;
    let lifetime = Duration::from_millis(600);
    let has_large = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&has_large);
    let handler = move |message: &[u8]| {
        seen.fetch_or(message.len() == LARGE, SeqCst);
        if message.len() == LARGE { vec![] } else { vec![7; 2 << 20] }
    };
    let server =
        server(1).lifetime(lifetime).bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning");
    // The server reads the large one only when some of its responses to the others are taken: no sockets hold them all.
    let mut messages = vec![vec![1]; 40];
    messages.push(vec![2; LARGE]);
    let mut client = builder()
        .forward_secrecy(policy)
        .lifetime(lifetime)
        .keep_alive(true)
        .connect(server.local_addr())
        .expect("connecting");
    let mut given = 0;
    client
        .pipeline(&messages, |result| {
            let response = result.expect("an answer");
            assert_eq!(response.is_empty(), given == 40);
            assert!(given > 8 || !has_large.load(SeqCst), "results were held back");
            if given % 8 == 7 {
                thread::sleep(lifetime);
            }
            given += 1;
        })
        .expect("in order");
    assert_eq!(given, 41);
}

#[test]
fn answers_that_had_arrived_are_given_after_the_end_of_the_connection() {
    // A time slice that is lost between two messages lets the first of them go out alone.
    let is_each_given = || {
        let (server, ..) = counting_server(SHORT);
        let mut client = builder().connect(server.local_addr()).expect("connecting");
        let mut given = 0;
        let _ = client.pipeline((0..10).map(u32::to_be_bytes), |result| {
            result.expect("an answer");
            wait_until_closed(&server);
            given += 1;
        });
        given == 10
    };
    assert!((0..10).any(|_| is_each_given()));
}

#[test]
fn answers_that_had_arrived_are_given_after_a_failure_to_send() {
    let (addr, thread) = played_server(|mut peer| {
        for _ in 0..2 {
            let message = receive_message(&mut peer);
            respond(&mut peer, &message);
        }
        // Closed with a message unread, the connection ends with a reset.
        peer.receive(1);
    });
    let mut client = builder().connect(addr).expect("connecting");
    let mut pipeline = client.pipelined();
    for text in ["one", "two", "three"] {
        pipeline.send(text).expect("sent");
    }
    thread.join().expect("a server");
    let mut error = None;
    eventually("sending fails", || {
        error = pipeline.send("more").err();
        error.is_some()
    });
    assert!(error.expect("an error").was_sent());
    assert_eq!(pipeline.receive().expect("an answer"), Some(&b"one"[..]));
    assert_eq!(pipeline.receive().expect("an answer"), Some(&b"two"[..]));
    let error = pipeline.receive().expect_err("the end");
    assert!(matches!(error, Error::ClosedByServer { phase: Phase::Send, .. }), "{error:?}");
    drop(pipeline);
    assert!(!client.is_open());
}

#[test]
fn a_pipeline_gives_what_had_arrived_when_it_can_not_send() {
    let (addr, thread) = played_server(|mut peer| {
        for _ in 0..3 {
            let message = receive_message(&mut peer);
            // Together they are more than the client reads at once.
            respond(&mut peer, &[message, vec![7; 10_000]].concat());
        }
    });
    let mut thread = Some(thread);
    let mut client = builder().connect(addr).expect("connecting");
    let mut given = 0;
    let outcome = client.pipeline((0..3000u32).map(u32::to_be_bytes), |result| {
        assert_eq!(result.expect("an answer").len(), 10_004);
        given += 1;
        if let Some(thread) = thread.take() {
            thread.join().expect("a server");
        }
    });
    assert!(
        matches!(outcome, Err(Error::ClosedByServer { phase: Phase::Send | Phase::Receive, .. })),
        "{outcome:?}"
    );
    assert_eq!(given, 3);
}

#[test]
fn nothing_follows_a_message_that_was_answered_before_all_of_it_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let accept = || {
            let mut peer = Peer::from(listener.accept().expect("a connection").0);
            peer.receive(157);
            peer.send(&[0xFF]);
            peer
        };
        let mut first = accept();
        first.receive(9);
        first.send(&[0; 8]);
        let mut second = accept();
        let message = receive_message(&mut second);
        respond(&mut second, &message);
        drop(second.rest());
    });
    let mut client = builder().reconnect(true).connect(addr).expect("connecting");
    let mut pipeline = client.pipelined();
    let begun = Instant::now();
    pipeline.send(vec![7; 16 << 20]).expect("an answer to receive");
    assert!(begun.elapsed() < PATIENCE / 2, "the answer was not looked for");
    assert!(matches!(pipeline.receive(), Err(Error::Rejected)));
    pipeline.send("next").expect("sent on a new connection");
    assert_eq!(pipeline.receive().expect("in order"), Some(&b"next"[..]));
}

#[test]
fn nothing_is_given_after_a_response_that_does_not_open() {
    let (addr, _thread) = played_server(|mut peer| {
        receive_message(&mut peer);
        let mut frame = peer.message(b"one");
        *frame.last_mut().expect("a tag") ^= 1;
        peer.send(&frame[1..]);
        respond(&mut peer, b"two");
        drop(peer.rest());
    });
    let mut client = builder().connect(addr).expect("connecting");
    let mut pipeline = client.pipelined();
    pipeline.send("one").expect("sent");
    pipeline.send("two").expect("sent");
    for _ in 0..2 {
        let outcome = pipeline.receive();
        assert!(matches!(outcome, Err(Error::NotAuthentic)), "{outcome:?}");
    }
    assert!(matches!(pipeline.send("three"), Err(Error::NotAuthentic)));
    drop(pipeline);
    assert!(!client.is_open());
}

#[test]
fn what_the_server_never_had_is_not_said_to_be_sent() {
    with_each_policy(is_told_as_unsent);
}

fn is_told_as_unsent(policy: ForwardSecrecy) {
    // Three messages that wait for more, and one that is asked for after the connection has ended. Not if a time slice
    // is lost between two of them: then they go out.
    let end_unsent = || {
        let (server, count, _) = counting_server(SHORT);
        let mut client = builder().forward_secrecy(policy).connect(server.local_addr()).expect("connecting");
        let messages = (0..4).map(|number| {
            if number == 3 {
                wait_until_closed(&server);
            }
            "message"
        });
        let mut given = 0;
        let error = client.pipeline(messages, |_| given += 1).expect_err("the end");
        (given == 0 && count.load(SeqCst) == 0).then_some((error, client))
    };
    let (error, client) = (0..10).find_map(|_| end_unsent()).expect("messages that wait");
    assert!(matches!(error, Error::ClosedByServer { phase: Phase::Idle, .. }), "{error:?}");
    assert!(!error.was_sent() && !client.is_open());

    // All that was sent is answered.
    let (server, ..) = counting_server(SHORT);
    for reconnect in [false, true] {
        let mut client = builder()
            .forward_secrecy(policy)
            .reconnect(reconnect)
            .connect(server.local_addr())
            .expect("connecting");
        let mut given = 0;
        let mut number = 0;
        let messages = iter::from_fn(|| {
            number += 1;
            if number == 3 {
                wait_until_closed(&server);
            }
            (number <= 3).then_some("message")
        });
        let outcome = client.pipeline(messages, |result| given += usize::from(result.is_ok()));
        if reconnect {
            outcome.expect("a new connection");
            assert_eq!(given, 3);
        } else {
            assert!(matches!(outcome, Err(Error::ClosedByServer { phase: Phase::Idle, .. })), "{outcome:?}");
            assert_eq!(given, 2);
        }
    }
}

#[test]
fn an_empty_response_to_nothing_is_not_taken_for_the_answer_to_what_waits() {
    // Sent when the first message has been taken, after the look at the idle connection.
    let (go, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (started, sent) = (Arc::clone(&go), Arc::clone(&gone));
    let (addr, _thread) = played_server(move |mut peer| {
        eventually("the time has come", || started.load(SeqCst));
        peer.send(&[0; 8]);
        sent.store(true, SeqCst);
        for _ in 0..2 {
            let message = receive_message(&mut peer);
            respond(&mut peer, &message);
        }
        drop(peer.rest());
    });
    let mut client = builder().connect(addr).expect("connecting");
    let messages = (0..2).map(|number| {
        if number == 1 {
            go.store(true, SeqCst);
            eventually("an empty response", || gone.load(SeqCst));
            thread::sleep(Duration::from_millis(20));
        }
        "message"
    });
    let mut given = 0;
    client
        .pipeline(messages, |result| {
            assert_eq!(result.expect("an answer"), b"message");
            given += 1;
        })
        .expect("in order");
    assert_eq!(given, 2);
}

#[test]
fn the_callers_time_is_not_the_servers() {
    let time = Duration::from_secs(1);
    let (server, count, may_answer) = counting_server(PATIENCE);
    let client =
        || Client::builder(key()).request_timeout(time).connect(server.local_addr()).expect("connecting");
    let forbid = || {
        may_answer.store(false, SeqCst);
        count.store(0, SeqCst);
    };
    // The server has a message, and answers it only when the caller is back.
    let come_back_late = || {
        eventually("the message arrives", || count.load(SeqCst) == 1);
        thread::sleep(time + time / 10);
        let may_answer = Arc::clone(&may_answer);
        thread::spawn(move || {
            thread::sleep(time / 20);
            may_answer.store(true, SeqCst);
        });
    };

    forbid();
    let mut left = 2;
    let messages = iter::from_fn(|| {
        left -= 1;
        if left == 0 {
            come_back_late();
        }
        (left > 0).then_some("message")
    });
    client().pipeline(messages, |result| assert!(result.is_ok())).expect("in time");

    forbid();
    let mut receiving = client();
    let mut pipeline = receiving.pipelined();
    pipeline.send("message").expect("sent");
    come_back_late();
    assert_eq!(pipeline.receive().expect("in time"), Some(&b"message"[..]));

    forbid();
    let mut sending = client();
    let mut pipeline = sending.pipelined();
    pipeline.send("message").expect("sent");
    come_back_late();
    // It does not go out before the first one is answered.
    pipeline.send(vec![7; 12 << 20]).expect("in time");
}

#[test]
fn a_client_has_no_answers_left_over_from_a_pipeline() {
    let (server, ..) = counting_server(PATIENCE);
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let mut pipeline = client.pipelined();
    pipeline.send("one").expect("sent");
    drop(pipeline);
    assert!(!client.is_open());

    for reconnect in [false, true] {
        let mut client = builder().reconnect(reconnect).connect(server.local_addr()).expect("connecting");
        let mut pipeline = client.pipelined();
        pipeline.send("one").expect("sent");
        mem::forget(pipeline);
        let outcome = client.message(b"two");
        assert_eq!(outcome.is_ok(), reconnect, "{outcome:?}");
        assert!(outcome.is_ok_and(|answer| answer == b"two") == reconnect);
    }
}

#[test]
fn an_iterator_that_panics_closes_the_client() {
    let server = echo_server(server(1));
    let mut client = builder().connect(server.local_addr()).expect("connecting");
    let messages = iter::from_fn(|| -> Option<[u8; 1]> { panic!("the caller's own") });
    let outcome = catch_unwind(AssertUnwindSafe(|| client.pipeline(messages, |_| ())));
    assert!(outcome.is_err());
    assert!(matches!(client.message(b"next"), Err(Error::Closed)));
}
