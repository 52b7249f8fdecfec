//! How far a server is with its end, and how long it may take over that.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::sync::AtomicUsize;

/// How far a server is with its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::server) enum StopPhase {
    /// It serves.
    Running,
    /// It answers what has arrived and closes connections that have nothing more to come.
    Draining,
    /// The time for that is over, or no connection is left: the threads end.
    Finishing,
}

/// The phase, and the time until the last one.
#[derive(Debug)]
pub(in crate::server) struct StopState {
    phase: AtomicUsize,
    drain_ends: Mutex<Option<Instant>>,
}

impl StopState {
    pub(in crate::server) fn new() -> Self {
        Self { phase: AtomicUsize::new(StopPhase::Running as usize), drain_ends: Mutex::new(None) }
    }

    #[inline]
    pub(in crate::server) fn phase(&self) -> StopPhase {
        match self.phase.load(SeqCst) {
            0 => StopPhase::Running,
            1 => StopPhase::Draining,
            _ => StopPhase::Finishing,
        }
    }

    /// Starts draining; of several calls the earliest end counts.
    pub(in crate::server) fn begin(&self, drain: Duration) {
        // An end beyond what the clock can count is none: the drain lasts until no connection is left.
        if let Some(ends) = Instant::now().checked_add(drain) {
            let mut drain_ends = self.drain_ends.lock();
            *drain_ends = Some(drain_ends.map_or(ends, |earlier| earlier.min(ends)));
        }
        self.phase.fetch_max(StopPhase::Draining as usize, SeqCst);
    }

    pub(in crate::server) fn is_drain_over(&self, now: Instant) -> bool {
        self.drain_ends.lock().is_some_and(|ends| ends <= now)
    }

    /// Moves the end of the drain by time in which the whole process stood still.
    pub(in crate::server) fn extend_drain(&self, by: Duration) {
        let mut drain_ends = self.drain_ends.lock();
        *drain_ends = drain_ends.and_then(|ends| ends.checked_add(by));
    }

    pub(in crate::server) fn finish(&self) {
        self.phase.store(StopPhase::Finishing as usize, SeqCst);
    }
}
