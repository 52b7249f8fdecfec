//! What the driver asks of the client half of a protocol.

use std::io;

use crate::requests::Mark;

/// What became of the bytes that [`Client::receive`] was shown.
pub(crate) struct Received {
    /// Bytes that need not be shown again. The rest is the beginning of a response.
    pub(crate) consumed: usize,
    /// Whole responses that were among them.
    pub(crate) responses: usize,
}

pub(crate) trait Client {
    /// Appends these requests, as they leave in one write, to `wire`.
    fn send(&mut self, requests: &[Mark], wire: &mut Vec<u8>) -> io::Result<()>;

    /// Takes what has arrived, opening it in place.
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<Received>;
}
