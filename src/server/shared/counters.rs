//! What is counted while a server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::admission::AdmissionLimits;
use super::end::End;
use super::load::{EndHook, Loads};

/// All counters of one server. They outlive its threads.
#[derive(Debug)]
pub(in crate::server) struct Counters {
    pub(in crate::server) loads: Arc<Loads>,
    /// Answers that are awaited now.
    pub(in crate::server) awaited: Arc<Gauge>,
    /// What the moments in the workers' counters count from.
    pub(in crate::server) begun: Instant,
    pub(in crate::server) server: Arc<ServerCounters>,
    pub(in crate::server) workers: Box<[WorkerCounters]>,
}

impl Counters {
    /// `hook` is told of the ends of connections.
    pub(in crate::server) fn new(
        workers: usize,
        limits: AdmissionLimits,
        hook: EndHook,
        server: Arc<ServerCounters>,
    ) -> Self {
        Self {
            loads: Arc::new(Loads::new(workers, limits, hook)),
            awaited: Arc::default(),
            begun: Instant::now(),
            server,
            workers: (0..workers).map(|_| WorkerCounters::default()).collect(),
        }
    }
}

/// What is counted for the server as a whole, all of it rare.
#[derive(Debug, Default)]
pub(in crate::server) struct ServerCounters {
    pub(in crate::server) accepted: Counter,
    pub(in crate::server) refused: Counter,
    pub(in crate::server) evicted: Counter,
    pub(in crate::server) expired: Counter,
    pub(in crate::server) drained: Counter,
    pub(in crate::server) cut: Counter,
    pub(in crate::server) redealt: Counter,
    pub(in crate::server) withdrawn: Counter,
    /// Panics where the handler is told of an end.
    pub(in crate::server) panics: Counter,
}

impl ServerCounters {
    /// Counts a connection that is over, or begins to linger.
    pub(in crate::server) fn record_end(&self, end: End) {
        match end {
            End::Closed | End::Failed | End::ByHandler => {}
            End::Evicted => self.evicted.add(1),
            End::Expired => self.expired.add(1),
            End::Withdrawn => self.withdrawn.add(1),
            End::Drained => self.drained.add(1),
            End::Cut => self.cut.add(1),
        }
    }
}

/// What each worker counts for itself, in cache lines that no other worker writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(in crate::server) struct WorkerCounters {
    pub(in crate::server) is_busy: Flag,
    pub(in crate::server) waiting: Waiting,
    pub(in crate::server) shed: OwnCounter,
    pub(in crate::server) unauthenticated: OwnCounter,
    pub(in crate::server) classic: OwnCounter,
    pub(in crate::server) forward_secret: OwnCounter,
    pub(in crate::server) messages: OwnCounter,
    pub(in crate::server) rejected: OwnCounter,
    pub(in crate::server) pings: OwnCounter,
    pub(in crate::server) panics: OwnCounter,
    pub(in crate::server) deferred: OwnCounter,
    pub(in crate::server) bytes_in: OwnCounter,
    pub(in crate::server) bytes_out: OwnCounter,
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub(in crate::server) struct Gauge(AtomicUsize);

impl Gauge {
    pub(in crate::server) fn add(&self, count: usize) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(in crate::server) fn sub(&self, count: usize) {
        self.0.fetch_sub(count, Relaxed);
    }

    pub(in crate::server) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// Whether something is so at the moment.
#[derive(Debug, Default)]
pub(in crate::server) struct Flag(AtomicBool);

impl Flag {
    pub(in crate::server) fn set(&self, is_so: bool) {
        self.0.store(is_so, Relaxed);
    }

    pub(in crate::server) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// How many connections wait for their turn, and since when the next of them does: a moment apart.
#[derive(Debug, Default)]
pub(in crate::server) struct Waiting {
    count: AtomicUsize,
    nanoseconds: AtomicU64,
}

impl Waiting {
    pub(in crate::server) fn set(&self, count: usize, next: Option<Instant>, begun: Instant) {
        self.count.store(count, Relaxed);
        if let Some(since) = next {
            let since = since.saturating_duration_since(begun).as_nanos();
            self.nanoseconds.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
        }
    }

    pub(in crate::server) fn get(&self, begun: Instant) -> (usize, Option<Duration>) {
        let count = self.count.load(Relaxed);
        let since = Duration::from_nanos(self.nanoseconds.load(Relaxed));
        (count, (count > 0).then(|| begun.elapsed().saturating_sub(since)))
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(in crate::server) struct Counter(AtomicU64);

impl Counter {
    pub(in crate::server) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(in crate::server) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One that a single thread adds to, which costs less than what several could do at once.
#[derive(Debug, Default)]
pub(in crate::server) struct OwnCounter(AtomicU64);

impl OwnCounter {
    #[inline]
    pub(in crate::server) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(in crate::server) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
