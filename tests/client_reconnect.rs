//! Clients that stay connected: they ping while idle, and connect anew when they have to.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{Echo, PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::{Client, ClientBuilder, Error, ServerHandle};

const SHORT: Duration = Duration::from_millis(300);

fn reconnecting() -> ClientBuilder {
    Client::builder(key()).request_timeout(PATIENCE).reconnect(true)
}

/// A server at `addr` again, as soon as the port is free.
fn restart(addr: SocketAddr) -> ServerHandle {
    let mut restarted = None;
    eventually("the port is free", || {
        restarted = server(2).bind(addr).ok();
        restarted.is_some()
    });
    restarted.expect("bound").spawn(Echo).expect("spawning")
}

#[test]
fn an_idle_client_that_is_kept_alive_outlives_the_lifetime() {
    let lifetime = 5 * SHORT;
    let server = echo_server(server(2).lifetime(lifetime));
    let kept =
        |client: ClientBuilder| client.keep_alive(true).connect(server.local_addr()).expect("connecting");
    // By the default of a quarter of the lifetime, and by an interval of its own.
    let mut clients = vec![
        kept(Client::builder(key()).lifetime(lifetime)),
        kept(Client::builder(key()).keep_alive_interval(lifetime / 5)),
    ];
    let mut neglected = Client::connect(server.local_addr(), key()).expect("connecting");
    eventually("the neglected one is gone", || server.stats().expired == 1);
    thread::sleep(lifetime);
    for client in &mut clients {
        assert_eq!(client.message(b"alive").expect("an answer"), b"alive");
    }
    assert!(matches!(neglected.message(b"gone"), Err(Error::ClosedByServer { .. })));
    assert!(server.stats().pings >= 6, "{:?}", server.stats());
}

#[test]
fn a_client_in_use_is_not_pinged_for() {
    let server = echo_server(server(2));
    let mut client = Client::builder(key())
        .keep_alive(true)
        .keep_alive_interval(Duration::from_secs(50))
        .connect(server.local_addr())
        .expect("connecting");
    client.message(b"busy").expect("an answer");
    assert_eq!(server.stats().pings, 0);
}

#[test]
fn a_client_connects_anew_when_the_server_has_closed_or_was_restarted() {
    let server = echo_server(server(2).lifetime(Duration::from_secs(1)));
    let addr = server.local_addr();
    let mut client = reconnecting().connect(addr).expect("connecting");
    for _ in 0..2 {
        assert_eq!(client.message(b"hello").expect("an answer"), b"hello");
        eventually("the lifetime is over", || server.stats().open == 0);
    }
    assert_eq!(server.stats().accepted, 2);
    drop(server);
    let again = thread::spawn(move || {
        thread::sleep(SHORT);
        restart(addr)
    });
    // Nobody listens at first: the client pauses and tries until somebody does.
    assert_eq!(client.message(b"hello").expect("an answer"), b"hello");
    drop(again.join().expect("the restart"));
}

#[test]
fn a_client_that_was_idle_for_the_lifetime_does_not_trust_its_connection() {
    let server = echo_server(server(2));
    let mut client = reconnecting().lifetime(SHORT).connect(server.local_addr()).expect("connecting");
    thread::sleep(SHORT);
    client.message(b"hello").expect("an answer");
    assert_eq!(server.stats().accepted, 2);
}

#[test]
fn connecting_anew_is_bounded_by_the_requests_deadline() {
    let server = echo_server(server(2));
    let addr = server.local_addr();
    let mut client =
        Client::builder(key()).reconnect(true).request_timeout(SHORT).connect(addr).expect("connecting");
    drop(server);
    let begun = Instant::now();
    let error = client.message(b"hello").expect_err("nobody listens");
    assert!(!error.was_sent(), "{error:?}");
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    // And it tries again with the next message.
    assert!(!client.is_open());
    let again = restart(addr);
    let outcome = client.request(b"hello").timeout(PATIENCE).send();
    assert_eq!(outcome.expect("an answer"), b"hello");
    drop(again);
}

#[test]
fn what_was_sent_is_not_sent_again_unless_it_is_idempotent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    let received = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&received);
    // Reads each message and closes instead of answering, three times; the fourth is answered.
    thread::spawn(move || {
        let real = echo_server(server(1));
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            if number >= 3 {
                relay(stream, real.local_addr());
                continue;
            }
            std::io::Read::read_exact(&mut stream, &mut [0; 157]).expect("an establishment");
            std::io::Write::write_all(&mut stream, &[0xFF]).expect("accepting");
            if std::io::Read::read_exact(&mut stream, &mut [0; 9 + 28 + 5]).is_ok() {
                count.fetch_add(1, SeqCst);
            }
        }
    });
    let mut client = reconnecting().connect(addr).expect("connecting");
    let error = client.message(b"hello").expect_err("closed instead of answered");
    assert!(matches!(error, Error::ClosedByServer { .. }) && error.was_sent(), "{error:?}");
    assert_eq!(received.load(SeqCst), 1);
    assert_eq!(client.request(b"hello").idempotent().send().expect("an answer"), b"hello");
    assert_eq!(received.load(SeqCst), 3);
}

/// Passes bytes on in both directions.
fn relay(client: std::net::TcpStream, server: SocketAddr) {
    let server = std::net::TcpStream::connect(server).expect("connecting");
    let copies =
        [(client.try_clone().expect("cloning"), server.try_clone().expect("cloning")), (server, client)];
    for (mut from, mut to) in copies {
        thread::spawn(move || std::io::copy(&mut from, &mut to));
    }
}

#[test]
fn several_addresses_are_tried_in_turn() {
    let (first, second) = (echo_server(server(1)), echo_server(server(1)));
    let addrs = [first.local_addr(), second.local_addr()];
    let mut client = reconnecting().connect(&addrs[..]).expect("connecting");
    assert_eq!(client.peer_addr(), Some(addrs[0]));
    drop(first);
    client.message(b"hello").expect("an answer");
    assert_eq!(client.peer_addr(), Some(addrs[1]));
    // The first is avoided for a while although it is back, and then the only one.
    let first = restart(addrs[0]);
    drop(second);
    client.message(b"hello").expect("an answer");
    assert_eq!(client.peer_addr(), Some(addrs[0]));
    drop(first);
}

#[test]
fn a_client_that_its_owner_closed_stays_closed() {
    let server = echo_server(server(1));
    let mut client = reconnecting().connect(server.local_addr()).expect("connecting");
    client.close();
    assert!(matches!(client.message(b"hello"), Err(Error::Closed)));
    assert!(matches!(client.request(b"hello").idempotent().send(), Err(Error::Closed)));
    assert!(matches!(client.ping(), Err(Error::Closed)));
}

#[test]
fn a_server_that_is_restarted_under_running_clients_loses_nothing_that_was_answered() {
    let server = echo_server(server(2));
    let addr = server.local_addr();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let mut client = reconnecting().connect(addr).expect("connecting");
            thread::spawn(move || {
                for number in 0u64.. {
                    if stop.load(SeqCst) {
                        return;
                    }
                    let message = number.to_be_bytes();
                    assert_eq!(client.request(&message).idempotent().send().expect("an answer"), message);
                    answered.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let mut server = server;
    for _ in 0..3 {
        let before = answered.load(SeqCst);
        eventually("it is under load", || answered.load(SeqCst) > before + 100);
        drop(server);
        server = restart(addr);
    }
    let before = answered.load(SeqCst);
    eventually("it is under load again", || answered.load(SeqCst) > before + 100);
    stop.store(true, SeqCst);
    for client in clients {
        client.join().expect("no request failed");
    }
}

#[cfg(feature = "r2d2")]
#[test]
fn a_pool_serves_many_threads_and_replaces_what_is_broken() {
    use falcotcp_sync::ClientManager;
    let server = echo_server(server(2).lifetime(SHORT));
    let manager = ClientManager::new(Client::builder(key()), server.local_addr()).expect("an address");
    let pool = r2d2::Pool::builder().max_size(4).min_idle(Some(0)).build(manager).expect("a pool");
    let run = || {
        thread::scope(|scope| {
            for number in 0..20u8 {
                let pool = &pool;
                scope.spawn(move || {
                    let mut client = pool.get().expect("a client");
                    assert_eq!(client.message(&[number]).expect("an answer"), [number]);
                });
            }
        });
    };
    run();
    assert!(server.stats().accepted <= 4);
    eventually("their lifetimes are over", || server.stats().open == 0);
    // Long enough ago that the pool looks at each before it gives it out.
    thread::sleep(2 * SHORT);
    run();
    assert_eq!(server.stats().messages, 40);
}

#[test]
fn an_address_that_hangs_does_not_use_up_the_time_of_the_others() {
    let hung = TcpListener::bind("127.0.0.1:0").expect("binding");
    let good = echo_server(server(1));
    let addrs = [hung.local_addr().expect("an address"), good.local_addr()];
    let mut client = Client::builder(key())
        .reconnect(true)
        .connect_timeout(10 * SHORT)
        .connect(&addrs[..])
        .expect("the second address accepts");
    assert_eq!(client.peer_addr(), Some(addrs[1]));
    assert_eq!(client.message(b"hello").expect("an answer"), b"hello");
}

#[test]
fn a_healthy_address_is_found_beside_one_that_hangs_however_short_the_requests_time_is() {
    let (first, good) = (echo_server(server(1)), echo_server(server(1)));
    let addrs = [first.local_addr(), good.local_addr()];
    let mut client = Client::builder(key())
        .reconnect(true)
        .request_timeout(10 * SHORT)
        .connect(&addrs[..])
        .expect("connecting");
    drop(first);
    let mut hung = None;
    eventually("the port is free", || {
        hung = TcpListener::bind(addrs[0]).ok();
        hung.is_some()
    });
    assert_eq!(client.message(b"hello").expect("the second address accepts"), b"hello");
}

#[test]
fn an_idempotent_message_that_was_sent_once_is_never_said_to_be_unsent() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        // Nobody listens any more when this one is closed.
        drop(listener);
        std::io::Read::read_exact(&mut stream, &mut [0; 157]).expect("an establishment");
        std::io::Write::write_all(&mut stream, &[0xFF]).expect("accepting");
        std::io::Read::read_exact(&mut stream, &mut [0; 9 + 28 + 5]).expect("a message");
    });
    let mut client =
        Client::builder(key()).reconnect(true).request_timeout(2 * SHORT).connect(addr).expect("connecting");
    let error = client.request(b"hello").idempotent().send().expect_err("nobody answers");
    assert!(error.was_sent(), "{error:?}");
}
