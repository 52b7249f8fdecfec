//! Does for a worker what it can't do itself while it is at a long turn: its ready connections go to other workers.

use std::time::{Duration, Instant};

use crate::server::shared::StopPhase;
use crate::server::worker::Pool;

/// Who is there to take a stalled worker's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takers {
    /// Only workers with nothing to do, if there are any.
    Idle,
    /// Also workers that are busy with connections of their own, which take one in between.
    Busy,
}

/// Looks after the table of a worker that is at a long turn, and says how many connections it moved.
pub(super) fn rebalance(pool: &Pool, worker: usize, now: Instant, takers: Takers) -> u64 {
    // Whoever holds the lock is not in a handler any more.
    let remote = &pool.workers[worker];
    let Some(mut table) = remote.table.try_lock() else { return 0 };
    let mut moved = 0;
    if pool.stop.phase() != StopPhase::Running {
        table.begin_drain();
    }
    // A wait that fails is told by the worker, whose own will fail as well.
    let _ = table.wait(Some(Duration::ZERO), now);
    let mut ended = table.take_expired(now);
    ended.extend(remote.sweep_if_due(&mut table));
    ended.extend(table.take_strangers(pool.counters.loads.admission.makes_room(), now));
    if takers == Takers::Busy || pool.workers.iter().any(|worker| worker.mailbox.is_waiting()) {
        while let Some(connection) = table.steal_ready() {
            pool.inject(connection);
            moved += 1;
        }
    }
    let failures = table.take_failures();
    drop(table);
    // Only now, since a worker that began to wait before has not seen the connections, and one that begins afterwards
    // will. Whoever is woken may find work of its own first; the next tick wakes again for what is still there.
    pool.wake_for_injected();
    pool.record_ended(&mut ended);
    Pool::log_failures(failures);
    moved
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::server::worker::fixture::Fixture;

    #[test]
    fn a_worker_in_a_handler_is_relieved_when_another_takes_over() {
        let fixture = Fixture::new(2);
        let pool = &fixture.pool;
        let injected = || std::iter::from_fn(|| pool.take_injected(1)).count();
        fixture.admit_readable(0);
        rebalance(pool, 0, Instant::now(), Takers::Idle);
        assert_eq!(injected(), 0, "nobody has nothing to do");
        pool.workers[1].mailbox.begin_waiting(|| false);
        let at_its_table = pool.workers[0].table.lock();
        rebalance(pool, 0, Instant::now(), Takers::Idle);
        assert_eq!(injected(), 0, "the worker is at its table");
        drop(at_its_table);
        rebalance(pool, 0, Instant::now(), Takers::Idle);
        assert_eq!(injected(), 1);
        pool.workers[1].mailbox.end_waiting();
        fixture.admit_readable(0);
        rebalance(pool, 0, Instant::now(), Takers::Busy);
        assert_eq!(injected(), 1, "even by a busy one");
    }
}
