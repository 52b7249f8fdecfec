//! How a call begins, and the room that it needs.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use parking_lot::MutexGuard;

use super::client::Shared;
use super::driver;
use super::slot::{Notice, Slot};
use super::state::{InFlight, Kind, Reader, State};
use crate::client::settings::TimeLimit;
use crate::{Error, Phase};

/// What a call is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begin {
    pub(super) time: TimeLimit,
    pub(super) is_idempotent: bool,
    /// The caller waits for it at once, and reads for itself if nobody else does.
    pub(super) will_wait: bool,
}

impl Shared {
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
            if self.has_room.wait_until(&mut state, begin.time.deadline).timed_out() && self.is_full(&state) {
                // Nothing of it was sent.
                return Err(Error::timed_out(Phase::Idle, begin.time.timeout));
            }
        }
        let mut notices = Vec::new();
        let outcome = self.begin_with(state, message, begin, &mut notices);
        driver::give(notices);
        outcome
    }

    pub(super) fn begin_with(
        &self,
        mut state: MutexGuard<'_, State>,
        message: &[u8],
        begin: Begin,
        notices: &mut Vec<Notice>,
    ) -> Result<Arc<Slot>, Error> {
        if state.is_closed || self.is_forked() {
            return Err(Error::Closed);
        }
        if self.is_full(&state) {
            return Err(Error::Busy);
        }
        let ended = self.look_if_idle(&mut state, notices);
        let limit = match &state.socket {
            Some(socket) => socket.link.max_message_size(&self.settings),
            None if !self.settings.reconnect => return Err(ended.unwrap_or(Error::Closed)),
            None => self.settings.max_message_size.map_or(u64::MAX, |limit| limit as u64),
        };
        let size = message.len() as u64;
        if size > limit {
            return Err(Error::TooLarge { phase: Phase::Send, size, limit });
        }
        let slot = Arc::new(Slot::default());
        let keep = self.settings.reconnect.then(|| message.to_vec());
        let kind = Kind::Message { message: keep, is_idempotent: begin.is_idempotent };
        let call = InFlight { slot: Arc::clone(&slot), end: 0, time: begin.time, kind, sent_before: None };
        if state.socket.is_some() {
            state.seal(message, call)?;
        } else {
            state.waiting.push_back(call);
            self.see_to_connection(&mut state);
        }
        if !begin.will_wait {
            self.see_to_driver(&mut state, begin.time.deadline);
        }
        self.flush(&mut state, notices);
        Ok(slot)
    }

    /// Lets a future wait for room; `false` if there is some by now.
    pub(super) fn wait_for_room(
        &self,
        place: &mut Option<u64>,
        waker: &Waker,
        TimeLimit { deadline, timeout }: TimeLimit,
    ) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if !self.is_full(&state) {
            return Ok(false);
        }
        if deadline <= Instant::now() {
            return Err(Error::timed_out(Phase::Idle, timeout));
        }
        let (own_place, before) = state.room.wait(*place, waker.clone(), deadline);
        *place = Some(own_place);
        self.see_to_driver(&mut state, deadline);
        drop(state);
        drop(before);
        Ok(true)
    }

    /// A future waits for room no more. The room for which it was woken goes to the next one, if it did not take it.
    pub(super) fn leave_room_queue(&self, place: u64) {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        let waker = state.room.leave(place);
        if waker.is_none() {
            self.tell_of_room(&mut state, &mut notices);
        }
        drop(state);
        drop(waker);
        driver::give(notices);
    }

    pub(super) fn is_full(&self, state: &State) -> bool {
        state.in_flight() >= self.limits.max_in_flight
    }

    /// A client that nothing is in flight of looks whether its connection is still there; why it is over if it is not.
    pub(super) fn look_if_idle(&self, state: &mut State, notices: &mut Vec<Notice>) -> Option<Error> {
        if !state.calls.is_empty() || state.reader != Reader::Nobody {
            return None;
        }
        let link = &state.socket.as_ref()?.link;
        let is_old = link.last_used.elapsed() >= link.longest_idle(&self.settings);
        let (addr, is_left) = (link.addr, self.settings.reconnect && is_old);
        let error = if is_left { Error::GOODBYE } else { self.read_all(state, notices).err()? };
        self.end(state, &error, notices);
        Some(error.at(addr))
    }

    /// Sends a ping; in a forward-secret session its pong is waited for.
    pub(super) fn ping(&self, time: TimeLimit) -> Result<(), Error> {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        if state.is_closed || self.is_forked() {
            return Err(Error::Closed);
        }
        let ended = self.look_if_idle(&mut state, &mut notices);
        let slot = state.ping(time);
        self.flush(&mut state, &mut notices);
        drop(state);
        driver::give(notices);
        let slot = slot.ok_or_else(|| ended.unwrap_or(Error::Closed))?;
        self.wait(&slot, time.deadline).unwrap_or_else(|| self.time_out(&slot, time)).map(drop)
    }
}
