//! A client that many threads share.

mod common;
#[path = "common/hold.rs"]
mod hold;

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::{Client, ClientBuilder, Error, ForwardSecrecy};
use hold::Hold;

fn builders() -> [ClientBuilder; 2] {
    [ForwardSecrecy::Off, ForwardSecrecy::default()]
        .map(|policy| Client::builder(key()).forward_secrecy(policy))
}

#[test]
fn each_of_many_threads_gets_its_own_responses() {
    let server = echo_server(server(2));
    for builder in builders() {
        let client = builder.connect_shared(server.local_addr()).expect("connecting");
        thread::scope(|scope| {
            for thread in 0..16 {
                let client = client.clone();
                scope.spawn(move || {
                    for number in 0..200 {
                        let message = format!("{thread} {number}").repeat(number % 7 * 100 + 1);
                        let response = client.message(message.as_bytes()).expect("an answer");
                        assert_eq!(response, message.as_bytes());
                    }
                });
            }
        });
        client.ping().expect("a ping");
    }
}

#[test]
fn calls_are_in_flight_together_and_waited_for_in_any_order() {
    let server = echo_server(server(2));
    for builder in builders() {
        let client = builder.connect_shared(server.local_addr()).expect("connecting");
        let calls: Vec<_> =
            (0..1000u32).map(|n| (n, client.start(&n.to_be_bytes()).expect("room"))).collect();
        for (number, call) in calls.into_iter().rev() {
            assert_eq!(call.wait().expect("an answer"), number.to_be_bytes());
        }
        let huge = vec![7; 6 << 20];
        let calls: Vec<_> = (0..4).map(|_| client.start(&huge).expect("room")).collect();
        for call in calls {
            assert_eq!(call.wait().expect("an answer").len(), huge.len());
        }
    }
}

#[test]
fn callbacks_and_futures_get_their_responses_too() {
    let server = echo_server(server(2));
    for builder in builders() {
        let client = builder.connect_shared(server.local_addr()).expect("connecting");
        let (sender, receiver) = channel();
        for number in 0..100u8 {
            let sender = sender.clone();
            client.start(&[number]).expect("room").then(move |result| {
                let _ = sender.send(result);
                assert!(number % 10 != 0, "as the test wants");
            });
        }
        for number in 0..100u8 {
            let result = receiver.recv_timeout(PATIENCE).expect("a callback");
            assert_eq!(result.expect("an answer"), [number]);
        }
        let on_its_thread = client.clone();
        let (sender, receiver) = channel();
        client.start(b"one").expect("room").then(move |_| {
            let waited = on_its_thread.message(b"two");
            let started = on_its_thread.start(b"three");
            let _ = sender.send((waited, started.map(drop)));
        });
        let (waited, started) = receiver.recv_timeout(PATIENCE).expect("a callback");
        assert!(matches!(waited, Err(Error::InCallback { .. })), "{waited:?}");
        started.expect("room");
    }
}

#[test]
fn a_late_answer_is_nobody_elses() {
    for builder in builders() {
        let hold = Hold::default();
        let server = hold.spawn(server(1));
        let client = builder
            .request_timeout(Duration::from_millis(100))
            .stall_timeout(PATIENCE)
            .connect_shared(server.local_addr())
            .expect("connecting");
        let outcome = client.message(b"wait");
        assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
        hold.open();
        eventually("the late answer is read", || {
            client.message(b"next").is_ok_and(|response| response == b"next")
        });
    }
}

#[test]
fn no_more_than_may_be_are_in_flight() {
    for builder in builders() {
        let hold = Hold::default();
        let server = hold.spawn(server(1));
        let client = builder.max_in_flight(2).connect_shared(server.local_addr()).expect("connecting");
        let calls = [b"wait", b"next"].map(|message| client.start(message).expect("room"));
        assert!(matches!(client.try_start(b"more"), Err(Error::Busy)));
        thread::scope(|scope| {
            let more = scope.spawn(|| client.message(b"more"));
            thread::sleep(Duration::from_millis(200));
            assert!(!more.is_finished());
            hold.open();
            assert_eq!(more.join().expect("no panic").expect("an answer"), b"more");
        });
        for call in calls {
            call.wait().expect("an answer");
        }
    }
}
