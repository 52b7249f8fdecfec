//! Answers that come later: what a handler keeps to answer with, and the queue in which a connection's answers wait for
//! their turn.
//!
//! ```text
//! handler --defer()--> Reply --send()--> Outbox: [ awaited | ready | awaited ... ] in the order of the messages
//!                      any thread           |  notifies the connection's worker, once for a burst
//!                                           v
//!                                worker: takes what is ready at the front, seals it, writes it
//! ```
//!
//! Sealing is the worker's, in the order of the frames, since nonces and session counters are its own.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mio::Token;

use crate::keyring::NamedKey;
use crate::protocol::{RejectionReason, later};
use crate::server::shared::{Gauge, Mutex, WorkerCounters};

/// Answers one message later, from any thread; made by [`Response::defer`](crate::Response::defer).
///
/// Dropping it rejects the message, so that the client gets [`Error::Rejected`](crate::Error::Rejected) and never silence. It keeps neither the server
/// nor its handler alive, so a handler may keep replies.
///
/// ```
/// use falcotcp_sync::{Client, Handler, Key, Reply, Request, Response, Server};
/// use std::sync::mpsc::{Sender, channel};
///
/// struct Jobs(Sender<(Vec<u8>, Reply)>);
///
/// impl Handler for Jobs {
///     fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
///         // If nobody takes jobs any more, the reply is dropped with the job, and the message rejected.
///         let _ = self.0.send((request.message().to_vec(), response.defer()));
///     }
/// }
///
/// let (jobs, todo) = channel::<(Vec<u8>, Reply)>();
/// std::thread::spawn(move || {
///     for (job, reply) in todo {
///         if reply.is_wanted() {
///             let _ = reply.send(job.to_ascii_uppercase());
///         }
///     }
/// });
///
/// let key = Key::generate()?;
/// let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(Jobs(jobs))?;
/// let mut client = Client::connect(server.local_addr(), &key)?;
/// assert_eq!(client.message(b"hello")?, b"HELLO");
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
#[must_use = "dropping a reply rejects its message"]
pub struct Reply {
    outbox: Arc<Outbox>,
    id: u64,
}

/// A response that nobody waits for any more, handed back: the connection is over, the answer took longer than
/// [`deferred_timeout`](crate::ServerBuilder::deferred_timeout), or the handler panicked or deferred anew.
#[derive(Clone, PartialEq, Eq)]
pub struct NotWanted(pub Vec<u8>);

impl Reply {
    /// Gives the response to the message. `Ok` says that it was handed over to the connection's worker, not that it was
    /// delivered. From any thread, also within the handler; never waits.
    ///
    /// # Errors
    /// [`NotWanted`], with the response, when nobody waits for it any more.
    pub fn send(self, response: impl Into<Vec<u8>>) -> Result<(), NotWanted> {
        let answer = Answer::Response(response.into());
        match self.outbox.give(self.id, answer) {
            Err(Answer::Response(response)) => Err(NotWanted(response)),
            _ => Ok(()),
        }
    }

    /// Rejects the message: the client gets [`Error::Rejected`](crate::Error::Rejected). Dropping the reply does the same.
    pub fn reject(self) {}

    /// Whether somebody still waits for the answer; `false` once the connection is over, so that work for it can stop.
    pub fn is_wanted(&self) -> bool {
        self.outbox.state.lock().position(self.id).is_some()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // An error says that it has been given or that nobody waits for it.
        let _ = self.outbox.give(self.id, Answer::Rejection(RejectionReason::NotGiven));
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("is_wanted", &self.is_wanted()).finish()
    }
}

impl fmt::Debug for NotWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotWanted").field("len", &self.0.len()).finish()
    }
}

impl fmt::Display for NotWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nobody waits for this response of {} bytes any more", self.0.len())
    }
}

impl std::error::Error for NotWanted {}

/// What takes a connection's turn when an answer is ready: its worker.
pub(in crate::server) trait Owner: Send + Sync {
    /// Gives the connection in this slot a turn.
    fn notify(&self, token: Token);
}

/// What a worker lends to the connections whose answers come later.
#[derive(Clone)]
pub(in crate::server) struct Deferral {
    pub(in crate::server) owner: Arc<dyn Owner>,
    pub(in crate::server) limits: DeferralLimits,
    /// How many answers of the server are awaited.
    pub(in crate::server) awaited: Arc<Gauge>,
}

/// How much one connection may have waiting, and how long.
#[derive(Debug, Clone)]
pub(in crate::server) struct DeferralLimits {
    /// Answers that are awaited or wait behind such.
    pub(in crate::server) max_deferred: usize,
    /// Bytes of responses that wait; one may go over it.
    pub(in crate::server) max_bytes: usize,
    pub(in crate::server) timeout: Option<Duration>,
}

impl Default for DeferralLimits {
    fn default() -> Self {
        Self { max_deferred: 256, max_bytes: 16 << 20, timeout: Some(Duration::from_secs(300)) }
    }
}

/// The answers of one connection that are awaited or wait behind such. Its worker takes them, and replies give them.
pub(in crate::server) struct Outbox {
    /// The key that all of them are sealed under.
    pub(super) key: Option<Arc<NamedKey>>,
    state: Mutex<State>,
    awaited: Arc<Gauge>,
}

struct State {
    /// In the order of the messages, with ids that grow.
    queue: VecDeque<Entry>,
    next_id: u64,
    /// Bytes of the responses in the queue.
    bytes: usize,
    /// The connection will take what is ready in any case: it is at its turn, or its owner has been notified.
    is_scheduled: bool,
    /// Not kept: a reply that is kept for long would keep a worker's descriptor.
    owner: Weak<dyn Owner>,
    token: Token,
}

struct Entry {
    id: u64,
    content: Content,
}

enum Content {
    /// It must be there by then, if by any time.
    Awaited {
        until: Option<Instant>,
    },
    Ready(Answer),
}

/// What a message is answered with.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) enum Answer {
    Response(Vec<u8>),
    /// It was not processed.
    Rejection(RejectionReason),
    /// The acceptance of another establishment.
    Acceptance,
}

impl Outbox {
    /// For a connection that is at its turn, in this slot of its worker, and lives under this key.
    pub(in crate::server) fn new(deferral: &Deferral, token: Token, key: Option<&Arc<NamedKey>>) -> Self {
        let state = State {
            queue: VecDeque::new(),
            next_id: 0,
            bytes: 0,
            is_scheduled: true,
            owner: Arc::downgrade(&deferral.owner),
            token,
        };
        Self { key: key.cloned(), state: Mutex::new(state), awaited: Arc::clone(&deferral.awaited) }
    }

    /// Begins a turn of the connection, which may have another owner than before.
    pub(in crate::server) fn begin_turn(&self, deferral: &Deferral, token: Token) {
        let mut state = self.state.lock();
        state.is_scheduled = true;
        state.token = token;
        state.owner = Arc::downgrade(&deferral.owner);
    }

    /// Makes room for an answer that is awaited, and gives what it is given with.
    pub(in crate::server) fn defer(self: &Arc<Self>, timeout: Option<Duration>, now: Instant) -> Reply {
        self.awaited.add(1);
        let content = Content::Awaited { until: timeout.map(|timeout| later(now, timeout)) };
        Reply { outbox: Arc::clone(self), id: self.state.lock().push(content) }
    }

    /// Puts an answer that is ready behind those that are awaited.
    pub(in crate::server) fn push(&self, answer: Answer) {
        self.state.lock().push(Content::Ready(answer));
    }

    /// Takes back the place of the answer that was deferred last: its reply is not wanted any more.
    pub(in crate::server) fn revoke(&self, id: u64) {
        let mut state = self.state.lock();
        if let Some(index) = state.queue.iter().rposition(|entry| entry.id == id)
            && let Some(Entry { content, .. }) = state.queue.remove(index)
        {
            match content {
                Content::Awaited { .. } => self.awaited.sub(1),
                Content::Ready(answer) => state.bytes -= answer.len(),
            }
        }
    }

    /// Takes the next answer if it is ready, or overdue and so rejected. With the last one the turn ends, if it `is_last`:
    /// from then on the owner is notified.
    pub(in crate::server) fn take(&self, now: Instant, is_last: bool) -> Option<Answer> {
        let mut state = self.state.lock();
        let is_due = match &state.queue.front().map(|entry| &entry.content) {
            Some(Content::Ready(_)) => true,
            Some(Content::Awaited { until }) => until.is_some_and(|until| until <= now),
            None => false,
        };
        if !is_due {
            state.is_scheduled &= !is_last;
            return None;
        }
        match state.queue.pop_front()?.content {
            Content::Ready(answer) => {
                state.bytes -= answer.len();
                Some(answer)
            }
            Content::Awaited { .. } => {
                self.awaited.sub(1);
                Some(Answer::Rejection(RejectionReason::NotGiven))
            }
        }
    }

    /// Whether so much waits that no more messages are to be handled.
    pub(in crate::server) fn is_full(&self, limits: &DeferralLimits) -> bool {
        let state = self.state.lock();
        state.queue.len() >= limits.max_deferred || state.bytes > limits.max_bytes
    }

    pub(in crate::server) fn is_empty(&self) -> bool {
        self.state.lock().queue.is_empty()
    }

    /// When the first answer must be there; `None` if it may take for ever.
    pub(in crate::server) fn deadline(&self) -> Option<Instant> {
        match self.state.lock().queue.front()?.content {
            Content::Awaited { until } => until,
            Content::Ready(_) => None,
        }
    }

    /// The connection is over: no reply is wanted any more.
    pub(in crate::server) fn close(&self) {
        let mut state = self.state.lock();
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        let awaited = queue.iter().filter(|entry| matches!(entry.content, Content::Awaited { .. }));
        self.awaited.sub(awaited.count());
    }

    /// Gives an answer that is awaited, or hands it back.
    fn give(&self, id: u64, answer: Answer) -> Result<(), Answer> {
        let mut state = self.state.lock();
        let Some(index) = state.position(id) else { return Err(answer) };
        self.awaited.sub(1);
        state.bytes += answer.len();
        state.queue[index].content = Content::Ready(answer);
        // Those in front of it are awaited, and their replies will notify.
        if index == 0
            && !std::mem::replace(&mut state.is_scheduled, true)
            && let Some(owner) = state.owner.upgrade()
        {
            // Under the lock, so that the connection is where this says.
            owner.notify(state.token);
        }
        Ok(())
    }
}

impl State {
    fn push(&mut self, content: Content) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if let Content::Ready(answer) = &content {
            self.bytes += answer.len();
        }
        self.queue.push_back(Entry { id, content });
        id
    }

    /// Where the answer with this id is awaited. One that is overdue is not, though its worker may not have got to it.
    fn position(&self, id: u64) -> Option<usize> {
        let index = self.queue.binary_search_by_key(&id, |entry| entry.id).ok()?;
        match self.queue[index].content {
            Content::Awaited { until } if until.is_none_or(|until| Instant::now() < until) => Some(index),
            _ => None,
        }
    }
}

impl Answer {
    fn len(&self) -> usize {
        match self {
            Self::Response(text) => text.len(),
            Self::Rejection(_) | Self::Acceptance => 0,
        }
    }
}

impl Reply {
    pub(in crate::server) fn id(&self) -> u64 {
        self.id
    }
}

/// Where a connection's answers wait, as its worker reaches it while it serves the connection.
pub(in crate::server) struct Place<'c> {
    /// There is one from the first answer that comes later until none is waited for.
    pub(in crate::server) outbox: &'c mut Option<Arc<Outbox>>,
    pub(in crate::server) deferral: &'c Deferral,
    pub(in crate::server) token: Token,
    pub(in crate::server) key: Option<&'c Arc<NamedKey>>,
    pub(in crate::server) counters: &'c WorkerCounters,
}

impl Place<'_> {
    /// Makes room for an answer that comes later, in place of one that was deferred for the same message if there is.
    pub(in crate::server) fn defer(&mut self, previous: Option<u64>) -> Reply {
        match previous {
            Some(previous) => self.revoke(previous),
            None => self.counters.deferred.add(1),
        }
        let new = || Arc::new(Outbox::new(self.deferral, self.token, self.key));
        let outbox = self.outbox.get_or_insert_with(new);
        outbox.defer(self.deferral.limits.timeout, Instant::now())
    }

    /// Takes it back.
    pub(in crate::server) fn revoke(&mut self, id: u64) {
        if let Some(outbox) = &self.outbox {
            outbox.revoke(id);
        }
    }
}
