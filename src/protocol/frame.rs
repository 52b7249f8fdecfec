//! Headers and lengths: what is next in a stream of bytes, and how much of it is still missing.

use super::{MESSAGE_HEADER, RESPONSE_HEADER};

const ESTABLISHMENT: u8 = 0;
const MESSAGE: u8 = 1;
const PING: u8 = 2;

/// What a client sends, as far as its header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestHeader {
    /// Type 0: an establishment of the fixed length [`ESTABLISHMENT_LENGTH`](super::ESTABLISHMENT_LENGTH).
    Establishment,
    /// Type 1: a message.
    Message {
        /// Bytes that follow the header: nonce, ciphertext and tag. Any `u64` can be announced.
        length: u64,
    },
    /// Type 2: a ping, one byte in all.
    Ping,
    /// Any other type: one byte to skip.
    Unregistered(u8),
}

/// Reads the header at the start of `input`; `None` says that more bytes are needed.
///
/// ```
/// use falcotcp_sync::protocol::{RequestHeader, decode_request};
///
/// assert_eq!(decode_request(&[2]), Some(RequestHeader::Ping));
/// assert_eq!(decode_request(&[1, 0, 0, 0]), None);
/// assert_eq!(
///     decode_request(&[1, 0, 0, 0, 0, 0, 0, 0, 28]),
///     Some(RequestHeader::Message { length: 28 }),
/// );
/// ```
#[inline]
pub fn decode_request(input: &[u8]) -> Option<RequestHeader> {
    Some(match *input.first()? {
        ESTABLISHMENT => RequestHeader::Establishment,
        MESSAGE => RequestHeader::Message { length: decode_response(&input[1..])? },
        PING => RequestHeader::Ping,
        unregistered => RequestHeader::Unregistered(unregistered),
    })
}

/// Reads the length at the start of a response; `None` says that more bytes are needed.
#[inline]
pub fn decode_response(input: &[u8]) -> Option<u64> {
    input.first_chunk::<RESPONSE_HEADER>().map(|header| u64::from_be_bytes(*header))
}

/// The header of a message whose sealed part has `length` bytes.
#[inline]
pub fn message_header(length: usize) -> [u8; MESSAGE_HEADER] {
    let mut header = [MESSAGE; MESSAGE_HEADER];
    header[1..].copy_from_slice(&response_header(length));
    header
}

/// The header of a response whose sealed part has `length` bytes.
#[inline]
pub fn response_header(length: usize) -> [u8; RESPONSE_HEADER] {
    (length as u64).to_be_bytes()
}

/// The type byte that opens an establishment.
pub(super) const ESTABLISHMENT_TYPE: u8 = ESTABLISHMENT;

/// The whole of a ping.
pub(super) const PING_TYPE: u8 = PING;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_all_its_bytes() {
        let header = message_header(0x0102_0304);
        for cut in 0..header.len() {
            assert_eq!(decode_request(&header[..cut]), None, "{cut} bytes");
        }
        assert_eq!(decode_request(&header), Some(RequestHeader::Message { length: 0x0102_0304 }));
        assert_eq!(decode_response(&header[1..8]), None);
        assert_eq!(decode_response(&header[1..]), Some(0x0102_0304));
    }

    #[test]
    fn every_type_byte_has_its_meaning() {
        assert_eq!(decode_request(&[0]), Some(RequestHeader::Establishment));
        assert_eq!(decode_request(&[2]), Some(RequestHeader::Ping));
        for unregistered in 3..=255 {
            assert_eq!(decode_request(&[unregistered]), Some(RequestHeader::Unregistered(unregistered)));
        }
    }
}
