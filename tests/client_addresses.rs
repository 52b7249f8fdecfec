//! Servers with several addresses, and what is told when none of them accepts.

mod common;
#[path = "common/hold.rs"]
mod hold;
#[path = "common/nobody.rs"]
mod nobody;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::{Client, Error, Key, Phase, Server};
use hold::Hold;
use nobody::nobody;

const SHORT: Duration = Duration::from_millis(300);

/// A listener that never answers an establishment.
fn silent() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("binding")
}

fn addr(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

#[test]
fn what_one_client_of_a_builder_learns_about_an_address_the_others_know() {
    let silent = silent();
    let healthy = echo_server(server(1));
    let addrs = [addr(&silent), healthy.local_addr()];
    let builder = Client::builder(key()).connect_timeout(Duration::from_secs(4));
    let first = builder.connect(&addrs[..]).expect("the second address accepts");
    assert_eq!(first.peer_addr(), Some(addrs[1]));
    let begun = Instant::now();
    for builder in [&builder, &builder.clone(), &builder.clone().reconnect(true)] {
        builder.connect(&addrs[..]).expect("the second address accepts");
    }
    // One of them alone would take two seconds to find the first address silent.
    assert!(begun.elapsed() < Duration::from_millis(1800), "{:?}", begun.elapsed());
}

#[cfg(feature = "r2d2")]
#[test]
fn a_pool_finds_out_once_that_an_address_is_silent() {
    use falcotcp_sync::ClientManager;
    use r2d2::ManageConnection;
    let silent = silent();
    let healthy = echo_server(server(1));
    let addrs = [addr(&silent), healthy.local_addr()];
    let builder = Client::builder(key()).connect_timeout(Duration::from_secs(4));
    let manager = ClientManager::new(builder, &addrs[..]).expect("addresses");
    manager.connect().expect("the second address accepts");
    let begun = Instant::now();
    for _ in 0..5 {
        manager.connect().expect("the second address accepts");
    }
    assert!(begun.elapsed() < Duration::from_millis(1800), "{:?}", begun.elapsed());
}

#[test]
fn many_addresses_do_not_leave_the_first_without_the_time_it_takes() {
    // Thirty addresses that take 400 ms each, where a thirtieth of the time is a third of that.
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let slow = addr(&listener);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            thread::spawn(move || {
                let _ = stream.read_exact(&mut [0; 157]);
                thread::sleep(Duration::from_millis(400));
                let _ = stream.write_all(&[0xFF]);
                let _ = stream.read(&mut [0]);
            });
        }
    });
    let addrs = vec![slow; 30];
    Client::builder(key()).connect_timeout(Duration::from_secs(4)).connect(&addrs[..]).expect("connecting");
}

#[test]
fn an_address_where_nobody_listens_is_named() {
    let (_port, nobody) = nobody();
    let error = Client::connect(nobody, key()).expect_err("nobody listens");
    let Error::Io { phase: Phase::Connect, source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::ConnectionRefused);
    assert_about(&error, nobody);
    let unresolved = Client::connect("no port", key()).expect_err("no address");
    assert!(unresolved.to_string().contains("does not resolve"), "{unresolved}");
}

#[test]
fn each_address_is_told_with_what_happened_there() {
    let ((_port, one), (_other_port, other)) = (nobody(), nobody());
    let stranger = echo_server(Server::builder(Key::from_bytes([1; 32])));
    let silent = silent();
    let addrs = [one, stranger.local_addr(), addr(&silent), other];
    let builder = Client::builder(key()).connect_timeout(Duration::from_secs(2));
    let error = builder.connect(&addrs[..]).expect_err("none accepts");
    let Error::Io { phase: Phase::Connect, source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), ErrorKind::ConnectionRefused, "that of the last");
    for addr in addrs {
        assert!(source.to_string().contains(&addr.to_string()), "{source}");
    }
    assert!(
        source.to_string().contains("another key") && source.to_string().contains("timed out"),
        "{source}"
    );

    let all_refuse = Client::builder(key()).connect(&[stranger.local_addr(); 2][..]);
    assert!(matches!(all_refuse, Err(Error::Refused { .. })), "{all_refuse:?}");
}

/// Asserts that the error names this server, in its text once.
fn assert_about(error: &Error, server: SocketAddr) {
    assert_eq!(error.addr(), Some(server), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("{server}: ")), "{text}");
    assert_eq!(text.matches(&server.to_string()).count(), 1, "{text}");
}

#[test]
fn an_error_of_a_connection_names_the_server_whatever_the_way() {
    let stranger = echo_server(Server::builder(Key::from_bytes([1; 32])));
    let hold = Hold::default();
    // A worker for each message that is held, and more.
    let healthy = hold.spawn(server(8));
    let addr = healthy.local_addr();
    let builder = Client::builder(key()).request_timeout(SHORT);

    let refused = builder.connect(stranger.local_addr()).expect_err("another key");
    assert_about(&refused, stranger.local_addr());
    let refused = builder.connect_shared(stranger.local_addr()).expect_err("another key");
    assert_about(&refused, stranger.local_addr());

    let connect = || builder.connect(addr).expect("connecting");
    let timed_out = |error: Error| {
        assert!(error.is_timeout(), "{error:?}");
        assert_about(&error, addr);
    };
    timed_out(connect().message(b"wait").expect_err("it takes too long"));
    timed_out(connect().messages(&["wait"]).expect_err("it takes too long"));
    let shared = || builder.connect_shared(addr).expect("connecting");
    timed_out(shared().message(b"wait").expect_err("it takes too long"));
    timed_out(shared().start(b"wait").expect("sending").wait().expect_err("it takes too long"));
    timed_out(pollster::block_on(shared().call(b"wait")).expect_err("it takes too long"));
    hold.open();

    let (mut client, mut piped, shared, pinged) = (connect(), connect(), shared(), shared());
    for shared in [&shared, &pinged] {
        shared.request(b"hello").timeout(PATIENCE).send().expect("an answer");
    }
    healthy.shutdown(Duration::ZERO).expect("a report");
    let closed = |error: Error| {
        assert!(matches!(error, Error::ClosedByServer { .. }), "{error:?}");
        assert_about(&error, addr);
    };
    closed(client.message(b"hello").expect_err("it has stopped"));
    closed(piped.messages(&["hello"]).expect_err("it has stopped"));
    closed(shared.message(b"hello").expect_err("it has stopped"));
    closed(pinged.ping().expect_err("it has stopped"));
}

#[test]
fn the_limit_that_is_told_is_the_one_that_ran_out() {
    let listener = silent();
    let addr = addr(&listener);
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_exact(&mut [0; 157]).expect("an establishment");
        stream.write_all(&[0xFF]).expect("accepting");
        // It is closed, and the next one is never accepted.
        listener
    });
    let mut client = Client::builder(key())
        .reconnect(true)
        .connect_timeout(PATIENCE)
        .request_timeout(SHORT)
        .connect(addr)
        .expect("connecting");
    let _listener = server.join().expect("the first connection");
    // Until the end of the first connection has arrived.
    let mut outcome = Ok(());
    eventually("it connects anew", || {
        outcome = client.ping();
        !matches!(outcome, Ok(()) | Err(Error::ClosedByServer { .. }))
    });
    assert!(
        matches!(outcome, Err(Error::TimedOut { phase: Phase::Establishment, limit, .. }) if limit == SHORT),
        "{outcome:?}"
    );
}
