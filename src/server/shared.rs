//! What the acceptor, the workers and the handles of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::{Receiver, Sender};
use log::warn;
use mio::Waker;
use parking_lot::Mutex;

use super::alarm::Alarm;
use super::connection::Connection;
use super::handler::Handler;
use super::load::Loads;
use super::stats::{ServerCounters, Stats, WorkerStats};
use super::table::Table;
use super::ticks::Ticks;
use super::worker_side::WorkerSide;
use crate::keyring::Keyring;

const LOG: &str = "falcotcp_sync::server";

pub(super) struct Shared {
    pub(super) handler: Box<dyn Handler>,
    pub(super) workers: Box<[WorkerSide]>,
    /// Ready connections of workers that are held up or have too many, for any worker that has nothing to do.
    pub(super) overflow: (Sender<Box<Connection>>, Receiver<Box<Connection>>),
    pub(super) loads: Arc<Loads>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) counters: ServerCounters,
    pub(super) ticks: Ticks,
    pub(super) alarm: Alarm,
    pub(super) stop: StopState,
}

impl Shared {
    /// `waker` wakes the acceptor's thread.
    pub(super) fn new(
        workers: usize,
        handler: Box<dyn Handler>,
        keyring: Arc<Keyring>,
        waker: Waker,
    ) -> io::Result<Self> {
        Ok(Self {
            handler,
            workers: (0..workers).map(|_| WorkerSide::new()).collect::<io::Result<_>>()?,
            overflow: crossbeam_channel::unbounded(),
            loads: Arc::new(Loads::new(workers)),
            keyring,
            counters: ServerCounters::default(),
            ticks: Ticks::new(waker),
            alarm: Alarm::new(),
            stop: StopState::new(),
        })
    }

    pub(super) fn wake_workers(&self) {
        for worker in &self.workers {
            worker.wake();
        }
    }

    /// Wakes as many waiting workers as there are connections that anybody may take.
    pub(super) fn offer_overflow(&self) {
        let waiting = self.workers.iter().filter(|worker| worker.is_waiting());
        for worker in waiting.take(self.overflow.1.len()) {
            worker.wake();
        }
    }

    /// Closes the connections in `table` that live under a key which is accepted no more. Those with an answer that is
    /// not sent yet are closed by their workers when it is.
    pub(super) fn close_withdrawn(&self, table: &mut Table) {
        table.close_if(
            |connection| {
                let has_answers_out = connection.wants_to_write() || connection.is_lingering();
                connection.is_key_withdrawn() && !has_answers_out
            },
            |connection, _| {
                self.counters.withdrawn.add(1);
                connection.log_withdrawal();
            },
        );
    }

    /// Sees to it that the connections under a key that was withdrawn are closed: those of a worker that is held up
    /// in a handler from here, and the others by their workers.
    pub(super) fn sweep_withdrawn(&self) {
        for worker in &self.workers {
            if let Some(mut table) = worker.table.try_lock() {
                self.close_withdrawn(&mut table);
            }
            worker.wake();
        }
    }

    pub(super) fn stop(&self, drain: Duration) {
        self.stop.begin(drain);
        self.ticks.wake();
        self.wake_workers();
    }

    /// Counts a connection that is closed at its deadline; one that lingers has ended before.
    pub(super) fn note_expired(&self, connection: &Connection) {
        connection.log_expiry();
        if !connection.is_lingering() {
            self.counters.expired.add(1);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats {
            open: self.loads.open(),
            accepted: self.counters.accepted.get(),
            refused: self.counters.refused.get(),
            expired: self.counters.expired.get(),
            cut: self.counters.cut.get(),
            redealt: self.counters.redealt.get(),
            withdrawn: self.counters.withdrawn.get(),
            ..Stats::default()
        };
        for (index, worker) in self.workers.iter().enumerate() {
            let messages = worker.counters.messages.get();
            stats.withdrawn += worker.counters.withdrawn.get();
            stats.unauthenticated += worker.counters.unauthenticated.get();
            stats.messages += messages;
            stats.rejected += worker.counters.rejected.get();
            stats.pings += worker.counters.pings.get();
            stats.panics += worker.counters.panics.get();
            stats.bytes_in += worker.counters.bytes_in.get();
            stats.bytes_out += worker.counters.bytes_out.get();
            stats.workers.push(WorkerStats { connections: self.loads.of(index), messages });
        }
        stats
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Wakes a thread from its wait.
pub(super) fn wake(waker: &Waker) {
    if let Err(error) = waker.wake() {
        warn!(target: LOG, "a thread could not be woken and goes on when something else wakes it: {error}");
    }
}

/// How far a server is with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StopPhase {
    /// It serves.
    Running,
    /// It answers what has arrived and closes whoever has nothing more to come.
    Draining,
    /// The time for that is over, or everybody has gone: the threads end.
    Finishing,
}

/// The phase, and the time until the last one.
#[derive(Debug)]
pub(super) struct StopState {
    phase: AtomicU8,
    drain_ends: Mutex<Option<Instant>>,
}

impl StopState {
    pub(super) fn new() -> Self {
        Self { phase: AtomicU8::new(StopPhase::Running as u8), drain_ends: Mutex::new(None) }
    }

    #[inline]
    pub(super) fn phase(&self) -> StopPhase {
        match self.phase.load(SeqCst) {
            0 => StopPhase::Running,
            1 => StopPhase::Draining,
            _ => StopPhase::Finishing,
        }
    }

    /// Starts draining; of several calls the earliest end counts.
    fn begin(&self, drain: Duration) {
        // An end beyond what the clock can count is none: the drain lasts until everybody has gone.
        if let Some(ends) = Instant::now().checked_add(drain) {
            let mut drain_ends = self.drain_ends.lock();
            *drain_ends = Some(drain_ends.map_or(ends, |earlier| earlier.min(ends)));
        }
        self.phase.fetch_max(StopPhase::Draining as u8, SeqCst);
    }

    pub(super) fn is_drain_over(&self, now: Instant) -> bool {
        self.drain_ends.lock().is_some_and(|ends| ends <= now)
    }

    pub(super) fn finish(&self) {
        self.phase.store(StopPhase::Finishing as u8, SeqCst);
    }
}
