//! Services that handlers ask. Each answers every message 20 ms after it came, however many of them wait.
//!
//! They run in the driver's process, so that what they cost is not the measured server's.

use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use falcotcp_sync::Key;
use falcotcp_sync::protocol::{
    ACCEPTED, Cipher, ESTABLISHMENT_LENGTH, MESSAGE_HEADER, NONCE_LENGTH, NonceSequence, RESPONSE_HEADER,
    TAG_LENGTH, response_header,
};

use crate::client::falco::SHARED_KEY;
use crate::error::Result;

const DELAY: Duration = Duration::from_millis(20);
/// For a thread that serves one half of a connection.
const STACK: usize = 128 * 1024;
/// What their clients send is small; anything else is no message of theirs.
const LONGEST: u64 = 64 * 1024;

/// As many services, each at an address of its own, until the program ends.
pub(crate) fn start(count: usize) -> Result<Vec<SocketAddr>> {
    (0..count).map(|_| start_one()).collect()
}

fn start_one() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let cipher = Arc::new(Cipher::new(&Key::from_bytes(SHARED_KEY)));
    // Whatever fails here is seen by the server that asks, and by whom it does not answer then.
    thread::spawn(move || -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            let cipher = Arc::clone(&cipher);
            thread::Builder::new().stack_size(STACK).spawn(move || serve(stream, cipher))?;
        }
    });
    Ok(address)
}

/// A message, and when it is to be answered.
struct Waiting {
    due: Instant,
    message: Vec<u8>,
}

/// Reads until the peer closes; another thread writes.
fn serve(mut stream: TcpStream, cipher: Arc<Cipher>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut establishment = [0; ESTABLISHMENT_LENGTH];
    stream.read_exact(&mut establishment)?;
    cipher.open(&mut establishment[1..]).map_err(io::Error::other)?;
    stream.write_all(&[ACCEPTED])?;
    let (messages, waiting) = channel();
    let (writer, its_cipher) = (stream.try_clone()?, Arc::clone(&cipher));
    thread::Builder::new().stack_size(STACK).spawn(move || answer(writer, &its_cipher, &waiting))?;
    read(&mut BufReader::new(stream), &cipher, &messages)
}

fn read(stream: &mut impl Read, cipher: &Cipher, messages: &Sender<Waiting>) -> io::Result<()> {
    loop {
        let mut header = [0; MESSAGE_HEADER];
        stream.read_exact(&mut header)?;
        let [_, length @ ..] = header;
        let length = u64::from_be_bytes(length);
        if length > LONGEST {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut sealed = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        stream.read_exact(&mut sealed)?;
        let message = cipher.open(&mut sealed).map_err(io::Error::other)?.to_vec();
        messages.send(Waiting { due: Instant::now() + DELAY, message }).map_err(io::Error::other)?;
    }
}

/// All wait equally long, so they are due in the order in which they came.
fn answer(mut stream: TcpStream, cipher: &Cipher, waiting: &Receiver<Waiting>) -> io::Result<()> {
    let mut nonces = NonceSequence::new().map_err(io::Error::other)?;
    let mut frame = Vec::new();
    for Waiting { due, message } in waiting {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        frame.clear();
        frame.extend_from_slice(&response_header(NONCE_LENGTH + message.len() + TAG_LENGTH));
        frame.extend_from_slice(&[0; NONCE_LENGTH]);
        frame.extend_from_slice(&message);
        frame.extend_from_slice(&[0; TAG_LENGTH]);
        cipher.seal(&mut nonces, &mut frame[RESPONSE_HEADER..]).map_err(io::Error::other)?;
        stream.write_all(&frame)?;
    }
    Ok(())
}
