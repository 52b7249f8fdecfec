//! Who writes: whoever has something to write while nobody is at it, and that for all.

use std::sync::Arc;
use std::thread;

use parking_lot::MutexGuard;

use super::client::Shared;
use super::driver;
use super::slot::Notice;
use super::state::{Reader, State};
use crate::{Error, Phase};

impl Shared {
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
            state.in_writing = batch.len() as u64;
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
                        // The background thread goes on when the socket takes more. It may have been told of that already, and
                        // have found this one at it.
                        self.watch(state);
                        if !driver::is_this_thread() {
                            self.registration.wake();
                        }
                        break;
                    }
                    batch.clear();
                }
                Err(_) if state.reader == Reader::Caller => {
                    // It sees the end as well, behind the answers and the goodbye that lie in the socket.
                    break;
                }
                Err(error) => {
                    let error = match self.read_all(state, notices) {
                        Err(told) if told.is_goodbye() || matches!(told, Error::NotAuthentic) => told,
                        _ => self.settings.io_error(Phase::Send, error),
                    };
                    self.end(state, &error, notices);
                    batch.clear();
                }
            }
        }
        state.is_writing = false;
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
}
