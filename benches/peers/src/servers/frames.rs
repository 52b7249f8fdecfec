//! The framing of the plain and the TLS servers (length as u64 big-endian, then the message) and the loop of those
//! that block.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

use super::work::Work;
use crate::requests::HEADER;

/// How much is read at once, and how much is gathered before it is written.
pub(super) const BUFFER: usize = 64 * 1024;
/// A longer message ends the connection.
const MAX_MESSAGE: u64 = 64 << 20;
/// Stack of a thread that serves one connection: enough for TLS, small enough for thousands of threads.
pub(super) const STACK: usize = 256 * 1024;

/// Serves one connection until the peer closes it.
///
/// Buffered both ways: one read may bring many messages, and their responses leave with one write. A frame is
/// echoed out of the buffer it was read into, so that a large message is not copied on the way.
pub(super) fn serve<S: Read + Write>(stream: S, work: Work) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(BUFFER, stream);
    let mut frame = vec![0; HEADER];
    let mut responses = Vec::new();
    while !stream.fill_buf()?.is_empty() {
        stream.read_exact(&mut frame[..HEADER])?;
        let length = message_length(&frame)?;
        frame.resize(HEADER + length, 0);
        stream.read_exact(&mut frame[HEADER..])?;
        work.run(&frame[HEADER..]);
        if frame.len() >= BUFFER {
            send(stream.get_mut(), &mut responses)?;
            stream.get_mut().write_all(&frame)?;
        } else {
            responses.extend_from_slice(&frame);
        }
        if responses.len() >= BUFFER || !holds_frame(stream.buffer()) {
            send(stream.get_mut(), &mut responses)?;
        }
    }
    Ok(())
}

/// The length that a frame's header announces.
pub(super) fn message_length(frame: &[u8]) -> io::Result<usize> {
    let too_short = || io::Error::from(ErrorKind::UnexpectedEof);
    let header = frame.first_chunk::<HEADER>().ok_or_else(too_short)?;
    let length = u64::from_be_bytes(*header);
    if length > MAX_MESSAGE {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    usize::try_from(length).map_err(io::Error::other)
}

/// Whether another whole frame has been read already, so that its response can share the next write.
pub(super) fn holds_frame(buffer: &[u8]) -> bool {
    message_length(buffer).is_ok_and(|length| buffer.len() - HEADER >= length)
}

fn send(stream: &mut impl Write, responses: &mut Vec<u8>) -> io::Result<()> {
    if !responses.is_empty() {
        stream.write_all(responses)?;
        responses.clear();
    }
    Ok(())
}
