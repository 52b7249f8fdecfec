//! No encryption: a length and a message, sent as they are.

use std::io;
use std::rc::Rc;

use super::echo::EchoStream;
use super::protocol::{Client, Received};
use crate::requests::{Mark, Requests};

pub(super) struct PlainClient {
    requests: Rc<Requests>,
    responses: EchoStream,
}

impl PlainClient {
    pub(super) fn new(requests: Rc<Requests>) -> PlainClient {
        PlainClient { responses: EchoStream::new(Rc::clone(&requests)), requests }
    }
}

impl Client for PlainClient {
    fn send(&mut self, requests: &[Mark], wire: &mut Vec<u8>) -> io::Result<()> {
        for &mark in requests {
            wire.extend_from_slice(self.requests.frame(mark));
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<Received> {
        Ok(Received { consumed: bytes.len(), responses: self.responses.take(bytes)? })
    }
}
