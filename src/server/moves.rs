//! How connections are moved from one worker to another. When, is decided by [`super::watchdog`].

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::shared::{Shared, StopPhase};
use super::worker_side::{Dealt, WorkerSide};

/// Who is there to take a held-up worker's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takers {
    /// Only workers with nothing to do, if there are any.
    Idle,
    /// Also workers that are busy with connections of their own, which take one in between.
    Busy,
}

/// Does for a worker what it can't do itself while it is in a handler.
pub(super) fn relieve(shared: &Shared, index: usize, now: Instant, takers: Takers) {
    // Whoever holds the lock is not in a handler any more.
    let Some(mut table) = shared.workers[index].table.try_lock() else { return };
    if shared.stop.phase() != StopPhase::Running {
        table.begin_drain();
    }
    table.wait(Some(Duration::ZERO));
    table.expire(now, |connection| shared.note_expired(connection));
    if takers == Takers::Idle && !shared.workers.iter().any(WorkerSide::is_waiting) {
        return;
    }
    while let Some(connection) = table.give_up_ready() {
        shared.offer(connection);
    }
    drop(table);
    // Only now, since a worker that began to wait before has not seen the connections, and one that begins afterwards
    // will. Whoever is woken may find work of its own first; the next tick offers again what is still there.
    shared.offer_overflow();
}

/// Lets the ready connections of a worker that lacks a processor join those of a worker that runs and `is_free`, the one
/// with the most, unless all such have fewer; `false` then. The connection that it serves follows after its turn, and the
/// idle ones when they are ready and it lacks a processor again.
pub(super) fn unite(shared: &Shared, index: usize, now: Instant, is_free: impl Fn(usize) -> bool) -> bool {
    let load = shared.loads.of(index);
    let runs = |&other: &usize| other != index && is_free(other) && !shared.workers[other].is_waiting();
    let loads = (0..shared.workers.len()).filter(runs).map(|other| (shared.loads.of(other), other));
    let Some((_, other)) = loads.filter(|(others, _)| *others >= load).max() else { return false };
    let Some(mut table) = shared.workers[index].table.try_lock() else { return false };
    table.wait(Some(Duration::ZERO));
    table.expire(now, |connection| shared.note_expired(connection));
    while let Some(connection) = table.give_up_ready() {
        shared.give(other, connection);
    }
    table.send_served_to(other);
    true
}

/// Gives half of a saturated worker's ready connections to those that wait; `false` if it can't be done now.
pub(super) fn spread(shared: &Shared, index: usize) -> bool {
    let Some(mut table) = shared.workers[index].table.try_lock() else { return false };
    table.wait(Some(Duration::ZERO));
    for _ in 0..table.ready().div_ceil(2) {
        if let Some(connection) = table.give_up_ready() {
            shared.offer(connection);
        }
    }
    drop(table);
    shared.offer_overflow();
    true
}

impl Shared {
    /// Gives a connection that wants a turn to another worker.
    pub(super) fn give(&self, worker: usize, mut connection: Box<Connection>) {
        connection.transfer(worker);
        self.counters.redealt.add(1);
        self.workers[worker].deal(Dealt { connection, is_ready: true });
    }

    /// Leaves a connection that wants a turn to whoever takes it.
    fn offer(&self, connection: Box<Connection>) {
        self.counters.redealt.add(1);
        // The receiver lives in `shared`, so the channel is never closed.
        let _ = self.overflow.0.send(connection);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::fixture::Fixture;
    use super::*;

    /// The connections that are ready in a worker's table, after it has looked.
    fn ready(shared: &Shared, worker: usize) -> BTreeSet<u64> {
        let mut table = shared.workers[worker].table.lock();
        table.wait(Some(Duration::ZERO));
        let ready = std::iter::from_fn(|| table.check_out());
        ready.map(|(_, connection)| connection.id.get()).collect()
    }

    fn loads(shared: &Shared) -> Vec<usize> {
        (0..shared.workers.len()).map(|worker| shared.loads.of(worker)).collect()
    }

    #[test]
    fn a_worker_without_a_processor_gives_its_ready_connections_to_the_one_that_runs() {
        let fixture = Fixture::new(3);
        let shared = &fixture.shared;
        for (worker, is_ready) in
            [(0, true), (0, true), (0, false), (1, false), (1, false), (1, false), (2, true)]
        {
            fixture.deal(worker, is_ready);
        }
        assert!(unite(shared, 0, Instant::now(), |_| true));
        assert_eq!(loads(shared), [1, 5, 1], "the idle one stays");
        assert_eq!(ready(shared, 1), [1, 2].into());
        assert_eq!(ready(shared, 0), [].into());
        assert_eq!(shared.stats().redealt, 2);
    }

    #[test]
    fn a_connection_in_its_turn_follows_afterwards() {
        let fixture = Fixture::new(2);
        let shared = &fixture.shared;
        fixture.deal(0, true);
        fixture.deal(1, false);
        let (ticket, connection) = {
            let mut table = shared.workers[0].table.lock();
            table.wait(Some(Duration::ZERO));
            table.check_out().expect("a ready one")
        };
        assert!(unite(shared, 0, Instant::now(), |_| true));
        let mut table = shared.workers[0].table.lock();
        assert_eq!(table.served_goes_to(), Some(1));
        assert_eq!(table.served_goes_to(), None, "told once");
        let connection = table.give_up_served(ticket, connection).expect("it can be moved");
        shared.give(1, connection);
        drop(table);
        assert_eq!(loads(shared), [0, 2]);
        assert_eq!(ready(shared, 1), [1].into(), "it has its turn, whatever it has read already");
    }

    #[test]
    fn nobody_joins_a_worker_that_waits_stands_still_or_has_fewer() {
        let fixture = Fixture::new(2);
        let shared = &fixture.shared;
        fixture.deal(0, true);
        assert!(!unite(shared, 0, Instant::now(), |_| true), "the other has none");
        fixture.deal(1, true);
        assert!(!unite(shared, 0, Instant::now(), |_| false), "the other stands still");
        shared.workers[1].begin_waiting();
        assert!(!unite(shared, 0, Instant::now(), |_| true), "the other waits");
        shared.workers[1].end_waiting();
        let table = shared.workers[0].table.lock();
        assert!(!unite(shared, 0, Instant::now(), |_| true), "the worker is at its table");
        drop(table);
        assert_eq!(loads(shared), [1, 1]);
        assert!(unite(shared, 0, Instant::now(), |_| true));
        assert_eq!(loads(shared), [0, 2]);
    }

    #[test]
    fn a_saturated_worker_gives_half_of_its_ready_connections_to_whoever_takes_them() {
        let fixture = Fixture::new(2);
        let shared = &fixture.shared;
        for _ in 0..5 {
            fixture.deal(0, true);
        }
        fixture.deal(0, false);
        assert!(spread(shared, 0));
        let taken: BTreeSet<u64> =
            shared.overflow.1.try_iter().map(|connection| connection.id.get()).collect();
        assert_eq!(taken, [1, 2, 3].into());
        assert_eq!(ready(shared, 0), [4, 5].into());
        let _at_its_table = shared.workers[0].table.lock();
        assert!(!spread(shared, 0));
    }

    #[test]
    fn a_worker_in_a_handler_is_relieved_when_somebody_takes_over() {
        let fixture = Fixture::new(2);
        let shared = &fixture.shared;
        fixture.deal(0, true);
        relieve(shared, 0, Instant::now(), Takers::Idle);
        assert!(shared.overflow.1.is_empty(), "nobody has nothing to do");
        shared.workers[1].begin_waiting();
        relieve(shared, 0, Instant::now(), Takers::Idle);
        assert_eq!(shared.overflow.1.len(), 1);
        shared.workers[1].end_waiting();
        fixture.deal(0, true);
        relieve(shared, 0, Instant::now(), Takers::Busy);
        assert_eq!(shared.overflow.1.len(), 2);
    }
}
