//! What a server answers, byte by byte: the protocol's tables.

mod common;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use common::{PATIENCE, PING, Peer, echo_server, establishment, key, server};
use falcotcp_sync::{Error, Handler, Key, Phase, Request, Response, Server};

const EMPTY: [u8; 8] = [0; 8];

#[test]
fn messages_of_many_sizes_come_back() {
    let server = echo_server(server(2));
    let mut peer = Peer::establish(server.local_addr());
    for size in [0, 1, 15, 16, 17, 1000, 65_000, 65_536, 70_000, 1 << 20, (3 << 20) + 5] {
        let text: Vec<u8> = (0..=255).cycle().take(size).collect();
        assert_eq!(peer.exchange(&text).as_deref(), Some(&text[..]), "{size} bytes");
    }
}

#[test]
fn every_byte_may_come_alone() {
    let server = echo_server(server(2));
    let mut peer = Peer::connect(server.local_addr());
    let mut stream = establishment(&key());
    stream.extend_from_slice(PING);
    stream.extend(peer.message(b"dribbled"));
    for byte in stream {
        peer.send(&[byte]);
    }
    assert_eq!(peer.receive(1), [0xFF]);
    assert_eq!(peer.response().as_deref(), Some(&b"dribbled"[..]));
}

#[test]
fn everything_may_come_at_once() {
    let server = echo_server(server(2));
    let mut peer = Peer::connect(server.local_addr());
    let mut stream = establishment(&key());
    for number in 0..1000u32 {
        stream.extend(peer.message(&number.to_be_bytes()));
        stream.extend([2, 3, 255]);
    }
    peer.send(&stream);
    assert_eq!(peer.receive(1), [0xFF]);
    for number in 0..1000u32 {
        assert_eq!(peer.response().as_deref(), Some(&number.to_be_bytes()[..]));
    }
}

#[test]
fn another_key_is_refused_in_silence() {
    let server = echo_server(server(2));
    let mut peer = Peer::connect(server.local_addr());
    peer.send(&establishment(&Key::from_bytes([1; 32])));
    peer.assert_closed_in_silence();
    assert_eq!(server.stats().unauthenticated, 1);
}

#[test]
fn every_flipped_bit_of_an_establishment_is_refused_in_silence() {
    let server = echo_server(server(2));
    let establishment = establishment(&key());
    // The first eight bits are the type: they are all refused at the first byte.
    for bit in (0..8).chain((8..establishment.len() * 8).step_by(5)) {
        let mut damaged = establishment.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut peer = Peer::connect(server.local_addr());
        peer.send(&damaged);
        peer.assert_closed_in_silence();
    }
}

#[test]
fn an_establishment_cut_short_by_a_half_close_is_closed_in_silence() {
    let server = echo_server(server(2));
    let establishment = establishment(&key());
    for length in 0..establishment.len() {
        let mut peer = Peer::connect(server.local_addr());
        peer.send(&establishment[..length]);
        peer.half_close();
        peer.assert_closed_in_silence();
    }
}

#[test]
fn anything_but_an_establishment_at_first_is_refused_at_its_first_byte() {
    let server = echo_server(server(2));
    for first in 1..=255 {
        let mut peer = Peer::connect(server.local_addr());
        peer.send(&[first]);
        peer.assert_closed_in_silence();
    }
}

#[test]
fn a_second_establishment_means_what_the_first_meant() {
    let server = echo_server(server(2));
    let mut peer = Peer::establish(server.local_addr());
    peer.send(&establishment(&key()));
    assert_eq!(peer.receive(1), [0xFF]);
    peer.assert_served();
    peer.send(&establishment(&Key::from_bytes([1; 32])));
    peer.assert_closed_in_silence();
}

#[test]
fn a_damaged_message_gets_the_empty_response_and_the_connection_stays() {
    let server = echo_server(server(2));
    let mut peer = Peer::establish(server.local_addr());
    let message = peer.message(b"whole");
    for byte in 9..message.len() {
        let mut damaged = message.clone();
        damaged[byte] ^= 1;
        peer.send(&damaged);
        assert_eq!(peer.response(), None, "byte {byte}");
    }
    peer.assert_served();
    assert_eq!(server.stats().rejected, message.len() as u64 - 9);
}

#[test]
fn a_message_without_room_for_nonce_and_tag_is_consumed_and_gets_the_empty_response() {
    let server = echo_server(server(2));
    let mut peer = Peer::establish(server.local_addr());
    for length in 0..28u8 {
        peer.send(&[1, 0, 0, 0, 0, 0, 0, 0, length]);
        peer.send(&vec![1; usize::from(length)]);
        assert_eq!(peer.receive(8), EMPTY);
        peer.assert_served();
    }
}

#[test]
fn a_message_at_the_limit_is_answered_and_one_byte_more_ends_the_connection() {
    let server = echo_server(server(2).max_message_size(1000));
    let mut peer = Peer::establish(server.local_addr());
    assert_eq!(peer.exchange(&[7; 1000]), Some(vec![7; 1000]));
    peer.send_message(&[7; 1001]);
    assert_eq!(peer.rest(), EMPTY);
}

#[test]
fn any_announced_length_over_the_limit_gets_the_empty_response_and_then_the_end() {
    let server = echo_server(server(2));
    for length in [(16 << 20) + 29, 1 << 32, u64::MAX / 2, u64::MAX - 8, u64::MAX] {
        let mut peer = Peer::establish(server.local_addr());
        peer.send(&[&[1], &length.to_be_bytes()[..]].concat());
        assert_eq!(peer.rest(), EMPTY, "length {length}");
    }
}

#[test]
fn a_peer_in_the_middle_of_sending_too_much_still_reads_the_empty_response() {
    let server = echo_server(server(2).max_message_size(1000));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_message(&vec![7; 8 << 20]);
    assert_eq!(peer.rest(), EMPTY);
}

#[test]
fn answers_before_a_message_that_is_too_large_still_arrive() {
    let server = echo_server(server(2).max_message_size(1000));
    let mut peer = Peer::establish(server.local_addr());
    let stream = [peer.message(b"one"), peer.message(b"two"), peer.message(&[0; 1001])].concat();
    peer.send(&stream);
    assert_eq!(peer.response().as_deref(), Some(&b"one"[..]));
    assert_eq!(peer.response().as_deref(), Some(&b"two"[..]));
    assert_eq!(peer.rest(), EMPTY);
}

#[test]
fn pings_and_unregistered_types_get_no_answer() {
    let server = echo_server(server(2));
    let mut peer = Peer::establish(server.local_addr());
    peer.send(PING);
    for unregistered in 3..=255 {
        peer.send(&[unregistered]);
    }
    peer.assert_served();
    assert_eq!(server.stats().pings, 1);
}

#[test]
fn complete_messages_before_a_half_close_are_all_answered() {
    let server = echo_server(server(2));
    for count in [1, 2, 250] {
        let mut peer = Peer::establish(server.local_addr());
        let mut stream = Vec::new();
        for number in 0..count {
            stream.extend(peer.message(&[number]));
        }
        // And one that never becomes complete.
        stream.extend([1, 0, 0]);
        peer.send(&stream);
        peer.half_close();
        for number in 0..count {
            assert_eq!(peer.response(), Some(vec![number]));
        }
        assert_eq!(peer.rest(), b"");
    }
}

#[test]
fn large_answers_after_a_half_close_all_arrive() {
    let server = echo_server(server(2));
    let mut peer = Peer::establish(server.local_addr());
    let mut sender = peer.second_hand();
    let sending = std::thread::spawn(move || {
        for number in 0..20 {
            sender.send_message(&vec![number; 1 << 20]);
        }
        sender.half_close();
    });
    for number in 0..20 {
        assert_eq!(peer.response(), Some(vec![number; 1 << 20]));
    }
    assert_eq!(peer.rest(), b"");
    sending.join().expect("the sender");
}

#[test]
fn a_handlers_panic_gives_the_empty_response_and_everything_goes_on() {
    let calls = AtomicU64::new(0);
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            calls.fetch_add(1, SeqCst);
            if message == b"panic" {
                // A payload whose own drop panics must not get further either.
                std::panic::panic_any(PanicsOnDrop);
            }
            message.to_vec()
        })
        .expect("spawning");
    let mut other = Peer::establish(server.local_addr());
    let mut peer = Peer::establish(server.local_addr());
    let stream = [peer.message(b"before"), peer.message(b"panic"), peer.message(b"after")].concat();
    peer.send(&stream);
    assert_eq!(peer.response().as_deref(), Some(&b"before"[..]));
    assert_eq!(peer.response(), None);
    assert_eq!(peer.response().as_deref(), Some(&b"after"[..]));
    other.assert_served();
    assert_eq!(server.stats().panics, 1);
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("in the payload's drop");
    }
}

#[test]
fn a_handler_that_writes_and_then_panics_sends_nothing_of_it() {
    struct Halfway;
    impl falcotcp_sync::Handler for Halfway {
        fn handle(&self, request: falcotcp_sync::Request<'_>, response: &mut falcotcp_sync::Response<'_>) {
            response.extend_from_slice(request.message());
            assert_ne!(request.message(), b"panic");
        }
    }
    let server = server(1).bind("127.0.0.1:0").expect("binding").spawn(Halfway).expect("spawning");
    let mut peer = Peer::establish(server.local_addr());
    assert_eq!(peer.exchange(b"panic"), None);
    peer.assert_served();
}

#[test]
fn no_nonce_repeats_over_a_servers_responses() {
    let server = echo_server(server(2));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..10 {
        let mut peer = Peer::establish(server.local_addr());
        for _ in 0..200 {
            peer.send_message(b"");
            let frame = peer.receive(36);
            assert!(seen.insert(frame[8..20].to_vec()), "a nonce came twice");
        }
    }
}

/// Answers with the peer's address and the connection's number.
struct Who;

impl Handler for Who {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let text = format!("{} {}", request.peer(), request.connection_id().get());
        response.extend_from_slice(text.as_bytes());
    }
}

#[test]
fn the_handler_sees_who_asks() {
    let server = server(2).bind("127.0.0.1:0").expect("binding").spawn(Who).expect("spawning");
    for number in 1..=3 {
        let mut peer = Peer::establish(server.local_addr());
        let expected = format!("{} {number}", peer.stream.local_addr().expect("an address"));
        assert_eq!(peer.exchange(b"").as_deref(), Some(expected.as_bytes()));
    }
}

#[test]
#[ignore = "needs IPv6"]
fn the_handler_sees_a_peer_without_ipv6_as_such_also_where_both_kinds_are_listened_for() {
    let server = server(2).bind("[::]:0").expect("binding").spawn(Who).expect("spawning");
    let stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, server.local_addr().port()));
    let mut peer = Peer::from(stream.expect("connecting"));
    peer.send(&establishment(&key()));
    assert_eq!(peer.receive(1), [0xFF]);
    let expected = format!("{} 1", peer.stream.local_addr().expect("an address"));
    assert_eq!(peer.exchange(b"").as_deref(), Some(expected.as_bytes()));
}

#[test]
fn a_request_shows_everything_but_its_plaintext() {
    struct Shown;
    impl Handler for Shown {
        fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
            response.extend_from_slice(format!("{request:?} {response:?}").as_bytes());
        }
    }
    let server = server(1).bind("127.0.0.1:0").expect("binding").spawn(Shown).expect("spawning");
    let mut peer = Peer::establish(server.local_addr());
    let shown = String::from_utf8(peer.exchange(b"ABCDE").expect("an answer")).expect("text");
    assert!(shown.contains("len: 5") && shown.contains("default") && shown.contains("127.0.0.1:"), "{shown}");
    assert!(!shown.contains("65, 66, 67") && !shown.contains("ABC"), "{shown}");
}

#[test]
fn settings_that_can_not_work_are_errors() {
    let zero = Duration::ZERO;
    for (setting, builder) in [
        ("workers", server(0)),
        ("workers", server(usize::MAX)),
        ("max_message_size", server(1).max_message_size(usize::MAX)),
        ("lifetime", server(1).lifetime(zero)),
        ("handshake_timeout", server(1).handshake_timeout(zero)),
        ("write_timeout", server(1).write_timeout(zero)),
        ("max_connections", server(1).max_connections(0)),
        ("backlog", server(1).backlog(0)),
        ("backlog", server(1).backlog(u32::MAX)),
    ] {
        let error = builder.bind("127.0.0.1:0").expect_err("a setting that can't work");
        assert!(error.to_string().starts_with(setting), "{error}");
    }
    assert!(Server::builder(key()).bind("127.0.0.1:notaport").is_err());
    #[cfg(feature = "proxy-protocol")]
    for nobody in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
        let builder = server(1).proxy_protocol_from([nobody.parse().expect("an address")]);
        let error = builder.bind("127.0.0.1:0").expect_err("nobody's address");
        assert!(error.to_string().starts_with("proxy_protocol_from"), "{error}");
    }
}

#[test]
fn an_error_of_binding_names_every_address_that_failed() {
    let bind = |addrs: &[SocketAddr]| Server::builder(key()).bind(addrs);
    let (one, other) = (echo_server(server(1)), echo_server(server(1)));
    let taken = [one.local_addr(), other.local_addr()];
    let error = bind(&taken).expect_err("both are taken");
    let told = error.to_string();
    for addr in taken {
        assert!(told.contains(&format!("{addr}: ")), "{told}");
    }
    assert!(
        matches!(&error, Error::Io { phase: Phase::Bind, source, .. } if source.kind() == ErrorKind::AddrInUse),
        "{error:?}"
    );
    // One that is free is enough.
    let free = "127.0.0.1:0".parse().expect("an address");
    bind(&[taken[0], free]).expect("the second is free");
    let told = Server::builder(key()).bind("127.0.0.1:notaport").expect_err("no port").to_string();
    assert!(told.contains("does not resolve"), "{told}");
    assert!(bind(&[]).expect_err("none").to_string().contains("no socket address"));
}

#[test]
fn the_largest_settings_work() {
    let server = echo_server(
        server(1)
            .lifetime(Duration::MAX)
            .handshake_timeout(Duration::MAX)
            .write_timeout(Duration::MAX)
            .max_message_size(usize::MAX - 37)
            .max_connections(usize::MAX),
    );
    let mut peer = Peer::establish(server.local_addr());
    peer.assert_served();
    // Not over the limit, since there is none, and not allocated either.
    peer.send(&[&[1], &(u64::MAX / 4).to_be_bytes()[..]].concat());
    assert!(peer.is_open_for(Duration::from_millis(50)));
    drop(peer);
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
}

#[test]
fn a_listener_that_is_given_is_served() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    let server = server(2).listen(listener).expect("listening").spawn(common::Echo).expect("spawning");
    assert_eq!(server.local_addr(), addr);
    Peer::establish(addr).assert_served();
}
