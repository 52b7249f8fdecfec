//! A worker's thread: take a ready connection, serve it for a turn, put it back; wait when there is none.

#[cfg(all(test, not(shuttle)))]
pub(super) mod fixture;
mod mailbox;
mod pool;
mod ready;
mod table;
mod timers;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::error;
use mio::Token;
use parking_lot::MutexGuard;

use self::pool::{Seen, take_withdrawn};
use self::table::{Due, Table};
use super::connection::{Connection, Deferral, Ended, Input, Next, Scratch};
use super::shared::{End, LOG, StopPhase};
use crate::protocol::NonceSequence;
use crate::unwind::contained;

pub(super) use self::mailbox::{Mailbox, Snapshot};
pub(super) use self::pool::{Pool, Remote};
pub(super) use self::table::Delivery;

/// The pause after a wait that failed.
const PAUSE: Duration = Duration::from_millis(10);

/// Serves until the server stops. `nonces` is this worker's sealing state.
pub(super) fn run(pool: &Pool, index: usize, nonces: NonceSequence) {
    let remote = &pool.workers[index];
    let deferral = Deferral {
        owner: Arc::<Mailbox<Delivery>>::clone(&remote.mailbox),
        limits: pool.deferral.clone(),
        awaited: Arc::clone(&pool.counters.awaited),
    };
    let scratch = Scratch::new(
        (&*pool.handler, pool.shed_after, deferral),
        &pool.counters,
        index,
        (&pool.floods, &pool.clock),
        nonces,
    );
    let mut worker =
        Worker { pool, index, remote, seen: pool.seen(), scratch, input: Input::new(), ended: Vec::new() };
    // Handlers are caught where they are called. What else could panic is the application's logger, and that
    // costs one connection, not a worker with all of its own.
    while contained(|| worker.serve_until_stopped()).is_none() {
        worker.recover();
        contained(|| error!(target: LOG, "a worker panicked and goes on"));
    }
}

struct Worker<'p> {
    pool: &'p Pool,
    index: usize,
    remote: &'p Remote,
    seen: Seen,
    scratch: Scratch<'p>,
    input: Input,
    /// Connections that are over, to be counted and logged when the table is not locked.
    ended: Vec<Ended>,
}

impl Worker<'_> {
    fn serve_until_stopped(&mut self) {
        let mut table = self.remote.table.lock();
        self.scratch.now = Instant::now();
        loop {
            let seen = self.pool.seen();
            if seen.withdrawals != self.seen.withdrawals {
                self.ended.extend(take_withdrawn(&mut table));
            }
            // Also those that have come since they were told.
            self.ended.extend(table.take_strangers(seen.makes_room, self.scratch.now));
            self.seen = seen;
            self.scratch.is_draining = seen.phase != StopPhase::Running;
            match seen.phase {
                StopPhase::Running => {}
                StopPhase::Draining => table.begin_drain(),
                StopPhase::Finishing => {
                    let left = self.pool.take_all(&mut table);
                    return self.unlocked(&mut table, |worker| {
                        worker.pool.part(left, &mut worker.ended);
                    });
                }
            }
            self.ended.extend(table.take_expired(self.scratch.now));
            self.record_ended(&mut table);
            if let Some(due) = self.next(&mut table) {
                let begun = self.scratch.now;
                self.serve(&mut table, due);
                if self.scratch.now == begun {
                    // Nothing was written in that turn, and so nobody has looked at the clock.
                    self.scratch.now = Instant::now();
                }
            } else {
                self.wait(&mut table);
            }
        }
    }

    /// The next connection to serve: a ready one of our own, or one that another worker could not get to.
    fn next(&mut self, table: &mut MutexGuard<'_, Table>) -> Option<Due> {
        if table.is_poll_due() && (table.has_ready() || self.pool.has_injected()) {
            self.look(table, Some(Duration::ZERO));
            // Once a round, so that a worker whose own connections never pause takes its part of the others' as well.
            if let Some(adopted) = self.adopt(table) {
                return Some(adopted);
            }
        }
        table.take_ready().or_else(|| self.adopt(table))
    }

    fn adopt(&self, table: &mut Table) -> Option<Due> {
        table.adopt(self.pool.take_injected(self.index)?)
    }

    fn serve(&mut self, table: &mut MutexGuard<'_, Table>, due: Due) {
        let Due { token, mut connection, since } = due;
        let phase_before = self.seen.phase;
        let was_overdue = connection.is_over(self.scratch.now);
        if was_overdue || phase_before == StopPhase::Draining {
            connection.limit_to_arrived();
        }
        let messages = &self.pool.counters.workers[self.index].messages;
        let messages_before = messages.get();
        // A panic drops the connection in there, so that its end is not told under the lock.
        let (next, mut connection) = self.unlocked(table, move |worker| {
            let next = connection.serve(&mut worker.scratch, &mut worker.input, token, since);
            (next, connection)
        });
        let is_overdue = connection.is_over(self.scratch.now);
        let is_arrived_read = next == Next::Wait || connection.is_arrived_read();
        let at_once = Some(self.scratch.now);
        if next == Next::Close {
            return self.remove(table, token, connection, End::Closed);
        }
        if was_overdue && is_overdue && (is_arrived_read || connection.is_lingering()) {
            let counters = &self.pool.counters.server;
            if !connection.wants_to_write() && connection.say_goodbye(End::Expired, counters) {
                return table.put_back(token, connection, at_once);
            }
            return self.remove(table, token, connection, End::Expired);
        }
        let again = next == Next::Again;
        let ready_since = again.then_some(self.scratch.since);
        match self.pool.stop.phase() {
            StopPhase::Running => {
                if !is_overdue {
                    connection.lift_limit();
                }
                table.put_back(token, connection, ready_since);
            }
            // What arrived before the stop may have arrived after this turn had read: one more turn.
            StopPhase::Draining if phase_before == StopPhase::Running => {
                table.put_back(token, connection, at_once);
            }
            StopPhase::Draining if !again && connection.is_quiescent() && !connection.is_ending() => {
                if connection.begin_goodbye(End::Drained) {
                    table.put_back(token, connection, at_once);
                } else if connection.begin_lingering_at_stop(self.scratch.now) {
                    self.pool.counters.server.record_end(End::Drained);
                    connection.end_for(End::Drained);
                    table.put_back(token, connection, at_once);
                } else {
                    self.remove(table, token, connection, End::Drained);
                }
            }
            StopPhase::Draining => {
                if !again && !connection.wants_to_write() {
                    connection.end_after_frame();
                }
                table.put_back(token, connection, ready_since);
            }
            // It is ended with the others in the table.
            StopPhase::Finishing if messages.get() == messages_before => {
                table.put_back(token, connection, ready_since);
            }
            // A handler ran beyond the time for draining.
            StopPhase::Finishing => {
                let end = connection.end_beyond_drain();
                self.remove(table, token, connection, end);
            }
        }
    }

    /// Waits until a connection is ready.
    fn wait(&mut self, table: &mut MutexGuard<'_, Table>) {
        let pool = self.pool;
        let deadline = table.next_deadline();
        let timeout = if !pool.may_block(self.index, self.seen) {
            Some(Duration::ZERO)
        } else if pool.alarm.will_ring(self.index, deadline, || pool.clock.wake_acceptor()) {
            None
        } else {
            deadline.map(|at| at.saturating_duration_since(self.scratch.now))
        };
        self.look(table, timeout);
        self.scratch.now = if timeout == Some(Duration::ZERO) { Instant::now() } else { table.now() };
    }

    fn look(&mut self, table: &mut MutexGuard<'_, Table>, timeout: Option<Duration>) {
        let outcome = table.wait(timeout, self.scratch.now);
        self.remote.mailbox.end_waiting();
        let failures = table.take_failures();
        if outcome.is_err() || !failures.is_empty() {
            self.unlocked(table, |_| {
                Pool::log_failures(failures);
                if let Err(error) = outcome {
                    thread::sleep(PAUSE);
                    error!(target: LOG, "waiting for connections failed: {error}");
                }
            });
        }
    }

    fn remove(&mut self, table: &mut Table, token: Token, connection: Box<Connection>, end: End) {
        table.remove(token);
        self.ended.push((connection, end));
    }

    fn record_ended(&mut self, table: &mut MutexGuard<'_, Table>) {
        if !self.ended.is_empty() {
            self.unlocked(table, |worker| {
                worker.pool.record_ended(&mut worker.ended);
            });
        }
    }

    /// Runs what may call the application, its handler or its logger: without the table's lock, and as a turn, so that the
    /// watchdog looks after the table if that takes long.
    fn unlocked<T>(&mut self, table: &mut MutexGuard<'_, Table>, action: impl FnOnce(&mut Self) -> T) -> T {
        self.pool.begin_turn(self.index);
        let outcome = MutexGuard::unlocked(table, || action(self));
        self.pool.end_turn(self.index);
        outcome
    }

    /// Goes back to where a turn can begin, after a panic in one.
    fn recover(&mut self) {
        self.scratch.clear();
        self.input.clear();
        self.ended.clear();
        self.pool.end_turn(self.index);
        self.remote.mailbox.end_waiting();
        self.remote.table.lock().reclaim();
    }
}
