//! How a connection's answers get into its socket.

use std::io::{self, ErrorKind, Write};
use std::time::Instant;

use mio::net::TcpStream;

use super::{Connection, Scratch};

/// Responses are written together, but no more than about this many bytes of them are collected.
pub(super) const OUTPUT_BYTES: usize = 64 << 10;

impl Connection {
    /// Writes the collected responses; `false` when the socket did not take them all.
    pub(super) fn flush(&mut self, scratch: &mut Scratch<'_>) -> io::Result<bool> {
        if scratch.output.bytes.is_empty() {
            return Ok(true);
        }
        let written = write_what_fits(&mut self.stream, &scratch.output.bytes);
        scratch.now = Instant::now();
        let sent = written?;
        scratch.counters.bytes_out.add(sent as u64);
        self.last_sent = Some(scratch.now);
        if sent == scratch.output.bytes.len() {
            scratch.output.clear();
            self.session.output_sent(scratch.now);
            Ok(true)
        } else {
            self.unsent = scratch.output.set_aside(sent);
            self.session.output_waiting(scratch.now);
            Ok(false)
        }
    }

    /// Goes on writing responses that were kept; `false` when the socket did not take them all.
    pub(super) fn send_unsent(&mut self, scratch: &mut Scratch<'_>) -> io::Result<bool> {
        let sent = write_what_fits(&mut self.stream, self.unsent.as_slice())?;
        self.unsent.sent(sent);
        scratch.counters.bytes_out.add(sent as u64);
        self.last_sent = Some(scratch.now);
        if self.unsent.is_empty() {
            scratch.output.give_back(std::mem::take(&mut self.unsent));
            self.session.output_sent(scratch.now);
            return Ok(true);
        }
        if sent > 0 {
            self.session.output_waiting(scratch.now);
        }
        Ok(false)
    }
}

/// Writes what the socket takes at once, and says how many bytes that were.
pub(super) fn write_what_fits(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
