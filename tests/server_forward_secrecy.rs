//! Forward-secret sessions with a server: who gets one, and what is said in it.

#![cfg(feature = "forward-secrecy")]

mod common;
#[path = "common/forward_secret.rs"]
mod forward_secret;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::{eventually, key, server};
use falcotcp_sync::protocol::ForwardSecrecy::{self, Off, Prefer, Require};
use falcotcp_sync::protocol::{Cipher, ClientEvent, ClientFault, ClientSession, NonceSequence};
use falcotcp_sync::{Key, Server};
use forward_secret::Said::{self, End, Goodbye, Pong, Rejection};
use forward_secret::{MESSAGE, Offer, PING, Peer, job, response, serve, set_up};
use getrandom::SysRng;
use tinyjson::JsonValue;

/// Speaks as this crate's client does, and gives what the server answers to `message`.
fn ask(addr: SocketAddr, policy: ForwardSecrecy, message: &[u8]) -> Result<Vec<u8>, ClientFault> {
    let nonces = NonceSequence::new().expect("random bytes");
    let mut session = ClientSession::with_policy(Cipher::new(&key()).into(), nonces, usize::MAX, policy);
    let mut stream = TcpStream::connect(addr).expect("connecting");
    set_up(&stream);
    let (mut output, mut input) = (Vec::new(), Vec::new());
    session.establish(&mut SysRng, &mut output).expect("random bytes");
    loop {
        stream.write_all(&output).expect("sending");
        output.clear();
        let (taken, event) = session.receive(&mut input, Instant::now())?;
        match event {
            ClientEvent::Established => {
                session.ping(&mut output);
                session.send(message, &mut output).expect("an open session");
            }
            ClientEvent::Response(text) => return Ok(text.to_vec()),
            ClientEvent::Pong => {}
            ClientEvent::NeedMore { .. } => {
                let mut piece = vec![0; 64 << 10];
                match stream.read(&mut piece).expect("the server neither speaks nor closes") {
                    0 => return Err(ClientFault::Closed),
                    count => input.extend_from_slice(&piece[..count]),
                }
            }
            other => panic!("{other:?}"),
        }
        input.drain(..taken);
    }
}

#[test]
fn each_policy_with_each() {
    let (classic, forward_secret) = (Ok(b"classic".to_vec()), Ok(b"forward-secret".to_vec()));
    let both = [
        (Off, [&classic, &classic, &Err(ClientFault::NotForwardSecret)]),
        (Prefer, [&classic, &forward_secret, &forward_secret]),
        (Require, [&Err(ClientFault::Closed), &forward_secret, &forward_secret]),
    ];
    for (policy, outcomes) in both {
        let (server, _, _) = serve(server(2).forward_secrecy(policy));
        let asked = [Off, Prefer, Require].map(|client| ask(server.local_addr(), client, b"kind"));
        assert_eq!(asked.each_ref(), outcomes, "a server that says {policy:?}");
        let count = |kind| asked.iter().filter(|outcome| *outcome == kind).count() as u64;
        // Who meets a server that it can't use has been established by that all the same.
        let refused = asked.iter().filter(|outcome| **outcome == Err(ClientFault::NotForwardSecret)).count();
        let stats = server.stats();
        assert_eq!(stats.established_classic, count(&classic) + refused as u64);
        assert_eq!(stats.established_forward_secret, count(&forward_secret));
        assert_eq!(stats.unauthenticated, u64::from(policy == Require));
    }
}

#[test]
fn it_is_the_default() {
    let (server, _, _) = serve(server(1));
    assert_eq!(ask(server.local_addr(), Prefer, b"kind"), Ok(b"forward-secret".to_vec()));
}

/// Those of the vectors: no offers, offers that are damaged, and such as have public keys that give no secret.
#[test]
fn what_a_server_answers_to_establishments() {
    let vectors: JsonValue = include_str!("forward-secrecy-vectors.json").parse().expect("vectors");
    let key = bytes(&vectors["sessions"][0]["key"]);
    let key = Key::from_bytes(key.try_into().expect("32 bytes"));
    let negative: &Vec<JsonValue> = vectors["negative"].get().expect("vectors");
    let is_establishment =
        |case: &&JsonValue| case.get().is_some_and(|case: &HashMap<_, _>| case.contains_key("establishment"));
    let cases: Vec<_> = negative.iter().filter(is_establishment).collect();
    assert!(cases.len() > 10);
    for (policy, name) in [(Off, "off"), (Prefer, "prefer"), (Require, "require")] {
        let builder = Server::builder(key.clone()).workers(1).forward_secrecy(policy);
        let (server, _, _) = serve(builder);
        for case in &cases {
            let expected = &case["expected"];
            // For each policy, or one for all.
            let expected: &String = expected.get().or_else(|| expected[name].get()).expect("an outcome");
            let mut stream = TcpStream::connect(server.local_addr()).expect("connecting");
            set_up(&stream);
            stream.write_all(&bytes(&case["establishment"])).expect("sending");
            let mut said = [0];
            let said = match stream.read(&mut said).expect("the server neither speaks nor closes") {
                0 => "closed in silence",
                _ if said == [0xFE] => "fe",
                _ if said == [0xFF] => "ff",
                _ => "something else",
            };
            assert_eq!(said, expected, "{:?} under {name}", case["name"]);
        }
    }
}

fn bytes(hex: &JsonValue) -> Vec<u8> {
    let digits = hex.get::<String>().expect("hex").as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
    digits.map(byte).collect()
}

#[test]
fn an_offer_on_an_established_classic_connection_is_an_establishment_as_any() {
    for policy in [Off, Prefer] {
        let (server, _, _) = serve(server(1).forward_secrecy(policy));
        let mut peer = common::Peer::establish(server.local_addr());
        for _ in 0..2 {
            peer.send(&Offer::new([0x5A; 32]).establishment);
            assert_eq!(peer.receive(1), [0xFF]);
            assert_eq!(peer.exchange(b"kind").as_deref(), Some(&b"classic"[..]));
        }
    }
}

/// A type 0 in a forward-secret session is unknown, whatever it holds.
#[test]
fn unknown_types_are_opened_and_ignored() {
    let (server, _, _) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    for kind in (0..=255).filter(|kind| ![MESSAGE, PING].contains(kind)) {
        peer.send(kind, &vec![kind; usize::from(kind)]);
    }
    peer.assert_served();
    peer.half_close();
    assert_eq!(peer.rest(), [Goodbye(1), End]);
}

#[test]
fn pongs_come_in_order_with_responses() {
    let (server, _, replies) = serve(server(2));
    let mut peer = Peer::establish(server.local_addr());
    for text in [b"".as_slice(), b"1", b"later", b"2", b"", b"", b"later", b"", b"3"] {
        peer.send(if text.is_empty() { PING } else { MESSAGE }, text);
    }
    let (first, second) = (job(&replies), job(&replies));
    second.send(b"second").expect("a wanted answer");
    assert_eq!((peer.next(), peer.next()), (Pong, response(b"1")));
    assert!(peer.is_open_for(Duration::from_millis(50)));
    first.send(b"first").expect("a wanted answer");
    peer.half_close();
    let expected = [
        response(b"first"),
        response(b"2"),
        Pong,
        Pong,
        response(b"second"),
        Pong,
        response(b"3"),
        Goodbye(5),
        End,
    ];
    assert_eq!(peer.rest(), expected);
}

#[test]
fn behind_an_answer_that_comes_later_only_so_many_pings_are_taken() {
    const PINGS: usize = 5000;
    let (server, _, replies) = serve(server(1).max_deferred(100));
    let mut peer = Peer::establish(server.local_addr());
    let before = server.stats().pings;
    let mut frames = peer.frame(MESSAGE, b"later");
    for _ in 0..PINGS {
        frames.extend(peer.frame(PING, b""));
    }
    peer.send_raw(&frames);
    let reply = job(&replies);
    eventually("as many are taken as may be", || server.stats().pings - before == 99);
    assert!(peer.is_open_for(Duration::from_millis(100)));
    assert_eq!(server.stats().pings - before, 99);
    reply.send(b"at last").expect("a wanted answer");
    assert_eq!(peer.next(), response(b"at last"));
    for _ in 0..PINGS {
        assert_eq!(peer.next(), Pong);
    }
    peer.assert_served();
}

#[test]
fn a_rejection_tells_whether_the_handler_failed() {
    let (server, _, replies) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    for failing in [&b"panic"[..], b"later and panic"] {
        peer.send(MESSAGE, failing);
        assert_eq!(peer.next(), Rejection(1));
    }
    peer.send(MESSAGE, b"later");
    drop(job(&replies));
    assert_eq!(peer.next(), Rejection(0));
    // Also behind answers that come later.
    peer.send_messages(&[b"later", b"panic", b"later and panic", b"echo"]);
    job(&replies).send(b"at last").expect("a wanted answer");
    let expected = [response(b"at last"), Rejection(1), Rejection(1), response(b"echo")];
    assert_eq!(std::array::from_fn(|_| peer.next()), expected);
    assert_eq!(server.stats().panics, 4);
}

#[test]
fn an_answer_that_takes_too_long_is_a_rejection() {
    let (server, _, replies) = serve(server(1).deferred_timeout(Duration::from_millis(300)));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_messages(&[b"later", b"echo"]);
    let overdue = job(&replies);
    assert_eq!((peer.next(), peer.next()), (Rejection(0), response(b"echo")));
    assert!(overdue.send(b"too late").is_err());
}

/// Twice in each direction and more, in messages large and small.
#[test]
fn keys_are_replaced_on_the_way() {
    let (server, _, _) = serve(server(1));
    let mut peer = Peer::establish(server.local_addr());
    for round in 0..36u32 {
        let text: Vec<u8> = round.to_be_bytes().into_iter().cycle().take((1 << 20) - 5).collect();
        peer.send(MESSAGE, &text);
        assert!(peer.next() == Said::Response(text), "round {round}");
        peer.send(PING, b"");
        assert_eq!(peer.next(), Pong);
    }
    let text = vec![9; 15 << 20];
    for _ in 0..2 {
        assert_eq!(ask(server.local_addr(), Require, &text).map(|answer| answer == text), Ok(true));
    }
}

#[test]
fn any_of_several_keys_is_mixed_into_its_own_sessions() {
    let (server, _, _) = serve(
        Server::builder_with_key("old", Key::from_bytes([1; 32])).accept_key("new", Key::from_bytes([2; 32])),
    );
    let connect =
        |byte| Peer::on(TcpStream::connect(server.local_addr()).expect("connecting"), [byte; 32]).proven();
    let (mut old, mut new) = (connect(1), connect(2));
    for (peer, name) in [(&mut old, b"old"), (&mut new, b"new")] {
        peer.send(MESSAGE, b"key");
        assert_eq!(peer.next(), response(name));
    }
    assert!(server.keys().withdraw("old"));
    assert_eq!(old.rest(), [Goodbye(1), End]);
    new.assert_served();
    let mut stream = TcpStream::connect(server.local_addr()).expect("connecting");
    set_up(&stream);
    stream.write_all(&Offer::new([1; 32]).establishment).expect("sending");
    assert_eq!(stream.read(&mut [0]).expect("the server neither speaks nor closes"), 0, "in silence");
    server.keys().add("old", Key::from_bytes([1; 32])).expect("the name is free");
    connect(1).assert_served();
    eventually("it is counted", || server.stats().withdrawn == 1);
}

/// Wherever in it, and before the first frame as well as later.
#[test]
fn a_flipped_bit_ends_the_session_in_silence() {
    let (server, _, _) = serve(server(2));
    for kind in [MESSAGE, PING] {
        let length = if kind == PING { 25 } else { 25 + 3 };
        for byte in 0..length {
            let bit = 1 << (byte % 8);
            let mut peer = Peer::unproven(server.local_addr());
            if byte % 2 == 0 {
                peer = peer.proven();
            }
            let mut frame = peer.frame(kind, if kind == PING { b"" } else { b"pay" });
            frame[byte] ^= bit;
            peer.send_raw(&frame);
            // A length that has grown can't be told before the rest is there, or is over the limit.
            peer.half_close();
            let rest = peer.rest();
            let is_length = (1..9).contains(&byte);
            let is_silent = rest == [End] || rest == [Said::Cut];
            assert!(is_silent || is_length && rest == [Goodbye(0), End], "byte {byte}: {rest:?}");
        }
    }
    assert_eq!(server.stats().messages, 0);
}

#[cfg(feature = "proxy-protocol")]
#[test]
fn behind_a_load_balancer() {
    let localhost = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    let (server, _, _) = serve(server(2).proxy_protocol_from([localhost]));
    let mut stream = TcpStream::connect(server.local_addr()).expect("connecting");
    // PROXY, TCP over IPv4, from 192.0.2.1:4000.
    stream
        .write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x0f\xa0\x01\xbb")
        .expect("sending");
    let mut peer = Peer::on(stream, [0x5A; 32]).proven();
    peer.send(MESSAGE, b"peer");
    assert_eq!(peer.next(), response(b"192.0.2.1:4000"));
    peer.half_close();
    assert_eq!(peer.rest(), [Goodbye(1), End]);
}
