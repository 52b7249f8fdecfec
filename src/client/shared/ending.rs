//! How calls and connections end before their time.

use std::collections::VecDeque;
use std::sync::Arc;

use super::client::Shared;
use super::driver;
use super::slot::{Notice, Outcome, Slot};
use super::state::{InFlight, Kind, Reader, State};
use crate::client::settings::TimeLimit;
use crate::{Error, Phase};

impl Shared {
    /// Ends the connection. What was not processed for sure goes out on the next one, if there is to be one.
    pub(super) fn end(&self, state: &mut State, error: &Error, notices: &mut Vec<Notice>) {
        let server = state.peer_addr();
        state.socket = None;
        state.reader = Reader::Nobody;
        state.input = None;
        state.output.clear();
        state.pings = 0;
        let may_resend = self.settings.reconnect && !state.is_closed;
        let mut again = VecDeque::new();
        let mut is_oldest = true;
        for mut call in std::mem::take(&mut state.calls) {
            let was_sent = call.end <= state.written + state.in_writing && !error.is_goodbye();
            let is_told = matches!(error, Error::NotAuthentic | Error::TooLarge { .. });
            let outcome = match was_sent {
                true if state.is_closed => Error::ClosedInFlight,
                false if state.is_closed => Error::Closed,
                false => Error::GOODBYE,
                // The call whose answer it was is told so, the others that the connection ended.
                true if is_told && is_oldest => error.clone(),
                true if is_told || !error.was_sent() => Error::closed_by_server(Phase::Receive),
                true => error.clone(),
            };
            let outcome = outcome.at(server);
            is_oldest = false;
            if call.slot.is_done() {
                continue;
            }
            match call.kind {
                Kind::Message { message: Some(_), is_idempotent }
                    if may_resend && (is_idempotent || !was_sent) =>
                {
                    if was_sent {
                        call.sent_before = Some(outcome);
                    }
                    again.push_back(call);
                }
                _ => notices.extend(call.fail(outcome)),
            }
        }
        again.append(&mut state.waiting);
        state.waiting = again;
        if state.is_closed || !self.settings.reconnect {
            let closed = if state.is_closed { Error::Closed } else { error.clone().at(server) };
            for call in std::mem::take(&mut state.waiting) {
                notices.extend(call.fail(closed.clone()));
            }
        } else if !state.waiting.is_empty() {
            self.see_to_connection(state);
        }
        self.tell_of_room(state, notices);
    }

    /// Ends a call whose time is over, for its caller. It counts as in flight until its answer has come.
    pub(super) fn time_out(&self, slot: &Arc<Slot>, time: TimeLimit) -> Outcome {
        let timed_out = |phase| Error::timed_out(phase, time.timeout);
        let server = self.state.lock().peer_addr();
        match self.forget(slot) {
            Some(call) => Err(call.told(timed_out(Phase::Connect))),
            // Its result may have come just now.
            None => slot.give_up().unwrap_or_else(|| Err(timed_out(Phase::Receive).at(server))),
        }
    }

    /// Takes a call whose caller has gone out of those that wait for a connection; others have its room then.
    pub(super) fn forget(&self, slot: &Arc<Slot>) -> Option<InFlight> {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        let position = state.waiting.iter().position(|call| Arc::ptr_eq(&call.slot, slot))?;
        let call = state.waiting.remove(position);
        self.tell_of_room(&mut state, &mut notices);
        drop(state);
        driver::give(notices);
        call
    }
}
