//! One connection of the driver: a non-blocking socket, what is in flight on it, and what is not finished.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use hdrhistogram::Histogram;
use mio::net::TcpStream;

use crate::client::session::Session;
use crate::requests::Mark;

/// A request that waits for its response.
struct InFlight {
    sent: Instant,
    mark: Mark,
}

pub(crate) struct Connection {
    socket: TcpStream,
    session: Box<dyn Session>,
    in_flight: VecDeque<InFlight>,
    /// Something was answered in the current turn.
    pub(crate) answered: bool,
    /// Sealed requests that the socket has not taken yet, from `written` on.
    wire: Vec<u8>,
    written: usize,
    /// The beginning of a response, `filled` bytes of it. Empty until the first one that needs it.
    unfinished: Vec<u8>,
    filled: usize,
    /// Room for one response and then some.
    unfinished_size: usize,
}

impl Connection {
    /// `response_size`: how long a response is at most, with all that surrounds it.
    pub(crate) fn new(socket: TcpStream, session: Box<dyn Session>, response_size: usize) -> Connection {
        Connection {
            socket,
            session,
            in_flight: VecDeque::new(),
            answered: false,
            wire: Vec::new(),
            written: 0,
            unfinished: Vec::new(),
            filled: 0,
            unfinished_size: response_size,
        }
    }

    /// Seals these requests and sends them with one write, as far as the socket takes them.
    pub(crate) fn request(&mut self, marks: &[Mark], now: Instant) -> io::Result<()> {
        self.session.send(marks, &mut self.wire)?;
        self.in_flight.extend(marks.iter().map(|&mark| InFlight { sent: now, mark }));
        self.flush()
    }

    /// Writes on where the socket stopped taking.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.written < self.wire.len() {
            match self.socket.write(&self.wire[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.wire.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what has arrived and says how many responses that completed.
    ///
    /// The notification is edge-triggered, but a read that does not fill its buffer has emptied the socket, and
    /// what comes later is announced anew: so there is no second read just to be told that nothing is left.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> io::Result<usize> {
        let mut responses = 0;
        loop {
            let buffer = if self.filled == 0 { &mut *scratch } else { &mut self.unfinished[self.filled..] };
            let room = buffer.len();
            let length = match self.socket.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(responses),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            responses += self.take(scratch, length)?;
            if length < room {
                return Ok(responses);
            }
        }
    }

    /// Takes this many responses off what is in flight and notes how long the unmarked ones took.
    pub(crate) fn complete(&mut self, responses: usize, now: Instant, latencies: &mut Histogram<u64>) {
        self.answered |= responses > 0;
        for request in self.in_flight.drain(..responses) {
            if request.mark == Mark::Ordinary {
                let latency = now.duration_since(request.sent).as_nanos();
                latencies.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
            }
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Hands `length` new bytes to the session and keeps what it could not use yet.
    fn take(&mut self, scratch: &mut [u8], length: usize) -> io::Result<usize> {
        if self.filled > 0 {
            self.filled += length;
            let received = self.session.receive(&mut self.unfinished[..self.filled])?;
            self.unfinished.copy_within(received.consumed..self.filled, 0);
            self.filled -= received.consumed;
            return Ok(received.responses);
        }
        let received = self.session.receive(&mut scratch[..length])?;
        let rest = &scratch[received.consumed..length];
        if !rest.is_empty() {
            if self.unfinished.is_empty() {
                self.unfinished.resize(self.unfinished_size.max(rest.len()) + scratch.len(), 0);
            }
            self.unfinished[..rest.len()].copy_from_slice(rest);
            self.filled = rest.len();
        }
        Ok(received.responses)
    }
}
