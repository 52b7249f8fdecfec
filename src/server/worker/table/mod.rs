//! A worker's connections: which of them are ready, and the one wait for the rest.
//!
//! The worker holds the table's lock except while it serves a connection, which is out of the table meanwhile. So
//! the watchdog can look after the others when that takes long. Nothing in here logs, since the lock is held.

mod sweeps;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::mailbox::Mailbox;
use super::ready::ReadyQueue;
use super::timers::Timers;
use crate::server::connection::{Connection, Owner};
use crate::server::connection_info::ConnectionId;
use crate::server::shared::{Counters, Waker};

/// The token of the waker; slots count from 0 and never get there.
const WAKER: Token = Token(usize::MAX);

/// Events taken from the operating system at once.
const EVENTS: usize = 1024;

/// What other threads leave for a worker.
pub(in crate::server) enum Delivery {
    /// A new connection.
    Connection(Box<Connection>),
    /// An answer that comes later is ready for the connection in this slot. If another one is there by now, that has a turn
    /// without anything to do.
    Answer(Token),
}

impl Owner for Mailbox<Delivery> {
    fn notify(&self, token: Token) {
        self.deliver(Delivery::Answer(token));
    }
}

/// A connection that was lost, which is to be dropped when no table is locked, and a line for the log.
pub(in crate::server) type Failure = (Box<Connection>, String);

/// A connection that is ready, and since when.
pub(in crate::server) type ReadyConnection = (Box<Connection>, Instant);

/// A connection whose turn it is.
pub(super) struct Due {
    pub(super) token: Token,
    pub(super) connection: Box<Connection>,
    /// When it was seen that it has something to do.
    pub(super) since: Instant,
}

pub(in crate::server) struct Table {
    poll: Poll,
    events: Events,
    mailbox: Arc<Mailbox<Delivery>>,
    counters: Arc<Counters>,
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    /// Slots in the state `Ready`.
    ready: ReadyQueue,
    /// When the sockets were last asked.
    now: Instant,
    /// Turns until the sockets are asked again.
    turns_until_poll: usize,
    timers: Timers,
    /// Those that were not established when they came, by their numbers: the oldest first, as a rule.
    strangers: VecDeque<(ConnectionId, usize)>,
    is_draining: bool,
    /// Connections that were lost because their socket could not be watched or moved, each with a line for the log.
    failures: Vec<Failure>,
}

#[derive(Default)]
struct Slot {
    connection: Option<Box<Connection>>,
    state: State,
    /// The moment of this slot's entry among the timers, at or before its connection's deadline.
    timer: Option<Instant>,
    /// An event told that the peer will send no more.
    read_closed: bool,
    /// An event told that nothing can be sent to the peer any more.
    broken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Vacant,
    /// Waits for an event.
    Idle,
    /// Is among the ready ones.
    Ready,
    /// Is being served; `pending` remembers an event that came meanwhile.
    Out { pending: bool },
}

impl Slot {
    fn holds_stranger(&self, id: ConnectionId) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.id() == id && connection.is_strangers())
    }
}

impl Table {
    pub(in crate::server) fn new(counters: &Arc<Counters>, worker: usize) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(mio::Waker::new(poll.registry(), WAKER)?);
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS),
            mailbox: Arc::new(Mailbox::new(waker)),
            counters: Arc::clone(counters),
            slots: Vec::new(),
            vacant: Vec::new(),
            ready: ReadyQueue::new(counters, worker),
            now: Instant::now(),
            turns_until_poll: 0,
            timers: Timers::default(),
            strangers: VecDeque::new(),
            is_draining: false,
            failures: Vec::new(),
        })
    }

    /// Where other threads reach the worker of this table.
    pub(in crate::server) fn mailbox(&self) -> Arc<Mailbox<Delivery>> {
        Arc::clone(&self.mailbox)
    }

    /// When the sockets were last asked.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    /// Takes the next ready connection out for its turn.
    pub(super) fn take_ready(&mut self) -> Option<Due> {
        let (index, since) = self.ready.pop()?;
        self.take_out(index, since)
    }

    /// Takes in a connection from another worker's table, and at once out for its turn.
    pub(super) fn adopt(&mut self, (connection, since): ReadyConnection) -> Option<Due> {
        let index = self.admit(connection)?;
        self.take_out(index, since)
    }

    fn take_out(&mut self, index: usize, since: Instant) -> Option<Due> {
        self.turns_until_poll = self.turns_until_poll.saturating_sub(1);
        let slot = &mut self.slots[index];
        slot.state = State::Out { pending: false };
        let mut connection = slot.connection.take()?;
        connection.record_closed(slot.read_closed, slot.broken);
        Some(Due { token: Token(index), connection, since })
    }

    /// Puts a connection back after its turn; if it has more to do, with when that was first seen.
    pub(super) fn put_back(
        &mut self,
        Token(index): Token,
        connection: Box<Connection>,
        ready_since: Option<Instant>,
    ) {
        let slot = &mut self.slots[index];
        let seen_meanwhile = (slot.state == State::Out { pending: true }).then_some(self.now);
        slot.connection = Some(connection);
        slot.state = State::Idle;
        self.arm(index);
        if let Some(since) = ready_since.or(seen_meanwhile) {
            self.make_ready(index, since);
        }
    }

    /// Frees the slot of a connection that was closed in its turn.
    pub(super) fn remove(&mut self, Token(index): Token) {
        self.vacate(index);
    }

    /// Whether every connection that was ready at the last look has had its turn: the sockets must be asked before the
    /// next one.
    pub(super) fn is_poll_due(&self) -> bool {
        self.turns_until_poll == 0
    }

    /// Whether a connection waits for its turn.
    pub(super) fn has_ready(&self) -> bool {
        self.ready.len() > 0
    }

    /// When the deadlines must be looked at, at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Waits for any connection to become ready, a wake-up or the end of `timeout`; then takes in what was delivered.
    pub(in crate::server) fn wait(&mut self, timeout: Option<Duration>, now: Instant) -> io::Result<()> {
        let outcome = match self.look(timeout, now) {
            // A signal came between: that says nothing about the sockets, but the wait is over.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            outcome => outcome.map(drop),
        };
        // Whatever ended the wait: a wake-up can be swallowed by the watchdog's look at this table.
        while let Some(delivery) = self.mailbox.take() {
            match delivery {
                Delivery::Connection(connection) => {
                    // A key may have been withdrawn on the way.
                    let is_ready = self.is_draining || connection.is_key_withdrawn();
                    if let Some(index) = self.admit(connection)
                        && is_ready
                    {
                        self.make_ready(index, self.now);
                    }
                }
                Delivery::Answer(Token(index)) => self.make_ready(index, self.now),
            }
        }
        self.turns_until_poll = self.ready.len().max(1);
        outcome
    }

    /// Takes out a ready connection, for another worker.
    pub(in crate::server) fn steal_ready(&mut self) -> Option<ReadyConnection> {
        while let Some((index, since)) = self.ready.pop() {
            if let Some(connection) = self.release(index) {
                return Some((connection, since));
            }
        }
        None
    }

    /// What could not be done with sockets since this was last asked, for the log.
    pub(in crate::server) fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// Takes in every event that is there, however many.
    fn look_at_all(&mut self, now: Instant) -> io::Result<()> {
        loop {
            match self.look(Some(Duration::ZERO), now) {
                Ok(EVENTS) => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits once, and says how many events that gave. It is `now` when it begins.
    fn look(&mut self, timeout: Option<Duration>, now: Instant) -> io::Result<usize> {
        self.poll.poll(&mut self.events, timeout)?;
        self.now = if timeout == Some(Duration::ZERO) { now } else { Instant::now() };
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut count = 0;
        for event in &events {
            count += 1;
            if event.token() != WAKER {
                self.record(event);
            }
        }
        self.events = events;
        Ok(count)
    }

    fn record(&mut self, event: &Event) {
        let Some(slot) = self.slots.get_mut(event.token().0) else { return };
        let broken = event.is_write_closed() || event.is_error();
        let ended = event.is_read_closed() || broken;
        slot.broken |= broken;
        slot.read_closed |= ended;
        let wants_to_write = slot.connection.as_ref().is_none_or(|connection| connection.wants_to_write());
        if event.is_readable() || ended || (event.is_writable() && wants_to_write) {
            self.make_ready(event.token().0, self.now);
        }
    }

    fn make_ready(&mut self, index: usize, since: Instant) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match &mut slot.state {
            State::Out { pending } => *pending = true,
            state @ State::Idle => {
                *state = State::Ready;
                self.ready.push(index, since);
            }
            State::Ready | State::Vacant => {}
        }
    }

    fn admit(&mut self, mut connection: Box<Connection>) -> Option<usize> {
        let index = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(connection.stream_mut(), Token(index), interest) {
            let line = format!("{}: closed, its socket can't be watched: {error}", connection.peer());
            self.failures.push((connection, line));
            self.vacant.push(index);
            return None;
        }
        if connection.is_strangers() {
            self.add_stranger(connection.id(), index);
        }
        self.slots[index] = Slot { connection: Some(connection), state: State::Idle, ..Slot::default() };
        self.arm(index);
        Some(index)
    }

    /// Keeps those that it will not find any more to the few that the front one is older than: none stays a stranger for long.
    fn add_stranger(&mut self, id: ConnectionId, index: usize) {
        while let Some(&(id, index)) = self.strangers.front()
            && !matches!(self.slots[index].state, State::Out { .. })
            && !self.slots[index].holds_stranger(id)
        {
            self.strangers.pop_front();
        }
        // One that another worker had before may be older than those that are here.
        let at = self.strangers.iter().rposition(|(other, _)| other.get() < id.get()).map_or(0, |at| at + 1);
        self.strangers.insert(at, (id, index));
    }

    fn release(&mut self, index: usize) -> Option<Box<Connection>> {
        let slot = &mut self.slots[index];
        let mut connection = slot.connection.take()?;
        connection.record_closed(slot.read_closed, slot.broken);
        self.vacate(index);
        match self.poll.registry().deregister(connection.stream_mut()) {
            Ok(()) => Some(connection),
            Err(error) => {
                let line = format!("{}: closed, its socket can't be moved: {error}", connection.peer());
                self.failures.push((connection, line));
                None
            }
        }
    }

    /// Takes a connection out for good. No event of its socket may reach the slot's next one, though it lives on for a while.
    fn take_ended(&mut self, index: usize) -> Option<Box<Connection>> {
        let mut connection = self.slots[index].connection.take()?;
        // Without success nothing is told of it either.
        let _ = self.poll.registry().deregister(connection.stream_mut());
        self.vacate(index);
        Some(connection)
    }

    fn vacate(&mut self, index: usize) {
        self.slots[index] = Slot::default();
        self.vacant.push(index);
    }

    /// Makes sure that the connection is looked at by its deadline.
    fn arm(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(connection) = &slot.connection else { return };
        let Some(at) = connection.deadline() else { return };
        if slot.timer.is_none_or(|timer| at < timer) {
            slot.timer = Some(at);
            self.timers.push(at, index);
            let live = self.slots.len() - self.vacant.len();
            let slots = &self.slots;
            self.timers.prune(live, |at, index| slots[index].timer == Some(at));
        }
    }
}
