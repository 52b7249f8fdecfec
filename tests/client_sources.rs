//! What clients ask for at each connection: the addresses behind a name, and the key.

mod common;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use common::{PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::{Addresses, Client, ClientBuilder, Error, Key, Phase, Server, ServerHandle};

/// A name whose addresses change.
#[derive(Clone, Default)]
struct Name(Arc<Mutex<Vec<SocketAddr>>>);

impl Name {
    fn now_is(&self, servers: &[&ServerHandle]) {
        *self.0.lock().expect("no panic") = servers.iter().map(|server| server.local_addr()).collect();
    }

    fn addresses(&self) -> Addresses {
        let addrs = Arc::clone(&self.0);
        Addresses::from_fn("a name", move || {
            let addrs = addrs.lock().expect("no panic").clone();
            if addrs.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(addrs) }
        })
    }
}

fn builder() -> ClientBuilder {
    Client::builder(key()).request_timeout(PATIENCE).reconnect(true)
}

#[test]
fn a_name_is_resolved_anew_for_each_connection() {
    let name = Name::default();
    let first = echo_server(server(1));
    name.now_is(&[&first]);
    let mut client = builder().connect(name.addresses()).expect("connecting");
    let shared = builder().connect_shared(name.addresses()).expect("connecting");
    assert_eq!(client.message(b"one").expect("an answer"), b"one");
    assert_eq!(shared.message(b"one").expect("an answer"), b"one");
    let second = echo_server(server(1));
    name.now_is(&[&second]);
    drop(first);
    assert_eq!(client.message(b"two").expect("an answer"), b"two");
    assert_eq!(shared.message(b"two").expect("an answer"), b"two");
    assert_eq!(client.peer_addr(), Some(second.local_addr()));
    assert_eq!(second.stats().messages, 2);
    // While it does not resolve, the addresses that are known serve on.
    name.now_is(&[]);
    let addr = second.local_addr();
    drop(second);
    let again = Server::builder(key()).bind(addr).expect("its port").spawn(<[u8]>::to_vec).expect("spawning");
    assert_eq!(client.message(b"three").expect("an answer"), b"three");
    assert_eq!(shared.message(b"three").expect("an answer"), b"three");
    assert_eq!(again.stats().messages, 2);
    let unknown = builder().connect(name.addresses()).expect_err("nothing is known");
    assert_eq!(unknown.phase(), Some(Phase::Connect));
    assert!(unknown.to_string().contains("a name"), "{unknown}");
}

#[cfg(feature = "r2d2")]
#[test]
fn a_pool_resolves_its_name_anew_and_its_clients_share_what_they_learn() {
    let name = Name::default();
    let first = echo_server(server(1));
    name.now_is(&[&first]);
    let manager = falcotcp_sync::ClientManager::new(builder(), name.addresses()).expect("it resolves");
    let connect = || r2d2::ManageConnection::connect(&manager).expect("connecting");
    assert_eq!(connect().peer_addr(), Some(first.local_addr()));
    let second = echo_server(server(1));
    name.now_is(&[&first, &second]);
    drop(first);
    assert_eq!(connect().peer_addr(), Some(second.local_addr()));
    // The dead one is not tried again by the others.
    assert_eq!(connect().peer_addr(), Some(second.local_addr()));
}

#[test]
fn clients_follow_the_key_of_a_source() {
    let old = key();
    let new = Key::from_bytes([9; 32]);
    let server = echo_server(server(1));
    let current = Arc::new(Mutex::new(old));
    let asked = Arc::new(AtomicUsize::new(0));
    let (source, count) = (Arc::clone(&current), Arc::clone(&asked));
    let builder = Client::builder_with_keys(move || {
        count.fetch_add(1, SeqCst);
        Ok(source.lock().expect("no panic").clone())
    });
    let builder = builder.reconnect(true).request_timeout(PATIENCE);
    let mut client = builder.connect(server.local_addr()).expect("connecting");
    let shared = builder.connect_shared(server.local_addr()).expect("connecting");
    assert_eq!(client.message(b"one").expect("an answer"), b"one");
    assert_eq!(shared.message(b"one").expect("an answer"), b"one");
    assert_eq!(asked.load(SeqCst), 2, "once for each connection");
    server.keys().add("new", &new).expect("a name that is free");
    *current.lock().expect("no panic") = new;
    assert!(server.keys().withdraw("default"));
    assert_eq!(client.message(b"two").expect("an answer"), b"two");
    assert_eq!(shared.message(b"two").expect("an answer"), b"two");
    eventually("both are under the new key", || {
        server.keys().connections("new").is_some_and(|connections| connections == 2)
    });
}

#[test]
fn an_error_of_the_source_is_the_error_of_connecting() {
    let server = echo_server(server(1));
    let builder = Client::builder_with_keys(|| Key::load("/no/such/file"));
    assert!(matches!(builder.connect(server.local_addr()), Err(Error::KeyFile { .. })));
    assert_eq!(server.stats().accepted, 0);

    let builder = Client::builder_with_keys(|| Err(io::Error::other("the store is away"))?);
    let error = builder.connect(server.local_addr()).expect_err("no key");
    assert_eq!(error.phase(), Some(Phase::Connect));
    assert!(error.to_string().contains("the store is away"), "{error}");

    // Nor does what became of another client's message tell of this one's.
    let builder = Client::builder_with_keys(|| Err(Error::ClosedInFlight));
    let error = builder.connect(server.local_addr()).expect_err("no key");
    let text = error.to_string();
    assert!(text.contains("the source of keys failed") && !text.contains("processed"), "{text}");
    assert_eq!((error.phase(), error.was_sent()), (Some(Phase::Connect), false));

    let asked = AtomicUsize::new(0);
    let builder = Client::builder_with_keys(move || match asked.fetch_add(1, SeqCst) {
        1 => Key::load("/no/such/file"),
        2 => panic!("as the test wants"),
        _ => Ok(key()),
    });
    let shared = builder.reconnect(true).connect_shared(server.local_addr()).expect("connecting");
    let addr = server.local_addr();
    drop(server);
    let error = shared.message(b"hello").expect_err("the source has no key");
    assert!(matches!(error, Error::KeyFile { .. }), "{error}");
    assert!(!error.was_sent());
    // A panic of the source in the background leaves the client usable.
    let again = Server::builder(key()).bind(addr).expect("its port").spawn(<[u8]>::to_vec).expect("spawning");
    assert_eq!(shared.message(b"hello").or_else(|_| shared.message(b"hello")).expect("an answer"), b"hello");
    drop(again);
}

#[cfg(feature = "forward-secrecy")]
#[test]
fn a_message_that_the_next_server_does_not_take_is_told_to_its_caller() {
    let name = Name::default();
    let first = echo_server(server(1));
    name.now_is(&[&first]);
    let shared = builder().connect_shared(name.addresses()).expect("connecting");
    name.now_is(&[]);
    drop(first);
    eventually("it knows", || !shared.is_open() || shared.ping().is_err());
    let (sender, told) = std::sync::mpsc::channel();
    let call = shared.start(&[7; 1000]).expect("room");
    call.then(move |outcome| sender.send(outcome).expect("the test waits"));
    let second = echo_server(server(1).max_message_size(100));
    name.now_is(&[&second]);
    let error = told.recv_timeout(PATIENCE).expect("it is told").expect_err("it is too large");
    assert!(matches!(error, Error::TooLarge { phase: Phase::Send, size: 1000, limit: 100, .. }), "{error:?}");
    assert_eq!(shared.message(b"smaller").expect("an answer"), b"smaller");
    assert_eq!(shared.peer_addr(), Some(second.local_addr()));
}

#[test]
fn a_source_may_ask_another_shared_client_at_each_connection() {
    let (vault, server) = (echo_server(server(1)), echo_server(server(1)));
    let vault_client = Client::builder(key()).connect_shared(vault.local_addr()).expect("connecting");
    let key_of_vault = move || vault_client.message(&[9; 32]).and_then(|bytes| Key::try_from(&bytes[..]));
    let new = Key::from_bytes([9; 32]);
    server.keys().add("new", &new).expect("a name that is free");
    let builder = Client::builder_with_keys(key_of_vault).reconnect(true).request_timeout(PATIENCE);
    let shared = builder.connect_shared(server.local_addr()).expect("connecting");
    assert_eq!(shared.message(b"one").expect("an answer"), b"one");
    assert!(server.keys().withdraw("new"));
    server.keys().add("newer", &new).expect("a name that is free");
    assert_eq!(shared.message(b"two").expect("an answer"), b"two");
}
