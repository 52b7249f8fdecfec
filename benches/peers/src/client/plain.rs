//! No encryption: a length and a message, sent as they are.

use std::io;
use std::sync::Arc;

use super::echo::EchoStream;
use super::session::{Received, Session};
use crate::requests::{Mark, Requests};

pub(super) struct PlainSession {
    requests: Arc<Requests>,
    responses: EchoStream,
}

impl PlainSession {
    pub(super) fn new(requests: Arc<Requests>) -> PlainSession {
        PlainSession { responses: EchoStream::new(Arc::clone(&requests)), requests }
    }
}

impl Session for PlainSession {
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
