//! Sees to it that a worker which is held up in a handler holds up nobody else.
//!
//! While connections are served the acceptor's thread ticks every millisecond. A worker that is in the same turn as
//! one tick ago is held up: whoever of its connections is ready goes to the overflow, and workers with nothing to do
//! take them. A worker that was merely preempted loses nothing by it: all workers are equal, and a connection belongs to
//! whoever took it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use mio::Waker;

use super::shared::{Shared, StopPhase, WorkerSide, wake};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(1);

/// Ticks after which a worker is held up beyond doubt, and not merely preempted.
const LONG_TICKS: u32 = 10;

/// Ticks without any turn after which the watchdog sleeps.
const QUIET_TICKS: u32 = 10;

/// The count of ticks: a clock that costs its readers nothing, and stands while nobody needs the watchdog.
#[derive(Debug)]
pub(super) struct Ticks {
    count: AtomicU64,
    asleep: AtomicBool,
    /// Wakes the acceptor's thread, which is the watchdog's.
    waker: Waker,
}

impl Ticks {
    pub(super) fn new(waker: Waker) -> Self {
        Self { count: AtomicU64::new(0), asleep: AtomicBool::new(true), waker }
    }

    /// Wakes the watchdog if it sleeps.
    #[inline]
    pub(super) fn rouse(&self) {
        if self.asleep.load(SeqCst) && self.asleep.swap(false, SeqCst) {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        wake(&self.waker);
    }

    /// Counts a tick, which ends every turn after the message that it is at.
    pub(super) fn advance(&self) {
        self.count.fetch_add(1, Relaxed);
    }

    #[inline]
    pub(super) fn current(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

impl Shared {
    /// Wakes the watchdog, unless it is awake, when a worker begins a turn while others could wait for it.
    ///
    /// The worker marks its turn and then looks whether the watchdog sleeps; the watchdog says that it sleeps and then
    /// looks for turns. Both in sequentially consistent order, so that at least one of them sees the other.
    #[inline]
    pub(super) fn rouse_watchdog(&self, worker: usize) {
        if self.loads.of(worker) > 1 {
            self.ticks.rouse();
        }
    }

    /// Wakes the watchdog, from its own thread, when a connection was dealt to a worker in the middle of a turn.
    pub(super) fn watch_if_serving(&self, worker: usize) {
        if is_serving(self.workers[worker].serves()) {
            self.ticks.asleep.store(false, SeqCst);
        }
    }
}

/// The watchdog's memory between two ticks.
pub(super) struct Watchdog {
    serves: Vec<usize>,
    /// For how many ticks each worker has been in the same turn.
    held_up: Vec<u32>,
    quiet_ticks: u32,
    next_tick: Instant,
}

impl Watchdog {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            serves: vec![0; workers],
            held_up: vec![0; workers],
            quiet_ticks: 0,
            next_tick: Instant::now(),
        }
    }

    /// How long the acceptor may wait from `now`; `None` while the watchdog sleeps.
    pub(super) fn time_to_tick(&mut self, shared: &Shared, now: Instant) -> Option<Duration> {
        if shared.ticks.asleep.load(SeqCst) {
            return None;
        }
        // After a sleep the next tick is a whole one away.
        if self.next_tick + TICK < now {
            self.next_tick = now + TICK;
        }
        Some(self.next_tick.saturating_duration_since(now))
    }

    /// Ticks, if it is time.
    pub(super) fn tick(&mut self, shared: &Shared, now: Instant) {
        if shared.ticks.asleep.load(SeqCst) || now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        shared.ticks.advance();
        shared.offer_overflow();
        let mut quiet = shared.overflow.1.is_empty();
        for (index, worker) in shared.workers.iter().enumerate() {
            let serves = worker.serves();
            let before = std::mem::replace(&mut self.serves[index], serves);
            if shared.loads.of(index) > 1 && (serves != before || is_serving(serves)) {
                quiet = false;
            }
            let is_held_up = serves == before && is_serving(serves);
            self.held_up[index] = if is_held_up { self.held_up[index] + 1 } else { 0 };
        }
        let is_anybody_free = self.held_up.contains(&0);
        for (index, &ticks) in self.held_up.iter().enumerate().filter(|(_, ticks)| **ticks > 0) {
            let takers = if is_anybody_free && ticks >= LONG_TICKS { Takers::Busy } else { Takers::Idle };
            relieve(shared, index, now, takers);
        }
        self.quiet_ticks = if quiet { self.quiet_ticks + 1 } else { 0 };
        if self.quiet_ticks >= QUIET_TICKS {
            self.quiet_ticks = 0;
            self.sleep(shared);
        }
    }

    fn sleep(&self, shared: &Shared) {
        shared.ticks.asleep.store(true, SeqCst);
        let missed = shared.workers.iter().enumerate().any(|(index, worker)| {
            shared.loads.of(index) > 1
                && (worker.serves() != self.serves[index] || is_serving(worker.serves()))
        });
        if missed {
            shared.ticks.asleep.store(false, SeqCst);
        }
    }
}

fn is_serving(serves: usize) -> bool {
    serves & 1 == 1
}

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
        // The receiver lives in `shared`, so the channel is never closed.
        let _ = shared.overflow.0.send(connection);
        shared.counters.redealt.add(1);
    }
    drop(table);
    // Only now, since a worker that began to wait before has not seen the connections, and one that begins afterwards
    // will. Whoever is woken may find work of its own first; the next tick offers again what is still there.
    shared.offer_overflow();
}
