//! A connection's exchange: read what has arrived, answer the whole frames, write the responses.

use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

use log::{debug, error, warn};

use super::buffers::{Input, TURN_BYTES};
use super::closing::Closing;
use super::deferred::Answer;
#[cfg(feature = "proxy-protocol")]
use super::proxy::{Announced, announced};
use super::writing::OUTPUT_BYTES;
use super::{Connection, LOG, Next, Scratch};
use crate::protocol::{RejectionReason, SEAL_OVERHEAD, ServerEvent, TAG_LENGTH, later};
use crate::server::connection_info::ConnectionInfo;
use crate::server::shared::{End, Full, WorkerCounters};
use crate::unwind::contained;

/// A turn takes no more than this many frames, of whatever type.
const TURN_FRAMES: usize = 128;

/// A first message that took longer than this has its answer written before the next is handled.
const PROMPT: Duration = Duration::from_millis(1);

/// After a read that did not fill its buffer nothing is left, and a readiness event will tell when there is more. Only
/// where `mio` passes on the edges of the operating system as they are: elsewhere it waits for the error.
const SHORT_READ_DRAINS: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
    target_os = "illumos",
));

/// How far answering got with what has been read.
enum Progress {
    /// All whole frames are answered; the next has at least `frame_length` bytes.
    NeedMore { frame_length: usize },
    /// The socket takes no more at the moment.
    OutputWaits,
    /// Too many answers wait for others.
    AnswersWait,
    /// It is the others' turn.
    TurnOver,
    /// Nothing more of what arrives is looked at.
    Ended,
    /// The last frame that is looked at has been answered.
    LastAnswered,
    /// The connection is closed in silence.
    Refused,
}

impl Connection {
    /// Reads and answers until nothing is left, the turn is over, or the connection is.
    pub(super) fn exchange(&mut self, scratch: &mut Scratch<'_>, input: &mut Input) -> io::Result<Next> {
        let mut received = 0;
        let mut drained = false;
        let begun = scratch.now;
        let is_anything_left = !input.current.is_empty();
        loop {
            let frame_length = match self.answer(scratch, input)? {
                Progress::NeedMore { frame_length } => frame_length,
                Progress::OutputWaits => return Ok(Next::Wait),
                // What is left has waited since it was seen, also in its next turn.
                Progress::TurnOver => return self.finish_turn(scratch, Next::Again),
                Progress::LastAnswered | Progress::AnswersWait => {
                    return self.finish_turn(scratch, Next::Wait);
                }
                Progress::Refused => return Ok(Next::Close),
                Progress::Ended => {
                    input.clear();
                    return self.finish_turn(scratch, Next::Wait);
                }
            };
            if drained {
                return self.finish_turn(scratch, Next::Wait);
            }
            if received >= TURN_BYTES {
                scratch.since = scratch.now;
                return self.finish_turn(scratch, Next::Again);
            }
            if self.is_arrived_read() && self.closing == Closing::No {
                if !scratch.is_draining || input.current.is_empty() {
                    return self.finish_turn(scratch, Next::Wait);
                }
                self.closing = Closing::AfterFrame;
            }
            let room = input.current.room(frame_length);
            let wanted = room.len();
            match self.stream.read(room) {
                Ok(0) => {
                    self.closing = Closing::AfterOutput;
                    return self.finish_turn(scratch, Next::Wait);
                }
                Ok(count) => {
                    input.current.received(count);
                    scratch.counters.bytes_in.add(count as u64);
                    received += count;
                    if is_anything_left {
                        // What was left is answered, and this has come later.
                        scratch.since = begun;
                    }
                    drained = SHORT_READ_DRAINS && count < wanted && !self.read_closed;
                    let count = u32::try_from(count).unwrap_or(u32::MAX);
                    self.arrived = self.arrived.map(|left| left.saturating_sub(count));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => drained = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers the whole frames that have been read.
    fn answer(&mut self, scratch: &mut Scratch<'_>, input: &mut Input) -> io::Result<Progress> {
        #[cfg(feature = "proxy-protocol")]
        if let Some(progress) = self.take_proxy_header(scratch, input) {
            return Ok(progress);
        }
        let (tick, begun) = (scratch.clock.ticks(), scratch.now);
        let (mut frames, mut messages) = (0, 0);
        loop {
            self.is_backlogged = self.are_too_many_waiting(scratch);
            if self.is_backlogged {
                return Ok(Progress::AnswersWait);
            }
            let filled = input.current.filled_mut();
            let output_before = scratch.output.bytes.len();
            let was_established = self.session.is_established();
            let (taken, event) = self.session.receive(filled, &mut scratch.output.bytes, scratch.now);
            let own_answer = match &event {
                ServerEvent::Established => Answer::Acceptance,
                _ => Answer::Rejection(RejectionReason::NotGiven),
            };
            self.queue_own_answer(&mut scratch.output.bytes, output_before, own_answer);
            if !was_established
                && self.session.is_established()
                && let Err(full) = self.record_established(scratch)
            {
                return Ok(self.refuse_for_want_of_place(full, scratch));
            }
            match event {
                ServerEvent::NeedMore { frame_length } => return Ok(Progress::NeedMore { frame_length }),
                ServerEvent::Message(message) => {
                    messages += 1;
                    if self.answer_message(message, scratch).is_closing {
                        self.begin_ending(End::ByHandler);
                        return Ok(Progress::Ended);
                    }
                }
                // The one that proves a forward-secret session is not the application's.
                ServerEvent::Ping => scratch.counters.pings.add(u64::from(was_established)),
                ServerEvent::Skipped(kind) => {
                    self.repeats.get_or_insert_default().record_skipped(self.peer, kind);
                }
                ServerEvent::Established => {}
                // No place is taken for one that may be a replay, but a peer for which there is none is to know.
                ServerEvent::OfferAnswered => {
                    if let Err(full) = self.load.look_for_place(self.peer.ip()) {
                        return Ok(self.refuse_for_want_of_place(full, scratch));
                    }
                }
                ServerEvent::Rejected(rejection) => {
                    scratch.counters.rejected.add(1);
                    self.repeats.get_or_insert_default().record_rejection(self.peer, rejection);
                }
                ServerEvent::TooLarge { length } => return Ok(self.end_for_size(length, scratch.counters)),
                ServerEvent::Refused(reason) => {
                    scratch.counters.unauthenticated.add(1);
                    self.log_unopened(scratch, &reason);
                    self.end_for(End::Failed);
                    return Ok(Progress::Refused);
                }
            }
            frames += 1;
            input.current.consume(taken);
            if self.closing == Closing::AfterFrame {
                input.clear();
                self.closing = Closing::Answered;
                return Ok(Progress::LastAnswered);
            }
            if self.is_key_withdrawn() {
                self.begin_ending(End::Withdrawn);
                return Ok(Progress::Ended);
            }
            // A handler that took long must delay no further answers, nor the other connections. The ticks cost nothing to
            // read but stand while the watchdog is parked, so one look at the clock is for the first message.
            let is_pipelined = messages == 1 && !input.current.is_empty();
            if is_pipelined {
                scratch.clock.unpark();
            }
            let is_overdue = scratch.clock.ticks() != tick || (is_pipelined && begun.elapsed() >= PROMPT);
            let is_due = is_overdue || scratch.output.bytes.len() >= OUTPUT_BYTES;
            if is_due && !self.flush(scratch)? {
                return Ok(Progress::OutputWaits);
            }
            if is_overdue || frames >= TURN_FRAMES {
                return Ok(Progress::TurnOver);
            }
        }
    }

    /// Takes the place of a peer that holds a key.
    fn record_established(&mut self, scratch: &Scratch<'_>) -> Result<(), Full> {
        let Scratch { counters, handler, .. } = scratch;
        self.load.establish(self.peer.ip())?;
        let is_forward_secret = self.session.is_forward_secret();
        let key_name = self.session.key().map_or("", |key| key.name());
        let info = ConnectionInfo { id: self.id(), peer: self.peer, key_name, is_forward_secret };
        let (sessions, kind) = if is_forward_secret {
            (&counters.forward_secret, ", forward-secret")
        } else {
            (&counters.classic, "")
        };
        sessions.add(1);
        // From its place on its end is told, so nothing that may panic comes before this.
        let is_told = contained(|| handler.established(info)).is_some();
        if is_forward_secret {
            // It was not to wait for this for ever, if the server stops.
            (self.ends, self.ending) = (None, None);
        }
        debug!(target: LOG, "{}: established{kind}", self.peer);
        if !is_told {
            counters.panics.add(1);
            error!(target: LOG, "{}: the handler panicked when it was established", self.peer);
        }
        Ok(())
    }

    fn end_for_size(&mut self, length: u64, counters: &WorkerCounters) -> Progress {
        let overhead = if self.session.is_forward_secret() { TAG_LENGTH } else { SEAL_OVERHEAD };
        let size = length.saturating_sub(overhead as u64);
        counters.rejected.add(1);
        warn!(target: LOG, "{}: closing, a message of {size} bytes is over the limit", self.peer);
        self.begin_ending(End::Failed);
        Progress::Ended
    }

    /// Closes the connection of a peer that holds a key: in silence, or with a goodbye to one that took its session for
    /// established, since the last place went to another in between.
    fn refuse_for_want_of_place(&mut self, full: Full, scratch: &mut Scratch<'_>) -> Progress {
        scratch.server_counters.refused.add(1);
        let peer = self.peer;
        scratch.floods.full.record(scratch.now, scratch.clock, || match full {
            Full::Server => warn!(target: LOG, "{peer}: refused, max_connections are established"),
            Full::Peer => {
                warn!(target: LOG, "{peer}: refused, max_connections_per_peer from there are established");
            }
        });
        if self.session.says_goodbye() {
            self.begin_ending(End::Closed);
            return Progress::Ended;
        }
        scratch.output.clear();
        Progress::Refused
    }

    /// Of a stranger, or within a session, where somebody meddles or bytes are damaged.
    fn log_unopened(&self, scratch: &Scratch<'_>, reason: &dyn fmt::Display) {
        if self.load.is_strangers() {
            return self.log_refused(scratch, reason);
        }
        let peer = self.peer;
        scratch.floods.unauthenticated.record(scratch.now, scratch.clock, || {
            warn!(target: LOG, "{peer}: closed, a frame of its session does not open or is malformed: changed on the way?");
        });
    }

    fn log_refused(&self, scratch: &Scratch<'_>, reason: &dyn fmt::Display) {
        let peer = self.peer;
        scratch.floods.unauthenticated.record(scratch.now, scratch.clock, || {
            warn!(target: LOG, "{peer}: refused: {reason}");
        });
    }

    /// Takes the load balancer's header, if one is awaited; gives how far that got unless it is there.
    #[cfg(feature = "proxy-protocol")]
    fn take_proxy_header(&mut self, scratch: &mut Scratch<'_>, input: &mut Input) -> Option<Progress> {
        if !self.awaits_proxy_header {
            return None;
        }
        match announced(input.current.filled()) {
            Announced::NeedMore(frame_length) => Some(Progress::NeedMore { frame_length }),
            Announced::Peer(length, peer) => {
                self.awaits_proxy_header = false;
                input.current.consume(length);
                if let Some(peer) = peer {
                    debug!(target: LOG, "{peer}: through the load balancer {}", self.peer);
                    self.peer = peer;
                }
                None
            }
            Announced::Invalid => {
                scratch.counters.unauthenticated.add(1);
                self.log_refused(scratch, &"no PROXY protocol v2 header from a load balancer");
                Some(Progress::Refused)
            }
        }
    }

    /// Ends a turn: writes what is to be written, and goes on with the connection's end if that is due.
    pub(super) fn finish_turn(&mut self, scratch: &mut Scratch<'_>, next: Next) -> io::Result<Next> {
        if !self.send_answers(scratch, true)? || !self.flush(scratch)? {
            return Ok(Next::Wait);
        }
        let is_answered = self.outbox.is_none();
        if !is_answered && (self.read_closed || self.closing == Closing::AfterOutput) {
            // The peer may be gone for good, which looks the same.
            self.ends.get_or_insert(later(scratch.now, self.session.lifetime()));
        }
        if is_answered && matches!(self.closing, Closing::AfterOutput | Closing::LingerAfterOutput) {
            self.session.goodbye(&mut scratch.output.bytes);
            if !self.flush(scratch)? {
                return Ok(Next::Wait);
            }
        }
        match self.closing {
            Closing::AfterOutput if is_answered => Ok(Next::Close),
            Closing::LingerAfterOutput if is_answered => self.linger(scratch),
            Closing::No | Closing::AfterFrame
                if self.is_backlogged && !self.are_too_many_waiting(scratch) =>
            {
                Ok(Next::Again)
            }
            _ => Ok(next),
        }
    }
}
