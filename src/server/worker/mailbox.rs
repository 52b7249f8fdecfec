//! What other threads may do to a worker: leave it something, wake it, and look at what it is doing.

use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

use crossbeam_channel::{Receiver, Sender};

use crate::server::shared::{AtomicBool, AtomicUsize, Waker};

/// The one place where other threads reach a worker. It is generic over what is delivered, for the models alone.
#[repr(align(128))]
pub(in crate::server) struct Mailbox<T> {
    deliveries: (Sender<T>, Receiver<T>),
    waker: Waker,
    /// Whether the worker waits, or is about to, with nothing to do, and has not been woken.
    is_waiting: AtomicBool,
    /// Odd while the worker is at a turn, and another number at each. Written by the worker alone.
    turn: AtomicUsize,
}

/// What one look at a worker shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::server) struct Snapshot {
    turn: usize,
}

impl Snapshot {
    /// Whether the worker is at a turn.
    pub(in crate::server) fn is_serving(self) -> bool {
        self.turn & 1 == 1
    }
}

impl<T> Mailbox<T> {
    pub(in crate::server) fn new(waker: Waker) -> Self {
        Self {
            deliveries: crossbeam_channel::unbounded(),
            waker,
            is_waiting: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        }
    }

    /// Leaves something for the worker, which is woken if it waits.
    pub(in crate::server) fn deliver(&self, item: T) {
        // The receiver stands beside the sender, so the channel is never closed.
        let _ = self.deliveries.0.send(item);
        self.wake_if_waiting();
    }

    /// What was left, one at a time.
    pub(in crate::server) fn take(&self) -> Option<T> {
        self.deliveries.1.try_recv().ok()
    }

    pub(in crate::server) fn wake(&self) {
        self.waker.wake();
    }

    /// Wakes the worker if it waits, once for a burst; whether it did. Whoever leaves work anywhere calls this afterwards.
    pub(in crate::server) fn wake_if_waiting(&self) -> bool {
        let is_woken = self.is_waiting() && self.is_waiting.swap(false, SeqCst);
        if is_woken {
            self.wake();
        }
        is_woken
    }

    pub(in crate::server) fn is_waiting(&self) -> bool {
        self.is_waiting.load(SeqCst)
    }

    /// Announces a wait, and whether it may block: not if something was delivered or `is_wanted`, which is asked after the
    /// announcement. Others leave work before they look whether the worker waits; so, all in sequentially consistent order,
    /// one of the two sees the other.
    pub(in crate::server) fn begin_waiting(&self, is_wanted: impl FnOnce() -> bool) -> bool {
        self.is_waiting.store(true, SeqCst);
        !is_wanted() && self.deliveries.1.is_empty()
    }

    pub(in crate::server) fn end_waiting(&self) {
        self.is_waiting.store(false, Release);
    }

    /// Announces a turn. The watchdog is to be unparked afterwards.
    pub(in crate::server) fn begin_turn(&self) {
        self.turn.store(self.turn.load(Relaxed) | 1, SeqCst);
    }

    pub(in crate::server) fn end_turn(&self) {
        let turn = self.turn.load(Relaxed);
        self.turn.store(turn.wrapping_add(turn & 1), Release);
    }

    #[cfg(all(test, shuttle))]
    pub(in crate::server) fn wait(&self) {
        self.waker.wait();
    }

    #[cfg(all(test, shuttle))]
    pub(in crate::server) fn forget_wake(&self) {
        self.waker.forget();
    }

    pub(in crate::server) fn snapshot(&self) -> Snapshot {
        Snapshot { turn: self.turn.load(SeqCst) }
    }
}
