//! A connection's exchange: read what has arrived, answer the whole frames, write the responses.

use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use log::{debug, error, trace, warn};
use mio::net::TcpStream;

use super::connection::{Connection, Ending, LOG, Verdict, Workspace};
use super::handler::{Handler, Request};
#[cfg(feature = "proxy-protocol")]
use super::proxy::{Announced, announced};
use super::worker_side::{Activity, WorkerSide};
use crate::protocol::{EMPTY_RESPONSE, NonceSequence, Response, SEAL_OVERHEAD, ServerEvent, ServerSession};

/// A turn reads no more than about this many bytes, and then the other connections have theirs.
pub(super) const TURN_BYTES: usize = 256 << 10;

/// A turn answers no more than this many messages.
const TURN_MESSAGES: usize = 128;

/// A first message that took longer than this has its answer written before the next is handled.
const PROMPT: Duration = Duration::from_millis(1);

/// Responses are written together, but no more than about this many bytes of them are collected.
const OUTPUT_BYTES: usize = 64 << 10;

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
    pub(super) fn exchange(&mut self, work: &mut Workspace<'_>) -> io::Result<Verdict> {
        let mut received = 0;
        let mut drained = false;
        loop {
            let frame_length = match self.answer(work)? {
                Progress::NeedMore { frame_length } => frame_length,
                Progress::OutputWaits => return Ok(Verdict::Keep),
                Progress::TurnOver => return self.finish_turn(work, Verdict::Again),
                Progress::LastAnswered => return self.finish_turn(work, Verdict::Keep),
                Progress::Refused => return Ok(Verdict::Close),
                Progress::Ended => {
                    self.ending = Ending::Linger;
                    let sent = self.flush(work)?;
                    return if sent { self.linger(work) } else { Ok(Verdict::Keep) };
                }
            };
            if drained {
                return self.finish_turn(work, Verdict::Keep);
            }
            if received >= TURN_BYTES {
                return self.finish_turn(work, Verdict::Again);
            }
            if self.arrived == Some(0) && self.ending == Ending::No {
                if work.input.current.is_empty() {
                    return self.finish_turn(work, Verdict::Keep);
                }
                self.ending = Ending::AfterFrame;
            }
            let room = work.input.current.room(frame_length);
            let wanted = room.len();
            match work.side.during(Activity::SocketCall, || self.stream.read(room)) {
                Ok(0) => {
                    self.ending = Ending::Close;
                    return self.finish_turn(work, Verdict::Close);
                }
                Ok(count) => {
                    work.input.current.received(count);
                    work.side.counters.bytes_in.add(count as u64);
                    received += count;
                    self.arrived = self.arrived.map(|left| left.saturating_sub(count));
                    drained = SHORT_READ_DRAINS && count < wanted && !self.read_closed;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => drained = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Answers the whole frames that have been read.
    fn answer(&mut self, work: &mut Workspace<'_>) -> io::Result<Progress> {
        #[cfg(feature = "proxy-protocol")]
        if let Some(progress) = self.take_proxy_header(work) {
            return Ok(progress);
        }
        let (tick, begun) = (work.ticks.current(), work.now);
        let mut messages = 0;
        loop {
            let mut rest_waits = false;
            let (taken, event) =
                self.session.receive(work.input.current.filled_mut(), &mut work.output.bytes, work.now);
            match event {
                ServerEvent::NeedMore { frame_length } => return Ok(Progress::NeedMore { frame_length }),
                ServerEvent::Message(message) => {
                    let key_name = self.session.key().map_or("", |key| key.name());
                    let request = Request { message, key_name, peer: self.peer, connection: self.id };
                    // One that stays in its message is written before whatever waits in the output.
                    let may_stay = work.output.bytes.is_empty();
                    let response =
                        Response::beside(if may_stay { message } else { &[] }, &mut work.output.bytes);
                    let stays =
                        handle(work.handler, request, response, &self.session, &mut work.nonces, work.side);
                    if let Some(part) = stays {
                        rest_waits = !self.send_in_place(taken, part, work)?;
                    }
                    messages += 1;
                }
                ServerEvent::Ping => work.side.counters.pings.add(1),
                ServerEvent::Skipped(kind) => {
                    trace!(target: LOG, "{}: skipped a byte of the unregistered type {kind}", self.peer);
                }
                ServerEvent::Established => debug!(target: LOG, "{}: established", self.peer),
                ServerEvent::Rejected(reason) => {
                    warn!(target: LOG, "{}: a message was rejected: {reason}", self.peer);
                    work.side.counters.rejected.add(1);
                }
                ServerEvent::TooLarge { length } => {
                    let size = length.saturating_sub(SEAL_OVERHEAD as u64);
                    warn!(target: LOG, "{}: closing, a message of {size} bytes is over the limit", self.peer);
                    work.side.counters.rejected.add(1);
                    work.input.clear();
                    return Ok(Progress::Ended);
                }
                ServerEvent::Refused(reason) => {
                    warn!(target: LOG, "{}: refused: {reason}", self.peer);
                    work.side.counters.unauthenticated.add(1);
                    return Ok(Progress::Refused);
                }
            }
            work.input.current.consume(taken);
            if self.ending == Ending::AfterFrame {
                work.input.clear();
                self.ending = Ending::Answered;
                return Ok(Progress::LastAnswered);
            }
            if self.is_key_withdrawn() {
                self.note_withdrawal(work);
                work.input.clear();
                return Ok(Progress::Ended);
            }
            // A handler that took long must delay no further answers, nor the other connections. The ticks cost nothing to
            // read but stand while the watchdog sleeps, so one look at the clock is for the first message.
            let is_pipelined = messages == 1 && !work.input.current.is_empty();
            if is_pipelined {
                work.ticks.rouse();
            }
            let overdue = work.ticks.current() != tick || (is_pipelined && begun.elapsed() >= PROMPT);
            let is_due = overdue || rest_waits || work.output.bytes.len() >= OUTPUT_BYTES;
            if is_due && !self.flush(work)? {
                return Ok(Progress::OutputWaits);
            }
            if overdue || messages >= TURN_MESSAGES {
                return Ok(Progress::TurnOver);
            }
        }
    }

    /// Takes the load balancer's header, if one is awaited; gives how far that got unless it is there.
    #[cfg(feature = "proxy-protocol")]
    fn take_proxy_header(&mut self, work: &mut Workspace<'_>) -> Option<Progress> {
        if !self.awaits_proxy_header {
            return None;
        }
        match announced(work.input.current.filled()) {
            Announced::NeedMore(frame_length) => Some(Progress::NeedMore { frame_length }),
            Announced::Peer(length, peer) => {
                self.awaits_proxy_header = false;
                work.input.current.consume(length);
                if let Some(peer) = peer {
                    debug!(target: LOG, "{peer}: through the load balancer {}", self.peer);
                    self.peer = peer;
                }
                None
            }
            Announced::Invalid => {
                warn!(target: LOG, "{}: refused: no PROXY protocol v2 header from a load balancer", self.peer);
                work.side.counters.unauthenticated.add(1);
                Some(Progress::Refused)
            }
        }
    }

    fn finish_turn(&mut self, work: &mut Workspace<'_>, verdict: Verdict) -> io::Result<Verdict> {
        Ok(if self.flush(work)? { verdict } else { Verdict::Keep })
    }

    /// Writes the collected responses; `false` when the socket did not take them all.
    pub(super) fn flush(&mut self, work: &mut Workspace<'_>) -> io::Result<bool> {
        if work.output.bytes.is_empty() {
            return Ok(true);
        }
        let sent = self.write(&work.output.bytes, work.side, &mut work.now)?;
        if sent == work.output.bytes.len() {
            work.output.clear();
            self.session.output_sent(work.now);
            Ok(true)
        } else {
            self.unsent = work.output.set_aside(sent);
            self.session.output_waiting(work.now);
            Ok(false)
        }
    }

    /// Seals a response where its message lies and writes it from there. `false` when the socket did not take all of it:
    /// the rest is in the output.
    fn send_in_place(
        &mut self,
        frame_length: usize,
        part: Range<usize>,
        work: &mut Workspace<'_>,
    ) -> io::Result<bool> {
        let frame = &mut work.input.current.filled_mut()[..frame_length];
        let Some(response) = self.session.seal_in_place(frame, part, &mut work.nonces) else {
            error!(target: LOG, "{}: a response can't be sealed; sent the empty response", self.peer);
            work.output.bytes.extend_from_slice(&EMPTY_RESPONSE);
            return Ok(false);
        };
        let sent = self.write(response, work.side, &mut work.now)?;
        if sent == response.len() {
            self.session.output_sent(work.now);
            return Ok(true);
        }
        work.output.bytes.extend_from_slice(&response[sent..]);
        Ok(false)
    }

    /// Writes what the socket takes, and says how many bytes that were.
    fn write(&mut self, bytes: &[u8], side: &WorkerSide, now: &mut Instant) -> io::Result<usize> {
        let written = side.during(Activity::SocketCall, || write_what_fits(&mut self.stream, bytes));
        *now = Instant::now();
        let sent = written?;
        side.counters.bytes_out.add(sent as u64);
        self.last_sent = Some(*now);
        Ok(sent)
    }

    /// Goes on writing responses that were kept; `false` when the socket did not take them all.
    pub(super) fn send_unsent(&mut self, work: &mut Workspace<'_>) -> io::Result<bool> {
        let sent = work
            .side
            .during(Activity::SocketCall, || write_what_fits(&mut self.stream, self.unsent.as_slice()))?;
        self.unsent.sent(sent);
        work.side.counters.bytes_out.add(sent as u64);
        self.last_sent = Some(work.now);
        if self.unsent.is_empty() {
            work.output.give_back(std::mem::take(&mut self.unsent));
            self.session.output_sent(work.now);
            return Ok(true);
        }
        if sent > 0 {
            self.session.output_waiting(work.now);
        }
        Ok(false)
    }
}

/// Runs the handler and seals what it wrote, unless that is a part of the message, to be sealed there. A panic becomes
/// the empty response.
fn handle(
    handler: &dyn Handler,
    request: Request<'_>,
    mut response: Response<'_>,
    session: &ServerSession,
    nonces: &mut NonceSequence,
    side: &WorkerSide,
) -> Option<Range<usize>> {
    let peer = request.peer;
    trace!(target: LOG, "{peer}: a message of {} bytes", request.message.len());
    side.counters.messages.add(1);
    let handling = || catch_unwind(AssertUnwindSafe(|| handler.handle(request, &mut response)));
    match side.during(Activity::Handler, handling) {
        Ok(()) => match response.into_part_of_message() {
            Ok(part) => Some(part),
            Err(response) => {
                if !session.seal(response, nonces) {
                    error!(target: LOG, "{peer}: a response is longer than AES-GCM allows; sent the empty response");
                }
                None
            }
        },
        Err(payload) => {
            response.reject();
            side.counters.panics.add(1);
            error!(target: LOG, "{peer}: the handler panicked; sent the empty response");
            // The payload is the handler's own type, and even its drop may panic.
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(second);
            }
            None
        }
    }
}

fn write_what_fits(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
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
