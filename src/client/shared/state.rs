//! What the clones of a shared client share: the connection, the calls in flight, and who writes and reads.
//!
//! ```text
//! start: seal -> output --whoever comes first writes, others only append--> socket
//!                calls: [oldest ... newest], in the order of their frames
//! socket --the reader: a caller that waits, or else the background thread--> oldest call's slot
//! ```
//!
//! No callback, waker or log line runs under the lock.

use std::collections::VecDeque;
use std::process;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::driver::{self, Registration};
use super::room::Room;
use super::slot::{Notice, Slot, Waited};
use super::socket::{Endpoint, Socket};
use crate::client::connection::Connection;
use crate::client::link::Link;
use crate::client::settings::Settings;
use crate::protocol::{ClientEvent, later};
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

/// What a reader reads at once.
const READ_BUFFER: usize = 64 << 10;

/// How a shared client differs from others.
#[derive(Debug, Clone, Copy)]
pub(in crate::client) struct SharedSettings {
    pub(in crate::client) max_in_flight: usize,
    pub(in crate::client) stall_timeout: Duration,
    /// Whether it pings while it is idle, and how long it is idle until then: a quarter of the lifetime if not said.
    pub(in crate::client) keep_alive: Option<Option<Duration>>,
}

pub(in crate::client) struct Shared {
    pub(super) settings: Settings,
    pub(super) shared: SharedSettings,
    pub(super) registration: Registration,
    /// Makes new connections.
    pub(super) connector: Mutex<Connection>,
    pub(super) state: Mutex<State>,
    /// Threads wait here for room.
    has_room: Condvar,
    /// A forked child has a copy of all this, which is not its own to use.
    process: u32,
    pub(super) this: Weak<Shared>,
}

pub(super) struct State {
    pub(super) socket: Option<Socket>,
    /// Sealed frames that nobody has begun to write.
    pub(super) output: Vec<u8>,
    /// Bytes sealed and written since the connection began.
    sealed: u64,
    written: u64,
    /// Somebody writes, or will before the socket is waited for.
    is_writing: bool,
    pub(super) reader: Reader,
    input: Option<ReadBuffer>,
    /// Calls whose frames are sealed, the oldest first. One whose caller has gone stays until its answer has come.
    pub(super) calls: VecDeque<InFlight>,
    /// Calls that wait for a connection.
    pub(super) waiting: VecDeque<InFlight>,
    pub(super) room: Room,
    pub(super) is_connecting: bool,
    pub(super) is_closed: bool,
    /// Calls that were answered since the last look.
    answered: usize,
    /// When something last arrived, or the oldest call became the oldest.
    pub(super) last_progress: Instant,
    /// When the background thread will look at the deadlines, as far as it knows.
    pub(super) next_look: Option<Instant>,
}

/// Who reads from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Nobody,
    /// A caller that waits.
    Caller,
    Driver,
}

pub(super) struct InFlight {
    pub(super) slot: Arc<Slot>,
    /// Its frame ends after this many bytes since the connection began.
    end: u64,
    pub(super) deadline: Instant,
    kind: Kind,
}

enum Kind {
    /// The message is kept as long as it may have to be sent again.
    Message { message: Option<Vec<u8>>, is_idempotent: bool },
    /// A forward-secret session's, whose pong has its turn among the responses.
    Ping,
}

/// What a call is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    pub(super) deadline: Instant,
    pub(super) is_idempotent: bool,
    /// The caller waits for it at once, and reads for itself if nobody else does.
    pub(super) will_wait: bool,
}

impl Shared {
    pub(super) fn new(mut connector: Connection, shared: SharedSettings) -> Result<Arc<Self>, Error> {
        let failed = |source| Error::io(Phase::Spawn, source);
        let link = connector.link.take().ok_or(Error::Closed)?;
        let registration = driver::register().map_err(failed)?;
        let mut state = State {
            socket: None,
            output: Vec::new(),
            sealed: 0,
            written: 0,
            is_writing: false,
            reader: Reader::Nobody,
            input: None,
            calls: VecDeque::new(),
            waiting: VecDeque::new(),
            room: Room::default(),
            is_connecting: false,
            is_closed: false,
            answered: 0,
            last_progress: Instant::now(),
            next_look: None,
        };
        state.install(link).map_err(failed)?;
        let client = Arc::new_cyclic(|this| Self {
            settings: connector.settings,
            shared,
            registration,
            connector: Mutex::new(connector),
            state: Mutex::new(state),
            has_room: Condvar::new(),
            process: process::id(),
            this: Weak::clone(this),
        });
        Ok(client)
    }

    /// Begins a call, if there is room for it.
    pub(super) fn begin(&self, message: &[u8], begin: Begin) -> Result<Arc<Slot>, Error> {
        let mut notices = Vec::new();
        let outcome = self.begin_with(self.state.lock(), message, begin, &mut notices);
        driver::give(notices);
        outcome
    }

    /// The same, after waiting for room until the call's deadline.
    pub(super) fn begin_when_room(&self, message: &[u8], begin: Begin) -> Result<Arc<Slot>, Error> {
        let mut state = self.state.lock();
        while self.is_full(&state) && !state.is_closed {
            if self.has_room.wait_until(&mut state, begin.deadline).timed_out() && self.is_full(&state) {
                // Nothing of it was sent.
                return Err(Error::TimedOut { phase: Phase::Idle, limit: self.settings.request_timeout });
            }
        }
        let mut notices = Vec::new();
        let outcome = self.begin_with(state, message, begin, &mut notices);
        driver::give(notices);
        outcome
    }

    fn begin_with(
        &self,
        mut state: MutexGuard<'_, State>,
        message: &[u8],
        begin: Begin,
        notices: &mut Vec<Notice>,
    ) -> Result<Arc<Slot>, Error> {
        if state.is_closed || self.process != process::id() {
            return Err(Error::Closed);
        }
        if self.is_full(&state) {
            return Err(Error::Busy);
        }
        self.look_if_idle(&mut state, notices);
        let limit = match &state.socket {
            Some(socket) => socket.link.max_message_size(&self.settings),
            None if !self.settings.reconnect => return Err(Error::Closed),
            None => self.settings.max_message_size.map_or(u64::MAX, |limit| limit as u64),
        };
        let size = message.len() as u64;
        let too_large = Error::TooLarge { phase: Phase::Send, size, limit };
        if size > limit {
            return Err(too_large);
        }
        let slot = Arc::new(Slot::default());
        let keep = self.settings.reconnect.then(|| message.to_vec());
        let kind = Kind::Message { message: keep, is_idempotent: begin.is_idempotent };
        let call = InFlight { slot: Arc::clone(&slot), end: 0, deadline: begin.deadline, kind };
        if state.socket.is_some() {
            state.seal(message, call).map_err(|_| too_large)?;
        } else {
            state.waiting.push_back(call);
            self.see_to_connection(&mut state);
        }
        if !begin.will_wait {
            self.see_to_driver(&mut state, begin.deadline);
        }
        self.flush(&mut state, notices);
        Ok(slot)
    }

    /// Lets a future wait for room; `false` if there is some by now.
    pub(super) fn wait_for_room(
        &self,
        place: &mut Option<u64>,
        waker: &Waker,
        deadline: Instant,
    ) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if !self.is_full(&state) {
            return Ok(false);
        }
        if deadline <= Instant::now() {
            return Err(Error::TimedOut { phase: Phase::Idle, limit: self.settings.request_timeout });
        }
        *place = Some(state.room.wait(*place, waker, deadline));
        self.see_to_driver(&mut state, deadline);
        Ok(true)
    }

    /// A future waits for room no more. The room for which it was woken goes to the next one, if it did not take it.
    pub(super) fn leave_room_queue(&self, place: u64, has_taken_room: bool) {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        if !state.room.leave(place) && !has_taken_room {
            self.tell_of_room(&mut state, &mut notices);
        }
        drop(state);
        driver::give(notices);
    }

    fn is_full(&self, state: &State) -> bool {
        state.calls.len() + state.waiting.len() >= self.shared.max_in_flight
    }

    /// A client that nothing is in flight of looks whether its connection is still there.
    fn look_if_idle(&self, state: &mut State, notices: &mut Vec<Notice>) {
        if !state.calls.is_empty() || state.reader != Reader::Nobody {
            return;
        }
        let Some(socket) = &state.socket else { return };
        let idle = socket.link.last_used.elapsed();
        if self.settings.reconnect && idle >= socket.link.longest_idle(&self.settings) {
            self.end(state, &Error::ClosedByServer { phase: Phase::Idle }, notices);
        } else if let Err(error) = self.read_all(state, notices) {
            self.end(state, &error, notices);
        }
    }

    /// Writes what is sealed, unless somebody is at it, who then writes this as well.
    pub(super) fn flush(&self, state: &mut MutexGuard<'_, State>, notices: &mut Vec<Notice>) {
        if state.is_writing {
            return;
        }
        state.is_writing = true;
        let mut batch = Vec::new();
        while let Some(socket) = &state.socket {
            if state.output.is_empty() {
                break;
            }
            let endpoint = Arc::clone(&socket.endpoint);
            std::mem::swap(&mut batch, &mut state.output);
            let outcome = MutexGuard::unlocked(state, || endpoint.write(&batch));
            if !state.is_of(&endpoint) {
                batch.clear();
                continue;
            }
            match outcome {
                Ok(written) => {
                    state.record_written(written);
                    let is_stuck = written < batch.len();
                    if is_stuck {
                        batch.drain(..written);
                        batch.append(&mut state.output);
                        std::mem::swap(&mut batch, &mut state.output);
                        // The background thread goes on when the socket takes more.
                        self.watch(state);
                        break;
                    }
                    batch.clear();
                }
                Err(error) => {
                    // The answers that lie in the socket come first.
                    let error = match self.read_if_nobody_does(state, notices) {
                        Err(told @ (Error::Goodbye | Error::NotAuthentic)) => told,
                        _ => self.settings.io_error(Phase::Send, error),
                    };
                    self.end(state, &error, notices);
                    batch.clear();
                }
            }
        }
        state.is_writing = false;
    }

    fn read_if_nobody_does(&self, state: &mut State, notices: &mut Vec<Notice>) -> Result<(), Error> {
        if state.reader == Reader::Caller { Ok(()) } else { self.read_all(state, notices) }
    }

    /// Waits for a call until then. The result if it came.
    pub(super) fn wait(&self, slot: &Arc<Slot>, until: Instant) -> Option<Result<Vec<u8>, Error>> {
        let mut is_to_lead = false;
        loop {
            if is_to_lead || self.may_lead(slot) {
                self.lead(slot, until);
                if let Some(outcome) = slot.take() {
                    return Some(outcome);
                }
                if Instant::now() >= until {
                    return None;
                }
            }
            match slot.wait(until) {
                Waited::Done(outcome) => return Some(outcome),
                Waited::TimedOut => return None,
                Waited::ToLead => is_to_lead = true,
            }
        }
    }

    /// After several calls were answered at once, lets their callers start the next ones, which are then written together.
    pub(super) fn collect(&self, state: &mut MutexGuard<'_, State>, notices: &mut Vec<Notice>) {
        if std::mem::take(&mut state.answered) > 1 && !state.is_writing {
            state.is_writing = true;
            let given = std::mem::take(notices);
            MutexGuard::unlocked(state, || {
                driver::give(given);
                thread::yield_now();
            });
            state.is_writing = false;
            self.flush(state, notices);
        }
    }

    fn may_lead(&self, slot: &Slot) -> bool {
        let mut state = self.state.lock();
        let may_lead = state.reader == Reader::Nobody && state.socket.is_some() && !slot.is_done();
        if may_lead {
            state.reader = Reader::Caller;
        }
        may_lead
    }

    /// Reads for all until this call is done, the time is over, or the connection is; then somebody else goes on.
    fn lead(&self, slot: &Slot, until: Instant) {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        while state.reader == Reader::Caller {
            let Some(socket) = &state.socket else { break };
            let endpoint = Arc::clone(&socket.endpoint);
            let mut input = state.input.take().unwrap_or_else(|| ReadBuffer::with_size(READ_BUFFER));
            let frame_length = match state.take_events(&mut input, &self.settings, &mut notices) {
                Ok(frame_length) => frame_length,
                Err(error) => {
                    self.end(&mut state, &error, &mut notices);
                    break;
                }
            };
            self.tell_of_room(&mut state, &mut notices);
            self.collect(&mut state, &mut notices);
            if slot.is_done() {
                state.input = Some(input);
                break;
            }
            let stalls = later(state.last_progress, self.shared.stall_timeout);
            let given = std::mem::take(&mut notices);
            let outcome = MutexGuard::unlocked(&mut state, || {
                driver::give(given);
                let room = input.room(frame_length);
                match endpoint.read(room) {
                    Ok(None) => {
                        let timeout = until.min(stalls).saturating_duration_since(Instant::now());
                        endpoint.wait(timeout)?;
                        endpoint.read(input.room(frame_length))
                    }
                    outcome => outcome,
                }
            });
            if !state.is_of(&endpoint) {
                break;
            }
            let now = Instant::now();
            match outcome {
                Ok(Some(0)) => {
                    let error =
                        self.settings.io_error(Phase::Receive, std::io::ErrorKind::UnexpectedEof.into());
                    self.end(&mut state, &error, &mut notices);
                }
                Ok(Some(count)) => {
                    input.received(count);
                    state.last_progress = now;
                    state.input = Some(input);
                }
                Ok(None) => {
                    state.input = Some(input);
                    if now >= stalls {
                        self.end(&mut state, &self.stalled(), &mut notices);
                    } else if now >= until {
                        break;
                    }
                }
                Err(error) => {
                    let error = self.settings.io_error(Phase::Receive, error);
                    self.end(&mut state, &error, &mut notices);
                }
            }
        }
        self.pass_on(&mut state);
        drop(state);
        driver::give(notices);
    }

    /// Somebody else reads: another caller that waits, or the background thread.
    fn pass_on(&self, state: &mut State) {
        if state.reader != Reader::Caller {
            return;
        }
        if state.calls.iter().any(|call| call.slot.lead()) {
            return;
        }
        state.reader = Reader::Nobody;
        if !state.calls.is_empty() {
            let deadline = state.calls.iter().map(|call| call.deadline).min();
            self.see_to_driver(state, deadline.unwrap_or_else(Instant::now));
        }
    }

    /// Sees to it that somebody reads, and that the background thread looks at the call's deadline.
    pub(super) fn see_to_reader(&self, deadline: Instant) {
        self.see_to_driver(&mut self.state.lock(), deadline);
    }

    pub(super) fn see_to_driver(&self, state: &mut State, deadline: Instant) {
        let is_unread = state.reader == Reader::Nobody && !state.calls.is_empty();
        if is_unread {
            state.reader = Reader::Driver;
            self.watch(state);
        }
        if is_unread || state.next_look.is_none_or(|next| next > deadline) {
            state.next_look = Some(deadline);
            self.registration.wake();
        }
    }

    /// Lets the background thread be told of readiness as long as it has something to do.
    pub(super) fn watch(&self, state: &mut State) {
        let is_wanted = state.reader == Reader::Driver || !state.output.is_empty();
        if let Some(socket) = &mut state.socket
            && socket.watch(is_wanted, &self.registration).is_err()
        {
            // Then it looks again at the next deadline.
            self.registration.wake();
        }
    }

    /// Reads what has arrived. The caller must be the only reader.
    pub(super) fn read_all(&self, state: &mut State, notices: &mut Vec<Notice>) -> Result<(), Error> {
        let Some(socket) = &state.socket else { return Ok(()) };
        let endpoint = Arc::clone(&socket.endpoint);
        let mut input = state.input.take().unwrap_or_else(|| ReadBuffer::with_size(READ_BUFFER));
        loop {
            let frame_length = state.take_events(&mut input, &self.settings, notices)?;
            let phase = if state.calls.is_empty() { Phase::Idle } else { Phase::Receive };
            match endpoint.read(input.room(frame_length)) {
                Ok(None) => break,
                Ok(Some(0)) => return Err(Error::ClosedByServer { phase }),
                Ok(Some(count)) => {
                    input.received(count);
                    state.last_progress = Instant::now();
                }
                Err(error) => return Err(self.settings.io_error(phase, error)),
            }
        }
        state.input = Some(input);
        self.tell_of_room(state, notices);
        Ok(())
    }

    /// Lets those go on that wait for room, as far as there is any.
    pub(super) fn tell_of_room(&self, state: &mut State, notices: &mut Vec<Notice>) {
        let in_flight = state.calls.len() + state.waiting.len();
        for _ in in_flight..self.shared.max_in_flight {
            match state.room.next() {
                Some(waker) => notices.push(Notice::Wake(waker)),
                None => break,
            }
        }
        if in_flight < self.shared.max_in_flight {
            self.has_room.notify_all();
        }
    }

    pub(super) fn stalled(&self) -> Error {
        Error::TimedOut { phase: Phase::Receive, limit: self.shared.stall_timeout }
    }

    /// Ends the connection. What was not processed for sure goes out on the next one, if there is to be one.
    pub(super) fn end(&self, state: &mut State, error: &Error, notices: &mut Vec<Notice>) {
        state.socket = None;
        state.reader = Reader::Nobody;
        state.input = None;
        state.output.clear();
        let may_resend = self.settings.reconnect && !state.is_closed;
        let mut again = VecDeque::new();
        let mut is_oldest = true;
        for call in std::mem::take(&mut state.calls) {
            let was_sent = call.end <= state.written && !matches!(error, Error::Goodbye);
            let is_told = matches!(error, Error::NotAuthentic | Error::TooLarge { .. });
            let outcome = match (&call.kind, was_sent) {
                (Kind::Message { message: Some(_), .. }, false) if may_resend => {
                    again.push_back(call);
                    continue;
                }
                (Kind::Message { message: Some(_), is_idempotent: true }, true) if may_resend => {
                    again.push_back(call);
                    continue;
                }
                _ if state.is_closed => Error::Closed,
                (_, false) if matches!(error, Error::Goodbye) => Error::Goodbye,
                (_, false) => Error::ClosedByServer { phase: Phase::Idle },
                // The call whose answer it was is told so, the others that the connection ended.
                (_, true) if is_told && is_oldest => error.clone(),
                (_, true) if is_told || !error.was_sent() => Error::ClosedByServer { phase: Phase::Receive },
                (_, true) => error.clone(),
            };
            is_oldest = false;
            notices.extend(call.slot.complete(Err(outcome)));
        }
        again.append(&mut state.waiting);
        state.waiting = again;
        if state.is_closed || !self.settings.reconnect {
            let closed = if state.is_closed { Error::Closed } else { error.clone() };
            for call in std::mem::take(&mut state.waiting) {
                notices.extend(call.slot.complete(Err(closed.clone())));
            }
        } else if !state.waiting.is_empty() {
            self.see_to_connection(state);
        }
        self.tell_of_room(state, notices);
    }

    /// Ends a call whose time is over, for its caller. It counts as in flight until its answer has come.
    pub(super) fn time_out(&self, slot: &Arc<Slot>) -> Error {
        let mut state = self.state.lock();
        let position = state.waiting.iter().position(|call| Arc::ptr_eq(&call.slot, slot));
        let phase = match position {
            Some(index) => {
                state.waiting.remove(index);
                Phase::Connect
            }
            None => Phase::Receive,
        };
        Error::TimedOut { phase, limit: self.settings.request_timeout }
    }

    pub(super) fn close(&self) {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        state.is_closed = true;
        self.end(&mut state, &Error::Closed, &mut notices);
        while let Some(waker) = state.room.next() {
            notices.push(Notice::Wake(waker));
        }
        self.has_room.notify_all();
        drop(state);
        driver::give(notices);
    }

    /// Sends a ping; in a forward-secret session its pong is waited for.
    pub(super) fn ping(&self, deadline: Instant) -> Result<(), Error> {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        if state.is_closed || self.process != process::id() {
            return Err(Error::Closed);
        }
        self.look_if_idle(&mut state, &mut notices);
        let slot = state.ping(deadline);
        self.flush(&mut state, &mut notices);
        drop(state);
        driver::give(notices);
        match slot.ok_or(Error::Closed)? {
            Some(slot) => self.wait(&slot, deadline).unwrap_or_else(|| Err(self.time_out(&slot))).map(drop),
            None => Ok(()),
        }
    }
}

impl State {
    /// Goes on with a new connection.
    pub(super) fn install(&mut self, link: Link) -> std::io::Result<()> {
        let is_forward_secret = link.session.is_forward_secret();
        self.socket = Some(Socket::new(link)?);
        (self.sealed, self.written) = (0, 0);
        self.output.clear();
        self.input = None;
        self.last_progress = Instant::now();
        if is_forward_secret {
            // The ping that proves the session is answered first.
            let slot = Arc::new(Slot::default());
            slot.complete(Ok(Vec::new()));
            self.calls.push_back(InFlight { slot, end: 0, deadline: self.last_progress, kind: Kind::Ping });
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some(mut call) = waiting.pop_front() {
            if call.slot.is_done() {
                continue;
            }
            if let Kind::Message { message, .. } = &mut call.kind {
                let message = message.take().unwrap_or_default();
                let outcome = self.seal(&message, call);
                if let (Ok(()), Some(InFlight { kind: Kind::Message { message: kept, .. }, .. })) =
                    (outcome, self.calls.back_mut())
                {
                    *kept = Some(message);
                }
            }
        }
        Ok(())
    }

    /// Seals a message of a call behind all others.
    fn seal(&mut self, message: &[u8], call: InFlight) -> Result<(), ()> {
        let Some(socket) = &mut self.socket else { return Err(()) };
        let before = self.output.len();
        if socket.link.session.send(message, &mut self.output).is_err() {
            call.slot.complete(Err(Error::TooLarge {
                phase: Phase::Send,
                size: message.len() as u64,
                limit: socket.link.session.server_limits().map_or(u64::MAX, |limits| limits.max_message_size),
            }));
            return Err(());
        }
        self.push(before, call.slot, call.deadline, call.kind);
        Ok(())
    }

    fn push(&mut self, before: usize, slot: Arc<Slot>, deadline: Instant, kind: Kind) {
        self.sealed += (self.output.len() - before) as u64;
        if self.calls.is_empty() {
            self.last_progress = Instant::now();
        }
        if let Some(socket) = &mut self.socket {
            socket.link.last_used = Instant::now();
        }
        self.calls.push_back(InFlight { slot, end: self.sealed, deadline, kind });
    }

    /// Appends a ping. Its slot if there is a pong to wait for; nothing if there is no connection.
    pub(super) fn ping(&mut self, deadline: Instant) -> Option<Option<Arc<Slot>>> {
        let socket = self.socket.as_mut()?;
        let before = self.output.len();
        socket.link.session.ping(&mut self.output);
        if socket.link.session.is_forward_secret() {
            let slot = Arc::new(Slot::default());
            self.push(before, Arc::clone(&slot), deadline, Kind::Ping);
            return Some(Some(slot));
        }
        self.sealed += (self.output.len() - before) as u64;
        socket.link.last_used = Instant::now();
        Some(None)
    }

    fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.socket.as_ref().is_some_and(|socket| Arc::ptr_eq(&socket.endpoint, endpoint))
    }

    fn record_written(&mut self, count: usize) {
        let before = self.written;
        self.written += count as u64;
        // The oldest call's time without an answer is counted from when it was written, if that is later.
        if self.calls.front().is_some_and(|oldest| oldest.end > before && oldest.end <= self.written) {
            self.last_progress = Instant::now();
        }
    }

    /// Gives the responses that have arrived whole to their calls; bytes of the next frame, as far as is known.
    fn take_events(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
        notices: &mut Vec<Notice>,
    ) -> Result<usize, Error> {
        let Some(socket) = &mut self.socket else { return Ok(1) };
        loop {
            let phase = if self.calls.is_empty() { Phase::Idle } else { Phase::Receive };
            let (taken, outcome) = match socket.link.session.receive(input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => return Ok(frame_length),
                Ok((_, ClientEvent::Goodbye)) => return Err(Error::Goodbye),
                Ok((taken, ClientEvent::Response(text))) => (taken, Some(Ok(text.to_vec()))),
                Ok((taken, ClientEvent::Rejected(_))) => (taken, Some(Err(Error::Rejected))),
                Ok((taken, ClientEvent::Pong)) => (taken, Some(Ok(Vec::new()))),
                Ok((taken, _)) => (taken, None),
                Err(fault) => return Err(settings.error(phase, fault)),
            };
            input.consume(taken);
            if let Some(outcome) = outcome
                && let Some(call) = self.calls.pop_front()
            {
                self.answered += 1;
                notices.extend(call.slot.complete(outcome));
            }
        }
    }
}
