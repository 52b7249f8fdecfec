//! What the clones of a shared client share.
//!
//! ```text
//! begin: seal -> output --whoever comes first writes, others only append--> socket
//!                calls: [oldest ... newest], in the order of their frames
//! socket --the reader: a caller that waits, or else the background thread--> oldest call's slot
//! ```
//!
//! No callback, waker or log line runs under the lock.

use std::process;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::driver::{self, Registration};
use super::slot::Notice;
use super::state::{Reader, State};
use crate::client::connection::Connection;
use crate::client::settings::Settings;
use crate::{Error, Phase};

/// How a shared client differs from others.
#[derive(Debug, Clone, Copy)]
pub(in crate::client) struct SharedSettings {
    pub(in crate::client) max_in_flight: usize,
    /// As long as the longest time-out of a call in flight if that is not said.
    pub(in crate::client) stall_timeout: Option<Duration>,
    /// Whether it pings while it is idle.
    pub(in crate::client) keep_alive: bool,
    /// How long it is idle until then; a quarter of the lifetime if that is not said.
    pub(in crate::client) keep_alive_interval: Option<Duration>,
}

pub(in crate::client) struct Shared {
    pub(super) settings: Settings,
    pub(super) limits: SharedSettings,
    pub(super) registration: Registration,
    /// Makes new connections.
    pub(super) connector: Mutex<Connection>,
    pub(super) state: Mutex<State>,
    /// Threads wait here for room.
    pub(super) has_room: Condvar,
    /// A forked child has a copy of all this, which is not its own to use.
    process: u32,
    pub(super) this: Weak<Shared>,
}

impl Shared {
    pub(super) fn new(mut connector: Connection, limits: SharedSettings) -> Result<Arc<Self>, Error> {
        let failed = |source| Error::io(Phase::Spawn, source);
        let link = connector.link.take().ok_or(Error::Closed)?;
        let registration = driver::register().map_err(failed)?;
        let mut state = State::new();
        state.install(link, &mut Vec::new()).map_err(failed)?;
        let client = Arc::new_cyclic(|this| Self {
            settings: connector.settings,
            limits,
            registration,
            connector: Mutex::new(connector),
            state: Mutex::new(state),
            has_room: Condvar::new(),
            process: process::id(),
            this: Weak::clone(this),
        });
        Ok(client)
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

    /// Lets those go on that wait for room, as far as there is any.
    pub(super) fn tell_of_room(&self, state: &mut State, notices: &mut Vec<Notice>) {
        let in_flight = state.in_flight();
        for _ in in_flight..self.limits.max_in_flight {
            match state.room.next() {
                Some(waker) => notices.push(Notice::Wake(waker)),
                None => break,
            }
        }
        if in_flight < self.limits.max_in_flight {
            self.has_room.notify_all();
        }
    }

    /// How long nothing may arrive while an answer is due.
    pub(super) fn stall_timeout(&self, state: &State) -> Duration {
        let longest = self.settings.request_timeout.max(state.longest_timeout);
        self.limits.stall_timeout.unwrap_or(longest)
    }

    pub(super) fn stalled(&self, state: &State) -> Error {
        Error::timed_out(Phase::Receive, self.stall_timeout(state))
    }

    pub(super) fn is_forked(&self) -> bool {
        self.process != process::id()
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
}
