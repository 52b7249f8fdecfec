//! How far a server is with its end, and how long it may take over that.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::sync::AtomicUsize;

/// A drain that nobody has looked at for longer than this was not the acceptor's doing: the whole process stood still.
const FROZEN: Duration = Duration::from_millis(200);

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
    drain: Mutex<Option<Drain>>,
}

/// When the time for draining is over, and when somebody last looked at that.
#[derive(Debug)]
struct Drain {
    /// `None` beyond what the clock can count: the drain lasts until no connection is left.
    ends: Option<Instant>,
    seen: Instant,
}

impl StopState {
    pub(in crate::server) fn new() -> Self {
        Self { phase: AtomicUsize::new(StopPhase::Running as usize), drain: Mutex::new(None) }
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
        let now = Instant::now();
        let ends = now.checked_add(drain);
        let mut drain = self.drain.lock();
        let drain = drain.get_or_insert(Drain { ends, seen: now });
        drain.ends = drain.ends.into_iter().chain(ends).min();
        self.phase.fetch_max(StopPhase::Draining as usize, SeqCst);
    }

    /// Whether the time for draining is over at `now`. Time in which the process stood still does not count, so this is
    /// to be asked again and again.
    pub(in crate::server) fn is_drain_over(&self, now: Instant) -> bool {
        let mut drain = self.drain.lock();
        let Some(Drain { ends, seen }) = &mut *drain else { return false };
        let unseen = now.saturating_duration_since(std::mem::replace(seen, now));
        if unseen > FROZEN {
            *ends = ends.and_then(|ends| ends.checked_add(unseen));
        }
        ends.is_some_and(|ends| ends <= now)
    }

    pub(in crate::server) fn finish(&self) {
        self.phase.store(StopPhase::Finishing as usize, SeqCst);
    }
}
