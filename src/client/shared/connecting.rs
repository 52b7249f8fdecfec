//! What a shared client has its background thread do: reading where no caller does, deadlines, pings; and how it gets a new
//! connection, on a thread that lives no longer than that takes, since connecting blocks.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::debug;

use super::client::Shared;
use super::driver::{self, Driven};
use super::slot::Notice;
use super::state::{InFlight, Reader, State};
use crate::client::reconnect::Backoff;
use crate::client::settings::LOG;
use crate::client::settings::TimeLimit;
use crate::protocol::later;
use crate::unwind::contained;
use crate::{Error, Phase};

/// However short the lifetime is that a server names, its clients do not burn a processor.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

impl Driven for Shared {
    fn drive(&self) -> (Option<Instant>, Vec<Notice>) {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        self.flush(&mut state, &mut notices);
        if state.reader == Reader::Driver
            && let Err(error) = self.read_all(&mut state, &mut notices)
        {
            self.end(&mut state, &error, &mut notices);
        }
        self.collect(&mut state, &mut notices);
        let now = Instant::now();
        self.expire(&mut state, now, &mut notices);
        if state.reader == Reader::Driver && state.calls.is_empty() {
            state.reader = Reader::Nobody;
        }
        let due = self.keep_alive(&mut state, now, &mut notices);
        self.watch(&mut state);
        let stalls =
            (state.reader == Reader::Driver).then(|| later(state.last_progress, self.stall_timeout(&state)));
        let calls = state.calls.iter().chain(&state.waiting).map(|call| call.time.deadline);
        let next = calls.filter(|deadline| *deadline > now).min();
        let next = next.into_iter().chain(stalls).chain(due).chain(state.room.next_deadline()).min();
        state.next_look = next;
        self.flush(&mut state, &mut notices);
        (next, notices)
    }
}

impl Shared {
    /// Ends calls whose time is over, and a connection on which nothing arrives.
    fn expire(&self, state: &mut State, now: Instant, notices: &mut Vec<Notice>) {
        let timed_out = |call: &InFlight, phase| Error::timed_out(phase, call.time.timeout);
        for call in state.calls.iter().filter(|call| call.time.deadline <= now) {
            let error = timed_out(call, Phase::Receive).at(state.peer_addr());
            notices.extend(call.slot.complete(Err(error)));
        }
        let overdue: VecDeque<_>;
        (overdue, state.waiting) =
            std::mem::take(&mut state.waiting).into_iter().partition(|call| call.time.deadline <= now);
        if !overdue.is_empty() {
            for call in overdue {
                let error = timed_out(&call, Phase::Connect);
                notices.extend(call.fail(error));
            }
            self.tell_of_room(state, notices);
        }
        notices.extend(state.room.take_overdue(now).into_iter().map(Notice::Wake));
        let is_stalled = state.reader == Reader::Driver
            && !state.calls.is_empty()
            && later(state.last_progress, self.stall_timeout(state)) <= now;
        if is_stalled {
            self.end(state, &self.stalled(state), notices);
        }
    }

    /// Pings if the client has been idle for long; when to look again.
    fn keep_alive(&self, state: &mut State, now: Instant, notices: &mut Vec<Notice>) -> Option<Instant> {
        let socket = state.socket.as_ref().filter(|_| self.limits.keep_alive)?;
        let longest = socket.link.longest_idle(&self.settings);
        let quarter = socket.link.lifetime(&self.settings) / 4;
        let interval = self.limits.keep_alive_interval.unwrap_or(quarter);
        let interval = interval.min(longest).max(SHORTEST_INTERVAL);
        let due = later(socket.link.last_used, interval);
        if due > now {
            return Some(due);
        }
        if state.reader != Reader::Caller {
            let outcome = self.read_all(state, notices);
            // The last ping's pong has had an interval to come.
            let is_dead =
                state.socket.as_ref().is_some_and(|socket| socket.link.session.unanswered_pings() > 0);
            match outcome {
                Ok(()) if is_dead && state.calls.len() == 1 => self.end(state, &self.stalled(state), notices),
                Ok(()) => _ = state.ping(TimeLimit { deadline: now, timeout: Duration::ZERO }),
                Err(error) => self.end(state, &error, notices),
            }
        }
        Some(later(now, interval))
    }

    /// Starts to connect anew, unless that goes on already.
    pub(super) fn see_to_connection(&self, state: &mut State) {
        if state.is_connecting {
            return;
        }
        let Some(this) = self.this.upgrade() else { return };
        let spawned =
            thread::Builder::new().name("falcotcp-connect".to_owned()).spawn(move || this.connect());
        state.is_connecting = spawned.is_ok();
    }

    /// Connects as long as calls wait for that.
    fn connect(self: Arc<Self>) {
        self.registration.count_this_thread();
        let mut backoff = Backoff::new();
        loop {
            let mut notices = Vec::new();
            let deadline = {
                let mut state = self.state.lock();
                // Those whose callers have gone leave their room to others, which may then wait for this connection.
                state.waiting.retain(|call| !call.slot.is_done());
                self.tell_of_room(&mut state, &mut notices);
                let deadline = state.waiting.iter().map(|call| call.time.deadline).max();
                state.is_connecting = deadline.is_some() && !state.is_closed;
                deadline.filter(|_| state.is_connecting)
            };
            driver::give(std::mem::take(&mut notices));
            let Some(deadline) = deadline else { return };
            // The application's sources of keys and addresses may panic.
            let outcome = contained(|| self.connector.lock().connect_anew(deadline)).unwrap_or_else(|| {
                let panicked = io::Error::other("the source of keys or of addresses panicked");
                Err(Error::io(Phase::Connect, panicked))
            });
            let error = match outcome {
                Ok(link) => {
                    let mut state = self.state.lock();
                    if state.is_closed {
                        return;
                    }
                    match state.install(link, &mut notices) {
                        Ok(()) => {
                            state.is_connecting = false;
                            let deadline = state.calls.iter().map(|call| call.time.deadline).min();
                            self.see_to_driver(&mut state, deadline.unwrap_or_else(Instant::now));
                            self.flush(&mut state, &mut notices);
                            self.tell_of_room(&mut state, &mut notices);
                            drop(state);
                            return driver::give(notices);
                        }
                        Err(source) => Error::io(Phase::Connect, source),
                    }
                }
                Err(error) => error,
            };
            let mut state = self.state.lock();
            // Calls that came meanwhile may have more time.
            let deadline = state.waiting.iter().map(|call| call.time.deadline).max();
            let pause = deadline.and_then(|deadline| backoff.next(deadline));
            if let Some(pause) = pause.filter(|_| error.may_pass()) {
                drop(state);
                // A logger's panic must not leave the client without anybody who connects.
                contained(|| debug!(target: LOG, "connecting again after a pause: {error}"));
                thread::sleep(pause);
                continue;
            }
            state.is_connecting = false;
            for call in std::mem::take(&mut state.waiting) {
                notices.extend(call.fail(error.clone()));
            }
            self.tell_of_room(&mut state, &mut notices);
            drop(state);
            return driver::give(notices);
        }
    }
}
