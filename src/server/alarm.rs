//! Wakes the workers at their deadlines, so that their waits need no time-out of their own.
//!
//! For a wait with a time-out the operating system sets a timer and takes it back, which is about a twentieth of what a
//! small request costs, and nearly all of these timers are for deadlines a minute away. So the acceptor's thread, which
//! sleeps for long, keeps the time for all: each worker publishes the nearest deadline of its connections, and the
//! acceptor promises by when it will look again.
//!
//! A worker publishes and then looks at the promise; the acceptor promises and then looks at what is published. Both in
//! sequentially consistent order, so that at least one of them sees the other. A worker whose deadline comes before the
//! promise wakes the acceptor, and for that once has a time-out of its own.
//!
//! So deadlines are as punctual as the acceptor, whose longest occupations are a log line and moving connections.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::shared::Shared;
use super::worker_side::WorkerSide;

/// Later than every deadline.
const NEVER: u64 = u64::MAX;

/// The acceptor's promise.
#[derive(Debug)]
pub(super) struct Alarm {
    /// Moments are counted from here, in nanoseconds, which suffice for centuries.
    start: Instant,
    promise: AtomicU64,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), promise: AtomicU64::new(NEVER) }
    }

    #[inline]
    fn moment(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(NEVER)
    }
}

/// The nearest deadline of a worker's connections, for the acceptor to wake it at.
#[derive(Debug)]
pub(super) struct PublishedDeadline(AtomicU64);

impl Default for PublishedDeadline {
    fn default() -> Self {
        Self(AtomicU64::new(NEVER))
    }
}

impl Shared {
    /// Publishes a worker's nearest deadline; whether the acceptor will wake the worker at it.
    #[inline]
    pub(super) fn will_wake(&self, worker: &WorkerSide, deadline: Option<Instant>) -> bool {
        let moment = deadline.map_or(NEVER, |at| self.alarm.moment(at));
        let is_new = worker.deadline.0.load(SeqCst) != moment;
        if is_new {
            worker.deadline.0.store(moment, SeqCst);
        }
        let is_promised = self.alarm.promise.load(SeqCst) <= moment;
        if is_new && !is_promised {
            self.ticks.wake();
        }
        is_promised
    }

    /// Wakes the workers whose deadline has come. Their next wait publishes another.
    pub(super) fn ring(&self, now: Instant) {
        let now = self.alarm.moment(now);
        for worker in &self.workers {
            let deadline = worker.deadline.0.load(SeqCst);
            if deadline <= now && worker.deadline.0.compare_exchange(deadline, NEVER, SeqCst, SeqCst).is_ok()
            {
                worker.wake();
            }
        }
    }

    /// Promises to look again at the nearest deadline of all, and gives how long that is from `now`; `None` if there is no
    /// deadline.
    pub(super) fn promise(&self, now: Instant) -> Option<Duration> {
        let mut promise = self.nearest_deadline();
        loop {
            self.alarm.promise.store(promise, SeqCst);
            let nearest = self.nearest_deadline();
            if nearest >= promise {
                break;
            }
            promise = nearest;
        }
        (promise != NEVER).then(|| Duration::from_nanos(promise.saturating_sub(self.alarm.moment(now))))
    }

    fn nearest_deadline(&self) -> u64 {
        self.workers.iter().map(|worker| worker.deadline.0.load(SeqCst)).min().unwrap_or(NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_worker_is_woken_at_its_deadline_once_that_is_promised() {
        let fixture = Fixture::new(2);
        let shared = &fixture.shared;
        let now = Instant::now();
        assert_eq!(shared.promise(now), None);
        assert!(!shared.will_wake(&shared.workers[0], Some(now + 5 * SECOND)), "nobody has promised that");
        assert!(!shared.will_wake(&shared.workers[1], Some(now + 3 * SECOND)));
        assert_eq!(shared.promise(now), Some(3 * SECOND));
        assert!(shared.will_wake(&shared.workers[0], Some(now + 5 * SECOND)));
        assert!(shared.will_wake(&shared.workers[1], Some(now + 3 * SECOND)));
        assert!(shared.will_wake(&shared.workers[1], None));
        assert!(!shared.will_wake(&shared.workers[1], Some(now + 2 * SECOND)), "earlier than promised");
        assert_eq!(shared.promise(now), Some(2 * SECOND));
    }

    #[test]
    fn a_deadline_that_has_come_wakes_its_worker_once() {
        let fixture = Fixture::new(2);
        let shared = &fixture.shared;
        let now = Instant::now();
        shared.will_wake(&shared.workers[0], Some(now + SECOND));
        shared.will_wake(&shared.workers[1], Some(now + 3 * SECOND));
        shared.ring(now);
        assert_eq!(shared.promise(now), Some(SECOND), "nothing was due");
        shared.ring(now + 2 * SECOND);
        assert_eq!(shared.promise(now + 2 * SECOND), Some(SECOND), "only the other's is left");
        // Woken through its poll: this wait would not end by itself.
        shared.workers[0].table.lock().wait(None);
        assert!(!shared.will_wake(&shared.workers[0], Some(now + SECOND)));
        assert_eq!(shared.promise(now + 2 * SECOND), Some(Duration::ZERO), "published anew");
    }
}
