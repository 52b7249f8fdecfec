//! How a connection is closed without losing what it has been answered: the lingering close.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::buffers::TURN_BYTES;
use super::buffers::Unsent;
use super::writing::write_what_fits;
use super::{Connection, Next, Scratch};
use crate::server::shared::{End, ServerCounters};

/// How long a peer in the middle of sending too much may go on until it reads our answer.
const LINGER: Duration = Duration::from_secs(2);

/// How long a peer has to read a goodbye (forward secrecy, "Frames").
const LINGER_AFTER_GOODBYE: Duration = Duration::from_secs(1);

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
    Lingering(Until),
}

/// How long a connection lingers, if the peer does not close it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// For a fixed time.
    TimeIsOver,
    /// For a fixed time, also if the server's threads end before.
    GoodbyeIsRead,
    /// At a stop: until nothing has arrived for a while.
    NothingArrives,
}

impl Connection {
    /// Lets the connection end for this reason: what was taken up is answered, and nothing more is read.
    pub(super) fn begin_ending(&mut self, end: End) {
        self.ending.get_or_insert(end);
        self.closing = Closing::LingerAfterOutput;
    }

    /// Lets its next turn say goodbye, and go on with that when the socket takes it. Not if the session has nothing to say.
    pub(in crate::server) fn begin_goodbye(&mut self, end: End) -> bool {
        let is_said = self.session.says_goodbye();
        if is_said {
            self.begin_ending(end);
        }
        is_said
    }

    /// Says goodbye outside of a turn, as far as the socket takes it at once, and lingers from then on; counted as `end`. Not
    /// if the session has nothing to say, or the peer does not read. Answers that are outstanding are not waited for: their
    /// messages are rejected.
    pub(in crate::server) fn say_goodbye(&mut self, end: End, counters: &ServerCounters) -> bool {
        if !self.session.says_goodbye() {
            return false;
        }
        self.close_outbox();
        let mut output = self.unsent.as_slice().to_vec();
        self.session.goodbye(&mut output);
        let is_said = write_what_fits(&mut self.stream, &output).is_ok_and(|sent| sent == output.len())
            && self.half_close(Until::GoodbyeIsRead, Instant::now() + LINGER_AFTER_GOODBYE).is_ok();
        if is_said {
            self.unsent = Unsent::default();
            counters.record_end(self.end(end));
            self.end_for(end);
        }
        is_said
    }

    /// Whether its peer is still to have a while for reading a goodbye.
    pub(in crate::server) fn is_goodbye_said(&self) -> bool {
        self.closing == Closing::Lingering(Until::GoodbyeIsRead)
    }

    /// Sends our FIN behind the last answer and gives the peer a while to read it.
    pub(super) fn linger(&mut self, scratch: &mut Scratch<'_>) -> io::Result<Next> {
        let (until, time) = if self.session.has_said_goodbye() {
            (Until::GoodbyeIsRead, LINGER_AFTER_GOODBYE)
        } else {
            (Until::TimeIsOver, LINGER)
        };
        self.half_close(until, scratch.now + time)?;
        scratch.server_counters.record_end(self.end(End::Closed));
        self.end_for(End::Closed);
        self.discard(scratch)
    }

    /// Whether a connection that lingers is over, read without a worker.
    pub(in crate::server) fn has_lingered(&mut self, now: Instant) -> bool {
        let mut room = [0; 4096];
        let is_at_end = (0..TURN_BYTES / room.len()).find_map(|_| match self.stream.read(&mut room) {
            Ok(0) => Some(true),
            Ok(_) => None,
            Err(error) => Some(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)),
        });
        is_at_end == Some(true) || self.ends.is_none_or(|ends| ends <= now)
    }

    /// Ends a connection of a stopping server with its answers all written. `false` when it can be closed at once.
    ///
    /// A peer that is active may have sent more by now. Closing on that would reset the connection.
    pub(in crate::server) fn begin_lingering_at_stop(&mut self, now: Instant) -> bool {
        let is_active = self.last_sent.is_some_and(|sent| now.saturating_duration_since(sent) < ANSWERS_READ);
        is_active && self.half_close(Until::NothingArrives, now + LINGER_AT_STOP).is_ok()
    }

    fn half_close(&mut self, until: Until, ends: Instant) -> io::Result<()> {
        // It fails for a peer that has reset the connection, which nothing is left to wait for.
        self.stream.shutdown(Shutdown::Write)?;
        self.closing = Closing::Lingering(until);
        self.ends = Some(ends);
        Ok(())
    }

    /// From now on only what has arrived by now counts, which is no more than the socket's buffer holds: a peer that goes
    /// on sending must hold up neither the server's end nor its own.
    pub(in crate::server) fn limit_to_arrived(&mut self) {
        if self.arrived.is_none() {
            let buffered = SockRef::from(&self.stream).recv_buffer_size();
            let buffered = buffered.unwrap_or(LARGEST_BUFFER);
            self.arrived = Some(u32::try_from(buffered).unwrap_or(u32::MAX));
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
            let is_unproven = self.session.is_unproven();
            let is_between_frames = self.unfinished.is_empty() && !is_unproven;
            self.closing = if is_between_frames { Closing::Answered } else { Closing::AfterFrame };
            if is_unproven {
                // A client's first frame may be on its way with its first message behind it, and only a goodbye tells that
                // nothing was done with that. But replays must not hold up the server's end.
                self.ending = Some(End::Drained);
                self.ends = self.last_sent.map(|sent| self.session.deadline().at.min(sent + ANSWERS_READ));
            }
        }
    }

    pub(in crate::server) fn is_lingering(&self) -> bool {
        matches!(self.closing, Closing::Lingering(_))
    }

    /// Whether nothing is left for it to do but to tell the peer of its end.
    pub(in crate::server) fn is_ending(&self) -> bool {
        self.closing == Closing::LingerAfterOutput || self.is_lingering()
    }

    pub(super) fn discard(&mut self, scratch: &mut Scratch<'_>) -> io::Result<Next> {
        let (mut room, mut received) = ([0; 16 << 10], 0);
        while received < TURN_BYTES {
            match self.stream.read(&mut room) {
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
        if received > 0 && self.closing == Closing::Lingering(Until::NothingArrives) {
            // It still sends, so it has not read our FIN. But it must not hold up the server's end for ever.
            let at_the_latest = self.last_sent.map(|sent| sent + LINGER);
            self.ends = Some(scratch.now + LINGER_AT_STOP).min(at_the_latest);
        }
        Ok(if received < TURN_BYTES { Next::Wait } else { Next::Again })
    }
}
