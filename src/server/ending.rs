//! How a connection ends without losing what it has been answered.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::connection::{Connection, Ending, Verdict, Workspace};
use super::exchange::TURN_BYTES;

/// How long a peer in the middle of sending too much may go on until it reads our answer.
const LINGER: Duration = Duration::from_secs(2);

/// When the server stops, how long a peer must have been silent before it is taken to have read its last answers.
const FAREWELL: Duration = Duration::from_millis(500);

/// A peer that has had no answer for so long has read the last one.
const ANSWERS_READ: Duration = Duration::from_secs(1);

/// What a socket's buffer is taken to hold when the system does not say.
const LARGEST_BUFFER: usize = 8 << 20;

impl Connection {
    /// Sends our FIN behind the last answer and gives the peer a while to read it.
    pub(super) fn linger(&mut self, work: &mut Workspace<'_>) -> io::Result<Verdict> {
        self.half_close(Ending::Lingering, work.now + LINGER)?;
        self.discard(work)
    }

    fn half_close(&mut self, ending: Ending, linger_ends: Instant) -> io::Result<()> {
        self.ending = ending;
        self.linger_ends = Some(linger_ends);
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends a connection of a stopping server with its answers all written. `false` when it can be closed at once.
    ///
    /// A peer that is active may have sent more by now. Closing on that would reset the connection, and with it the
    /// answers that it has not read yet.
    pub(super) fn say_farewell(&mut self, now: Instant) -> bool {
        let is_active = self.last_sent.is_some_and(|sent| now.saturating_duration_since(sent) < ANSWERS_READ);
        is_active && self.half_close(Ending::Farewell, now + FAREWELL).is_ok()
    }

    /// From now on only what has arrived by now is answered, which is no more than the socket's buffer holds. A peer that
    /// goes on sending must not hold up the server's end.
    pub(super) fn limit_to_arrived(&mut self) {
        if self.arrived.is_none() {
            let buffered = SockRef::from(&self.stream).recv_buffer_size();
            self.arrived = Some(buffered.unwrap_or(LARGEST_BUFFER));
        }
    }

    /// Ends the connection with the frame that has begun: what comes behind it arrived after the server was stopped.
    pub(super) fn end_after_frame(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::AfterFrame;
        }
    }

    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.ending, Ending::Lingering | Ending::Farewell)
    }

    pub(super) fn discard(&mut self, work: &mut Workspace<'_>) -> io::Result<Verdict> {
        let mut received = 0;
        while received < TURN_BYTES {
            match self.stream.read(work.input.current.room(0)) {
                Ok(0) => return Ok(Verdict::Close),
                Ok(count) => {
                    work.side.counters.bytes_in.add(count as u64);
                    received += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if received > 0 && self.ending == Ending::Farewell {
            // It still sends, so it has not read our FIN. But it must not hold up the server's end for ever.
            let at_the_latest = self.last_sent.map(|sent| sent + LINGER);
            self.linger_ends = Some(work.now + FAREWELL).min(at_the_latest);
        }
        if received < TURN_BYTES {
            return Ok(Verdict::Keep);
        }
        Ok(Verdict::Again)
    }
}
