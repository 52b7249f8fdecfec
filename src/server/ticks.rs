//! The watchdog's ticks, and how it goes to sleep and is woken.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use mio::Waker;

use super::shared::{Shared, wake};

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
        if self.is_asleep() && self.asleep.swap(false, SeqCst) {
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

    #[inline]
    pub(super) fn is_asleep(&self) -> bool {
        self.asleep.load(SeqCst)
    }

    /// Called by the watchdog alone, which then looks once more whether it is needed.
    pub(super) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, SeqCst);
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
        if self.workers[worker].glance().is_serving() {
            self.ticks.set_asleep(false);
        }
    }
}
