//! The watchdog's clock: it ticks while connections are served, and is parked while nobody needs the watchdog.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::sync::{AtomicBool, AtomicU64, Waker};

/// The count of ticks: a clock that costs its readers nothing.
#[derive(Debug)]
pub(in crate::server) struct WatchdogClock {
    ticks: AtomicU64,
    is_parked: AtomicBool,
    /// Wakes the acceptor's thread, which is the watchdog's.
    acceptor: Waker,
}

impl WatchdogClock {
    pub(in crate::server) fn new(acceptor: Waker) -> Self {
        Self { ticks: AtomicU64::new(0), is_parked: AtomicBool::new(true), acceptor }
    }

    /// Unparks the watchdog if it is parked. A worker that begins a turn marks it first and calls this afterwards.
    #[inline]
    pub(in crate::server) fn unpark(&self) {
        if self.is_parked() && self.is_parked.swap(false, SeqCst) {
            self.wake_acceptor();
        }
    }

    pub(in crate::server) fn wake_acceptor(&self) {
        self.acceptor.wake();
    }

    /// Counts a tick, which ends every turn after the message that it is at.
    pub(in crate::server) fn advance(&self) {
        self.ticks.fetch_add(1, Relaxed);
    }

    #[inline]
    pub(in crate::server) fn ticks(&self) -> u64 {
        self.ticks.load(Relaxed)
    }

    #[inline]
    pub(in crate::server) fn is_parked(&self) -> bool {
        self.is_parked.load(SeqCst)
    }

    /// Called in the watchdog's own thread: no wake-up is needed.
    pub(in crate::server) fn stay_awake(&self) {
        self.is_parked.store(false, SeqCst);
    }

    /// Parks the watchdog unless `is_needed`, which is asked after that is announced. A worker marks its turn before it
    /// looks whether the watchdog is parked; so, all in sequentially consistent order, one of the two sees the other.
    pub(in crate::server) fn park_unless(&self, is_needed: impl FnOnce() -> bool) {
        self.is_parked.store(true, SeqCst);
        if is_needed() {
            self.stay_awake();
        }
    }
}
