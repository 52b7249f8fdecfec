//! One thread that pings for all idle clients of the program.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::core::Core;

/// The clients that want to be kept alive, the one that is due first at the top.
static SCHEDULE: Mutex<Schedule> = Mutex::new(Schedule { entries: BinaryHeap::new(), is_running: false });

/// Tells the thread that somebody may be due earlier than it thought.
static CHANGED: Condvar = Condvar::new();

struct Schedule {
    entries: BinaryHeap<Entry>,
    is_running: bool,
}

struct Entry {
    due: Instant,
    interval: Duration,
    client: Weak<Mutex<Core>>,
}

/// Keeps `client` alive until it is dropped: it never stays idle for much longer than `interval`.
pub(super) fn register(client: &Arc<Mutex<Core>>, interval: Duration) -> io::Result<()> {
    let due = crate::protocol::later(Instant::now(), interval);
    let mut schedule = SCHEDULE.lock();
    if !schedule.is_running {
        thread::Builder::new().name("falcotcp-alive".to_owned()).spawn(keep_alive)?;
        schedule.is_running = true;
    }
    schedule.entries.push(Entry { due, interval, client: Arc::downgrade(client) });
    CHANGED.notify_one();
    Ok(())
}

/// The thread: pings whoever is due, and ends when nobody is left.
fn keep_alive() {
    let mut schedule = SCHEDULE.lock();
    loop {
        // Whoever was dropped keeps the thread no longer than until it would have been due.
        schedule.entries.retain(|entry| entry.client.strong_count() > 0);
        let Some(next) = schedule.entries.peek() else {
            schedule.is_running = false;
            return;
        };
        let due = next.due;
        if Instant::now() < due {
            CHANGED.wait_until(&mut schedule, due);
            continue;
        }
        let Some(mut entry) = schedule.entries.pop() else { continue };
        drop(schedule);
        if let Some(client) = entry.client.upgrade() {
            // A client that is locked is in an exchange, so it is not idle. And the application's logger may panic, which
            // must not end the thread for all the others.
            let looked_after = catch_unwind(AssertUnwindSafe(|| {
                client.try_lock().map(|mut client| client.keep_alive(entry.interval))
            }));
            let next = looked_after.ok().flatten();
            entry.due = next.unwrap_or_else(|| crate::protocol::later(Instant::now(), entry.interval));
        }
        schedule = SCHEDULE.lock();
        schedule.entries.push(entry);
    }
}

impl Ord for Entry {
    /// Earlier is greater, since a heap has its greatest at the top.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}
