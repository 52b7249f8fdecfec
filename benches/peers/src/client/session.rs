//! The client's half of one connection: bytes in, bytes out, no socket.

use std::io;

use crate::requests::Mark;

/// What became of the bytes that [`Session::receive`] was shown.
pub(crate) struct Received {
    /// Bytes that need not be shown again. The rest is the beginning of a response.
    pub(crate) consumed: usize,
    /// Whole responses that were among them.
    pub(crate) responses: usize,
}

pub(crate) trait Session {
    /// Appends these requests, as they leave in one write, to `wire`.
    fn send(&mut self, requests: &[Mark], wire: &mut Vec<u8>) -> io::Result<()>;

    /// Takes what has arrived, opening it in place.
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<Received>;

    /// Whether the connection began without a full handshake, where the protocol knows a shorter one.
    fn is_resumed(&self) -> bool {
        true
    }
}
