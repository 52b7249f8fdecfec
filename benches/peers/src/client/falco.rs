//! The FalcoTCP protocol: each message sealed with AES-256-GCM under one shared key.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;

use super::session::{Received, Session};
use crate::error::Result;
use crate::requests::{HEADER, Mark, Requests};

/// The servers that are measured here listen on the loopback interface and carry nothing worth hiding.
pub(crate) const SHARED_KEY: [u8; 32] = *b"a key for measurements, no other";

const ESTABLISHMENT: u8 = 0;
const MESSAGE: u8 = 1;
const ESTABLISHED: u8 = 0xFF;
const ESTABLISHMENT_PLAINTEXT: usize = 128;
const TAG_LEN: usize = 16;

pub(super) struct Connector {
    /// Expanded once for all connections.
    key: Arc<LessSafeKey>,
    replayed: Option<Arc<Replayed>>,
}

/// Each request as it was sealed once.
struct Replayed {
    ordinary: Vec<u8>,
    blocking: Vec<u8>,
}

impl Connector {
    pub(super) fn new(requests: &Requests, replay: bool) -> Result<Connector> {
        let key = Arc::new(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &SHARED_KEY)?));
        let replayed = if replay { Some(Arc::new(Replayed::seal(&key, requests)?)) } else { None };
        Ok(Connector { key, replayed })
    }

    pub(super) fn establish(&self, socket: &mut TcpStream, requests: Arc<Requests>) -> Result<FalcoSession> {
        let mut nonces = Nonces::start()?;
        let mut plaintext = [0; ESTABLISHMENT_PLAINTEXT];
        rand::fill(&mut plaintext)?;
        socket.write_all(&self.establishment(&mut nonces, &plaintext)?)?;
        let mut answer = [0];
        socket.read_exact(&mut answer)?;
        if answer != [ESTABLISHED] {
            return Err("the server did not establish the connection".into());
        }
        let (key, replayed) = (Arc::clone(&self.key), self.replayed.clone());
        Ok(FalcoSession { key, nonces, requests, replayed, verified: false, unopened: 0 })
    }
}

impl Connector {
    /// The first frame of a connection.
    pub(super) fn establishment(
        &self,
        nonces: &mut Nonces,
        plaintext: &[u8; ESTABLISHMENT_PLAINTEXT],
    ) -> Result<Vec<u8>> {
        let mut frame = vec![ESTABLISHMENT];
        seal(&self.key, nonces, plaintext, &mut frame)?;
        Ok(frame)
    }
}

pub(super) struct FalcoSession {
    key: Arc<LessSafeKey>,
    nonces: Nonces,
    requests: Arc<Requests>,
    replayed: Option<Arc<Replayed>>,
    /// One whole response was compared with the request.
    verified: bool,
    /// What is still to come of a response that is not opened, where requests are replayed.
    unopened: usize,
}

impl Session for FalcoSession {
    fn send(&mut self, requests: &[Mark], wire: &mut Vec<u8>) -> io::Result<()> {
        for &mark in requests {
            match &self.replayed {
                None => append_message(&self.key, &mut self.nonces, self.requests.message(mark), wire)?,
                Some(replayed) => wire.extend_from_slice(replayed.frame(mark)),
            }
        }
        Ok(())
    }

    /// A response opens only when all of it is there: what is unfinished is left for the next time.
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<Received> {
        let length = NONCE_LEN + self.requests.message_length() + TAG_LEN;
        let header = (length as u64).to_be_bytes();
        let (mut consumed, mut responses) = (0, 0);
        loop {
            let rest = &mut bytes[consumed..];
            if self.unopened > 0 {
                let skipped = self.unopened.min(rest.len());
                self.unopened -= skipped;
                consumed += skipped;
                if self.unopened > 0 {
                    break;
                }
                responses += 1;
                continue;
            }
            let Some((found, after)) = rest.split_first_chunk_mut::<HEADER>() else { break };
            if *found != header {
                return Err(io::Error::new(ErrorKind::InvalidData, "a response of another length"));
            }
            if self.verified && self.replayed.is_some() {
                self.unopened = length;
                consumed += HEADER;
                continue;
            }
            let Some(sealed) = after.get_mut(..length) else { break };
            self.open(sealed)?;
            consumed += HEADER + length;
            responses += 1;
        }
        Ok(Received { consumed, responses })
    }
}

impl FalcoSession {
    fn open(&mut self, sealed: &mut [u8]) -> io::Result<()> {
        let (nonce, ciphertext) = sealed.split_at_mut(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(io::Error::other)?;
        let message = self.key.open_in_place(nonce, Aad::empty(), ciphertext).map_err(io::Error::other)?;
        if !self.verified && message != self.requests.message(Mark::Ordinary) {
            return Err(io::Error::new(ErrorKind::InvalidData, "a response differs from its request"));
        }
        self.verified = true;
        Ok(())
    }
}

impl Replayed {
    fn seal(key: &LessSafeKey, requests: &Requests) -> Result<Replayed> {
        let mut nonces = Nonces::start()?;
        let mut frame = |mark| {
            let mut wire = Vec::new();
            append_message(key, &mut nonces, requests.message(mark), &mut wire).map(|()| wire)
        };
        Ok(Replayed { ordinary: frame(Mark::Ordinary)?, blocking: frame(Mark::Blocking)? })
    }

    fn frame(&self, mark: Mark) -> &[u8] {
        match mark {
            Mark::Ordinary => &self.ordinary,
            Mark::Blocking => &self.blocking,
        }
    }
}

/// Appends a message as it goes to the server: type, length, nonce, ciphertext and tag.
fn append_message(
    key: &LessSafeKey,
    nonces: &mut Nonces,
    message: &[u8],
    wire: &mut Vec<u8>,
) -> io::Result<()> {
    let length = (NONCE_LEN + message.len() + TAG_LEN) as u64;
    wire.push(MESSAGE);
    wire.extend_from_slice(&length.to_be_bytes());
    seal(key, nonces, message, wire)
}

/// Appends nonce, ciphertext and tag.
fn seal(key: &LessSafeKey, nonces: &mut Nonces, plaintext: &[u8], wire: &mut Vec<u8>) -> io::Result<()> {
    let nonce = nonces.next();
    wire.extend_from_slice(&nonce);
    let start = wire.len();
    wire.extend_from_slice(plaintext);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag =
        key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut wire[start..]).map_err(io::Error::other)?;
    wire.extend_from_slice(tag.as_ref());
    Ok(())
}

/// A random start from the operating system, then a counter.
pub(super) struct Nonces(u128);

impl Nonces {
    pub(super) fn start() -> Result<Nonces> {
        let mut start = [0; 16];
        rand::fill(&mut start[..NONCE_LEN])?;
        Ok(Nonces(u128::from_le_bytes(start)))
    }

    fn next(&mut self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&self.0.to_le_bytes()[..NONCE_LEN]);
        self.0 = self.0.wrapping_add(1);
        nonce
    }
}
