//! The header that a load balancer sends before everything else: PROXY protocol, version 2.
//!
//! It carries the true address of the peer, in plain bytes that anybody could send. So it is expected from configured
//! addresses only, and from those on every connection.

use std::net::{IpAddr, SocketAddr};

use ppp::v2::{Addresses, Header, PROTOCOL_PREFIX, ParseError, Protocol};

/// Bytes of a header before its addresses; those tell how many follow.
const FIXED_PART: usize = 16;

/// Version 2 and the command LOCAL, behind the signature.
const LOCAL: u8 = 0x20;

/// What stands at the start of a load balancer's connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// Not a whole header yet: it has at least so many bytes.
    NeedMore(usize),
    /// A header of so many bytes, and the peer's address unless the balancer speaks for itself (LOCAL: a health check) or
    /// the peer came over something else than TCP.
    Peer(usize, Option<SocketAddr>),
    /// Not a header.
    Invalid,
}

/// Looks at the start of `input`.
pub(super) fn announced(input: &[u8]) -> Announced {
    if let Some(length) = length_of_local(input) {
        return if input.len() < length {
            Announced::NeedMore(length)
        } else {
            Announced::Peer(length, None)
        };
    }
    let header = match Header::try_from(input) {
        Ok(header) => header,
        Err(ParseError::Incomplete(_)) => return Announced::NeedMore(FIXED_PART),
        Err(ParseError::Partial(_, length)) => return Announced::NeedMore(FIXED_PART + length),
        Err(_) => return Announced::Invalid,
    };
    let source: Option<(IpAddr, u16)> = match (header.protocol, &header.addresses) {
        (Protocol::Stream, Addresses::IPv4(ip)) => Some((ip.source_address.into(), ip.source_port)),
        (Protocol::Stream, Addresses::IPv6(ip)) => Some((ip.source_address.into(), ip.source_port)),
        // The specification: what a receiver does not support is like an unspecified peer, and the addresses are ignored.
        _ => None,
    };
    let peer = source.map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
    Announced::Peer(header.header.len(), peer)
}

/// Bytes of a header with the command LOCAL. Its family, transport and block are to be ignored, whatever they say
/// (the specification, 2.2), so nothing but the length is looked at.
fn length_of_local(input: &[u8]) -> Option<usize> {
    let fixed = input.first_chunk::<FIXED_PART>()?;
    let is_local = fixed.starts_with(PROTOCOL_PREFIX) && fixed[PROTOCOL_PREFIX.len()] == LOCAL;
    is_local.then(|| FIXED_PART + usize::from(u16::from_be_bytes([fixed[14], fixed[15]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PROXY, TCP over IPv4, from 192.0.2.1:4000 to 192.0.2.2:443.
    const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x0f\xa0\x01\xbb";

    #[test]
    fn a_header_is_taken_whole_and_nothing_behind_it() {
        let behind = [HEADER, b"the establishment"].concat();
        let expected = Announced::Peer(28, Some("192.0.2.1:4000".parse().unwrap()));
        assert_eq!(announced(HEADER), expected);
        assert_eq!(announced(&behind), expected);
    }

    #[test]
    fn every_beginning_of_a_header_needs_more_than_there_is() {
        for cut in 0..HEADER.len() {
            let Announced::NeedMore(length) = announced(&HEADER[..cut]) else { panic!("{cut} bytes") };
            assert!(length > cut && length <= HEADER.len(), "{length} for {cut} bytes");
        }
    }

    /// A header with these bytes behind the signature, and so many bytes of a block.
    fn header(command: u8, family: u8, length: u16) -> Vec<u8> {
        let block = vec![0xAB; length.into()];
        [PROTOCOL_PREFIX, &[command, family], &length.to_be_bytes(), &block].concat()
    }

    #[test]
    fn a_health_check_of_the_balancer_has_no_peer_whatever_else_it_says() {
        for family in 0..=255 {
            for length in [0, 1, 11, 12, 36, 216, 1000, u16::MAX] {
                let mut local = header(LOCAL, family, length);
                let whole = local.len();
                if length > 0 {
                    assert_eq!(announced(&local[..whole - 1]), Announced::NeedMore(whole));
                }
                local.push(0);
                assert_eq!(announced(&local), Announced::Peer(whole, None), "family {family:#x}");
            }
        }
    }

    #[test]
    fn a_peer_that_is_unspecified_or_came_otherwise_is_the_balancer() {
        // Family and transport: unspecified, unspecified over TCP and UDP, IP over something unspecified or UDP, Unix.
        for family in [0x00, 0x01, 0x02, 0x10, 0x12, 0x20, 0x22, 0x30, 0x31, 0x32] {
            assert_eq!(announced(&header(0x21, family, 300)), Announced::Peer(316, None), "{family:#x}");
        }
        assert_eq!(announced(&header(0x21, 0, 0)), Announced::Peer(16, None));
    }

    #[test]
    fn families_transports_and_commands_that_are_unassigned_are_no_header() {
        for family in [0x40, 0x41, 0xF1, 0x03, 0x13, 0x1F, 0x24] {
            assert_eq!(announced(&header(0x21, family, 300)), Announced::Invalid, "{family:#x}");
        }
        for command in [0x22, 0x2F, 0x10, 0x11, 0x30, 0x31] {
            assert_eq!(announced(&header(command, 0x11, 12)), Announced::Invalid, "{command:#x}");
        }
        // No room for the addresses that are announced.
        assert_eq!(announced(&header(0x21, 0x11, 11)), Announced::Invalid);
        assert_eq!(announced(&header(0x21, 0x21, 35)), Announced::Invalid);
    }

    #[test]
    fn an_ipv4_peer_in_ipv6_clothes_is_told_as_ipv4() {
        let mut mapped = header(0x21, 0x21, 36);
        mapped[16..32].copy_from_slice(&std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
        mapped[48..50].copy_from_slice(&4000u16.to_be_bytes());
        assert_eq!(announced(&mapped), Announced::Peer(52, Some("192.0.2.1:4000".parse().unwrap())));
    }

    #[test]
    fn anything_else_is_no_header() {
        for wrong in [&b"\0"[..], b"PROXY TCP4 192.0.2.1", &[2], &[0; 200]] {
            assert_eq!(announced(wrong), Announced::Invalid);
        }
        for byte in 0..14 {
            let mut damaged = HEADER.to_vec();
            damaged[byte] ^= 0x44;
            assert_eq!(announced(&damaged), Announced::Invalid, "byte {byte}");
        }
    }
}
