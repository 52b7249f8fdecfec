//! When a worker must look at which of its connections.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// The next moments to look at connections, lazily kept: a deadline that moves to later leaves its entry where it is,
/// and is set again when the entry comes up. So a busy connection costs one entry a lifetime.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    pub(super) fn push(&mut self, at: Instant, slot: usize) {
        self.heap.push(Reverse((at, slot)));
    }

    /// The earliest moment that is set.
    #[inline]
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry whose moment has come.
    #[inline]
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        (self.next()? <= now).then(|| self.heap.pop()).flatten().map(|Reverse(entry)| entry)
    }

    /// Drops entries that nobody waits for when they are more than the `live` ones, so that connections
    /// that come and go quickly do not pile them up.
    pub(super) fn prune(&mut self, live: usize, is_live: impl Fn(Instant, usize) -> bool) {
        if self.heap.len() > 2 * live + 64 {
            self.heap.retain(|Reverse((at, slot))| is_live(*at, *slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn entries_come_up_in_the_order_of_their_moments() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut timers = Timers::default();
        for (slot, seconds) in [(1, 3), (2, 1), (3, 2)] {
            timers.push(now + second * seconds, slot);
        }
        assert_eq!(timers.next(), Some(now + second));
        assert_eq!(timers.pop_due(now), None);
        let slots: Vec<_> = std::iter::from_fn(|| timers.pop_due(now + second * 2)).map(|(_, s)| s).collect();
        assert_eq!(slots, [2, 3]);
    }

    #[test]
    fn stale_entries_do_not_pile_up() {
        let now = Instant::now();
        let mut timers = Timers::default();
        for round in 0..10_000u64 {
            let at = now + Duration::from_nanos(round);
            timers.push(at, 0);
            timers.prune(1, |entry, _| entry == at);
        }
        assert!(timers.heap.len() <= 67);
    }
}
