//! The acceptor's thread: accepts, assigns each connection to the least-loaded worker, keeps the time for the workers, ticks
//! the watchdog, ends the server.

pub(super) mod listener;
mod rebalance;
pub(super) mod watchdog;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::{debug, error, info, warn};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use self::rebalance::{Takers, rebalance};
use self::watchdog::Watchdog;
use super::connection::Connection;
use super::handle::ShutdownReport;
use super::shared::{LOG, LoadGuard, StopPhase, Waker};
use super::stats::Stats;
use super::worker::{Delivery, Pool};
use crate::keyring::Keyring;
use crate::protocol::SessionSettings;
use crate::unwind::contained;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

/// Connections accepted in a row before the watchdog has its turn again.
const ACCEPTED_IN_A_ROW: usize = 64;

/// The first pause after a failed accept; it doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause between two attempts to accept.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The pause between two looks at a stopping server.
const DRAIN_TICK: Duration = Duration::from_millis(1);

pub(super) struct Acceptor {
    poll: Poll,
    listener: TcpListener,
    settings: AcceptorSettings,
    connections: u64,
    /// The queue of the operating system may hold more; it tells only of new ones.
    backlog: bool,
    pause: Option<Pause>,
}

/// What the acceptor gives to each connection, and when it refuses one.
pub(super) struct AcceptorSettings {
    pub(super) session: (Arc<SessionSettings>, Arc<Keyring>),
    /// The load balancers, which announce the true peer.
    #[cfg(feature = "proxy-protocol")]
    pub(super) proxies: Vec<std::net::IpAddr>,
}

/// Accepting failed, for want of descriptors as a rule; it is tried again after a while.
struct Pause {
    ends: Instant,
    length: Duration,
}

impl Acceptor {
    pub(super) fn new(mut listener: TcpListener, settings: AcceptorSettings) -> io::Result<(Self, Waker)> {
        let poll = Poll::new()?;
        let waker = Waker::new(mio::Waker::new(poll.registry(), WAKER)?);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let acceptor = Self { poll, listener, settings, connections: 0, backlog: true, pause: None };
        Ok((acceptor, waker))
    }

    /// Runs until the server is stopped and every thread of `workers` has ended.
    pub(super) fn run(mut self, pool: Arc<Pool>, workers: Vec<JoinHandle<()>>) -> ShutdownReport {
        let mut watchdog = Watchdog::new(pool.workers.len());
        let mut events = Events::with_capacity(8);
        // The application's logger may panic, and that must not end the server.
        while contained(|| self.accept_until_stopped(&pool, &mut watchdog, &mut events)).is_none() {}
        let Self { poll: mut waker, listener, .. } = self;
        drop(listener);
        while contained(|| drain(&mut waker, &mut events, &pool)).is_none() {}
        pool.stop.finish();
        pool.clock.advance();
        pool.wake_workers();
        // A worker in a long handler closes the rest of its connections only afterwards: that is done for it.
        close_all(&pool);
        for worker in workers {
            // Workers contain every panic, so there is none to pass on.
            let _ = worker.join();
        }
        pool.linger();
        contained(|| pool.floods.log_rest(Instant::now()));
        let counters = &pool.counters.server;
        let report = ShutdownReport {
            drained: counters.drained.get(),
            cut: counters.cut.get(),
            stats: Stats::snapshot(&pool.counters),
        };
        // With it goes the application's handler, whose drop may panic as well.
        contained(|| drop(pool));
        contained(
            || info!(target: LOG, "stopped: {} connections drained, {} cut", report.drained, report.cut),
        );
        report
    }

    fn accept_until_stopped(&mut self, pool: &Pool, watchdog: &mut Watchdog, events: &mut Events) {
        while pool.stop.phase() == StopPhase::Running {
            let now = Instant::now();
            let tick = watchdog.time_to_tick(pool, now);
            let retry = self.time_to_retry(now);
            ring(pool, now);
            let alarm = pool.alarm.promise(now);
            pool.floods.log_due(now);
            let summary = pool.floods.next_summary().map(|at| at.saturating_duration_since(now));
            let timeout = tick.into_iter().chain(retry).chain(alarm).chain(summary).min();
            self.wait(events, timeout);
            self.backlog |= events.iter().any(|event| event.token() == LISTENER);
            self.accept(pool);
            watchdog.tick(pool, Instant::now());
        }
    }

    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) {
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != ErrorKind::Interrupted
        {
            std::thread::sleep(FIRST_PAUSE);
            error!(target: LOG, "waiting for connections failed: {error}");
        }
    }

    /// How long until accepting goes on by itself; `None` if only a new connection makes it.
    fn time_to_retry(&self, now: Instant) -> Option<Duration> {
        match &self.pause {
            Some(pause) => Some(pause.ends.saturating_duration_since(now)),
            None => self.backlog.then_some(Duration::ZERO),
        }
    }

    fn accept(&mut self, pool: &Pool) {
        if self.pause.as_ref().is_some_and(|pause| Instant::now() < pause.ends) {
            return;
        }
        for _ in 0..ACCEPTED_IN_A_ROW {
            if !self.backlog {
                return;
            }
            match self.listener.accept() {
                Ok((stream, mut peer)) => {
                    // An IPv4 peer of a listener for both is one of IPv6 otherwise, and matches nobody's rules.
                    peer.set_ip(peer.ip().to_canonical());
                    self.end_pause();
                    self.assign(pool, stream, peer);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.backlog = false;
                        self.end_pause();
                    }
                    // The peer was gone before we got to it, or a signal came between.
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted => {
                        debug!(target: LOG, "a connection ended before it was accepted: {error}");
                    }
                    _ => return self.pause(pool, &error),
                },
            }
        }
    }

    fn pause(&mut self, pool: &Pool, error: &io::Error) {
        let now = Instant::now();
        let length = self.pause.as_ref().map_or(FIRST_PAUSE, |pause| (pause.length * 2).min(LONGEST_PAUSE));
        let previous = self.pause.replace(Pause { ends: now + length, length });
        if previous.is_none() {
            pool.floods.failed.record(now, &pool.clock, || {
                warn!(target: LOG, "accepting failed, trying again until it works: {error}");
            });
        }
        // It is for want of descriptors as a rule, and strangers have no better right to them than the next one.
        if pool.counters.loads.admission.make_room() {
            pool.wake_for_eviction();
        }
    }

    fn end_pause(&mut self) {
        if self.pause.take().is_some_and(|pause| pause.length > FIRST_PAUSE) {
            info!(target: LOG, "accepting connections again");
        }
    }

    /// Gives a new connection to the worker with the fewest.
    fn assign(&mut self, pool: &Pool, stream: TcpStream, peer: SocketAddr) {
        let loads = &pool.counters.loads;
        // Without it a response would wait for the acknowledgement of the one before; it works all the same.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(target: LOG, "{peer}: TCP_NODELAY could not be set: {error}");
        }
        self.connections += 1;
        let index = loads.least();
        let (load, makes_room) = LoadGuard::new(loads, self.connections, index);
        pool.counters.server.accepted.add(1);
        if makes_room {
            pool.wake_for_eviction();
        }
        let session = self.settings.session.clone();
        let connection = Connection::new(stream, peer, session, load, Instant::now());
        #[cfg(feature = "proxy-protocol")]
        let connection =
            if self.settings.proxies.contains(&peer.ip()) { connection.behind_proxy() } else { connection };
        let mailbox = &pool.workers[index].mailbox;
        mailbox.deliver(Delivery::Connection(Box::new(connection)));
        // A turn that began while this worker had no other connection did not unpark the watchdog.
        if mailbox.snapshot().is_serving() {
            pool.clock.stay_awake();
        }
    }
}

/// Wakes the workers whose deadlines have come.
fn ring(pool: &Pool, now: Instant) {
    pool.alarm.ring(now, |worker| pool.workers[worker].mailbox.wake());
}

/// Closes what is left in the tables that no worker uses at the moment.
fn close_all(pool: &Pool) {
    for worker in &pool.workers {
        let Some(mut table) = worker.table.try_lock() else { continue };
        let left = pool.take_all(&mut table);
        drop(table);
        contained(|| pool.part(left, &mut Vec::new()));
    }
}

/// Waits until all connections are closed or the time for that is over.
fn drain(waker: &mut Poll, events: &mut Events, pool: &Pool) {
    while pool.counters.loads.open() > 0 && !pool.stop.is_drain_over(Instant::now()) {
        // Only paces the loop; an error makes it spin for no longer than the drain.
        let _ = waker.poll(events, Some(DRAIN_TICK));
        pool.clock.advance();
        ring(pool, Instant::now());
        // What waits behind a handler is answered by the other workers, or closed.
        for worker in 0..pool.workers.len() {
            rebalance(pool, worker, Instant::now(), Takers::Busy);
        }
    }
}
