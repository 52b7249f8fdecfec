//! One connection: socket, session and unfinished bytes, and a turn of serving it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{debug, error, trace, warn};
use mio::net::TcpStream;

use super::buffers::{Input, Output, Unsent};
use super::handler::{ConnectionId, Handler, Request};
use super::load::Lease;
#[cfg(feature = "proxy-protocol")]
use super::proxy::{Announced, announced};
use super::stats::WorkerCounters;
use super::watchdog::Ticks;
use crate::keyring::Keyring;
use crate::protocol::{
    Deadline, Expiry, NonceSequence, Response, SEAL_OVERHEAD, ServerEvent, ServerSession, SessionSettings,
};
use crate::read_buffer::ReadBuffer;

const LOG: &str = "falcotcp_sync::server::connection";

/// A turn reads no more than about this many bytes, and then the other connections have theirs.
const TURN_BYTES: usize = 256 << 10;

/// A turn answers no more than this many messages.
const TURN_MESSAGES: usize = 128;

/// A first message that took longer than this has its answer written before the next is handled.
const PROMPT: Duration = Duration::from_millis(1);

/// Responses are written together, but no more than about this many bytes of them are collected.
const OUTPUT_BYTES: usize = 64 << 10;

/// How long a peer in the middle of sending too much may go on until it reads our answer.
const LINGER: Duration = Duration::from_secs(2);

/// When the server stops, how long a peer must have been silent before it is taken to have read its last answers.
const FAREWELL: Duration = Duration::from_millis(500);

/// A peer that has had no answer for so long has read the last one.
const ANSWERS_READ: Duration = Duration::from_secs(1);

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

/// What a worker lends to the connection that it serves.
pub(super) struct Workspace<'w> {
    pub(super) handler: &'w dyn Handler,
    pub(super) counters: &'w WorkerCounters,
    pub(super) ticks: &'w Ticks,
    pub(super) nonces: NonceSequence,
    pub(super) input: Input,
    pub(super) output: Output,
    /// The withdrawals of keys that this worker has seen to.
    pub(super) withdrawals: u64,
    pub(super) now: Instant,
}

/// What becomes of a connection after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It stays, until the next event.
    Keep,
    /// It stays and has more to do at once, after the others.
    Again,
    /// It is over.
    Close,
}

pub(super) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    id: ConnectionId,
    session: ServerSession,
    /// The beginning of a frame that has not arrived whole.
    unfinished: ReadBuffer,
    /// Responses that the socket did not take yet. While there are any, nothing is read.
    unsent: Unsent,
    ending: Ending,
    /// When a connection that lingers is over.
    linger_ends: Option<Instant>,
    /// When answers were last written.
    last_sent: Option<Instant>,
    /// A load balancer's header comes first, with the peer's true address.
    #[cfg(feature = "proxy-protocol")]
    awaits_proxy_header: bool,
    /// The peer has sent its FIN: read on to the end of file, since no event will tell of it again.
    read_closed: bool,
    lease: Lease,
}

/// How far a connection is with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It is not ending.
    No,
    /// The server stops: close when the frame that has begun is complete and answered, whatever comes behind it.
    AfterFrame,
    /// The peer has sent all it will: close when the responses are out.
    Close,
    /// The peer is in the middle of a message that is too large: close when it has read our answer. Closing at once
    /// would reset the connection and with it the answer.
    Linger,
    /// The answers and our FIN are out; what still arrives is thrown away.
    Lingering,
    /// The same because the server stops: over when nothing arrives any more.
    Farewell,
}

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
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        id: ConnectionId,
        (settings, keyring): (Arc<SessionSettings>, Arc<Keyring>),
        lease: Lease,
        now: Instant,
    ) -> Self {
        Self {
            stream,
            peer,
            id,
            session: ServerSession::new(settings, keyring, now),
            unfinished: ReadBuffer::default(),
            unsent: Unsent::default(),
            ending: Ending::No,
            linger_ends: None,
            last_sent: None,
            #[cfg(feature = "proxy-protocol")]
            awaits_proxy_header: false,
            read_closed: false,
            lease,
        }
    }

    /// The same connection, coming from a load balancer that announces the true peer.
    #[cfg(feature = "proxy-protocol")]
    pub(super) fn behind_proxy(self) -> Self {
        Self { awaits_proxy_header: true, ..self }
    }

    /// Serves the connection for one turn: read, open, handle, seal, write.
    pub(super) fn serve(&mut self, work: &mut Workspace<'_>) -> Verdict {
        let verdict = self.turn(work).unwrap_or_else(|error| {
            debug!(target: LOG, "{}: closed after {error}", self.peer);
            Verdict::Close
        });
        work.input.clear();
        work.output.clear();
        verdict
    }

    fn turn(&mut self, work: &mut Workspace<'_>) -> io::Result<Verdict> {
        if self.is_key_withdrawn() {
            self.log_withdrawal();
            return Ok(Verdict::Close);
        }
        if !self.unsent.is_empty() && !self.send_unsent(work)? {
            return Ok(Verdict::Keep);
        }
        match self.ending {
            Ending::No | Ending::AfterFrame => {
                work.input.resume(std::mem::take(&mut self.unfinished));
                let verdict = self.exchange(work);
                self.unfinished = work.input.set_aside();
                verdict
            }
            Ending::Close => Ok(Verdict::Close),
            Ending::Linger => self.linger(work, LINGER),
            Ending::Lingering | Ending::Farewell => self.discard(work),
        }
    }

    fn exchange(&mut self, work: &mut Workspace<'_>) -> io::Result<Verdict> {
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
                    return if sent { self.linger(work, LINGER) } else { Ok(Verdict::Keep) };
                }
            };
            if drained {
                return self.finish_turn(work, Verdict::Keep);
            }
            if received >= TURN_BYTES {
                return self.finish_turn(work, Verdict::Again);
            }
            let room = work.input.current.room(frame_length);
            let wanted = room.len();
            match self.stream.read(room) {
                Ok(0) => {
                    self.ending = Ending::Close;
                    return self.finish_turn(work, Verdict::Close);
                }
                Ok(count) => {
                    work.input.current.received(count);
                    work.counters.bytes_in.add(count as u64);
                    received += count;
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
        let tick = work.ticks.current();
        let mut messages = 0;
        loop {
            let (taken, event) =
                self.session.receive(work.input.current.filled_mut(), &mut work.output.bytes, work.now);
            match event {
                ServerEvent::NeedMore { frame_length } => return Ok(Progress::NeedMore { frame_length }),
                ServerEvent::Message(message) => {
                    let key_name = self.session.key().map_or("", |key| key.name());
                    let request = Request { message, key_name, peer: self.peer, connection: self.id };
                    let response = Response::begin(&mut work.output.bytes);
                    handle(work.handler, request, response, &self.session, &mut work.nonces, work.counters);
                    messages += 1;
                }
                ServerEvent::Ping => work.counters.pings.add(1),
                ServerEvent::Skipped(kind) => {
                    trace!(target: LOG, "{}: skipped a byte of the unregistered type {kind}", self.peer);
                }
                ServerEvent::Established => debug!(target: LOG, "{}: established", self.peer),
                ServerEvent::Rejected(reason) => {
                    warn!(target: LOG, "{}: a message was rejected: {reason:?}", self.peer);
                    work.counters.rejected.add(1);
                }
                ServerEvent::TooLarge { length } => {
                    let size = length.saturating_sub(SEAL_OVERHEAD as u64);
                    warn!(target: LOG, "{}: closing, a message of {size} bytes is over the limit", self.peer);
                    work.counters.rejected.add(1);
                    work.input.clear();
                    return Ok(Progress::Ended);
                }
                ServerEvent::Refused(reason) => {
                    warn!(target: LOG, "{}: refused: {reason:?}", self.peer);
                    work.counters.unauthenticated.add(1);
                    return Ok(Progress::Refused);
                }
            }
            work.input.current.consume(taken);
            if self.ending == Ending::AfterFrame {
                work.input.clear();
                return Ok(Progress::LastAnswered);
            }
            // A handler that took long must delay no further answers, nor the other connections. The ticks cost nothing to
            // read but stand while the watchdog sleeps, so one look at the clock is for the first message.
            let is_pipelined = messages == 1 && !work.input.current.is_empty();
            if is_pipelined {
                work.ticks.rouse();
            }
            let overdue = work.ticks.current() != tick || (is_pipelined && work.now.elapsed() >= PROMPT);
            if (overdue || work.output.bytes.len() >= OUTPUT_BYTES) && !self.flush(work)? {
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
                work.counters.unauthenticated.add(1);
                Some(Progress::Refused)
            }
        }
    }

    fn finish_turn(&mut self, work: &mut Workspace<'_>, verdict: Verdict) -> io::Result<Verdict> {
        Ok(if self.flush(work)? { verdict } else { Verdict::Keep })
    }

    /// Writes the collected responses; `false` when the socket did not take them all.
    fn flush(&mut self, work: &mut Workspace<'_>) -> io::Result<bool> {
        if work.output.bytes.is_empty() {
            return Ok(true);
        }
        let written = write_what_fits(&mut self.stream, &work.output.bytes);
        work.now = Instant::now();
        let sent = written?;
        work.counters.bytes_out.add(sent as u64);
        self.last_sent = Some(work.now);
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

    /// Goes on writing responses that were kept; `false` when the socket did not take them all.
    fn send_unsent(&mut self, work: &mut Workspace<'_>) -> io::Result<bool> {
        let sent = write_what_fits(&mut self.stream, self.unsent.as_slice())?;
        self.unsent.sent(sent);
        work.counters.bytes_out.add(sent as u64);
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

    /// Sends our FIN behind the last answer and gives the peer `time` to read it.
    fn linger(&mut self, work: &mut Workspace<'_>, time: Duration) -> io::Result<Verdict> {
        self.half_close(Ending::Lingering, work.now + time)?;
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

    /// Ends the connection with the frame that has begun: what comes behind it arrived after the server was stopped.
    pub(super) fn end_after_frame(&mut self) {
        if self.ending == Ending::No {
            self.ending = Ending::AfterFrame;
        }
    }

    pub(super) fn is_lingering(&self) -> bool {
        matches!(self.ending, Ending::Lingering | Ending::Farewell)
    }

    fn discard(&mut self, work: &mut Workspace<'_>) -> io::Result<Verdict> {
        let mut received = 0;
        while received < TURN_BYTES {
            match self.stream.read(work.input.current.room(0)) {
                Ok(0) => return Ok(Verdict::Close),
                Ok(count) => {
                    work.counters.bytes_in.add(count as u64);
                    received += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if received > 0 && self.ending == Ending::Farewell {
            self.linger_ends = Some(work.now + FAREWELL);
        }
        if received < TURN_BYTES {
            return Ok(Verdict::Keep);
        }
        Ok(Verdict::Again)
    }

    pub(super) fn deadline(&self) -> Deadline {
        match self.linger_ends {
            Some(at) => Deadline { at, expiry: Expiry::Write },
            None => self.session.deadline(),
        }
    }

    pub(super) fn log_expiry(&self) {
        debug!(target: LOG, "{}: closed at its deadline: {:?}", self.peer, self.deadline().expiry);
    }

    pub(super) fn log_withdrawal(&self) {
        debug!(target: LOG, "{}: closed, its key was withdrawn", self.peer);
    }

    /// Whether the key that it lives under is accepted no more.
    pub(super) fn is_key_withdrawn(&self) -> bool {
        self.session.key().is_some_and(|key| key.is_withdrawn())
    }

    /// Whether the connection waits for the socket to take responses.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether nothing of it is lost when it is closed now, by our side or by a stop.
    pub(super) fn is_quiescent(&self) -> bool {
        let mid_message = !self.unfinished.is_empty() && self.session.is_established();
        self.unsent.is_empty() && !mid_message
    }

    pub(super) fn note_read_closed(&mut self) {
        self.read_closed = true;
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn transfer(&mut self, worker: usize) {
        self.lease.transfer(worker);
    }
}

/// Runs the handler and seals what it wrote; a panic becomes the empty response.
fn handle(
    handler: &dyn Handler,
    request: Request<'_>,
    mut response: Response<'_>,
    session: &ServerSession,
    nonces: &mut NonceSequence,
    counters: &WorkerCounters,
) {
    let peer = request.peer;
    trace!(target: LOG, "{peer}: a message of {} bytes", request.message.len());
    counters.messages.add(1);
    match catch_unwind(AssertUnwindSafe(|| handler.handle(request, &mut response))) {
        Ok(()) => {
            if !session.seal(response, nonces) {
                error!(target: LOG, "{peer}: a response is longer than AES-GCM allows; sent the empty response");
            }
        }
        Err(payload) => {
            response.reject();
            counters.panics.add(1);
            error!(target: LOG, "{peer}: the handler panicked; sent the empty response");
            // The payload is the handler's own type, and even its drop may panic.
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(second);
            }
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
