//! How connections are moved from one worker to another. When, is decided by [`super::watchdog`] and [`super::sharing`].

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::shared::{Shared, StopPhase};
use super::sharing::Pair;
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

/// Moves the ready connections of one worker to another. The one that is in its turn follows after that, and the idle ones
/// when they are ready and this is done again.
pub(super) fn join(shared: &Shared, pair: Pair, now: Instant) {
    let Some(mut table) = shared.workers[pair.from].table.try_lock() else { return };
    table.wait(Some(Duration::ZERO));
    table.expire(now, |connection| shared.note_expired(connection));
    while let Some(connection) = table.give_up_ready() {
        shared.give(pair.to, connection, true);
    }
    table.send_served_to(pair.to);
}

/// Moves half of the ready connections of one worker to another.
pub(super) fn spread(shared: &Shared, pair: Pair) {
    let Some(mut table) = shared.workers[pair.from].table.try_lock() else { return };
    table.wait(Some(Duration::ZERO));
    for _ in 0..table.ready().div_ceil(2) {
        if let Some(connection) = table.give_up_ready() {
            shared.give(pair.to, connection, true);
        }
    }
}

impl Shared {
    /// Gives a connection to another worker; `is_ready` if it wants a turn even if nothing more arrives.
    pub(super) fn give(&self, worker: usize, mut connection: Box<Connection>, is_ready: bool) {
        connection.transfer(worker);
        self.counters.redealt.add(1);
        self.workers[worker].deal(Dealt { connection, is_ready });
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
    use super::super::worker::hand_over;
    use super::*;

    const PAIR: Pair = Pair { from: 0, to: 1 };

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
    fn ready_connections_join_those_of_another_worker() {
        let fixture = Fixture::new(3);
        let shared = &fixture.shared;
        for (worker, is_ready) in [(0, true), (0, true), (0, false), (1, false), (2, true)] {
            fixture.deal(worker, is_ready);
        }
        let table = shared.workers[0].table.lock();
        join(shared, PAIR, Instant::now());
        drop(table);
        assert_eq!(loads(shared), [3, 1, 1], "not while the worker is at its table");
        join(shared, PAIR, Instant::now());
        assert_eq!(loads(shared), [1, 3, 1], "the idle one stays");
        assert_eq!(ready(shared, 1), [1, 2].into());
        assert_eq!(ready(shared, 0), [].into());
        assert_eq!(shared.stats().redealt, 2);
    }

    #[test]
    fn a_connection_in_its_turn_follows_afterwards() {
        let fixture = Fixture::new(2);
        let shared = &fixture.shared;
        fixture.deal(0, true);
        let mut table = shared.workers[0].table.lock();
        table.wait(Some(Duration::ZERO));
        let (ticket, connection) = table.check_out().expect("a ready one");
        drop(table);
        join(shared, PAIR, Instant::now());
        let mut table = shared.workers[0].table.lock();
        assert_eq!(table.take_served_goes_to(), Some(1));
        assert_eq!(table.take_served_goes_to(), None, "only this one");
        hand_over(shared, &mut table, (ticket, connection), 1, true);
        drop(table);
        assert_eq!(loads(shared), [0, 1]);
        assert_eq!(ready(shared, 1), [1].into(), "it has more to do");
    }

    #[test]
    fn half_of_the_ready_connections_are_spread() {
        let fixture = Fixture::new(2);
        let shared = &fixture.shared;
        for _ in 0..5 {
            fixture.deal(0, true);
        }
        fixture.deal(0, false);
        let table = shared.workers[0].table.lock();
        spread(shared, PAIR);
        assert_eq!(loads(shared), [6, 0], "the worker is at its table");
        drop(table);
        spread(shared, PAIR);
        assert_eq!(ready(shared, 1), [1, 2, 3].into());
        assert_eq!(ready(shared, 0), [4, 5].into());
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
