//! Sees to it that no connection waits for a worker that is at a long turn.
//!
//! While connections are served the acceptor's thread ticks every millisecond and looks at each worker. One that is in the
//! same turn as a tick ago is stalled, in its handler as a rule: its ready connections go to workers with nothing to do.
//! All workers are equal, and a connection belongs to whichever took it; nothing else moves connections.

use std::time::{Duration, Instant};

use super::rebalance::{Takers, rebalance};
use crate::server::worker::{Pool, Snapshot};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(1);

/// Ticks in one turn after which a worker is stalled beyond doubt, and not merely preempted.
const LONG_STALL: u32 = 10;

/// Ticks without any turn after which the watchdog is parked.
const QUIET_TICKS: u32 = 10;

/// The watchdog's memory between two ticks.
pub(in crate::server) struct Watchdog {
    workers: Vec<Observed>,
    quiet_ticks: u32,
    next_tick: Instant,
}

/// One worker as the ticks have found it.
#[derive(Debug, Clone, Default)]
struct Observed {
    last: Snapshot,
    /// For how many ticks it has been in the same turn.
    stalled: u32,
    /// Connections that were moved away in that turn, and count once it is a long one.
    moved: u64,
}

impl Watchdog {
    pub(in crate::server) fn new(workers: usize) -> Self {
        Self { workers: vec![Observed::default(); workers], quiet_ticks: 0, next_tick: Instant::now() }
    }

    /// How long the acceptor may wait from `now`; `None` while the watchdog is parked.
    pub(super) fn time_to_tick(&self, pool: &Pool, now: Instant) -> Option<Duration> {
        (!pool.clock.is_parked()).then(|| self.next_tick.saturating_duration_since(now))
    }

    /// Looks after the workers if a tick is due.
    pub(in crate::server) fn tick(&mut self, pool: &Pool, now: Instant) {
        if pool.clock.is_parked() {
            self.quiet_ticks = 0;
            return;
        }
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        pool.clock.advance();
        pool.wake_for_injected();
        let is_quiet = self.observe(pool);
        self.relieve(pool, now);
        self.quiet_ticks = if is_quiet { self.quiet_ticks + 1 } else { 0 };
        if self.quiet_ticks >= QUIET_TICKS {
            self.quiet_ticks = 0;
            pool.clock.park_unless(|| self.is_needed(pool));
        }
    }

    /// Looks at every worker; whether nobody needs the watchdog.
    fn observe(&mut self, pool: &Pool) -> bool {
        let is_quiet = !self.is_needed(pool) && !pool.has_injected();
        for (remote, observed) in pool.workers.iter().zip(&mut self.workers) {
            observed.observe(remote.mailbox.snapshot());
        }
        is_quiet
    }

    /// Whether any worker is or was at a turn since the last tick while it had other connections.
    fn is_needed(&self, pool: &Pool) -> bool {
        pool.workers.iter().zip(&self.workers).enumerate().any(|(index, (remote, observed))| {
            pool.counters.loads.of(index) > 1 && observed.is_active(remote.mailbox.snapshot())
        })
    }

    fn relieve(&mut self, pool: &Pool, now: Instant) {
        let is_any_free = self.workers.iter().any(|worker| worker.stalled == 0);
        for (index, observed) in self.workers.iter_mut().enumerate() {
            let is_held_up = observed.stalled >= LONG_STALL;
            let takers = if is_held_up && is_any_free { Takers::Busy } else { Takers::Idle };
            if observed.stalled > 0 {
                observed.moved += rebalance(pool, index, now, takers);
            }
            if is_held_up {
                pool.counters.server.redealt.add(std::mem::take(&mut observed.moved));
            }
        }
    }
}

impl Observed {
    fn observe(&mut self, snapshot: Snapshot) {
        let is_stalled = snapshot.is_serving() && snapshot == self.last;
        self.stalled = if is_stalled { self.stalled.saturating_add(1) } else { 0 };
        if !is_stalled {
            self.moved = 0;
        }
        self.last = snapshot;
    }

    fn is_active(&self, snapshot: Snapshot) -> bool {
        snapshot.is_serving() || snapshot != self.last
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::server::worker::fixture::Fixture;

    #[test]
    fn a_worker_in_the_same_turn_as_a_tick_ago_is_stalled() {
        let fixture = Fixture::new(1);
        let mailbox = &fixture.pool.workers[0].mailbox;
        let mut observed = Observed::default();
        let mut stalled = || {
            observed.observe(mailbox.snapshot());
            observed.stalled
        };
        assert_eq!(stalled(), 0);
        mailbox.begin_turn();
        assert_eq!((stalled(), stalled(), stalled()), (0, 1, 2));
        mailbox.end_turn();
        mailbox.begin_turn();
        assert_eq!((stalled(), stalled()), (0, 1), "another turn");
        mailbox.end_turn();
        assert_eq!((stalled(), stalled()), (0, 0), "none");
    }

    #[test]
    fn moves_count_once_the_turn_that_they_were_moved_from_is_a_long_one() {
        let fixture = Fixture::new(2);
        let pool = &fixture.pool;
        let held = &pool.workers[0].mailbox;
        let mut watchdog = Watchdog::new(2);
        let mut now = Instant::now();
        let mut ticks = |count: u32| {
            for _ in 0..count {
                // A worker that has nothing to do takes what is there.
                pool.workers[1].mailbox.begin_waiting(|| false);
                pool.clock.stay_awake();
                now += TICK;
                watchdog.tick(pool, now);
            }
            std::iter::from_fn(|| pool.take_injected(1)).count()
        };
        for (turn, counted) in [(LONG_STALL - 1, 0), (LONG_STALL + 1, 2)] {
            fixture.admit_readable(0);
            fixture.admit_readable(0);
            held.begin_turn();
            assert_eq!(ticks(turn), 2, "they are moved at once");
            held.end_turn();
            ticks(1);
            assert_eq!(pool.counters.server.redealt.get(), counted, "after {turn} ticks");
        }
    }
}
