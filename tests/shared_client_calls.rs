//! One client for many threads: each call gets its own response, in its own time.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::{Call, Client, ClientBuilder, Error, Phase, ServerHandle, SharedClient};

const SHORT: Duration = Duration::from_millis(100);

fn builder() -> ClientBuilder {
    Client::builder(key()).request_timeout(PATIENCE)
}

fn connect(server: &ServerHandle) -> SharedClient {
    builder().connect_shared(server.local_addr()).expect("connecting")
}

/// Handles "wait" when the gate is opened, everything else at once, and counts.
#[derive(Clone)]
struct Gate {
    open: Arc<Mutex<mpsc::Receiver<()>>>,
    handled: Arc<AtomicUsize>,
}

impl Gate {
    fn new() -> (Self, mpsc::Sender<()>) {
        let (sender, receiver) = mpsc::channel();
        (Self { open: Arc::new(Mutex::new(receiver)), handled: Arc::default() }, sender)
    }

    fn serve(&self, workers: usize) -> ServerHandle {
        let gate = self.clone();
        let handler = move |message: &[u8]| {
            gate.handled.fetch_add(1, SeqCst);
            if message == b"wait" {
                let _ = gate.open.lock().expect("no panic here").recv_timeout(PATIENCE);
            }
            message.to_vec()
        };
        server(workers).bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning")
    }

    fn handled(&self) -> usize {
        self.handled.load(SeqCst)
    }
}

#[test]
fn each_call_of_many_threads_gets_its_own_response() {
    let server = echo_server(server(2));
    let client = connect(&server);
    thread::scope(|scope| {
        for number in 0..32 {
            let client = client.clone();
            scope.spawn(move || {
                for round in 0..200_usize {
                    let text = format!("{number} {round} {}", "x".repeat(round * number % 3000));
                    if round % 3 == 0 {
                        let calls: Vec<Call> =
                            (0..4).map(|_| client.start(text.as_bytes()).expect("room")).collect();
                        for call in calls {
                            assert_eq!(call.wait().expect("a response"), text.as_bytes());
                        }
                    } else {
                        assert_eq!(client.message(text.as_bytes()).expect("a response"), text.as_bytes());
                    }
                }
            });
        }
    });
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn large_messages_go_both_ways_at_once() {
    let server = echo_server(server(2));
    let client = connect(&server);
    let text = |number: u8| vec![number; 3 << 20];
    let calls: Vec<Call> = (0..8).map(|number| client.start(&text(number)).expect("room")).collect();
    for (number, call) in (0..8).zip(calls) {
        assert!(call.wait().expect("a response") == text(number));
    }
}

#[test]
fn what_is_over_the_limit_is_not_sent_and_a_response_over_it_ends_the_connection() {
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(|message: &[u8]| message.repeat(20))
        .expect("spawning");
    let client = builder().max_message_size(100).connect_shared(server.local_addr()).expect("connecting");
    let error = client.message(&[0; 101]).unwrap_err();
    assert!(matches!(error, Error::TooLarge { phase: Phase::Send, size: 101, limit: 100, .. }), "{error:?}");
    assert_eq!(client.message(b"12345").expect("a response").len(), 100);
    let error = client.message(b"123456").unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { phase: Phase::Receive, size: 120, limit: 100, .. }),
        "{error:?}"
    );
    assert!(!client.is_open());
    assert!(matches!(client.message(b"1"), Err(Error::Closed)));
}

#[test]
fn a_call_is_given_to_a_callback_also_when_it_is_done() {
    let server = echo_server(server(1));
    let client = connect(&server);
    let (sender, receiver) = mpsc::channel();
    for number in 0..10_u8 {
        let sender = sender.clone();
        let call = client.start(&[number]).expect("room");
        if number % 2 == 0 {
            eventually("it is done", || call.is_done());
        }
        call.then(move |result| drop(sender.send((thread::current().id(), result))));
    }
    let mut threads = Vec::new();
    let mut numbers: Vec<u8> = (0..10)
        .map(|_| {
            let (thread, result) = receiver.recv_timeout(PATIENCE).expect("the callback runs");
            threads.push(thread);
            result.expect("a response")[0]
        })
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<u8>>());
    threads.dedup();
    assert_eq!(threads.len(), 1, "one thread for all");
    assert_ne!(threads[0], thread::current().id());
}

#[test]
fn waiting_in_a_callback_is_an_error_and_starting_is_not() {
    let (gate, open) = Gate::new();
    let server = gate.serve(1);
    let client = builder().max_in_flight(2).connect_shared(server.local_addr()).expect("connecting");
    let (sender, receiver) = mpsc::channel();
    let inner = client.clone();
    client.start(b"first").expect("room").then(move |_| {
        let message = inner.message(b"never sent");
        let ping = inner.ping();
        let waited = inner.start(b"wait").expect("room").wait();
        let timed = inner.start(b"5").expect("room").wait_timeout(PATIENCE).map_err(drop);
        let busy = inner.start(b"full").map(drop);
        let _ = sender.send((message, ping, waited, timed, busy));
    });
    let (message, ping, waited, timed, busy) = receiver.recv_timeout(PATIENCE).expect("the callback runs");
    assert!(matches!(message, Err(Error::InCallback { phase: Phase::Idle, .. })), "{message:?}");
    assert!(matches!(ping, Err(Error::InCallback { phase: Phase::Idle, .. })), "{ping:?}");
    let waited = waited.unwrap_err();
    assert!(matches!(waited, Error::InCallback { phase: Phase::Receive, .. }), "{waited:?}");
    assert!(timed.is_err(), "{timed:?}");
    assert!(matches!(busy, Err(Error::Busy)), "{busy:?}");
    open.send(()).expect("the gate");
    assert_eq!(client.message(b"goes on").expect("a response"), b"goes on");
    assert_eq!(gate.handled(), 4);
}

#[test]
fn a_callback_that_panics_harms_no_other() {
    let server = echo_server(server(1));
    let client = connect(&server);
    let (sender, receiver) = mpsc::channel();
    client.start(b"one").expect("room").then(|_| panic!("on purpose"));
    client.start(b"two").expect("room").then(move |result| drop(sender.send(result)));
    assert_eq!(receiver.recv_timeout(PATIENCE).expect("the thread goes on").expect("a response"), b"two");
    assert_eq!(client.message(b"three").expect("a response"), b"three");
}

#[test]
fn a_call_that_ran_out_is_over_for_its_caller_alone() {
    let (gate, open) = Gate::new();
    let server = gate.serve(1);
    let client = builder()
        .request_timeout(SHORT)
        .stall_timeout(PATIENCE)
        .connect_shared(server.local_addr())
        .expect("connecting");
    let late = client.start(b"wait").expect("room");
    let begun = Instant::now();
    let error = late.wait().unwrap_err();
    assert!(matches!(error, Error::TimedOut { phase: Phase::Receive, limit: SHORT, .. }), "{error:?}");
    assert!(error.was_sent() && begun.elapsed() < PATIENCE / 2);
    let message = client.message(b"wait").unwrap_err();
    assert!(matches!(message, Error::TimedOut { phase: Phase::Receive, .. }), "{message:?}");
    let (sender, receiver) = mpsc::channel();
    client.start(b"callback").expect("room").then(move |result| drop(sender.send(result)));
    let callback = receiver.recv_timeout(PATIENCE).expect("it is told").unwrap_err();
    assert!(matches!(callback, Error::TimedOut { .. }), "{callback:?}");
    // The late answers are thrown away.
    open.send(()).expect("the gate");
    open.send(()).expect("the gate");
    eventually("answers come again", || client.message(b"next").is_ok_and(|answer| answer == b"next"));
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn a_call_is_given_back_when_the_time_to_wait_is_over() {
    let (gate, open) = Gate::new();
    let server = gate.serve(1);
    let client = connect(&server);
    let call = client.start(b"wait").expect("room");
    let call = call.wait_timeout(Duration::from_millis(20)).expect_err("no answer yet");
    assert!(!call.is_done());
    open.send(()).expect("the gate");
    assert_eq!(call.wait_timeout(PATIENCE).expect("an answer").expect("a response"), b"wait");
}

#[test]
fn dropped_calls_are_sent_and_shift_nobodys_answer() {
    let (gate, _open) = Gate::new();
    let server = gate.serve(1);
    let client = connect(&server);
    for number in 0..100_u8 {
        drop(client.start(b"dropped").expect("room"));
        assert_eq!(client.message(&[number]).expect("a response"), [number]);
    }
    assert_eq!(gate.handled(), 200);
}

#[test]
fn room_is_waited_for_by_start_and_not_by_try_start() {
    for max_in_flight in [1, 2] {
        let (gate, open) = Gate::new();
        let server = gate.serve(1);
        let client =
            builder().max_in_flight(max_in_flight).connect_shared(server.local_addr()).expect("connecting");
        let full: Vec<Call> = (0..max_in_flight).map(|_| client.start(b"wait").expect("room")).collect();
        assert!(matches!(client.try_start(b"busy"), Err(Error::Busy)));
        eventually("one is handled", || gate.handled() == 1);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| client.start(b"later").expect("room").wait());
            thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            for call in full {
                open.send(()).expect("the gate");
                assert_eq!(call.wait().expect("a response"), b"wait");
            }
            assert_eq!(waiting.join().expect("no panic").expect("a response"), b"later");
        });
        // Many threads with little room.
        thread::scope(|scope| {
            for number in 0..16_u8 {
                let client = &client;
                scope.spawn(move || {
                    for _ in 0..50 {
                        assert_eq!(client.message(&[number]).expect("a response"), [number]);
                        assert_eq!(
                            client.start(&[number]).expect("room").wait().expect("a response"),
                            [number]
                        );
                    }
                });
            }
        });
    }
}

#[test]
fn a_wait_for_room_counts_towards_the_calls_time_and_sends_nothing() {
    let (gate, open) = Gate::new();
    let server = gate.serve(1);
    let client = builder()
        .request_timeout(SHORT)
        .stall_timeout(PATIENCE)
        .max_in_flight(1)
        .connect_shared(server.local_addr())
        .expect("connecting");
    let first = client.start(b"wait").expect("room");
    let error = client.start(b"never").unwrap_err();
    assert!(matches!(error, Error::TimedOut { phase: Phase::Idle, limit: SHORT, .. }), "{error:?}");
    let message = client.message(b"never").unwrap_err();
    assert!(!error.was_sent() && !message.was_sent(), "{message:?}");
    assert!(first.wait().is_err());
    open.send(()).expect("the gate");
    eventually("there is room again", || client.message(b"next").is_ok());
    eventually("the count", || gate.handled() >= 2);
}

#[test]
fn closing_and_dropping_fail_what_is_in_flight() {
    let (gate, open) = Gate::new();
    let server = gate.serve(2);
    for is_dropped in [false, true] {
        let client = builder().max_in_flight(1).connect_shared(server.local_addr()).expect("connecting");
        let before = gate.handled();
        let call = client.start(b"wait").expect("room");
        eventually("it is handled", || gate.handled() > before);
        thread::scope(|scope| {
            let other = client.clone();
            let waiting = (!is_dropped).then(|| scope.spawn(move || other.message(b"unsent")));
            if is_dropped {
                drop(client);
            } else {
                thread::sleep(Duration::from_millis(20));
                client.close();
                assert!(!client.is_open());
                assert!(matches!(client.start(b"after"), Err(Error::Closed)));
            }
            if let Some(waiting) = waiting {
                let unsent = waiting.join().expect("no panic").unwrap_err();
                assert!(matches!(unsent, Error::Closed) && !unsent.was_sent(), "{unsent:?}");
            }
        });
        let error = call.wait().unwrap_err();
        assert!(matches!(error, Error::ClosedInFlight) && error.was_sent(), "{error:?}");
        open.send(()).expect("the gate");
    }
    eventually("the connections end", || server.stats().open == 0);
}

#[test]
fn a_shared_client_pings_and_is_kept_alive() {
    let server = echo_server(server(1).lifetime(Duration::from_millis(1500)));
    let kept = builder()
        .keep_alive(true)
        .keep_alive_interval(Duration::from_millis(250))
        .connect_shared(server.local_addr())
        .expect("connecting");
    kept.ping().expect("pinging");
    eventually("it pings", || server.stats().pings > 8);
    assert_eq!(kept.message(b"alive").expect("a response"), b"alive");
    assert_eq!(server.stats().accepted, 1);
}

#[test]
fn settings_that_cannot_work_are_errors() {
    let addr = "127.0.0.1:1";
    for (builder, name) in [
        (builder().max_in_flight(0), "max_in_flight"),
        (builder().stall_timeout(Duration::ZERO), "stall_timeout"),
    ] {
        let error = builder.connect_shared(addr).unwrap_err();
        assert!(matches!(error, Error::InvalidSetting { setting, .. } if setting == name), "{error:?}");
    }
    assert!(matches!(builder().connect_shared("127.0.0.1:1"), Err(Error::Io { phase: Phase::Connect, .. })));
}
