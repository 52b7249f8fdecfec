//! One connection: socket, session and unfinished bytes, and a turn of serving it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use mio::net::TcpStream;

use super::buffers::{Input, Output, Unsent};
use super::handler::{ConnectionId, Handler};
use super::load::Lease;
use super::ticks::Ticks;
use super::worker_side::WorkerSide;
use crate::keyring::Keyring;
use crate::protocol::{Deadline, Expiry, NonceSequence, ServerSession, SessionSettings};
use crate::read_buffer::ReadBuffer;

pub(super) const LOG: &str = "falcotcp_sync::server::connection";

/// What a worker lends to the connection that it serves.
pub(super) struct Workspace<'w> {
    pub(super) handler: &'w dyn Handler,
    pub(super) side: &'w WorkerSide,
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
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) id: ConnectionId,
    pub(super) session: ServerSession,
    /// The beginning of a frame that has not arrived whole.
    pub(super) unfinished: ReadBuffer,
    /// Responses that the socket did not take yet. While there are any, nothing is read.
    pub(super) unsent: Unsent,
    pub(super) ending: Ending,
    /// When a connection that lingers is over.
    pub(super) linger_ends: Option<Instant>,
    /// While the server stops: how many bytes, at most, of those that arrived before are still to be read.
    pub(super) arrived: Option<usize>,
    /// When answers were last written.
    pub(super) last_sent: Option<Instant>,
    /// A load balancer's header comes first, with the peer's true address.
    #[cfg(feature = "proxy-protocol")]
    pub(super) awaits_proxy_header: bool,
    /// The peer has sent its FIN: read on to the end of file, since no event will tell of it again.
    pub(super) read_closed: bool,
    pub(super) lease: Lease,
}

/// How far a connection is with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is not ending.
    No,
    /// The server stops: close when the frame that has begun is complete and answered, whatever comes behind it.
    AfterFrame,
    /// The peer has sent all it will: close when the responses are out.
    Close,
    /// The server stops and the last frame is answered: nothing more is read.
    Answered,
    /// The peer is in the middle of a message that is too large: close when it has read our answer. Closing at once
    /// would reset the connection and with it the answer.
    Linger,
    /// The answers and our FIN are out; what still arrives is thrown away.
    Lingering,
    /// The same because the server stops: over when nothing arrives any more.
    Farewell,
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
            arrived: None,
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
        if !self.unsent.is_empty() && !self.send_unsent(work)? {
            return Ok(Verdict::Keep);
        }
        match self.ending {
            Ending::No | Ending::AfterFrame if self.is_key_withdrawn() => {
                self.note_withdrawal(work);
                self.linger(work)
            }
            Ending::No | Ending::AfterFrame => {
                work.input.resume(std::mem::take(&mut self.unfinished));
                let verdict = self.exchange(work);
                self.unfinished = work.input.set_aside();
                verdict
            }
            Ending::Answered => Ok(Verdict::Keep),
            Ending::Close => Ok(Verdict::Close),
            Ending::Linger => self.linger(work),
            Ending::Lingering | Ending::Farewell => self.discard(work),
        }
    }

    pub(super) fn deadline(&self) -> Deadline {
        match self.linger_ends {
            Some(at) => Deadline { at, expiry: Expiry::Write },
            None => self.session.deadline(),
        }
    }

    pub(super) fn log_expiry(&self) {
        debug!(target: LOG, "{}: closed at its deadline: {}", self.peer, self.deadline().expiry);
    }

    pub(super) fn note_withdrawal(&self, work: &Workspace<'_>) {
        work.side.counters.withdrawn.add(1);
        self.log_withdrawal();
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
