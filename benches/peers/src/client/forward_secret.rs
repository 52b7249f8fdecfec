//! Forward-secret sessions of the FalcoTCP protocol, by the library's own state machine.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use falcotcp_sync::Key;
use falcotcp_sync::protocol::{Cipher, ClientEvent, ClientSession, ForwardSecrecy, NonceSequence};
use getrandom::SysRng;

use super::falco::SHARED_KEY;
use super::session::{Received, Session};
use crate::error::Result;
use crate::requests::{Mark, Requests};

pub(super) struct Connector {
    /// Expanded once for all connections.
    cipher: Arc<Cipher>,
}

impl Connector {
    pub(super) fn new() -> Connector {
        Connector { cipher: Arc::new(Cipher::new(&Key::from_bytes(SHARED_KEY))) }
    }

    pub(super) fn establish(
        &self,
        socket: &mut TcpStream,
        requests: Arc<Requests>,
    ) -> Result<ForwardSecretSession> {
        let mut session = ClientSession::with_policy(
            Arc::clone(&self.cipher),
            NonceSequence::new()?,
            requests.message_length(),
            ForwardSecrecy::Require,
        );
        let mut wire = Vec::new();
        session.establish(&mut SysRng, &mut wire)?;
        socket.write_all(&wire)?;
        let mut answer = Vec::new();
        loop {
            match session.receive(&mut answer, Instant::now())? {
                (_, ClientEvent::NeedMore { frame_length }) => {
                    let received = answer.len();
                    answer.resize(frame_length, 0);
                    socket.read_exact(&mut answer[received..])?;
                }
                (_, ClientEvent::Established) => break,
                (_, event) => return Err(format!("instead of an establishment: {event}").into()),
            }
        }
        // Leaves with the first message: it tells the server that the establishment is no replay.
        let mut proof = Vec::new();
        session.ping(&mut proof);
        Ok(ForwardSecretSession { session, proof, requests, established: Instant::now(), verified: false })
    }
}

pub(super) struct ForwardSecretSession {
    session: ClientSession,
    /// The ping of the establishment, until it is sent.
    proof: Vec<u8>,
    requests: Arc<Requests>,
    established: Instant,
    /// One whole response was compared with the request.
    verified: bool,
}

impl Session for ForwardSecretSession {
    fn send(&mut self, requests: &[Mark], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.append(&mut self.proof);
        for &mark in requests {
            self.session.send(self.requests.message(mark), wire).map_err(io::Error::other)?;
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<Received> {
        let (mut consumed, mut responses) = (0, 0);
        loop {
            // Without deadlines in the session any instant does: no look at the clock.
            let (length, event) =
                self.session.receive(&mut bytes[consumed..], self.established).map_err(io::Error::other)?;
            consumed += length;
            match event {
                ClientEvent::NeedMore { .. } => return Ok(Received { consumed, responses }),
                ClientEvent::Pong => {}
                ClientEvent::Response(message) => {
                    if !self.verified && message != self.requests.message(Mark::Ordinary) {
                        return Err(io::Error::new(
                            ErrorKind::InvalidData,
                            "a response differs from its request",
                        ));
                    }
                    self.verified = true;
                    responses += 1;
                }
                event => return Err(io::Error::new(ErrorKind::InvalidData, event.to_string())),
            }
        }
    }
}
