//! The published Rust crate `falcotcp` 0.1.4: its client against our server, and our client against its server.

#[path = "../../common/mod.rs"]
mod common;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::OnceLock;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use falcotcp_sync::{Client, ClientBuilder, Error, ForwardSecrecy, Key, Server, ServerBuilder, ServerHandle};

const KEY: [u8; 32] = *b"shared by both ends of the tests";
const ANOTHER_KEY: [u8; 32] = *b"held by one end only, by mistake";

/// The policies that also take classic sessions.
const CLASSIC_TOO: &[ForwardSecrecy] = &[ForwardSecrecy::Off, ForwardSecrecy::Prefer];

/// Around the tag, the nonce, powers of two and usual buffers.
const SIZES: [usize; 18] = [
    0,
    1,
    11,
    12,
    16,
    28,
    255,
    256,
    1_000,
    4_096,
    16_383,
    16_384,
    16_385,
    65_535,
    65_536,
    100_000,
    500_000,
    1 << 20,
];

/// What anything here may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_published_client_is_answered_for_messages_of_every_size() {
    let server = reversing_server();
    let mut client = published_client(&server);
    for size in SIZES {
        let message = message_of(size, 1);
        assert_eq!(client.message(message.clone()).expect("a response"), reversed(&message), "{size} bytes");
    }
}

#[test]
fn the_published_client_opens_responses_of_every_size_whatever_its_message_was() {
    let server = server(|message: &[u8]| {
        let size = std::str::from_utf8(message).ok().and_then(|text| text.parse().ok());
        message_of(size.expect("a size in digits"), 2)
    });
    let mut client = published_client(&server);
    for size in SIZES {
        let response = client.message(size.to_string().into_bytes()).expect("a response");
        assert_eq!(response, message_of(size, 2), "{size} bytes");
    }
}

#[test]
fn the_published_clients_pings_between_messages_are_counted_and_not_answered() {
    let server = reversing_server();
    let mut client = published_client(&server);
    client.ping().expect("a ping before any message");
    for round in 0..10 {
        let message = message_of(100 + round, 3);
        client.ping().expect("a ping");
        client.ping().expect("another right after it");
        assert_eq!(client.message(message.clone()).expect("a response"), reversed(&message));
    }
    wait_until("21 pings are counted", || server.stats().pings == 21);
    wait_until("10 messages are counted", || server.stats().messages == 10);
}

#[test]
fn many_published_clients_at_once_each_get_their_own_answers() {
    let server = reversing_server();
    thread::scope(|scope| {
        for number in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let mut client = published_client(server);
                for round in 0..25 {
                    let message = message_of(round * 97, number);
                    let response = client.message(message.clone()).expect("a response");
                    assert_eq!(response, reversed(&message), "client {number}, round {round}");
                    client.ping().expect("a ping");
                }
            });
        }
    });
    wait_until("all are counted", || server.stats().messages == 16 * 25);
}

#[test]
fn a_published_client_with_another_key_is_refused_and_the_next_one_served() {
    let server = reversing_server();
    let refused = falcotcp::Client::new(&server.local_addr().to_string(), ANOTHER_KEY);
    assert!(refused.is_err(), "a client with another key was let in");
    wait_until("it is counted", || server.stats().unauthenticated == 1);

    let response = published_client(&server).message(b"served".to_vec()).expect("a response");
    assert_eq!(response, b"devres");
}

#[test]
fn our_client_is_answered_by_the_published_server_for_messages_of_every_size() {
    let mut client = our_client();
    for size in SIZES {
        let message = message_of(size, 4);
        assert_eq!(client.message(&message).expect("a response"), reversed(&message), "{size} bytes");
    }
}

#[test]
fn our_clients_pings_between_messages_leave_the_published_server_in_step() {
    let mut client = our_client();
    client.ping().expect("a ping before any message");
    for round in 0..5 {
        let message = message_of(round * 50, 5);
        client.ping().expect("a ping");
        client.ping().expect("another right after it");
        assert_eq!(client.message(&message).expect("a response"), reversed(&message));
    }
    client.ping().expect("a last ping");
    assert!(client.is_open());
}

#[test]
fn two_of_our_clients_each_get_their_own_answers_from_the_published_server() {
    let mut clients = [our_client(), our_client()];
    for round in 0..2 {
        for (client, seed) in clients.iter_mut().zip(6..) {
            let message = message_of(300 + round, seed);
            assert_eq!(client.message(&message).expect("a response"), reversed(&message));
        }
    }
}

#[test]
fn our_client_with_another_key_is_refused_by_the_published_server() {
    let refused = Client::connect(published_server(), Key::from_bytes(ANOTHER_KEY));
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[test]
fn the_published_client_gets_a_classic_session_from_servers_that_do_not_require_another() {
    for policy in CLASSIC_TOO {
        let server = builder().forward_secrecy(*policy).bind("127.0.0.1:0").expect("a free port");
        let server = server.spawn(reversed).expect("threads");
        let response = published_client(&server).message(b"served".to_vec()).expect("a response");
        assert_eq!(response, b"devres");
        assert_eq!(server.stats().established_classic, 1);
    }
}
#[test]
fn the_published_client_is_refused_where_forward_secrecy_is_required() {
    let server = builder().forward_secrecy(ForwardSecrecy::Require).bind("127.0.0.1:0").expect("a free port");
    let server = server.spawn(reversed).expect("threads");
    assert!(falcotcp::Client::new(&server.local_addr().to_string(), KEY).is_err());
    wait_until("it is counted", || server.stats().unauthenticated == 1);
}

#[test]
fn our_client_has_a_classic_session_with_the_published_server_unless_it_requires_another() {
    for policy in CLASSIC_TOO {
        let mut client =
            our_builder().forward_secrecy(*policy).connect(published_server()).expect("established");
        assert!(!client.is_forward_secret());
        assert_eq!(client.message(b"served").expect("a response"), b"devres");
    }
}
#[test]
fn our_client_that_requires_forward_secrecy_says_that_the_published_server_has_none() {
    let refused = our_builder().forward_secrecy(ForwardSecrecy::Require).connect(published_server());
    assert!(matches!(refused, Err(Error::NotForwardSecret { .. })), "{refused:?}");
}

fn builder() -> ServerBuilder {
    common::end_if_hung(common::WHOLE_PROGRAM);
    Server::builder(Key::from_bytes(KEY)).workers(2)
}

fn server<R: AsRef<[u8]>>(handler: impl Fn(&[u8]) -> R + Send + Sync + 'static) -> ServerHandle {
    let server = builder().bind("127.0.0.1:0").expect("a free port");
    server.spawn(handler).expect("threads")
}

fn reversing_server() -> ServerHandle {
    server(reversed)
}

fn published_client(server: &ServerHandle) -> falcotcp::Client {
    falcotcp::Client::new(&server.local_addr().to_string(), KEY).expect("established")
}

fn our_client() -> Client {
    our_builder().connect(published_server()).expect("established")
}

/// A connection of the published server that says nothing holds up the others of its worker for a second, so one of
/// several takes its time.
fn our_builder() -> ClientBuilder {
    Client::builder(Key::from_bytes(KEY)).connect_timeout(PATIENCE).request_timeout(PATIENCE)
}

/// The one published server of this program, which reverses: it can't be stopped, and its threads spin while they
/// have no connection, so it is shared by all tests and ends with the process.
fn published_server() -> SocketAddr {
    static ADDR: OnceLock<SocketAddr> = OnceLock::new();
    common::end_if_hung(common::WHOLE_PROGRAM);
    *ADDR.get_or_init(|| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(addr) = start_published_server(deadline) {
                return addr;
            }
        }
    })
}

/// `None` when somebody else took the port that was free a moment ago.
fn start_published_server(deadline: Instant) -> Option<SocketAddr> {
    let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port");
    let (failed, failure) = mpsc::channel();
    thread::spawn(move || {
        let handler = Box::new(|message: Vec<u8>| reversed(&message));
        // It comes back only when it can't start.
        let _ = failed.send(falcotcp::Server::new(addr.to_string(), KEY, handler, 2));
    });
    loop {
        match (our_builder().connect(addr), failure.try_recv()) {
            (Ok(_), Err(TryRecvError::Empty)) => return Some(addr),
            (Err(error), Err(TryRecvError::Empty)) => {
                assert!(Instant::now() < deadline, "the published server is not up: {error}");
                thread::sleep(Duration::from_millis(5));
            }
            (_, Ok(Err(error))) => {
                assert!(Instant::now() < deadline, "the published server does not start: {error}");
                return None;
            }
            (outcome, ended) => panic!("the published server: {outcome:?}, {ended:?}"),
        }
    }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes in which a shift, a cut or another message's part shows.
fn message_of(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed ^ 0x9E37_79B9_7F4A_7C15;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| step()).collect()
}

fn reversed(message: &[u8]) -> Vec<u8> {
    message.iter().rev().copied().collect()
}
