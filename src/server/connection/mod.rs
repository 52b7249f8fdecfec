//! One connection: socket, session and unfinished bytes, and a turn of serving it.

mod buffers;
mod closing;
mod exchange;
#[cfg(feature = "proxy-protocol")]
mod proxy;
mod repeats;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use mio::net::TcpStream;

use self::buffers::{Input, Output, Unsent};
use self::closing::Closing;
use self::repeats::Repeats;
use super::handler::{ConnectionId, Handler};
use super::shared::{LoadGuard, WatchdogClock, WorkerCounters};
use crate::keyring::Keyring;
use crate::protocol::{Deadline, Expiry, NonceSequence, ServerSession, SessionSettings};
use crate::read_buffer::ReadBuffer;

/// The log target of single connections.
const LOG: &str = "falcotcp_sync::server::connection";

pub(super) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    id: ConnectionId,
    session: ServerSession,
    /// The beginning of a frame that has not arrived whole.
    unfinished: ReadBuffer,
    /// Responses that the socket did not take yet. While there are any, nothing is read.
    unsent: Unsent,
    closing: Closing,
    /// When a connection that lingers is over.
    linger_ends: Option<Instant>,
    /// When only what has arrived by now counts: how many bytes of that, at most, are still to be read.
    arrived: Option<usize>,
    /// When answers were last written.
    last_sent: Option<Instant>,
    /// A load balancer's header comes first, with the peer's true address.
    #[cfg(feature = "proxy-protocol")]
    awaits_proxy_header: bool,
    /// The peer has sent its FIN: read on to the end of file, since no event will tell of it again.
    read_closed: bool,
    repeats: Repeats,
    load: LoadGuard,
}

/// What a worker lends to the connection that it serves.
pub(super) struct Scratch<'w> {
    handler: &'w dyn Handler,
    counters: &'w WorkerCounters,
    clock: &'w WatchdogClock,
    nonces: NonceSequence,
    input: Input,
    output: Output,
    /// Whether the server stops.
    pub(super) is_draining: bool,
    /// The worker's last look at the clock.
    pub(super) now: Instant,
}

/// What a connection does after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits for the next event.
    Wait,
    /// It has more to do at once, after the others.
    Again,
    /// It is over.
    Close,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer closed it, or what the peer sent did.
    Closed,
    /// A deadline ran out.
    Expired,
    /// Its key was withdrawn.
    Withdrawn,
    /// The server stops, and nothing of it was unfinished.
    Drained,
    /// The server stops, in the middle of a message or with an answer unsent.
    Cut,
}

/// A connection that is over.
pub(super) type Ended = (Box<Connection>, End);

impl<'w> Scratch<'w> {
    pub(super) fn new(
        handler: &'w dyn Handler,
        counters: &'w WorkerCounters,
        clock: &'w WatchdogClock,
        nonces: NonceSequence,
    ) -> Self {
        Self {
            handler,
            counters,
            clock,
            nonces,
            input: Input::new(),
            output: Output::default(),
            is_draining: false,
            now: Instant::now(),
        }
    }

    /// Forgets what is left of a turn.
    pub(super) fn clear(&mut self) {
        self.input.clear();
        self.output.clear();
    }
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        id: ConnectionId,
        (settings, keyring): (Arc<SessionSettings>, Arc<Keyring>),
        load: LoadGuard,
        now: Instant,
    ) -> Self {
        Self {
            stream,
            peer,
            id,
            session: ServerSession::new(settings, keyring, now),
            unfinished: ReadBuffer::default(),
            unsent: Unsent::default(),
            closing: Closing::No,
            linger_ends: None,
            arrived: None,
            last_sent: None,
            #[cfg(feature = "proxy-protocol")]
            awaits_proxy_header: false,
            read_closed: false,
            repeats: Repeats::default(),
            load,
        }
    }

    /// The same connection, coming from a load balancer that announces the true peer.
    #[cfg(feature = "proxy-protocol")]
    pub(super) fn behind_proxy(self) -> Self {
        Self { awaits_proxy_header: true, ..self }
    }

    /// Serves the connection for one turn: read, open, handle, seal, write.
    pub(super) fn serve(&mut self, scratch: &mut Scratch<'_>) -> Next {
        let next = self.turn(scratch).unwrap_or_else(|error| {
            debug!(target: LOG, "{}: closed after {error}", self.peer);
            Next::Close
        });
        scratch.clear();
        next
    }

    fn turn(&mut self, scratch: &mut Scratch<'_>) -> io::Result<Next> {
        if !self.unsent.is_empty() && !self.send_unsent(scratch)? {
            return Ok(Next::Wait);
        }
        match self.closing {
            Closing::No | Closing::AfterFrame if self.is_key_withdrawn() => {
                self.record_withdrawn(scratch);
                self.linger(scratch)
            }
            Closing::No | Closing::AfterFrame => {
                scratch.input.resume(std::mem::take(&mut self.unfinished));
                let next = self.exchange(scratch);
                self.unfinished = scratch.input.set_aside();
                next
            }
            Closing::Answered => Ok(Next::Wait),
            Closing::AfterOutput => Ok(Next::Close),
            Closing::LingerAfterOutput => self.linger(scratch),
            Closing::Lingering { .. } => self.discard(scratch),
        }
    }

    pub(super) fn deadline(&self) -> Deadline {
        match self.linger_ends {
            Some(at) => Deadline { at, expiry: Expiry::Write },
            None => self.session.deadline(),
        }
    }

    /// Logs the end of a connection, with what was logged only once before. Not to be called while a table is locked.
    pub(super) fn log_end(&self, end: End) {
        self.repeats.log_further(self.peer);
        match end {
            End::Expired => {
                debug!(target: LOG, "{}: closed at its deadline: {:?}", self.peer, self.deadline().expiry);
            }
            End::Withdrawn => self.log_withdrawn(),
            End::Closed | End::Drained | End::Cut => {}
        }
    }

    /// Counts and logs a connection that is being closed in its turn because its key was withdrawn.
    fn record_withdrawn(&self, scratch: &Scratch<'_>) {
        scratch.counters.withdrawn.add(1);
        self.log_withdrawn();
    }

    fn log_withdrawn(&self) {
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
        let is_in_message = !self.unfinished.is_empty() && self.session.is_established();
        self.unsent.is_empty() && !is_in_message
    }

    /// What a stop makes of it when the time for draining is over.
    pub(super) fn end_at_stop(&self) -> End {
        if self.is_quiescent() { End::Drained } else { End::Cut }
    }

    pub(super) fn record_read_closed(&mut self) {
        self.read_closed = true;
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn transfer(&mut self, worker: usize) {
        self.load.transfer(worker);
    }
}
