//! Who reads: a caller that waits, for all others as well, or the background thread.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::MutexGuard;

use super::client::Shared;
use super::driver;
use super::slot::{Notice, Slot, Waited};
use super::state::{Reader, State};
use crate::protocol::later;
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

/// What a reader reads at once.
const READ_BUFFER: usize = 64 << 10;

impl Shared {
    /// Waits for a call until then. The result if it came.
    pub(super) fn wait(&self, slot: &Arc<Slot>, until: Instant) -> Option<Result<Vec<u8>, Error>> {
        let mut leads = None;
        loop {
            leads = leads.or_else(|| self.may_lead(slot));
            if let Some(connection) = leads.take() {
                self.lead(slot, until, connection);
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
                Waited::ToLead(connection) => leads = Some(connection),
            }
        }
    }

    /// Takes the reader's part, if it is free; the connection on which.
    fn may_lead(&self, slot: &Slot) -> Option<u64> {
        let mut state = self.state.lock();
        let may_lead = state.reader == Reader::Nobody && state.socket.is_some() && !slot.is_done();
        may_lead.then(|| {
            state.reader = Reader::Caller;
            state.connection
        })
    }

    /// Reads for all until this call is done, the time is over, or the connection is; then somebody else goes on.
    fn lead(&self, slot: &Slot, until: Instant, connection: u64) {
        let mut notices = Vec::new();
        let mut state = self.state.lock();
        while state.connection == connection {
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
            if !state.is_of(&endpoint) {
                break;
            }
            if slot.is_done() {
                state.input = Some(input);
                break;
            }
            let stalls = later(state.last_progress, self.stall_timeout(&state));
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
                    let error = self.settings.io_error(Phase::Receive, ErrorKind::UnexpectedEof.into());
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
                        let error = self.stalled(&state);
                        self.end(&mut state, &error, &mut notices);
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
        if state.connection == connection && state.socket.is_some() {
            self.pass_on(&mut state);
        }
        drop(state);
        driver::give(notices);
    }

    /// Somebody else reads: another caller that waits, or the background thread.
    fn pass_on(&self, state: &mut State) {
        let connection = state.connection;
        if state.calls.iter().any(|call| call.slot.lead(connection)) {
            return;
        }
        state.reader = Reader::Nobody;
        if !state.calls.is_empty() {
            let deadline = state.calls.iter().map(|call| call.time.deadline).min();
            self.see_to_driver(state, deadline.unwrap_or_else(Instant::now));
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
                Ok(Some(0)) => return Err(Error::closed_by_server(phase)),
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
}
