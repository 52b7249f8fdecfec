//! One worker as the other threads see it.

use std::io;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst,
};
use std::time::Duration;

use crossbeam_channel::Sender;
use mio::Waker;
use parking_lot::Mutex;

use super::alarm::PublishedDeadline;
use super::connection::Connection;
use super::shared::wake;
use super::stats::{OwnCounter, WorkerCounters};
use super::table::Table;

/// A wait that is not longer found something at once, or as good as.
const BRIEF: Duration = Duration::from_micros(30);

#[repr(align(128))]
pub(super) struct WorkerSide {
    pub(super) table: Mutex<Table>,
    inbox: Sender<Dealt>,
    waker: Waker,
    /// Whether the worker waits, or is about to, with nothing to do. Written by the worker alone, as are the next three.
    waiting: AtomicBool,
    /// Nanoseconds that it has waited, but for waits so short that there was always something to do.
    paused: OwnCounter,
    /// Odd while it serves a connection.
    serves: AtomicUsize,
    activity: AtomicU8,
    pub(super) deadline: PublishedDeadline,
    pub(super) counters: WorkerCounters,
}

/// A connection on its way to a worker.
pub(super) struct Dealt {
    pub(super) connection: Box<Connection>,
    /// Whether it wants a turn at once: no event may come for what it has read already.
    pub(super) is_ready: bool,
}

/// What a worker does in a turn, as far as the watchdog wants to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Activity {
    /// It opens, seals and keeps its books, which never blocks.
    #[default]
    Computing,
    /// It reads from a socket or writes to one, which never blocks either.
    SocketCall,
    /// It is in the application's handler, which may do what it likes.
    Handler,
}

/// What one look at a worker shows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Glance {
    /// Whether it waits with nothing to do.
    pub(super) is_waiting: bool,
    /// How long it has paused in all.
    pub(super) paused: Duration,
    pub(super) serves: usize,
    pub(super) activity: Activity,
    /// Messages that it has answered, and bytes that it has read.
    pub(super) messages: u64,
    pub(super) bytes_in: u64,
}

impl Glance {
    /// Whether it serves a connection.
    pub(super) fn is_serving(self) -> bool {
        self.serves & 1 == 1
    }
}

impl WorkerSide {
    pub(super) fn new() -> io::Result<Self> {
        let (inbox, deliveries) = crossbeam_channel::unbounded();
        let (table, waker) = Table::new(deliveries)?;
        Ok(Self {
            table: Mutex::new(table),
            inbox,
            waker,
            waiting: AtomicBool::new(false),
            paused: OwnCounter::default(),
            serves: AtomicUsize::new(0),
            activity: AtomicU8::new(Activity::Computing as u8),
            deadline: PublishedDeadline::default(),
            counters: WorkerCounters::default(),
        })
    }

    /// Gives the worker a connection, which is counted for it already.
    pub(super) fn deal(&self, dealt: Dealt) {
        // The receiver lives in the worker's table, so the channel is never closed.
        let _ = self.inbox.send(dealt);
        if self.is_waiting() {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        wake(&self.waker);
    }

    /// Announces a wait. Whoever leaves work looks at this afterwards, and the worker looks for work after announcing it,
    /// so that one of them sees the other.
    pub(super) fn begin_waiting(&self) {
        self.waiting.store(true, SeqCst);
    }

    pub(super) fn end_waiting(&self) {
        self.waiting.store(false, Release);
    }

    /// Notes how long a wait took.
    pub(super) fn note_wait(&self, length: Duration) {
        if length > BRIEF {
            self.paused.add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(SeqCst)
    }

    /// Announces a turn, in sequentially consistent order for [`Shared::rouse_watchdog`](super::shared::Shared).
    pub(super) fn begin_serving(&self) {
        self.serves.store(self.serves.load(Relaxed) | 1, SeqCst);
    }

    pub(super) fn end_serving(&self) {
        let serves = self.serves.load(Relaxed);
        self.serves.store(serves.wrapping_add(serves & 1), Release);
    }

    /// Does something that the watchdog tells apart from other things. Must not panic.
    #[inline]
    pub(super) fn during<T>(&self, activity: Activity, action: impl FnOnce() -> T) -> T {
        self.activity.store(activity as u8, Relaxed);
        let outcome = action();
        self.activity.store(Activity::Computing as u8, Relaxed);
        outcome
    }

    pub(super) fn glance(&self) -> Glance {
        const SOCKET_CALL: u8 = Activity::SocketCall as u8;
        const HANDLER: u8 = Activity::Handler as u8;
        Glance {
            is_waiting: self.is_waiting(),
            paused: Duration::from_nanos(self.paused.get()),
            serves: self.serves.load(SeqCst),
            activity: match self.activity.load(Relaxed) {
                SOCKET_CALL => Activity::SocketCall,
                HANDLER => Activity::Handler,
                _ => Activity::Computing,
            },
            messages: self.counters.messages.get(),
            bytes_in: self.counters.bytes_in.get(),
        }
    }
}
