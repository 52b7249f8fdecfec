//! Forward-secret sessions of the FalcoTCP protocol: a handshake, then frames under keys of their own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use aws_lc_rs::aead::{Aad, LessSafeKey};

use super::falco;
use super::noise::{ANSWER, Handshake, cipher, frame_nonce};
use super::session::{Received, Session};
use crate::error::Result;
use crate::requests::{Mark, Requests};

/// The server has taken the offer; message 2 follows.
const OFFER_ACCEPTED: u8 = 0xFE;

/// What the client says.
const MESSAGE: u8 = 1;
const PING: u8 = 2;

/// What the server says.
const RESPONSE: u8 = 1;
const PONG: u8 = 4;

/// Type and length.
const HEADER: usize = 9;
const TAG_LEN: usize = 16;

/// A key is replaced when it has sealed this many blocks, of which each frame has two besides its text.
const REKEY_BLOCKS: u64 = 1 << 20;

pub(super) struct Connector {
    handshake: Handshake,
    establishing: falco::Connector,
}

impl Connector {
    pub(super) fn new(establishing: falco::Connector) -> Connector {
        Connector { handshake: Handshake::new(), establishing }
    }

    pub(super) fn establish(
        &self,
        socket: &mut TcpStream,
        requests: Arc<Requests>,
    ) -> Result<ForwardSecretSession> {
        let (offered, offer) = self.handshake.clone().offer()?;
        let mut nonces = falco::Nonces::start()?;
        socket.write_all(&self.establishing.establishment(&mut nonces, &offer)?)?;
        let mut answer = [0; 1 + ANSWER];
        socket.read_exact(&mut answer)?;
        let [OFFER_ACCEPTED, mut message_2 @ ..] = answer else {
            return Err("the server did not take the offer".into());
        };
        let [to_server, to_client] = offered.finish(&mut message_2)?;
        let (mut sealing, opening) = (Direction::new(to_server)?, Direction::new(to_client)?);
        // Leaves with the first message: it tells the server that the establishment is no replay.
        let mut proof = Vec::new();
        sealing.seal(PING, &[], &mut proof)?;
        Ok(ForwardSecretSession { sealing, opening, proof, requests, verified: false })
    }
}

pub(super) struct ForwardSecretSession {
    sealing: Direction,
    opening: Direction,
    /// The ping of the establishment, until it is sent.
    proof: Vec<u8>,
    requests: Arc<Requests>,
    /// One whole response was compared with the request.
    verified: bool,
}

impl Session for ForwardSecretSession {
    fn send(&mut self, requests: &[Mark], wire: &mut Vec<u8>) -> io::Result<()> {
        wire.append(&mut self.proof);
        for &mark in requests {
            self.sealing.seal(MESSAGE, self.requests.message(mark), wire)?;
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<Received> {
        let (mut consumed, mut responses) = (0, 0);
        while let Some((header, rest)) = bytes[consumed..].split_first_chunk_mut::<HEADER>() {
            let [kind, length @ ..] = *header;
            let expected = TAG_LEN + if kind == RESPONSE { self.requests.message_length() } else { 0 };
            if !matches!(kind, RESPONSE | PONG) || u64::from_be_bytes(length) != expected as u64 {
                return Err(io::Error::new(ErrorKind::InvalidData, "a frame that nothing asked for"));
            }
            let Some(sealed) = rest.get_mut(..expected) else { break };
            let text = self.opening.open(*header, sealed)?;
            if kind == RESPONSE {
                if !self.verified && *text != *self.requests.message(Mark::Ordinary) {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "a response differs from its request",
                    ));
                }
                self.verified = true;
                responses += 1;
            }
            consumed += HEADER + expected;
        }
        Ok(Received { consumed, responses })
    }
}

/// The frames of one direction.
struct Direction {
    cipher: LessSafeKey,
    counter: u64,
    blocks: u64,
}

impl Direction {
    fn new(key: [u8; 32]) -> io::Result<Direction> {
        Ok(Direction { cipher: cipher(&key)?, counter: 0, blocks: 0 })
    }

    /// Appends a frame.
    fn seal(&mut self, kind: u8, text: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
        let mut header = [kind; HEADER];
        header[1..].copy_from_slice(&((text.len() + TAG_LEN) as u64).to_be_bytes());
        wire.extend_from_slice(&header);
        let start = wire.len();
        wire.extend_from_slice(text);
        let sealed = &mut wire[start..];
        let tag =
            self.cipher.seal_in_place_separate_tag(frame_nonce(self.counter), Aad::from(header), sealed);
        wire.extend_from_slice(tag.map_err(io::Error::other)?.as_ref());
        self.count(text.len())
    }

    /// Opens what follows this header; gives the text.
    fn open<'s>(&mut self, header: [u8; HEADER], sealed: &'s mut [u8]) -> io::Result<&'s [u8]> {
        let nonce = frame_nonce(self.counter);
        let text = self.cipher.open_in_place(nonce, Aad::from(header), sealed).map_err(io::Error::other)?;
        self.count(text.len())?;
        Ok(text)
    }

    fn count(&mut self, text: usize) -> io::Result<()> {
        self.counter += 1;
        self.blocks += (text as u64).div_ceil(16) + 2;
        if self.blocks >= REKEY_BLOCKS {
            let mut key = [0; 32];
            let (last, none) = (frame_nonce(u64::MAX), Aad::empty());
            // The tag is not part of the key.
            let _ = self.cipher.seal_in_place_separate_tag(last, none, &mut key).map_err(io::Error::other)?;
            self.cipher = cipher(&key)?;
            self.blocks = 0;
        }
        Ok(())
    }
}
