//! A client's end of forward-secret sessions, on another implementation of Noise and with frames of its own, which can be as
//! rude as a test wants; and a handler that does what a message says.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use falcotcp_sync::protocol::{Cipher, NonceSequence};
use falcotcp_sync::{Handler, Key, Reply, Request, Response, ServerBuilder, ServerHandle};
use snow::HandshakeState;

use super::common::{PATIENCE, eventually};

/// The key of [`common::key`](super::common::key).
const KEY: [u8; 32] = [0x5A; 32];

pub const MESSAGE: u8 = 1;
pub const PING: u8 = 2;

/// Bytes of the server's answer to an offer.
pub const ANSWER: usize = 65;

/// What a server said, and how the stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Response(Vec<u8>),
    Rejection(u8),
    /// With its count.
    Goodbye(u64),
    Pong,
    /// The server's FIN, between two frames.
    End,
    /// The end of the stream inside a frame, or a reset.
    Cut,
}

pub fn response(text: &[u8]) -> Said {
    Said::Response(text.to_vec())
}

pub struct Peer {
    pub stream: TcpStream,
    sealing: Direction,
    opening: Direction,
    /// What the server said of itself.
    pub lifetime: Duration,
    pub max_message_size: u64,
}

/// An offer that is not answered.
pub struct Offer {
    noise: HandshakeState,
    pub establishment: Vec<u8>,
}

struct Direction {
    key: [u8; 32],
    counter: u64,
    blocks: u64,
}

impl Offer {
    pub fn new(key: [u8; 32]) -> Self {
        let builder = snow::Builder::new("Noise_NNpsk0_25519_AESGCM_SHA256".parse().expect("a pattern"));
        let builder = builder.prologue(b"FalcoTCP forward secrecy 1").expect("a prologue");
        let mut noise = builder.psk(0, &key).expect("a key").build_initiator().expect("a handshake");
        let mut offer = [0; 128];
        assert_eq!(noise.write_message(&[7; 80], &mut offer).expect("message 1"), 128);
        let mut establishment = [&[0; 13][..], &offer, &[0; 16]].concat();
        let mut nonces = NonceSequence::new().expect("random bytes");
        Cipher::new(&Key::from_bytes(key)).seal(&mut nonces, &mut establishment[1..]).expect("sealing");
        Self { noise, establishment }
    }

    /// The session that the server's answer makes.
    pub fn answered(mut self, answer: &[u8], stream: TcpStream) -> Peer {
        assert_eq!(answer[0], 0xFE);
        let mut payload = [0; 64];
        assert_eq!(self.noise.read_message(&answer[1..], &mut payload).expect("message 2"), 16);
        let number = |at: usize| u64::from_be_bytes(payload[at..at + 8].try_into().expect("8 bytes"));
        let (sealing, opening) = self.noise.dangerously_get_raw_split();
        let direction = |key| Direction { key, counter: 0, blocks: 0 };
        Peer {
            stream,
            sealing: direction(sealing),
            opening: direction(opening),
            lifetime: Duration::from_millis(number(0)),
            max_message_size: number(8),
        }
    }
}

impl Direction {
    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        nonce
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&self.key.into())
    }

    fn seal(&mut self, kind: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = header(kind, text.len() as u64 + 16);
        frame.extend_from_slice(text);
        let (header, sealed) = frame.split_at_mut(9);
        let nonce = Self::nonce(self.counter).into();
        let tag = self.cipher().encrypt_inout_detached(&nonce, header, sealed.into()).expect("sealing");
        frame.extend_from_slice(&tag);
        self.advance(text.len());
        frame
    }

    fn open(&mut self, header: &[u8], mut sealed: Vec<u8>) -> Vec<u8> {
        let tag: [u8; 16] = sealed.split_off(sealed.len() - 16).try_into().expect("a tag");
        let nonce = Self::nonce(self.counter).into();
        let opened =
            self.cipher().decrypt_inout_detached(&nonce, header, (&mut sealed[..]).into(), (&tag).into());
        opened.expect("a frame that opens");
        self.advance(sealed.len());
        sealed
    }

    fn advance(&mut self, text: usize) {
        self.counter += 1;
        self.blocks += (text as u64).div_ceil(16) + 2;
        if self.blocks >= 1 << 20 {
            self.blocks = 0;
            let mut key = [0; 32];
            let nonce = Self::nonce(u64::MAX).into();
            self.cipher()
                .encrypt_inout_detached(&nonce, &[], (&mut key[..]).into())
                .expect("a key's successor");
            self.key = key;
        }
    }
}

impl Peer {
    /// Its offer is answered, and nothing has shown the server that it holds the keys.
    pub fn unproven(addr: SocketAddr) -> Self {
        Self::on(TcpStream::connect(addr).expect("connecting"), KEY)
    }

    /// The same on a socket that is connected, and under another key.
    pub fn on(mut stream: TcpStream, key: [u8; 32]) -> Self {
        set_up(&stream);
        let offer = Offer::new(key);
        stream.write_all(&offer.establishment).expect("sending");
        let mut answer = [0; ANSWER];
        stream.read_exact(&mut answer).expect("an answer to the offer");
        offer.answered(&answer, stream)
    }

    pub fn establish(addr: SocketAddr) -> Self {
        Self::unproven(addr).proven()
    }

    pub fn proven(mut self) -> Self {
        self.send(PING, b"");
        assert_eq!(self.next(), Said::Pong);
        self
    }

    /// The next frame.
    pub fn frame(&mut self, kind: u8, text: &[u8]) -> Vec<u8> {
        self.sealing.seal(kind, text)
    }

    pub fn send(&mut self, kind: u8, text: &[u8]) {
        let frame = self.frame(kind, text);
        self.send_raw(&frame);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sending");
    }

    /// Sends these messages at once.
    pub fn send_messages(&mut self, texts: &[&[u8]]) {
        let frames: Vec<u8> = texts.iter().flat_map(|text| self.frame(MESSAGE, text)).collect();
        self.send_raw(&frames);
    }

    pub fn next(&mut self) -> Said {
        let mut header = [0; 9];
        match self.read(&mut header) {
            Some(9) => {}
            Some(0) => return Said::End,
            _ => return Said::Cut,
        }
        let length = u64::from_be_bytes(header[1..].try_into().expect("8 bytes"));
        let mut sealed = vec![0; usize::try_from(length).expect("a length")];
        if self.read(&mut sealed) != Some(sealed.len()) {
            return Said::Cut;
        }
        let text = self.opening.open(&header, sealed);
        match (header[0], &text[..]) {
            (1, _) => Said::Response(text),
            (2, [reason]) => Said::Rejection(*reason),
            (3, _) => Said::Goodbye(u64::from_be_bytes(text.try_into().expect("a count"))),
            (4, []) => Said::Pong,
            (kind, _) => panic!("a frame of type {kind} with {} bytes", text.len()),
        }
    }

    /// Everything until the stream ends.
    pub fn rest(&mut self) -> Vec<Said> {
        let mut rest = Vec::new();
        while !matches!(rest.last(), Some(Said::End | Said::Cut)) {
            rest.push(self.next());
        }
        rest
    }

    /// Fills `bytes`, as far as the stream goes; `None` after a reset.
    fn read(&mut self, bytes: &mut [u8]) -> Option<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("the server neither speaks nor closes: {error}"),
            }
        }
        Some(filled)
    }

    pub fn assert_served(&mut self) {
        self.send(MESSAGE, b"still there?");
        assert_eq!(self.next(), response(b"still there?"));
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half-closing");
    }

    /// Sends zeros, in a thread of its own, until that fails.
    pub fn send_on(&self) -> thread::JoinHandle<()> {
        let mut stream = self.stream.try_clone().expect("cloning");
        thread::spawn(move || while stream.write_all(&[0; 10_000]).is_ok() {})
    }

    /// Whether the server keeps the connection open and silent for `time`.
    pub fn is_open_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("setting a time-out");
        let outcome = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("setting a time-out");
        matches!(outcome, Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

/// The header of a frame.
pub fn header(kind: u8, length: u64) -> Vec<u8> {
    [&[kind][..], &length.to_be_bytes()].concat()
}

pub fn set_up(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("setting a time-out");
    stream.set_write_timeout(Some(PATIENCE)).expect("setting a time-out");
    stream.set_nodelay(true).expect("setting no-delay");
}

/// Echoes, but for messages that begin with a word that it does something else for.
struct Obedient {
    jobs: Sender<Reply>,
    gate: Arc<Gate>,
}

/// Where the handler waits.
#[derive(Default)]
pub struct Gate {
    entered: AtomicBool,
    open: AtomicBool,
}

/// How long the response to `large` is: more than sockets hold.
pub const LARGE: usize = 24 << 20;

impl Handler for Obedient {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        match request.message() {
            b"panic" => panic!("as the test wants"),
            b"later and panic" => {
                let _reply = response.defer();
                panic!("as the test wants")
            }
            b"later" => self.jobs.send(response.defer()).expect("the test waits for it"),
            b"wait" => self.gate.wait(),
            b"large" => response.extend_from_slice(&vec![7; LARGE]),
            b"kind" if request.is_forward_secret() => response.extend_from_slice(b"forward-secret"),
            b"kind" => response.extend_from_slice(b"classic"),
            b"key" => response.extend_from_slice(request.key_name().as_bytes()),
            b"peer" => response.extend_from_slice(request.peer().to_string().as_bytes()),
            message => response.extend_from_slice(message),
        }
    }
}

impl Gate {
    fn wait(&self) {
        self.entered.store(true, SeqCst);
        let begun = Instant::now();
        while !self.open.load(SeqCst) {
            assert!(begun.elapsed() < PATIENCE, "nobody has opened the gate");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the handler waits.
    pub fn entered(&self) {
        eventually("the handler waits", || self.entered.load(SeqCst));
    }

    pub fn open(&self) {
        self.open.store(true, SeqCst);
    }
}

/// A server that does what messages say, where it waits, and what it answers later.
pub fn serve(builder: ServerBuilder) -> (ServerHandle, Arc<Gate>, Receiver<Reply>) {
    let (jobs, replies) = channel();
    let gate = Arc::new(Gate::default());
    let handler = Obedient { jobs, gate: Arc::clone(&gate) };
    let server = builder.bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning");
    (server, gate, replies)
}

pub fn job(replies: &Receiver<Reply>) -> Reply {
    replies.recv_timeout(PATIENCE).expect("a job")
}
