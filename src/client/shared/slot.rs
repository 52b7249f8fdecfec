//! Where the result of a call is left, and how its caller hears of it.

use std::task::{Context, Poll, Waker};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::Error;

/// What a call comes to.
pub(super) type Outcome = Result<Vec<u8>, Error>;

/// Something to be done when a call is done, without any lock.
pub(super) type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// Where the result of one call is left, and how its caller hears of it.
///
/// What is replaced in it is dropped without the lock: a waker may own a task, and with it other calls.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<SlotState>,
    changed: Condvar,
}

#[derive(Default)]
struct SlotState {
    progress: Progress,
    /// A thread waits in [`Slot::wait`].
    is_waited_for: bool,
    /// That thread is to read for all, on this connection.
    leads: Option<u64>,
}

#[derive(Default)]
enum Progress {
    #[default]
    Pending,
    Polled(Waker),
    Then(Callback),
    Done(Outcome),
    /// Taken, or nobody wants it any more.
    Over,
}

/// What is to be done, without any lock, when a call is done.
pub(super) enum Notice {
    Wake(Waker),
    Call(Callback, Outcome),
}

/// Why [`Slot::wait`] came back.
pub(super) enum Waited {
    Done(Outcome),
    ToLead(u64),
    TimedOut,
}

impl Slot {
    /// Leaves the result, once; `None` if nothing else is to be done.
    pub(super) fn complete(&self, outcome: Outcome) -> Option<Notice> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.progress, Progress::Over) {
            Progress::Pending => state.progress = Progress::Done(outcome),
            Progress::Polled(waker) => {
                state.progress = Progress::Done(outcome);
                return Some(Notice::Wake(waker));
            }
            Progress::Then(callback) => return Some(Notice::Call(callback, outcome)),
            done @ Progress::Done(_) => state.progress = done,
            Progress::Over => {}
        }
        if state.is_waited_for {
            self.changed.notify_one();
        }
        None
    }

    /// Lets the thread that waits for this call, if any, read for all on this connection.
    pub(super) fn lead(&self, connection: u64) -> bool {
        let mut state = self.state.lock();
        let leads = state.is_waited_for && matches!(state.progress, Progress::Pending);
        if leads {
            state.leads = Some(connection);
            self.changed.notify_one();
        }
        leads
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state.lock().progress, Progress::Done(_) | Progress::Over)
    }

    /// Waits for the result until then. Whoever is told to lead must do so, also if the result is there.
    pub(super) fn wait(&self, until: Instant) -> Waited {
        let mut state = self.state.lock();
        state.is_waited_for = true;
        if matches!(state.progress, Progress::Polled(_)) {
            // Who polled it waits here now.
            let polled = std::mem::take(&mut state.progress);
            MutexGuard::unlocked(&mut state, || drop(polled));
        }
        loop {
            if let Some(connection) = state.leads.take() {
                state.is_waited_for = false;
                return Waited::ToLead(connection);
            }
            if matches!(state.progress, Progress::Done(_))
                && let Progress::Done(outcome) = std::mem::replace(&mut state.progress, Progress::Over)
            {
                state.is_waited_for = false;
                return Waited::Done(outcome);
            }
            if self.changed.wait_until(&mut state, until).timed_out()
                && state.leads.is_none()
                && !matches!(state.progress, Progress::Done(_))
            {
                state.is_waited_for = false;
                return Waited::TimedOut;
            }
        }
    }

    /// The result, if it is there.
    pub(super) fn take(&self) -> Option<Outcome> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.progress, Progress::Over) {
            Progress::Done(outcome) => Some(outcome),
            progress => {
                state.progress = progress;
                None
            }
        }
    }

    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<Outcome> {
        let waker = context.waker().clone();
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.progress, Progress::Over) {
            Progress::Done(outcome) => Poll::Ready(outcome),
            // Polled again after it was ready, which no executor does.
            Progress::Over => Poll::Ready(Err(Error::Closed)),
            before => {
                state.progress = Progress::Polled(waker);
                drop(state);
                drop(before);
                Poll::Pending
            }
        }
    }

    pub(super) fn then(&self, callback: Callback) -> Option<Notice> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.progress, Progress::Over) {
            Progress::Done(outcome) => Some(Notice::Call(callback, outcome)),
            before => {
                state.progress = Progress::Then(callback);
                drop(state);
                drop(before);
                None
            }
        }
    }

    /// Nobody wants the result any more; what it is, if it is there.
    pub(super) fn give_up(&self) -> Option<Outcome> {
        let before = std::mem::replace(&mut self.state.lock().progress, Progress::Over);
        if let Progress::Done(outcome) = before { Some(outcome) } else { None }
    }

    /// Nobody wants the result any more, unless it goes to a callback; whether it was still to come.
    pub(super) fn abandon(&self) -> bool {
        let mut state = self.state.lock();
        if matches!(state.progress, Progress::Then(_)) {
            return false;
        }
        let before = std::mem::replace(&mut state.progress, Progress::Over);
        drop(state);
        matches!(before, Progress::Pending | Progress::Polled(_))
    }
}
