//! One connection: socket, session and unfinished bytes, and a turn of serving it.

mod answering;
mod buffers;
mod closing;
pub(super) mod deferred;
mod exchange;
#[cfg(feature = "proxy-protocol")]
mod proxy;
mod repeats;
mod writing;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use mio::Token;
use mio::net::TcpStream;

use self::buffers::{Output, Unsent};
use self::closing::Closing;
use self::deferred::Outbox;
use self::repeats::Repeats;
use super::connection_info::ConnectionId;
use super::handler::Handler;
use super::shared::{Counters, End, Floods, LoadGuard, ServerCounters, WatchdogClock, WorkerCounters};
use crate::keyring::Keyring;
use crate::protocol::{Deadline, Expiry, NonceSequence, ServerSession, SessionSettings};
use crate::read_buffer::ReadBuffer;

pub(super) use self::buffers::Input;
pub(super) use self::deferred::{Deferral, DeferralLimits, Owner};
pub use self::deferred::{NotWanted, Reply};

/// The log target of single connections.
const LOG: &str = "falcotcp_sync::server::connection";

#[allow(clippy::struct_excessive_bools, reason = "each says one thing that the others do not")]
pub(super) struct Connection {
    stream: TcpStream,
    peer: SocketAddr,
    session: ServerSession,
    /// The beginning of a frame that has not arrived whole.
    unfinished: ReadBuffer,
    /// Responses that the socket did not take yet. While there are any, nothing is read.
    unsent: Unsent,
    /// Answers that come later, and those that wait behind them.
    outbox: Option<Arc<Outbox>>,
    /// Nothing is read while too many answers wait.
    is_backlogged: bool,
    closing: Closing,
    /// When a connection that is ending is over at the latest.
    ends: Option<Instant>,
    /// Why it began to end, if it takes a while.
    ending: Option<End>,
    /// When only what has arrived by now counts: how many bytes of that, at most, are still to be read.
    arrived: Option<u32>,
    /// When answers were last written.
    last_sent: Option<Instant>,
    /// A load balancer's header comes first, with the peer's true address.
    #[cfg(feature = "proxy-protocol")]
    awaits_proxy_header: bool,
    /// The peer has sent its FIN: read on to the end of file, since no event will tell of it again.
    read_closed: bool,
    /// Nothing can be sent to the peer any more.
    broken: bool,
    /// Once there is anything.
    repeats: Option<Box<Repeats>>,
    load: LoadGuard,
}

/// What a worker lends to the connection that it serves.
pub(super) struct Scratch<'w> {
    handler: &'w dyn Handler,
    shed_after: Option<Duration>,
    deferral: Deferral,
    counters: &'w WorkerCounters,
    server_counters: &'w ServerCounters,
    floods: &'w Floods,
    clock: &'w WatchdogClock,
    nonces: NonceSequence,
    output: Output,
    /// The slot of the connection.
    token: Token,
    /// When the first was seen of what has not been answered yet.
    pub(super) since: Instant,
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

/// A connection that is over.
pub(super) type Ended = (Box<Connection>, End);

impl<'w> Scratch<'w> {
    pub(super) fn new(
        (handler, shed_after, deferral): (&'w dyn Handler, Option<Duration>, Deferral),
        counters: &'w Counters,
        worker: usize,
        (floods, clock): (&'w Floods, &'w WatchdogClock),
        nonces: NonceSequence,
    ) -> Self {
        Self {
            handler,
            shed_after,
            deferral,
            counters: &counters.workers[worker],
            server_counters: &counters.server,
            floods,
            clock,
            nonces,
            output: Output::default(),
            token: Token(0),
            since: Instant::now(),
            is_draining: false,
            now: Instant::now(),
        }
    }

    /// Forgets what is left of a turn.
    pub(super) fn clear(&mut self) {
        self.output.clear();
    }
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        (settings, keyring): (Arc<SessionSettings>, Arc<Keyring>),
        load: LoadGuard,
        now: Instant,
    ) -> Self {
        Self {
            stream,
            peer,
            session: ServerSession::new(settings, keyring, now),
            unfinished: ReadBuffer::default(),
            unsent: Unsent::default(),
            outbox: None,
            is_backlogged: false,
            closing: Closing::No,
            ends: None,
            ending: None,
            arrived: None,
            last_sent: None,
            #[cfg(feature = "proxy-protocol")]
            awaits_proxy_header: false,
            read_closed: false,
            broken: false,
            repeats: None,
            load,
        }
    }

    /// The same connection, coming from a load balancer that announces the true peer.
    #[cfg(feature = "proxy-protocol")]
    pub(super) fn behind_proxy(mut self) -> Self {
        self.awaits_proxy_header = true;
        self
    }

    /// Serves the connection, which is in this slot of its worker and ready since then, for one turn: read, open, handle, seal,
    /// write.
    pub(super) fn serve(
        &mut self,
        scratch: &mut Scratch<'_>,
        input: &mut Input,
        token: Token,
        since: Instant,
    ) -> Next {
        (scratch.token, scratch.since) = (token, since);
        let next = self.turn(scratch, input).unwrap_or_else(|error| {
            if !matches!(
                error.kind(),
                ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe
            ) {
                self.end_for(End::Failed);
            }
            debug!(target: LOG, "{}: closed after {error}", self.peer);
            Next::Close
        });
        scratch.clear();
        input.clear();
        next
    }

    fn turn(&mut self, scratch: &mut Scratch<'_>, input: &mut Input) -> io::Result<Next> {
        if let Some(outbox) = &self.outbox {
            if self.broken {
                return Ok(Next::Close);
            }
            outbox.begin_turn(&scratch.deferral, scratch.token);
        }
        if !self.unsent.is_empty() && !self.send_unsent(scratch)? {
            return Ok(Next::Wait);
        }
        if !self.send_answers(scratch, false)? {
            return Ok(Next::Wait);
        }
        match self.closing {
            Closing::No | Closing::AfterFrame if self.is_key_withdrawn() => {
                self.begin_ending(End::Withdrawn);
                self.finish_turn(scratch, Next::Wait)
            }
            Closing::No | Closing::AfterFrame => {
                input.resume(std::mem::take(&mut self.unfinished));
                let next = self.exchange(scratch, input);
                self.unfinished = input.set_aside();
                next
            }
            Closing::Answered | Closing::AfterOutput | Closing::LingerAfterOutput => {
                self.finish_turn(scratch, Next::Wait)
            }
            Closing::Lingering(_) => self.discard(scratch),
        }
    }

    /// When it must be looked at, unless something happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.outbox {
            Some(outbox) if !self.wants_to_write() => outbox.deadline().into_iter().chain(self.ends).min(),
            _ => Some(self.end_of_life().at),
        }
    }

    /// Whether its time is over. It does not run out while an answer is outstanding, as in a handler that takes long.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_timeless = self.outbox.is_some() && !self.wants_to_write() && self.ends.is_none();
        !is_timeless && self.end_of_life().at <= now
    }

    fn end_of_life(&self) -> Deadline {
        match self.ends {
            Some(at) if !self.wants_to_write() => Deadline { at, expiry: Expiry::Write },
            _ => self.session.deadline(),
        }
    }

    /// Logs the end of a connection, with what was logged only once before. Not to be called while a table is locked.
    pub(super) fn log_end(&self, end: End) {
        if let Some(repeats) = &self.repeats {
            repeats.log_further(self.peer);
        }
        match end {
            End::Expired if !self.is_lingering() => {
                debug!(target: LOG, "{}: closed at its deadline: {}", self.peer, self.end_of_life().expiry);
            }
            End::Withdrawn => debug!(target: LOG, "{}: closed, its key was withdrawn", self.peer),
            _ => {}
        }
    }

    /// Whether the key that it lives under is accepted no more.
    pub(super) fn is_key_withdrawn(&self) -> bool {
        self.session.key().is_some_and(|key| key.is_withdrawn())
    }

    /// Whether the connection waits for the socket to take responses.
    pub(super) fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether answers are outstanding or not sent yet.
    pub(super) fn has_answers_out(&self) -> bool {
        self.wants_to_write() || self.outbox.is_some() || self.is_ending()
    }

    /// Whether nothing of it is lost when it is closed now, by our side or by a stop.
    pub(super) fn is_quiescent(&self) -> bool {
        let is_in_message = !self.unfinished.is_empty() && self.session.is_established();
        self.unsent.is_empty() && self.outbox.is_none() && !is_in_message && !self.session.is_unproven()
    }

    /// Says why it ends; the first reason counts.
    pub(super) fn end_for(&mut self, end: End) {
        self.load.end_for(self.ending.unwrap_or(end));
    }

    /// What it counts as when this ends it: the reason for which it began to end, if it did and was not cut at that. One that
    /// was unproven at a stop has nothing to be cut.
    pub(super) fn end(&self, now: End) -> End {
        match self.ending {
            Some(ending) if now != End::Cut || ending == End::Drained => ending,
            _ => now,
        }
    }

    /// What a stop makes of it when the time for draining is over.
    pub(super) fn end_at_stop(&self) -> End {
        if self.is_quiescent() || self.session.is_unproven() { End::Drained } else { End::Cut }
    }

    /// The same where a handler ran beyond that time: a forward-secret session ends without the goodbye that it owes.
    pub(super) fn end_beyond_drain(&self) -> End {
        if self.session.says_goodbye() { End::Cut } else { self.end_at_stop() }
    }

    /// Whether something has arrived that was not read.
    pub(super) fn has_more(&self) -> bool {
        self.stream.peek(&mut [0]).is_ok_and(|count| count > 0)
    }

    /// Records what events told: whether the peer will send no more, and whether nothing can be sent to it any more.
    pub(super) fn record_closed(&mut self, read_closed: bool, broken: bool) {
        self.read_closed |= read_closed;
        self.broken |= broken;
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn id(&self) -> ConnectionId {
        ConnectionId(self.load.id())
    }

    /// Whether its peer has not shown that it holds a key.
    pub(super) fn is_strangers(&self) -> bool {
        self.load.is_strangers()
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn transfer(&mut self, worker: usize) {
        self.load.transfer(worker);
    }
}

impl Connection {
    /// No answer that comes later is wanted any more.
    fn close_outbox(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            outbox.close();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close_outbox();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_stays_small() {
        // Ten thousand of them wait for months. What few have is on the heap.
        assert!(size_of::<Connection>() <= 280, "{} bytes", size_of::<Connection>());
    }
}
