//! Servers are replaced under load, and no message is lost or executed twice: what a goodbye says.

#![cfg(all(unix, feature = "forward-secrecy"))]

mod common;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, key, server};
use falcotcp_sync::{Client, ClientBuilder, Error, ForwardSecrecy, ServerHandle};
use parking_lot::Mutex;

/// How often each message was executed.
type Executed = Arc<Mutex<HashMap<Vec<u8>, u32>>>;

fn serve(addr: SocketAddr, executed: &Executed) -> ServerHandle {
    let executed = Arc::clone(executed);
    let server =
        server(2).reuse_port(true).forward_secrecy(ForwardSecrecy::Require).bind(addr).expect("binding");
    server
        .spawn(move |message: &[u8]| {
            *executed.lock().entry(message.to_vec()).or_default() += 1;
            message.to_vec()
        })
        .expect("spawning")
}

fn builder() -> ClientBuilder {
    Client::builder(key()).reconnect(true).request_timeout(PATIENCE)
}

#[test]
fn no_message_is_lost_or_executed_twice_while_servers_are_replaced() {
    let executed = Executed::default();
    let mut current = serve("127.0.0.1:0".parse().expect("an address"), &executed);
    let addr = current.local_addr();
    let (is_over, next) = (AtomicBool::new(false), AtomicU64::new(0));
    let (is_over, next) = (&is_over, &next);
    let message = move || next.fetch_add(1, SeqCst).to_be_bytes();
    let sent = thread::scope(|scope| {
        let mut clients = Vec::new();
        // Before the first server is replaced, since a first attempt to connect is not repeated.
        let connect = || builder().connect(addr).expect("connecting");
        for _ in 0..3 {
            let mut client = connect();
            clients.push(scope.spawn(move || -> Result<u64, Error> {
                let mut sent = 0;
                while !is_over.load(SeqCst) {
                    let message = message();
                    assert_eq!(client.message(&message)?, message);
                    sent += 1;
                }
                Ok(sent)
            }));
        }
        let shared = builder().connect_shared(addr).expect("connecting");
        for _ in 0..4 {
            let shared = shared.clone();
            clients.push(scope.spawn(move || {
                let mut sent = 0;
                while !is_over.load(SeqCst) {
                    let messages = [message(), message()];
                    let calls = [shared.start(&messages[0])?, shared.start(&messages[1])?];
                    for (call, message) in calls.into_iter().zip(messages) {
                        assert_eq!(call.wait()?, message);
                        sent += 1;
                    }
                }
                Ok(sent)
            }));
        }
        let mut client = connect();
        clients.push(scope.spawn(move || {
            let mut sent = 0;
            while !is_over.load(SeqCst) {
                let messages: Vec<_> = (0..200).map(|_| message()).collect();
                let answers = client.messages(&messages)?;
                for (answer, message) in answers.into_iter().zip(messages) {
                    assert_eq!(answer?, message);
                    sent += 1;
                }
            }
            Ok(sent)
        }));
        let mut client = connect();
        clients.push(scope.spawn(move || {
            let mut pipeline = client.pipelined();
            let mut in_flight = VecDeque::new();
            let mut sent = 0;
            loop {
                while in_flight.len() < 20 && !is_over.load(SeqCst) {
                    in_flight.push_back(message());
                    pipeline.send(in_flight.back().expect("a message"))?;
                }
                let Some(message) = in_flight.pop_front() else { return Ok(sent) };
                assert_eq!(pipeline.receive()?, Some(&message[..]));
                sent += 1;
            }
        }));
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(100));
            let replacement = serve(addr, &executed);
            let report = std::mem::replace(&mut current, replacement).shutdown(PATIENCE).expect("a report");
            assert_eq!(report.cut, 0);
        }
        thread::sleep(Duration::from_millis(100));
        is_over.store(true, SeqCst);
        clients.into_iter().map(|client| client.join().expect("no panic").expect("no error")).sum::<u64>()
    });
    let executed = executed.lock();
    assert_eq!(executed.len() as u64, sent);
    let twice = executed.values().filter(|count| **count != 1).count();
    assert_eq!(twice, 0, "of {sent} messages");
}
