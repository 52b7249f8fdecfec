//! The header that a load balancer sends before everything else: PROXY protocol, version 2.
//!
//! It carries the true address of the peer, in plain bytes that anybody could send. So it is expected from configured
//! addresses only, and from those on every connection.

use std::net::SocketAddr;

use ppp::v2::{Addresses, Command, Header, ParseError};

/// Bytes of a header before its addresses; those tell how many follow.
const FIXED_PART: usize = 16;

/// What stands at the start of a load balancer's connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// Not a whole header yet: it has at least so many bytes.
    NeedMore(usize),
    /// A header of so many bytes, and the peer's address unless the balancer speaks for itself (a health check) or the
    /// peer came over something else than IP.
    Peer(usize, Option<SocketAddr>),
    /// Not a header.
    Invalid,
}

/// Looks at the start of `input`.
pub(super) fn announced(input: &[u8]) -> Announced {
    let header = match Header::try_from(input) {
        Ok(header) => header,
        Err(ParseError::Incomplete(_)) => return Announced::NeedMore(FIXED_PART),
        Err(ParseError::Partial(_, length)) => return Announced::NeedMore(FIXED_PART + length),
        Err(_) => return Announced::Invalid,
    };
    let peer = match (header.command, &header.addresses) {
        (Command::Proxy, Addresses::IPv4(ip)) => Some((ip.source_address, ip.source_port).into()),
        (Command::Proxy, Addresses::IPv6(ip)) => Some((ip.source_address, ip.source_port).into()),
        _ => None,
    };
    Announced::Peer(header.header.len(), peer)
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

    #[test]
    fn a_health_check_of_the_balancer_has_no_peer() {
        let mut local = HEADER[..16].to_vec();
        local[12] = 0x20;
        local[13] = 0;
        local[15] = 0;
        assert_eq!(announced(&local), Announced::Peer(16, None));
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
