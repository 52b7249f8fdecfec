//! Load balancers that announce the true peer, by hand and with a real one.

#![cfg(feature = "proxy-protocol")]

mod common;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{PATIENCE, Peer, establishment, eventually, key, server};
use falcotcp_sync::{Handler, Request, Response, ServerHandle};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// PROXY, TCP over IPv4, from 192.0.2.1:4000.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x0f\xa0\x01\xbb";

struct Who;

impl Handler for Who {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        write!(response, "{}", request.peer()).expect("writing to memory");
    }
}

fn behind(proxies: &[IpAddr]) -> ServerHandle {
    server_behind(proxies, PATIENCE)
}

fn server_behind(proxies: &[IpAddr], handshake_timeout: Duration) -> ServerHandle {
    server(2)
        .proxy_protocol_from(proxies.iter().copied())
        .handshake_timeout(handshake_timeout)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(Who)
        .expect("spawning")
}

#[test]
fn the_handler_sees_the_announced_peer() {
    let server = behind(&[LOCALHOST]);
    let stream = [HEADER, &establishment(&key())].concat();
    // At once, and byte by byte.
    for pieces in [stream.len(), 1] {
        let mut peer = Peer::connect(server.local_addr());
        for piece in stream.chunks(pieces) {
            peer.send(piece);
        }
        assert_eq!(peer.receive(1), [0xFF]);
        assert_eq!(peer.exchange(b"who?").as_deref(), Some(&b"192.0.2.1:4000"[..]));
    }
}

#[test]
fn a_balancer_that_speaks_for_itself_is_the_peer() {
    let server = behind(&[LOCALHOST]);
    let mut peer = Peer::connect(server.local_addr());
    peer.send(b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0");
    peer.send(&establishment(&key()));
    assert_eq!(peer.receive(1), [0xFF]);
    let own = peer.stream.local_addr().expect("an address").to_string();
    assert_eq!(peer.exchange(b"who?"), Some(own.into_bytes()));
}

#[test]
fn a_health_check_may_name_any_family_and_bring_a_block_of_any_length() {
    let server = behind(&[LOCALHOST]);
    for (family, length) in [(0x11, 12), (0x21, 0), (0x31, 5), (0xFF, 3), (0x00, 300), (0x11, u16::MAX)] {
        let mut peer = Peer::connect(server.local_addr());
        peer.send(b"\r\n\r\n\0\r\nQUIT\n\x20");
        peer.send(&[family]);
        peer.send(&length.to_be_bytes());
        peer.send(&vec![0xC0; length.into()]);
        peer.send(&establishment(&key()));
        assert_eq!(peer.receive(1), [0xFF], "family {family:#x}, {length} bytes");
        let own = peer.stream.local_addr().expect("an address").to_string();
        assert_eq!(peer.exchange(b"who?"), Some(own.into_bytes()));
    }
    assert_eq!(server.stats().unauthenticated, 0);
}

#[test]
fn an_ipv4_address_is_told_as_one_by_a_header_of_ipv6() {
    let server = behind(&[LOCALHOST]);
    let mut peer = Peer::connect(server.local_addr());
    peer.send(b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24");
    peer.send(&Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
    peer.send(&[0; 16]);
    peer.send(&[0x0F, 0xA0, 0x01, 0xBB]);
    peer.send(&establishment(&key()));
    assert_eq!(peer.receive(1), [0xFF]);
    assert_eq!(peer.exchange(b"who?").as_deref(), Some(&b"192.0.2.1:4000"[..]));
}

#[test]
fn a_balancers_connection_without_a_header_is_refused_in_silence() {
    let server = behind(&[LOCALHOST]);
    for start in [&establishment(&key())[..], b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n"] {
        let mut peer = Peer::connect(server.local_addr());
        peer.send(start);
        peer.assert_closed_in_silence();
    }
    eventually("both are counted", || server.stats().unauthenticated == 2);
}

#[test]
fn a_probe_that_connects_and_closes_with_or_without_a_header_is_no_stranger() {
    let server = behind(&[LOCALHOST]);
    for sent in [&b""[..], b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0", HEADER] {
        Peer::connect(server.local_addr()).send(sent);
    }
    eventually("all came and went", || server.stats().accepted == 3 && server.stats().open == 0);
    assert_eq!(server.stats().unauthenticated, 0);
}

#[test]
fn half_a_header_ends_at_the_deadline_of_the_establishment() {
    let server = server_behind(&[LOCALHOST], Duration::from_millis(500));
    let mut peer = Peer::connect(server.local_addr());
    peer.send(&HEADER[..20]);
    peer.assert_closed_in_silence();
    assert_eq!(server.stats().expired, 1);
}

#[test]
fn nobody_else_can_announce_a_peer() {
    let server = behind(&["192.0.2.77".parse().expect("an address")]);
    let mut peer = Peer::connect(server.local_addr());
    peer.send(HEADER);
    peer.assert_closed_in_silence();
    let mut peer = Peer::establish(server.local_addr());
    let own = peer.stream.local_addr().expect("an address").to_string();
    assert_eq!(peer.exchange(b"who?"), Some(own.into_bytes()));
}
