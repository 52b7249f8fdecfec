//! Responses in the unencrypted framing, counted as they stream by: nothing is kept or copied.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use crate::requests::{HEADER, Mark, Requests};

pub(super) struct EchoStream {
    requests: Arc<Requests>,
    /// How much of the current response has been seen.
    position: usize,
    /// One whole response was compared with the request.
    verified: bool,
}

impl EchoStream {
    pub(super) fn new(requests: Arc<Requests>) -> EchoStream {
        EchoStream { requests, position: 0, verified: false }
    }

    /// How many responses end within these bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        let mut responses = 0;
        let expected = self.requests.frame(Mark::Ordinary);
        while !bytes.is_empty() {
            let expected = &expected[self.position..];
            let (part, rest) = bytes.split_at(expected.len().min(bytes.len()));
            let to_compare =
                if self.verified { HEADER.saturating_sub(self.position).min(part.len()) } else { part.len() };
            if part[..to_compare] != expected[..to_compare] {
                return Err(io::Error::new(ErrorKind::InvalidData, "a response differs from its request"));
            }
            self.position += part.len();
            if part.len() == expected.len() {
                self.position = 0;
                self.verified = true;
                responses += 1;
            }
            bytes = rest;
        }
        Ok(responses)
    }
}
