//! A worker's connections: which of them are ready, and the one wait for the rest.
//!
//! The worker holds the table's lock except while it serves a connection, which is out of the table meanwhile. So
//! the watchdog can look after the others when that takes long.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use log::error;
use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};

use super::connection::Connection;
use super::timers::Timers;
use super::worker_side::Dealt;

const LOG: &str = "falcotcp_sync::server";

/// The token of the waker; slots count from 0 and never get there.
const WAKER: Token = Token(usize::MAX);

/// Events taken from the operating system at once.
const EVENTS: usize = 1024;

pub(super) struct Table {
    poll: Poll,
    events: Events,
    inbox: Receiver<Dealt>,
    slots: Vec<Slot>,
    vacant: Vec<usize>,
    /// Slots in the state `Ready`, each once, in the order of their turns.
    ready: VecDeque<usize>,
    /// Turns until those who became ready meanwhile are asked for.
    turns_until_poll: usize,
    timers: Timers,
    draining: bool,
    /// The worker to which the connection goes that is out for its turn, if not back to its place.
    served_goes_to: Option<usize>,
}

#[derive(Default)]
struct Slot {
    connection: Option<Box<Connection>>,
    state: State,
    /// The moment of this slot's entry among the timers, at or before its connection's deadline.
    timer: Option<Instant>,
    /// An event told that the peer will send no more.
    read_closed: bool,
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

/// The place of a connection that is out for its turn.
#[derive(Clone, Copy)]
pub(super) struct Ticket(usize);

impl Table {
    pub(super) fn new(inbox: Receiver<Dealt>) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let table = Self {
            poll,
            events: Events::with_capacity(EVENTS),
            inbox,
            slots: Vec::new(),
            vacant: Vec::new(),
            ready: VecDeque::new(),
            turns_until_poll: 0,
            timers: Timers::default(),
            draining: false,
            served_goes_to: None,
        };
        Ok((table, waker))
    }

    /// Takes the next ready connection out for its turn.
    pub(super) fn check_out(&mut self) -> Option<(Ticket, Box<Connection>)> {
        let index = self.ready.pop_front()?;
        self.turns_until_poll = self.turns_until_poll.saturating_sub(1);
        let slot = &mut self.slots[index];
        slot.state = State::Out { pending: false };
        let mut connection = slot.connection.take()?;
        if slot.read_closed {
            connection.note_read_closed();
        }
        Some((Ticket(index), connection))
    }

    /// Puts a connection back after its turn; `again` if it has more to do.
    pub(super) fn check_in(&mut self, ticket: Ticket, connection: Box<Connection>, again: bool) {
        let slot = &mut self.slots[ticket.0];
        let ready = again || slot.state == State::Out { pending: true };
        slot.connection = Some(connection);
        slot.state = State::Idle;
        self.arm(ticket.0);
        if ready {
            self.make_ready(ticket.0);
        }
    }

    /// Frees the place of a connection that was closed in its turn.
    pub(super) fn forget(&mut self, ticket: Ticket) {
        self.vacate(ticket.0);
    }

    /// Takes in a connection that another worker's table gave up, and at once out for its turn.
    pub(super) fn adopt(&mut self, connection: Box<Connection>) -> Option<(Ticket, Box<Connection>)> {
        let index = self.admit(connection)?;
        self.turns_until_poll = self.turns_until_poll.saturating_sub(1);
        let slot = &mut self.slots[index];
        slot.state = State::Out { pending: false };
        slot.connection.take().map(|connection| (Ticket(index), connection))
    }

    /// Whether every connection that was ready at the last look has had its turn: those who became ready meanwhile must
    /// be asked for before the next one.
    pub(super) fn is_poll_due(&self) -> bool {
        self.turns_until_poll == 0
    }

    /// Whether a connection waits for its turn.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether no new connection has been dealt.
    pub(super) fn is_inbox_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    /// When the deadlines must be looked at, at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Waits for any connection to become ready, a wake-up or the end of `timeout`; then takes in new
    /// connections.
    pub(super) fn wait(&mut self, timeout: Option<Duration>) {
        if let Err(error) = self.poll.poll(&mut self.events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            std::thread::sleep(Duration::from_millis(10));
            error!(target: LOG, "waiting for connections failed: {error}");
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            if event.token() != WAKER {
                self.note(event);
            }
        }
        self.events = events;
        // Whatever ended the wait: a wake-up can be swallowed by the watchdog's look at this table.
        while let Ok(Dealt { connection, is_ready }) = self.inbox.try_recv() {
            // A key may have been withdrawn on the way.
            let is_ready = is_ready || self.draining || connection.is_key_withdrawn();
            if let Some(index) = self.admit(connection)
                && is_ready
            {
                self.make_ready(index);
            }
        }
        self.turns_until_poll = self.ready.len().max(1);
    }

    /// Closes the connections whose deadline is over and gives them to `expired`.
    pub(super) fn expire(&mut self, now: Instant, mut expired: impl FnMut(&Connection)) {
        while let Some((at, index)) = self.timers.pop_due(now) {
            let slot = &mut self.slots[index];
            if slot.timer != Some(at) {
                continue;
            }
            slot.timer = None;
            match &slot.connection {
                Some(connection) if slot.state == State::Idle && connection.deadline().at <= now => {
                    let connection = slot.connection.take();
                    self.vacate(index);
                    connection.as_deref().into_iter().for_each(&mut expired);
                }
                Some(connection) if connection.deadline().at > now => self.arm(index),
                // In its turn or about to have it: the worker looks at the deadline when it puts it back.
                _ => {}
            }
        }
    }

    /// Gives up a ready connection, for another worker to take.
    pub(super) fn give_up_ready(&mut self) -> Option<Box<Connection>> {
        while let Some(index) = self.ready.pop_front() {
            if let Some(connection) = self.release(index) {
                return Some(connection);
            }
        }
        None
    }

    /// Lets the connection that is out go to another worker after its turn.
    pub(super) fn send_served_to(&mut self, worker: usize) {
        self.served_goes_to = Some(worker);
    }

    /// Where the connection goes that was out, if not back to its place. Told once.
    pub(super) fn take_served_goes_to(&mut self) -> Option<usize> {
        self.served_goes_to.take()
    }

    /// Gives up a connection that has just had its turn, for another worker, with whether an event came meanwhile.
    pub(super) fn give_up_served(
        &mut self,
        ticket: Ticket,
        connection: Box<Connection>,
    ) -> Option<(Box<Connection>, bool)> {
        let slot = &mut self.slots[ticket.0];
        let is_pending = slot.state == State::Out { pending: true };
        slot.connection = Some(connection);
        self.release(ticket.0).map(|connection| (connection, is_pending))
    }

    /// How many connections wait for their turn.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Gives every connection one more turn, in which what has arrived is answered. Once.
    pub(super) fn begin_drain(&mut self) {
        if !std::mem::replace(&mut self.draining, true) {
            for index in 0..self.slots.len() {
                self.make_ready(index);
            }
        }
    }

    /// Closes every connection for which `is_over` holds and that is not out for its turn. Each is given to `closed`, with
    /// whether it was ready for a turn.
    pub(super) fn close_if(
        &mut self,
        is_over: impl Fn(&Connection) -> bool,
        mut closed: impl FnMut(&Connection, bool),
    ) {
        let mut over = Vec::new();
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let is_ready = slot.state == State::Ready;
            if let Some(connection) = slot.connection.take_if(|connection| is_over(connection)) {
                self.vacate(index);
                over.push((connection, is_ready));
            }
        }
        let slots = &self.slots;
        self.ready.retain(|index| slots[*index].state == State::Ready);
        // Only now that the table is in order, since the application's logger may panic.
        for (connection, is_ready) in over {
            closed(&connection, is_ready);
        }
    }

    /// Takes a connection that was dealt and has not been admitted yet.
    pub(super) fn next_dealt(&mut self) -> Option<Dealt> {
        self.inbox.try_recv().ok()
    }

    /// Frees the places of connections that were lost in their turn.
    pub(super) fn reclaim(&mut self) {
        self.served_goes_to = None;
        for index in 0..self.slots.len() {
            if matches!(self.slots[index].state, State::Out { .. }) {
                self.vacate(index);
            }
        }
    }

    fn note(&mut self, event: &Event) {
        let Some(slot) = self.slots.get_mut(event.token().0) else { return };
        let ended = event.is_read_closed() || event.is_write_closed() || event.is_error();
        slot.read_closed |= ended;
        let wants_to_write = slot.connection.as_ref().is_none_or(|connection| connection.wants_to_write());
        if event.is_readable() || ended || (event.is_writable() && wants_to_write) {
            self.make_ready(event.token().0);
        }
    }

    fn make_ready(&mut self, index: usize) {
        match &mut self.slots[index].state {
            State::Out { pending } => *pending = true,
            state @ State::Idle => {
                *state = State::Ready;
                self.ready.push_back(index);
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
            error!(target: LOG, "{}: closed, its socket can't be watched: {error}", connection.peer());
            self.vacant.push(index);
            return None;
        }
        self.slots[index] =
            Slot { connection: Some(connection), state: State::Idle, timer: None, read_closed: false };
        self.arm(index);
        Some(index)
    }

    fn release(&mut self, index: usize) -> Option<Box<Connection>> {
        let slot = &mut self.slots[index];
        let mut connection = slot.connection.take()?;
        if slot.read_closed {
            connection.note_read_closed();
        }
        self.vacate(index);
        match self.poll.registry().deregister(connection.stream_mut()) {
            Ok(()) => Some(connection),
            Err(error) => {
                error!(target: LOG, "{}: closed, its socket can't be moved: {error}", connection.peer());
                None
            }
        }
    }

    fn vacate(&mut self, index: usize) {
        self.slots[index] = Slot::default();
        self.vacant.push(index);
    }

    /// Makes sure that the connection is looked at by its deadline.
    fn arm(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let Some(connection) = &slot.connection else { return };
        let at = connection.deadline().at;
        if slot.timer.is_none_or(|timer| at < timer) {
            slot.timer = Some(at);
            self.timers.push(at, index);
            let live = self.slots.len() - self.vacant.len();
            let slots = &self.slots;
            self.timers.prune(live, |at, index| slots[index].timer == Some(at));
        }
    }
}
