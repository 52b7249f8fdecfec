//! One thread that pings for all idle clients of the program.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::process;
// Those of `std`, since a forked child may find threads of its parent waiting here: these leave nothing behind, where
// `parking_lot` would go through a queue of threads that the child does not have.
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use log::debug;

use super::connection::Connection;
use super::link::IdleLink;
use super::settings::{LOG, Settings};
use crate::protocol::later;
use crate::read_buffer::ReadBuffer;
use crate::unwind::contained;

/// The links that are kept alive, the one that is due first at the top.
static SCHEDULE: Mutex<Schedule> = Mutex::new(Schedule { entries: BinaryHeap::new(), process: None });

/// Tells the thread that a link may be due earlier than it thought.
static CHANGED: Condvar = Condvar::new();

/// However short the lifetime is that a server names, its clients do not burn a processor.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// When a link is looked after again if the application's logger panicked.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Room for what a server sends to an idle client.
const SCRATCH: usize = 256;

struct Schedule {
    entries: BinaryHeap<Entry>,
    /// The process in which the thread runs. A forked child has a copy of this, and no thread.
    process: Option<u32>,
}

struct Entry {
    due: Instant,
    /// Default: a quarter of the lifetime.
    interval: Option<Duration>,
    settings: Settings,
    link: Weak<IdleLink>,
    /// The connection's, when it was last seen.
    lifetime: Duration,
}

impl Connection {
    /// Keeps the connection alive until it is dropped: it never stays idle for much longer than `interval`, or a quarter of
    /// its lifetime.
    pub(super) fn keep_alive(&mut self, interval: Option<Duration>) -> io::Result<()> {
        let mut schedule = schedule();
        schedule.see_to_thread()?;
        let settings = self.settings;
        let lifetime = self.with_link(|link| link.lifetime(&settings)).unwrap_or(settings.lifetime());
        let link = Arc::downgrade(&self.share_idle_link());
        schedule.entries.push(Entry { due: Instant::now(), interval, settings, link, lifetime });
        drop(schedule);
        CHANGED.notify_one();
        Ok(())
    }
}

/// Starts the thread of a forked child that has clients to keep alive. Its parent's does not exist there.
pub(super) fn resume_after_fork() {
    let mut schedule = schedule();
    if !schedule.entries.is_empty() {
        // Without the thread the connection ends with its lifetime, and reconnecting begins a new one.
        let _ = schedule.see_to_thread();
    }
}

fn schedule() -> MutexGuard<'static, Schedule> {
    SCHEDULE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Schedule {
    fn see_to_thread(&mut self) -> io::Result<()> {
        let process = Some(process::id());
        if self.process != process {
            thread::Builder::new().name("falcotcp-alive".to_owned()).spawn(keep_alive)?;
            self.process = process;
        }
        Ok(())
    }
}

/// The thread: pings on the link that is due, and ends when none is left.
fn keep_alive() {
    let mut schedule = schedule();
    loop {
        // Those of dropped clients keep neither the thread nor their memory.
        schedule.entries.retain(|entry| entry.link.strong_count() > 0);
        let Some(next) = schedule.entries.peek() else {
            schedule.process = None;
            return;
        };
        let wait = next.due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            schedule = CHANGED.wait_timeout(schedule, wait).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        let Some(mut entry) = schedule.entries.pop() else { continue };
        drop(schedule);
        if let Some(link) = entry.link.upgrade() {
            // The application's logger may panic, which must not end the thread for all others.
            let next = contained(|| look_after(&link, &mut entry));
            entry.due = next.unwrap_or_else(|| later(Instant::now(), entry.interval.unwrap_or(AFTER_PANIC)));
        }
        schedule = self::schedule();
        schedule.entries.push(entry);
    }
}

/// Pings if the link has been idle for the interval, without waiting; says when to look again.
fn look_after(idle: &IdleLink, entry: &mut Entry) -> Instant {
    let Entry { interval, settings, lifetime, .. } = entry;
    let mut slot = idle.lock();
    let Some(link) = slot.as_mut() else {
        // In an exchange, or closed. Half of the lifetime is the least that a link may be idle.
        let interval = interval.unwrap_or(*lifetime / 4).min(*lifetime / 2);
        return later(Instant::now(), interval.max(SHORTEST_INTERVAL));
    };
    *lifetime = link.lifetime(settings);
    let interval = interval.unwrap_or(*lifetime / 4).min(link.longest_idle(settings));
    let interval = interval.max(SHORTEST_INTERVAL);
    let due = later(link.last_used, interval);
    if due > Instant::now() {
        return due;
    }
    let outcome = if link.transport.is_inherited() {
        // The parent's process sees to it.
        Ok(())
    } else if link.is_pipelined {
        // The pipeline reads, and finds out whether the connection is over.
        let _ = link.extend_lifetime();
        Ok(())
    } else {
        link.refresh(&mut ReadBuffer::with_size(SCRATCH), settings).map_err(|error| error.at(link.addr))
    };
    let ended = if outcome.is_err() { slot.take() } else { None };
    // No line is logged under a lock: the logger may send it through this very client.
    drop(slot);
    drop(ended);
    if let Err(error) = outcome {
        debug!(target: LOG, "found closed while idle: {error}");
    }
    later(Instant::now(), interval)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Key, Server};

    #[test]
    fn a_dropped_client_is_forgotten_before_it_is_due_and_the_thread_ends_with_the_last() {
        let key = Key::from_bytes([1; 32]);
        let server = Server::builder(key.clone()).bind("127.0.0.1:0").unwrap().spawn(<[u8]>::to_vec).unwrap();
        let kept = |interval| {
            Client::builder(&key).keep_alive(true).keep_alive_interval(interval).connect(server.local_addr())
        };
        let clients: Vec<_> = (0..3).map(|_| kept(Duration::from_secs(50)).unwrap()).collect();
        drop(clients);
        let last = kept(Duration::from_millis(10)).unwrap();
        let is = |condition: &dyn Fn(&Schedule) -> bool| {
            let begun = Instant::now();
            while !condition(&schedule()) {
                assert!(begun.elapsed() < Duration::from_secs(30));
                thread::sleep(Duration::from_millis(1));
            }
        };
        is(&|schedule| schedule.entries.len() == 1);
        drop(last);
        is(&|schedule| schedule.entries.is_empty() && schedule.process.is_none());
    }
}
