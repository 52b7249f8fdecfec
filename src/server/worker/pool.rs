//! The workers of one server as its other threads hold them, and what all of them share.
//!
//! It lives as long as the server's threads, which alone own it: whoever else holds on to a server (handles, stoppers, its
//! own handler) has no part of it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use log::{error, warn};
use parking_lot::Mutex;

use super::mailbox::Mailbox;
use super::table::{Delivery, Failure, ReadyConnection, Table};
use crate::keyring::Keyring;
use crate::server::connection::{Connection, DeferralLimits, Ended};
use crate::server::connection_info::{ConnectionId, EndReason};
use crate::server::handler::Handler;
use crate::server::shared::{
    AdmissionLimits, Alarm, Counters, End, EndHook, Floods, LOG, ServerCounters, StopPhase, StopState, Waker,
    WatchdogClock,
};
use crate::unwind::contained;

/// The pause between two looks at connections whose peers read a goodbye.
const LINGER_TICK: Duration = Duration::from_millis(1);

pub(in crate::server) struct Pool {
    pub(in crate::server) shed_after: Option<Duration>,
    pub(in crate::server) deferral: DeferralLimits,
    pub(in crate::server) keyring: Arc<Keyring>,
    pub(in crate::server) counters: Arc<Counters>,
    pub(in crate::server) floods: Floods,
    pub(in crate::server) workers: Box<[Remote]>,
    /// Ready connections of stalled workers, for any worker that has nothing to do.
    injector: (Sender<ReadyConnection>, Receiver<ReadyConnection>),
    /// Connections that have said goodbye when the threads end.
    parting: Mutex<Vec<Ended>>,
    pub(in crate::server) clock: WatchdogClock,
    pub(in crate::server) alarm: Alarm,
    pub(in crate::server) stop: StopState,
    /// Dropped last, so that it is told of the end of whatever connection is still in here.
    pub(in crate::server) handler: Arc<dyn Handler>,
}

/// What every worker must have seen before it may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) struct Seen {
    pub(super) phase: StopPhase,
    pub(super) withdrawals: u64,
    pub(super) makes_room: u64,
}

/// What other threads hold of one worker.
pub(in crate::server) struct Remote {
    pub(in crate::server) table: Mutex<Table>,
    pub(in crate::server) mailbox: Arc<Mailbox<Delivery>>,
    /// Whoever withdrew a key found the table locked, perhaps by the watchdog, which is to sweep it then.
    is_sweep_due: AtomicBool,
}

impl Remote {
    fn new(counters: &Arc<Counters>, worker: usize) -> io::Result<Self> {
        let table = Table::new(counters, worker)?;
        Ok(Self { mailbox: table.mailbox(), table: Mutex::new(table), is_sweep_due: AtomicBool::new(false) })
    }

    /// Does what whoever withdrew a key could not.
    pub(in crate::server) fn sweep_if_due(&self, table: &mut Table) -> Vec<Ended> {
        if self.is_sweep_due.swap(false, SeqCst) { take_withdrawn(table) } else { Vec::new() }
    }
}

impl Pool {
    pub(in crate::server) fn new(
        workers: usize,
        (handler, shed_after): (Arc<dyn Handler>, Option<Duration>),
        admission: AdmissionLimits,
        deferral: DeferralLimits,
        keyring: Arc<Keyring>,
        acceptor: Waker,
    ) -> io::Result<Self> {
        let server = Arc::default();
        let hook = end_hook(&handler, &server);
        let counters = Arc::new(Counters::new(workers, admission, hook, server));
        Ok(Self {
            shed_after,
            deferral,
            keyring,
            workers: (0..workers).map(|worker| Remote::new(&counters, worker)).collect::<io::Result<_>>()?,
            counters,
            floods: Floods::new(),
            injector: crossbeam_channel::unbounded(),
            parting: Mutex::default(),
            clock: WatchdogClock::new(acceptor),
            alarm: Alarm::new(workers),
            stop: StopState::new(),
            handler,
        })
    }

    /// Stops the server; of several calls the earliest end counts.
    pub(in crate::server) fn stop(&self, drain: Duration) {
        self.stop.begin(drain);
        self.clock.wake_acceptor();
        self.wake_workers();
    }

    pub(in crate::server) fn wake_workers(&self) {
        for worker in &self.workers {
            worker.mailbox.wake();
        }
    }

    /// Leaves a ready connection to whichever worker takes it. [`wake_for_injected`](Self::wake_for_injected) is to be
    /// called afterwards.
    pub(in crate::server) fn inject(&self, connection: ReadyConnection) {
        // The receiver stands beside the sender, so the channel is never closed.
        let _ = self.injector.0.send(connection);
    }

    /// Takes a connection that any worker may take, for this one.
    pub(in crate::server) fn take_injected(&self, worker: usize) -> Option<ReadyConnection> {
        let (mut connection, since) = self.injector.1.try_recv().ok()?;
        connection.transfer(worker);
        Some((connection, since))
    }

    pub(in crate::server) fn has_injected(&self) -> bool {
        !self.injector.1.is_empty()
    }

    /// Wakes as many waiting workers as there are connections that any may take.
    pub(in crate::server) fn wake_for_injected(&self) {
        let mut unclaimed = self.injector.1.len();
        for worker in &self.workers {
            if unclaimed > 0 && worker.mailbox.wake_if_waiting() {
                unclaimed -= 1;
            }
        }
    }

    /// Announces a worker's turn, for which the watchdog is unparked if other connections could wait for its end.
    #[inline]
    pub(in crate::server) fn begin_turn(&self, worker: usize) {
        self.workers[worker].mailbox.begin_turn();
        self.counters.workers[worker].is_busy.set(true);
        if self.counters.loads.of(worker) > 1 {
            self.clock.unpark();
        }
    }

    pub(in crate::server) fn end_turn(&self, worker: usize) {
        self.counters.workers[worker].is_busy.set(false);
        self.workers[worker].mailbox.end_turn();
    }

    pub(in crate::server) fn seen(&self) -> Seen {
        Seen {
            phase: self.stop.phase(),
            withdrawals: self.keyring.withdrawals(),
            makes_room: self.counters.loads.admission.makes_room(),
        }
    }

    /// Announces a worker's wait, and whether it may block: not if there is anything to do that it has not `seen`. It may
    /// have been woken for that since, and another look at its sockets may have taken the wake-up.
    pub(in crate::server) fn may_block(&self, worker: usize, seen: Seen) -> bool {
        let is_wanted = || self.seen() != seen || self.has_injected();
        self.workers[worker].mailbox.begin_waiting(is_wanted)
    }

    /// Lets the workers close the strangers that were told to make room.
    pub(in crate::server) fn wake_for_eviction(&self) {
        for worker in &self.workers {
            worker.mailbox.wake_if_waiting();
        }
    }

    /// Closes the connections under keys that were withdrawn: those of stalled workers from here, and the others by their
    /// workers.
    pub(in crate::server) fn sweep_withdrawn(&self) {
        let mut ended = Vec::new();
        for worker in &self.workers {
            match worker.table.try_lock() {
                Some(mut table) => ended.extend(take_withdrawn(&mut table)),
                None => worker.is_sweep_due.store(true, SeqCst),
            }
            worker.mailbox.wake();
        }
        // Only now, since the application's logger may panic.
        self.record_ended(&mut ended);
    }

    /// Takes out of a worker's table, and of where its connections wait to get there, whatever is left when the server
    /// ends.
    pub(in crate::server) fn take_all(&self, table: &mut Table) -> Vec<Ended> {
        let ended = |connection: Box<Connection>, is_ready| {
            // A ready one may have been so for the drain alone.
            let is_cut = is_ready && connection.has_more();
            let end = if is_cut { End::Cut } else { connection.end_at_stop() };
            (connection, end)
        };
        let left = table.take_all().into_iter().map(|(connection, is_ready)| ended(connection, is_ready));
        let mut left: Vec<_> = left.collect();
        while let Some(delivery) = table.mailbox().take() {
            if let Delivery::Connection(connection) = delivery {
                left.push(ended(connection, false));
            }
        }
        while let Ok((connection, _)) = self.injector.1.try_recv() {
            left.push(ended(connection, true));
        }
        left
    }

    /// Ends connections that are left when the server's threads end, and records them with those that have ended before. Not
    /// to be called while a table is locked.
    pub(in crate::server) fn part(&self, left: Vec<Ended>, ended: &mut Vec<Ended>) {
        for (mut connection, end) in left {
            if connection.say_goodbye(end, &self.counters.server) || connection.is_goodbye_said() {
                self.parting.lock().push((connection, end));
            } else {
                ended.push((connection, end));
            }
        }
        self.record_ended(ended);
    }

    /// Gives the peers of those that have said goodbye a while to read it.
    pub(in crate::server) fn linger(&self) {
        let mut parting = std::mem::take(&mut *self.parting.lock());
        while !parting.is_empty() {
            parting.retain_mut(|(connection, _)| !connection.has_lingered(Instant::now()));
            thread::sleep(LINGER_TICK);
        }
    }

    /// Counts connections that are over and logs them. Not to be called while a table is locked.
    pub(in crate::server) fn record_ended(&self, ended: &mut Vec<Ended>) {
        for (connection, end) in ended.iter_mut() {
            connection.end_for(*end);
            // One that lingers was counted when it began to.
            if !connection.is_lingering() {
                self.counters.server.record_end(connection.end(*end));
            }
        }
        // After all are counted, since the application's logger may panic.
        for (connection, end) in ended.drain(..) {
            match connection.end(end) {
                End::Evicted => self.floods.evicted.record(Instant::now(), &self.clock, || {
                    warn!(target: LOG, "{}: closed, not established yet, to make room for others", connection.peer());
                }),
                end => connection.log_end(end),
            }
        }
    }

    /// Logs what a table could not do with sockets. Not to be called while a table is locked.
    pub(in crate::server) fn log_failures(failures: Vec<Failure>) {
        for (_connection, line) in failures {
            error!(target: LOG, "{line}");
        }
    }
}

/// Takes out the connections that live under a key which is accepted no more. Those with an answer that is not sent yet are
/// closed in their turn when it is.
pub(super) fn take_withdrawn(table: &mut Table) -> Vec<Ended> {
    let is_over = |connection: &Connection| connection.is_key_withdrawn() && !connection.has_answers_out();
    table.end_if(is_over, End::Withdrawn)
}

/// Tells the handler of the ends of connections, which come before the end of the pool. Whoever keeps the counters for longer
/// keeps no handler.
fn end_hook(handler: &Arc<dyn Handler>, counters: &Arc<ServerCounters>) -> EndHook {
    let (handler, counters) = (Arc::downgrade(handler), Arc::clone(counters));
    Box::new(move |id, end| {
        if let Some(handler) = handler.upgrade()
            && contained(|| handler.ended(ConnectionId(id), EndReason::new(end))).is_none()
        {
            counters.panics.add(1);
            contained(|| error!(target: LOG, "the handler panicked at the end of a connection"));
        }
    })
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("counters", &self.counters).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::super::fixture::Fixture;
    use crate::server::handler::{Request, Response};

    use super::*;

    #[derive(Clone, Default)]
    struct Ends(Arc<AtomicUsize>);

    impl Handler for Ends {
        fn handle(&self, _: Request<'_>, _: &mut Response<'_>) {}

        fn ended(&self, _: ConnectionId, _: EndReason) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn connections_that_a_pool_still_has_at_its_end_have_theirs_told() {
        let ends = Ends::default();
        let fixture = Fixture::with_handler(1, Arc::new(ends.clone()));
        fixture.admit_readable(0);
        drop(fixture);
        assert_eq!(ends.0.load(SeqCst), 1);
    }
}
