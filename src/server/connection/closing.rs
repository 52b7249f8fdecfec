//! How a connection is closed without losing what it has been answered: the lingering close.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::exchange::TURN_BYTES;
use super::{Connection, Next, Scratch};

/// How long a peer in the middle of sending too much may go on until it reads our answer.
const LINGER: Duration = Duration::from_secs(2);

/// When the server stops, how long a peer must have been silent before it is taken to have read its last answers.
const LINGER_AT_STOP: Duration = Duration::from_millis(500);

/// A peer that has had no answer for so long has read the last one.
const ANSWERS_READ: Duration = Duration::from_secs(1);

/// What a socket's buffer is taken to hold when the system does not say.
const LARGEST_BUFFER: usize = 8 << 20;

/// How far a connection is with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// It is not ending.
    No,
    /// The server stops: close when the frame that has begun is complete and answered, whatever comes behind it.
    AfterFrame,
    /// The peer has sent all it will: close when the answers are out.
    AfterOutput,
    /// The server stops and the last frame is answered: nothing more is read.
    Answered,
    /// The peer is in the middle of sending what we do not read: linger when the answers are out.
    LingerAfterOutput,
    /// The answers and our FIN are out; what still arrives is thrown away. Closing at once would reset the connection, and
    /// with it the answers that the peer has not read yet.
    Lingering {
        /// Only until nothing arrives any more.
        at_stop: bool,
    },
}

impl Connection {
    /// Sends our FIN behind the last answer and gives the peer a while to read it.
    pub(super) fn linger(&mut self, scratch: &mut Scratch<'_>) -> io::Result<Next> {
        self.half_close(false, scratch.now + LINGER)?;
        self.discard(scratch)
    }

    /// Ends a connection of a stopping server with its answers all written. `false` when it can be closed at once.
    ///
    /// A peer that is active may have sent more by now. Closing on that would reset the connection.
    pub(in crate::server) fn begin_lingering_at_stop(&mut self, now: Instant) -> bool {
        let is_active = self.last_sent.is_some_and(|sent| now.saturating_duration_since(sent) < ANSWERS_READ);
        is_active && self.half_close(true, now + LINGER_AT_STOP).is_ok()
    }

    fn half_close(&mut self, at_stop: bool, ends: Instant) -> io::Result<()> {
        self.closing = Closing::Lingering { at_stop };
        self.ends = Some(ends);
        self.stream.shutdown(Shutdown::Write)
    }

    /// From now on only what has arrived by now counts, which is no more than the socket's buffer holds: a peer that goes
    /// on sending must hold up neither the server's end nor its own.
    pub(in crate::server) fn limit_to_arrived(&mut self) {
        if self.arrived.is_none() {
            let buffered = SockRef::from(&self.stream).recv_buffer_size();
            self.arrived = Some(buffered.unwrap_or(LARGEST_BUFFER));
        }
    }

    /// Takes that limit back.
    pub(in crate::server) fn lift_limit(&mut self) {
        self.arrived = None;
    }

    /// Whether everything has been read that had arrived when the limit was set.
    pub(in crate::server) fn is_arrived_read(&self) -> bool {
        self.arrived == Some(0)
    }

    /// Ends the connection with the frame that has begun: what comes behind it arrived after the server was stopped.
    pub(in crate::server) fn end_after_frame(&mut self) {
        // While too many answers wait there may be more than one whole frame.
        if self.closing == Closing::No && !self.is_backlogged {
            let is_between_frames = self.unfinished.is_empty();
            self.closing = if is_between_frames { Closing::Answered } else { Closing::AfterFrame };
        }
    }

    pub(in crate::server) fn is_lingering(&self) -> bool {
        matches!(self.closing, Closing::Lingering { .. })
    }

    pub(super) fn discard(&mut self, scratch: &mut Scratch<'_>) -> io::Result<Next> {
        let mut received = 0;
        while received < TURN_BYTES {
            match self.stream.read(scratch.input.current.room(0)) {
                Ok(0) => return Ok(Next::Close),
                Ok(count) => {
                    scratch.counters.bytes_in.add(count as u64);
                    received += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if received > 0 && self.closing == (Closing::Lingering { at_stop: true }) {
            // It still sends, so it has not read our FIN. But it must not hold up the server's end for ever.
            let at_the_latest = self.last_sent.map(|sent| sent + LINGER);
            self.ends = Some(scratch.now + LINGER_AT_STOP).min(at_the_latest);
        }
        Ok(if received < TURN_BYTES { Next::Wait } else { Next::Again })
    }
}
