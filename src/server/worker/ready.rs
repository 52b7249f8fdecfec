//! The connections of a worker that wait for their turn, in its order, and since when each of them does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::server::shared::Counters;

pub(super) struct ReadyQueue {
    /// Slots of the table, each at most once.
    waiting: VecDeque<(usize, Instant)>,
    counters: Arc<Counters>,
    worker: usize,
}

impl ReadyQueue {
    pub(super) fn new(counters: &Arc<Counters>, worker: usize) -> Self {
        Self { waiting: VecDeque::new(), counters: Arc::clone(counters), worker }
    }

    pub(super) fn push(&mut self, slot: usize, since: Instant) {
        self.waiting.push_back((slot, since));
        self.publish();
    }

    pub(super) fn pop(&mut self) -> Option<(usize, Instant)> {
        let next = self.waiting.pop_front();
        self.publish();
        next
    }

    pub(super) fn retain(&mut self, is_ready: impl Fn(usize) -> bool) {
        self.waiting.retain(|(slot, _)| is_ready(*slot));
        self.publish();
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn publish(&self) {
        let next = self.waiting.front().map(|(_, since)| *since);
        self.counters.workers[self.worker].waiting.set(self.waiting.len(), next, self.counters.begun);
    }
}
