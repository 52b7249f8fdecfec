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
//! So deadlines are as punctual as the acceptor, whose longest occupations are a log line and a rebalance.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use super::sync::AtomicU64;

/// Later than every deadline.
const NEVER: u64 = u64::MAX;

/// The acceptor's promise, and the nearest deadline of each worker's connections.
#[derive(Debug)]
pub(in crate::server) struct Alarm {
    /// Moments are counted from here, in nanoseconds, which suffice for centuries.
    start: Instant,
    promise: AtomicU64,
    deadlines: Box<[AtomicU64]>,
}

impl Alarm {
    pub(in crate::server) fn new(workers: usize) -> Self {
        Self {
            start: Instant::now(),
            promise: AtomicU64::new(NEVER),
            deadlines: (0..workers).map(|_| AtomicU64::new(NEVER)).collect(),
        }
    }

    /// Publishes a worker's nearest deadline; whether it will be woken at it. If that is not promised yet,
    /// `wake_acceptor` makes the acceptor look.
    #[inline]
    pub(in crate::server) fn will_ring(
        &self,
        worker: usize,
        deadline: Option<Instant>,
        wake_acceptor: impl FnOnce(),
    ) -> bool {
        let moment = deadline.map_or(NEVER, |at| self.moment(at));
        let published = &self.deadlines[worker];
        let is_new = published.load(SeqCst) != moment;
        if is_new {
            published.store(moment, SeqCst);
        }
        let is_promised = self.promise.load(SeqCst) <= moment;
        if is_new && !is_promised {
            wake_acceptor();
        }
        is_promised
    }

    /// Calls `wake` for each worker whose deadline has come. Its next wait publishes another.
    pub(in crate::server) fn ring(&self, now: Instant, mut wake: impl FnMut(usize)) {
        let now = self.moment(now);
        for (worker, published) in self.deadlines.iter().enumerate() {
            let deadline = published.load(SeqCst);
            if deadline <= now && published.compare_exchange(deadline, NEVER, SeqCst, SeqCst).is_ok() {
                wake(worker);
            }
        }
    }

    /// Promises to look again at the nearest deadline of all, and gives how long that is from `now`; `None` if there is no
    /// deadline.
    pub(in crate::server) fn promise(&self, now: Instant) -> Option<Duration> {
        let mut promise = self.nearest();
        loop {
            self.promise.store(promise, SeqCst);
            let nearest = self.nearest();
            if nearest >= promise {
                break;
            }
            promise = nearest;
        }
        (promise != NEVER).then(|| Duration::from_nanos(promise.saturating_sub(self.moment(now))))
    }

    fn nearest(&self) -> u64 {
        self.deadlines.iter().map(|deadline| deadline.load(SeqCst)).min().unwrap_or(NEVER)
    }

    #[inline]
    fn moment(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_nanos()).unwrap_or(NEVER)
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn will_ring(alarm: &Alarm, worker: usize, deadline: Option<Instant>) -> (bool, bool) {
        let mut woken = false;
        let is_promised = alarm.will_ring(worker, deadline, || woken = true);
        (is_promised, woken)
    }

    #[test]
    fn a_worker_is_woken_at_its_deadline_once_that_is_promised() {
        let (alarm, now) = (Alarm::new(2), Instant::now());
        assert_eq!(alarm.promise(now), None);
        assert_eq!(will_ring(&alarm, 0, Some(now + 5 * SECOND)), (false, true), "nobody has promised that");
        assert_eq!(will_ring(&alarm, 0, Some(now + 5 * SECOND)), (false, false), "the acceptor knows");
        assert_eq!(will_ring(&alarm, 1, Some(now + 3 * SECOND)), (false, true));
        assert_eq!(alarm.promise(now), Some(3 * SECOND));
        assert_eq!(will_ring(&alarm, 0, Some(now + 5 * SECOND)), (true, false));
        assert_eq!(will_ring(&alarm, 1, Some(now + 3 * SECOND)), (true, false));
        assert_eq!(will_ring(&alarm, 1, None), (true, false));
        assert_eq!(will_ring(&alarm, 1, Some(now + 2 * SECOND)), (false, true), "earlier than promised");
        assert_eq!(alarm.promise(now), Some(2 * SECOND));
    }

    #[test]
    fn a_deadline_that_has_come_wakes_its_worker_once() {
        let (alarm, now) = (Alarm::new(2), Instant::now());
        let woken = |now| {
            let mut woken = Vec::new();
            alarm.ring(now, |worker| woken.push(worker));
            woken
        };
        will_ring(&alarm, 0, Some(now + SECOND));
        will_ring(&alarm, 1, Some(now + 3 * SECOND));
        assert!(woken(now).is_empty());
        assert_eq!(alarm.promise(now), Some(SECOND), "nothing was due");
        assert_eq!(woken(now + 2 * SECOND), [0]);
        assert_eq!(alarm.promise(now + 2 * SECOND), Some(SECOND), "only the other's is left");
        assert!(woken(now + 2 * SECOND).is_empty(), "once");
        assert_eq!(will_ring(&alarm, 0, Some(now + SECOND)), (false, true));
        assert_eq!(alarm.promise(now + 2 * SECOND), Some(Duration::ZERO), "published anew");
    }
}
