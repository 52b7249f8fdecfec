//! Counters, and a snapshot of them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a server has done since it was started, read with [`ServerHandle::stats`](crate::ServerHandle::stats).
///
/// The counters are read one after the other while the server runs, so they may be a moment apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are open now.
    pub open: usize,
    /// Connections that were accepted, also those that were refused afterwards.
    pub accepted: u64,
    /// Connections that were closed at once because `max_connections` were open.
    pub refused: u64,
    /// Connections that were closed in silence because their establishment did not open.
    pub unauthenticated: u64,
    /// Connections that were closed because a deadline ran out: establishment, lifetime or write.
    pub expired: u64,
    /// Connections that were cut by a stop before they had finished.
    pub cut: u64,
    /// Moves of connections from one worker to another: from one that was held up to one that is not, and to have as many
    /// workers share them as lets the most messages be answered.
    pub redealt: u64,
    /// Connections that were closed because their key was withdrawn.
    pub withdrawn: u64,
    /// Messages that opened and were handed to the handler.
    pub messages: u64,
    /// Messages that were answered with the empty response before they reached the handler.
    pub rejected: u64,
    /// Pings.
    pub pings: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Bytes read from sockets.
    pub bytes_in: u64,
    /// Bytes written to sockets.
    pub bytes_out: u64,
    /// The workers, in their order.
    pub workers: Vec<WorkerStats>,
}

/// The part of one worker in [`Stats`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Connections that it owns now.
    pub connections: usize,
    /// Messages that it handed to the handler.
    pub messages: u64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// One that a single thread adds to, which costs less than what several could do at once.
#[derive(Debug, Default)]
pub(super) struct OwnCounter(AtomicU64);

impl OwnCounter {
    #[inline]
    pub(super) fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What is counted for the server as a whole, all of it rare.
#[derive(Debug, Default)]
pub(super) struct ServerCounters {
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) expired: Counter,
    pub(super) drained: Counter,
    pub(super) cut: Counter,
    pub(super) redealt: Counter,
    pub(super) withdrawn: Counter,
}

/// What each worker counts for itself, in cache lines that no other worker writes.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct WorkerCounters {
    pub(super) unauthenticated: OwnCounter,
    pub(super) withdrawn: OwnCounter,
    pub(super) messages: OwnCounter,
    pub(super) rejected: OwnCounter,
    pub(super) pings: OwnCounter,
    pub(super) panics: OwnCounter,
    pub(super) bytes_in: OwnCounter,
    pub(super) bytes_out: OwnCounter,
}
