//! How many connections each worker owns, counted by a guard so that nothing can leak a count.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Connections open in all, and by worker.
#[derive(Debug)]
pub(super) struct Loads {
    open: AtomicUsize,
    /// How many of them come from this machine.
    local: AtomicUsize,
    workers: Box<[AtomicUsize]>,
}

impl Loads {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            local: AtomicUsize::new(0),
            workers: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(SeqCst)
    }

    /// Whether most connections come from this machine, so that clients need its processors as well.
    pub(super) fn are_local(&self) -> bool {
        self.local.load(SeqCst) > self.open() / 2
    }

    pub(super) fn of(&self, worker: usize) -> usize {
        self.workers[worker].load(SeqCst)
    }

    /// The worker with the fewest connections, by one look at each: the counts change all the time.
    pub(super) fn least(&self) -> usize {
        let snapshot = self.workers.iter().map(|load| load.load(SeqCst)).enumerate();
        snapshot.min_by_key(|&(_, load)| load).map_or(0, |(worker, _)| worker)
    }
}

/// One connection's place in the counts, until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    loads: Arc<Loads>,
    worker: usize,
    is_local: bool,
}

impl Lease {
    /// `is_local` if the connection comes from this machine.
    pub(super) fn new(loads: &Arc<Loads>, worker: usize, is_local: bool) -> Self {
        loads.open.fetch_add(1, SeqCst);
        loads.local.fetch_add(usize::from(is_local), SeqCst);
        loads.workers[worker].fetch_add(1, SeqCst);
        Self { loads: Arc::clone(loads), worker, is_local }
    }

    /// Counts the connection for another worker from now on.
    pub(super) fn transfer(&mut self, worker: usize) {
        self.loads.workers[self.worker].fetch_sub(1, SeqCst);
        self.loads.workers[worker].fetch_add(1, SeqCst);
        self.worker = worker;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.loads.workers[self.worker].fetch_sub(1, SeqCst);
        self.loads.local.fetch_sub(usize::from(self.is_local), SeqCst);
        self.loads.open.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let loads = Arc::new(Loads::new(2));
        let first = Lease::new(&loads, loads.least(), true);
        assert!(loads.are_local());
        let mut second = Lease::new(&loads, loads.least(), false);
        assert!(!loads.are_local(), "only half of them");
        assert_eq!((loads.open(), loads.of(0), loads.of(1)), (2, 1, 1));
        second.transfer(0);
        assert_eq!((loads.open(), loads.of(0), loads.of(1), loads.least()), (2, 2, 0, 1));
        drop((first, second));
        assert_eq!((loads.open(), loads.of(0), loads.of(1)), (0, 0, 0));
    }
}
