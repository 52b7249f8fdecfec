//! Room for calls in flight, and the futures that wait for it.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Instant;

/// Futures that wait for room, the first one first.
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
    /// Waits, as `id` if that waits already; gives the id.
    pub(super) fn wait(&mut self, id: Option<u64>, waker: &Waker, deadline: Instant) -> u64 {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| Some(waiting.id) == id) {
            waiting.waker.clone_from(waker);
            return waiting.id;
        }
        self.next_id += 1;
        self.waiting.push_back(Waiting { id: self.next_id, waker: waker.clone(), deadline });
        self.next_id
    }

    /// Waits no more; `false` if it was woken, so that the room was its.
    pub(super) fn leave(&mut self, id: u64) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.id != id);
        self.waiting.len() < before
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
