//! How many connections each worker owns, and each one's place, counted by a guard so that nothing can leak a count or
//! go without its end being told.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::admission::{Admission, AdmissionLimits, Full};
use super::end::End;

/// What is told of the end of every connection that was established, with its number.
pub(in crate::server) type EndHook = Box<dyn Fn(u64, End) + Send + Sync>;

/// Connections open in all, by worker, and by who has a place.
pub(in crate::server) struct Loads {
    open: AtomicUsize,
    workers: Box<[AtomicUsize]>,
    pub(in crate::server) admission: Admission,
    hook: EndHook,
}

impl Loads {
    pub(in crate::server) fn new(workers: usize, limits: AdmissionLimits, hook: EndHook) -> Self {
        Self {
            open: AtomicUsize::new(0),
            workers: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            admission: Admission::new(limits),
            hook,
        }
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

/// One connection's place in the counts, until it is dropped: a stranger's at first.
#[derive(Debug)]
pub(in crate::server) struct LoadGuard {
    loads: Arc<Loads>,
    id: u64,
    worker: u32,
    is_stranger: bool,
    end: Option<End>,
}

impl LoadGuard {
    /// The place of the connection with this number, and whether another one is to make room for it: the workers are to be
    /// woken then.
    pub(in crate::server) fn new(loads: &Arc<Loads>, id: u64, worker: usize) -> (Self, bool) {
        let makes_room = loads.admission.enter(id);
        loads.open.fetch_add(1, SeqCst);
        loads.workers[worker].fetch_add(1, SeqCst);
        (
            Self { loads: Arc::clone(loads), id, worker: narrow(worker), is_stranger: true, end: None },
            makes_room,
        )
    }

    /// The connection's number.
    pub(in crate::server) fn id(&self) -> u64 {
        self.id
    }

    /// Whether the peer has not shown that it holds a key.
    pub(in crate::server) fn is_strangers(&self) -> bool {
        self.is_stranger
    }

    /// Whether there is a place for `peer` among those that hold a key.
    pub(in crate::server) fn look_for_place(&self, peer: IpAddr) -> Result<(), Full> {
        self.loads.admission.look_for(peer)
    }

    /// Makes it the place of `peer`, which has shown that it holds a key.
    pub(in crate::server) fn establish(&mut self, peer: IpAddr) -> Result<(), Full> {
        if self.is_stranger {
            self.loads.admission.establish(self.id, peer)?;
            self.is_stranger = false;
        }
        Ok(())
    }

    /// Says why the connection ends; the first reason counts.
    pub(in crate::server) fn end_for(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Counts the connection for another worker from now on.
    pub(in crate::server) fn transfer(&mut self, worker: usize) {
        self.loads.workers[self.worker as usize].fetch_sub(1, SeqCst);
        self.loads.workers[worker].fetch_add(1, SeqCst);
        self.worker = narrow(worker);
    }
}

/// There are at most 65,536 workers.
fn narrow(worker: usize) -> u32 {
    u32::try_from(worker).unwrap_or(u32::MAX)
}

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loads").field("open", &self.open()).finish_non_exhaustive()
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        if !self.is_stranger {
            (self.loads.hook)(self.id, self.end.unwrap_or(End::Failed));
        }
        self.loads.workers[self.worker as usize].fetch_sub(1, SeqCst);
        self.loads.admission.leave(self.id, self.is_stranger);
        self.loads.open.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_guard_counts_until_it_is_dropped() {
        let limits = AdmissionLimits { unestablished: 2, established: 1, of_peer: None };
        let ends = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&ends);
        let hook = Box::new(move |id, end| told.lock().push((id, end)));
        let loads = Arc::new(Loads::new(2, limits, hook));
        let (mut first, _) = LoadGuard::new(&loads, 1, loads.least());
        let (mut second, _) = LoadGuard::new(&loads, 2, loads.least());
        assert_eq!((loads.open(), loads.of(0), loads.of(1)), (2, 1, 1));
        second.transfer(0);
        assert_eq!((loads.open(), loads.of(0), loads.of(1), loads.least()), (2, 2, 0, 1));
        let peer = [127, 0, 0, 1].into();
        first.establish(peer).unwrap();
        first.establish(peer).unwrap();
        assert_eq!(loads.admission.unestablished(), 1);
        assert_eq!(second.establish(peer), Err(Full::Server));
        first.end_for(End::Expired);
        first.end_for(End::Closed);
        drop(first);
        second.establish(peer).unwrap();
        drop(second);
        drop(LoadGuard::new(&loads, 3, 0));
        assert_eq!(*ends.lock(), [(1, End::Expired), (2, End::Failed)], "each once, and no stranger's");
        assert_eq!((loads.open(), loads.of(0), loads.of(1), loads.admission.unestablished()), (0, 0, 0, 0));
    }
}
