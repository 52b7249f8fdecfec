//! Room for calls in flight, and the futures that wait for it.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

/// Futures that wait for room, the first one first. Wakers are for the caller to drop, without a lock.
#[derive(Debug, Default)]
pub(super) struct Room {
    waiting: VecDeque<Waiting>,
    next_id: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    waker: Waker,
    deadline: Instant,
}

impl Room {
    /// Waits, as `id` if that waits already; gives the id, and the waker from before.
    pub(super) fn wait(&mut self, id: Option<u64>, waker: Waker, deadline: Instant) -> (u64, Option<Waker>) {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| Some(waiting.id) == id) {
            return (waiting.id, Some(std::mem::replace(&mut waiting.waker, waker)));
        }
        self.next_id += 1;
        self.waiting.push_back(Waiting { id: self.next_id, waker, deadline });
        (self.next_id, None)
    }

    /// Waits no more; `None` if it was woken, so that the room was its.
    pub(super) fn leave(&mut self, id: u64) -> Option<Waker> {
        let position = self.waiting.iter().position(|waiting| waiting.id == id)?;
        self.waiting.remove(position).map(|waiting| waiting.waker)
    }

    /// Takes the first one, to be woken.
    pub(super) fn next(&mut self) -> Option<Waker> {
        self.waiting.pop_front().map(|waiting| waiting.waker)
    }

    /// Takes those whose time is over, to be woken.
    pub(super) fn take_overdue(&mut self, now: Instant) -> Vec<Waker> {
        let (overdue, waiting) =
            self.waiting.drain(..).partition(|waiting: &Waiting| waiting.deadline <= now);
        self.waiting = waiting;
        let overdue: VecDeque<Waiting> = overdue;
        overdue.into_iter().map(|waiting| waiting.waker).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.deadline).min()
    }
}
