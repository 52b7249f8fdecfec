//! The atomics and the waker of every hand-over between threads: the real ones, or in tests under `cfg(shuttle)` those of the
//! model checker, so that the models run the code that serves.

#[cfg(not(all(test, shuttle)))]
pub(in crate::server) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

#[cfg(all(test, shuttle))]
pub(in crate::server) use shuttle::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

#[cfg(not(all(test, shuttle)))]
pub(in crate::server) use parking_lot::Mutex;

/// The model's, with the interface of the real one.
#[cfg(all(test, shuttle))]
#[derive(Debug)]
pub(in crate::server) struct Mutex<T>(shuttle::sync::Mutex<T>);

#[cfg(all(test, shuttle))]
impl<T> Mutex<T> {
    pub(in crate::server) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(in crate::server) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// Ends a thread's wait, the current one or else the next.
#[cfg(not(all(test, shuttle)))]
#[derive(Debug)]
pub(in crate::server) struct Waker(mio::Waker);

#[cfg(not(all(test, shuttle)))]
impl Waker {
    pub(in crate::server) fn new(waker: mio::Waker) -> Self {
        Self(waker)
    }

    pub(in crate::server) fn wake(&self) {
        // It fails only when the system is out of memory; the thread goes on when something else wakes it. And nothing is
        // logged here, since callers may hold a lock.
        let _ = self.0.wake();
    }
}

/// The model's: a thread waits for it with [`wait`](Self::wait) as for its sockets.
#[cfg(all(test, shuttle))]
#[derive(Debug, Default)]
pub(in crate::server) struct Waker {
    is_woken: shuttle::sync::Mutex<bool>,
    condition: shuttle::sync::Condvar,
}

#[cfg(all(test, shuttle))]
impl Waker {
    pub(in crate::server) fn new(_: mio::Waker) -> Self {
        Self::default()
    }

    pub(in crate::server) fn wake(&self) {
        *self.is_woken.lock().unwrap() = true;
        self.condition.notify_one();
    }

    pub(in crate::server) fn wait(&self) {
        let mut is_woken = self.is_woken.lock().unwrap();
        while !*is_woken {
            is_woken = self.condition.wait(is_woken).unwrap();
        }
        *is_woken = false;
    }

    /// Takes a wake-up that nobody waits for, as a look at the sockets does.
    pub(in crate::server) fn forget(&self) {
        *self.is_woken.lock().unwrap() = false;
    }
}
