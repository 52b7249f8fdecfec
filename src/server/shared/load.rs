//! How many connections each worker owns, counted by a guard so that nothing can leak a count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Connections open in all, and by worker.
#[derive(Debug)]
pub(in crate::server) struct Loads {
    open: AtomicUsize,
    workers: Box<[AtomicUsize]>,
}

impl Loads {
    pub(in crate::server) fn new(workers: usize) -> Self {
        Self { open: AtomicUsize::new(0), workers: (0..workers).map(|_| AtomicUsize::new(0)).collect() }
    }

    pub(in crate::server) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    pub(in crate::server) fn of(&self, worker: usize) -> usize {
        self.workers[worker].load(SeqCst)
    }

    /// The worker with the fewest connections, by one look at each: the counts change all the time.
    pub(in crate::server) fn least(&self) -> usize {
        let snapshot = self.workers.iter().map(|load| load.load(SeqCst)).enumerate();
        snapshot.min_by_key(|&(_, load)| load).map_or(0, |(worker, _)| worker)
    }
}

/// One connection's place in the counts, until it is dropped.
#[derive(Debug)]
pub(in crate::server) struct LoadGuard {
    loads: Arc<Loads>,
    worker: usize,
}

impl LoadGuard {
    pub(in crate::server) fn new(loads: &Arc<Loads>, worker: usize) -> Self {
        loads.open.fetch_add(1, SeqCst);
        loads.workers[worker].fetch_add(1, SeqCst);
        Self { loads: Arc::clone(loads), worker }
    }

    /// Counts the connection for another worker from now on.
    pub(in crate::server) fn transfer(&mut self, worker: usize) {
        self.loads.workers[self.worker].fetch_sub(1, SeqCst);
        self.loads.workers[worker].fetch_add(1, SeqCst);
        self.worker = worker;
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.loads.workers[self.worker].fetch_sub(1, SeqCst);
        self.loads.open.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_counts_until_it_is_dropped() {
        let loads = Arc::new(Loads::new(2));
        let first = LoadGuard::new(&loads, loads.least());
        let mut second = LoadGuard::new(&loads, loads.least());
        assert_eq!((loads.open(), loads.of(0), loads.of(1)), (2, 1, 1));
        second.transfer(0);
        assert_eq!((loads.open(), loads.of(0), loads.of(1), loads.least()), (2, 2, 0, 1));
        drop((first, second));
        assert_eq!((loads.open(), loads.of(0), loads.of(1)), (0, 0, 0));
    }
}
