//! What the tests share: a server under test, and peers that speak the protocol byte by byte.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Once;
use std::time::{Duration, Instant};

use falcotcp_sync::protocol::{
    Cipher, ClientEvent, ClientSession, NonceSequence, SEAL_OVERHEAD, message_header,
};
use falcotcp_sync::{Handler, Key, Request, Response, Server, ServerBuilder, ServerHandle};

/// Longer than anything takes that works, however loaded the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than a whole test program takes, also when several of its tests fail by their patience.
pub const WHOLE_PROGRAM: Duration = Duration::from_secs(300);

pub const PING: &[u8] = &[2];

/// The key of all peers here, and so the beginning of every test that could wait for one.
pub fn key() -> Key {
    end_if_hung(WHOLE_PROGRAM);
    Key::from_bytes([0x5A; 32])
}

/// Ends this test program as failed when it has not ended by itself after `limit`, of which the first call's counts. So
/// every wait is bounded, also that of a join or a barrier. The test harness has named the tests that hang by then.
pub fn end_if_hung(limit: Duration) {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            // Not by a macro, whose output the harness would keep.
            let _ = writeln!(io::stderr(), "\nthese tests hang: not done after {limit:?}");
            std::process::abort();
        });
    });
}

/// Answers with the message itself.
pub struct Echo;

impl Handler for Echo {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        response.extend_from_slice(request.message());
    }
}

pub fn server(workers: usize) -> ServerBuilder {
    Server::builder(key()).workers(workers)
}

pub fn echo_server(builder: ServerBuilder) -> ServerHandle {
    builder.bind("127.0.0.1:0").expect("binding").spawn(Echo).expect("spawning")
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Numbers that are the same in every run of one seed.
pub struct Random(pub u64);

impl Random {
    /// A number from 0 up to and without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % end
    }

    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("a byte")
    }
}

/// Memory in use by this process, of which the test's own peers are a part; 0 where that is not known.
pub fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// A client made of a socket and a sealing state, which can be as rude as a test wants.
pub struct Peer {
    pub stream: TcpStream,
    cipher: Cipher,
    nonces: NonceSequence,
}

impl Peer {
    /// Connects, and does not establish.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::from(TcpStream::connect(addr).expect("connecting"))
    }

    /// A peer on a socket that is connected.
    pub fn from(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("setting a time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("setting a time-out");
        stream.set_nodelay(true).expect("setting no-delay");
        Self { stream, cipher: Cipher::new(&key()), nonces: NonceSequence::new().expect("random bytes") }
    }

    pub fn establish(addr: SocketAddr) -> Self {
        let mut peer = Self::connect(addr);
        peer.send(&establishment(&key()));
        assert_eq!(peer.receive(1), [0xFF]);
        peer
    }

    /// A second hand on the same connection, so that one thread can send while another receives.
    pub fn second_hand(&self) -> Self {
        let nonces = NonceSequence::new().expect("random bytes");
        Self { stream: self.stream.try_clone().expect("cloning"), cipher: Cipher::new(&key()), nonces }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sending");
    }

    /// The whole frame of a message.
    pub fn message(&mut self, text: &[u8]) -> Vec<u8> {
        let mut frame = message_header(text.len() + SEAL_OVERHEAD).to_vec();
        let sealed = frame.len();
        frame.extend_from_slice(&[0; 12]);
        frame.extend_from_slice(text);
        frame.extend_from_slice(&[0; 16]);
        self.cipher.seal(&mut self.nonces, &mut frame[sealed..]).expect("sealing");
        frame
    }

    pub fn send_message(&mut self, text: &[u8]) {
        let frame = self.message(text);
        self.send(&frame);
    }

    /// Exactly `count` bytes.
    pub fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).expect("receiving");
        bytes
    }

    /// The next response's text; `None` for the empty response.
    pub fn response(&mut self) -> Option<Vec<u8>> {
        let length = u64::from_be_bytes(self.receive(8).try_into().expect("8 bytes"));
        if length == 0 {
            return None;
        }
        let mut sealed = self.receive(usize::try_from(length).expect("a length"));
        Some(self.cipher.open(&mut sealed).expect("a response that opens").to_vec())
    }

    pub fn exchange(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        self.send_message(text);
        self.response()
    }

    /// Asserts that the connection works.
    pub fn assert_served(&mut self) {
        assert_eq!(self.exchange(b"still there?").as_deref(), Some(&b"still there?"[..]));
    }

    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("half-closing");
    }

    /// Asserts that the server closes, and sends nothing before it does. Returns how long that took.
    pub fn assert_closed_in_silence(&mut self) -> Duration {
        let begun = Instant::now();
        assert_eq!(self.rest(), b"", "bytes before the end");
        begun.elapsed()
    }

    /// Everything until the server closes, which it must do although it goes on sending.
    pub fn rest(&mut self) -> Vec<u8> {
        let begun = Instant::now();
        let (mut rest, mut piece) = (Vec::new(), vec![0; 64 << 10]);
        while begun.elapsed() < PATIENCE {
            match self.stream.read(&mut piece) {
                Ok(0) => return rest,
                Ok(count) => rest.extend_from_slice(&piece[..count]),
                Err(error) => match error.kind() {
                    io::ErrorKind::ConnectionReset => return rest,
                    io::ErrorKind::Interrupted => {}
                    _ => panic!("the server did not close: {error}"),
                },
            }
        }
        panic!("the server sends on and does not close");
    }

    /// Asserts that the server has not closed so far.
    pub fn assert_open(&mut self) {
        assert!(self.is_open_for(Duration::from_millis(20)), "closed");
    }

    /// Whether the server keeps the connection open and silent for `time`.
    pub fn is_open_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("setting a time-out");
        let outcome = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("setting a time-out");
        matches!(outcome, Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

/// A whole establishment under `key`.
pub fn establishment(key: &Key) -> Vec<u8> {
    let nonces = NonceSequence::new().expect("random bytes");
    let mut session = ClientSession::new(Cipher::new(key).into(), nonces, 0);
    let mut frame = Vec::new();
    session.establish(&mut getrandom::SysRng, &mut frame).expect("random bytes");
    assert_eq!(session.receive(&mut [], Instant::now()), Ok((0, ClientEvent::NeedMore { frame_length: 1 })));
    frame
}
