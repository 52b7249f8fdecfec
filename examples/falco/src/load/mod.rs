//! `falco load`: as many requests as the server answers, or as many as are asked for.

mod drive;
mod payload;
mod progress;
mod report;
mod schedule;
mod tally;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};
use std::{iter, panic};

use clap::Args;
use falcotcp_sync::Client;

use self::drive::{Shared, drive};
use self::payload::Payload;
use self::progress::Progress;
use self::report::Report;
use self::schedule::Schedule;
use crate::clients::{LARGEST, ServerArguments};
use crate::failure::Failure;
use crate::{signals, values};

/// How often the progress line is renewed, and how late the end may be noticed.
const TICK: Duration = Duration::from_millis(200);

/// How long it is measured if neither a time nor a number of requests is said.
const SECONDS: Duration = Duration::from_secs(10);

/// Send messages and print how many were answered and how fast
///
/// Each connection is a thread that hands over --depth messages at once, waits for their responses, and begins
/// again. Without --rate a request's time is from handing over its batch to its response. With --rate it is from
/// when the request was due, so that a server that falls behind is not spared the waiting. A connection that is lost is
/// made anew, and what was lost with it is an error. ctrl-c ends the measurement early and prints what there is. It fails
/// when any message got no response.
#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    server: ServerArguments,

    /// Connections, one thread each, spread over the addresses
    #[arg(long, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,

    #[command(flatten)]
    payload: Payload,

    /// Messages in flight on each connection
    #[arg(long, short, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    depth: u16,

    /// How long to measure [default: 10, or until --requests are done]
    #[arg(long, short = 't', value_name = "SECONDS", value_parser = values::some_seconds)]
    seconds: Option<Duration>,

    /// How many messages to send, of all connections together
    #[arg(long, short = 'n', value_name = "N")]
    requests: Option<NonZeroU64>,

    /// Messages a second, of all connections together
    #[arg(long, short, value_name = "N")]
    rate: Option<NonZeroU64>,

    /// How long to send before it is measured
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = values::seconds)]
    warm_up: Duration,

    /// Print one line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

impl Load {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let message = self.payload.read()?;
        let interrupted = signals::interruption()?;
        let clients = self.connect(message.len())?;
        let mut connected = BTreeMap::new();
        for addr in clients.iter().filter_map(Client::peer_addr) {
            *connected.entry(addr).or_insert(0) += 1;
        }
        let (shared, time) = self.measure(clients, &message, &interrupted)?;
        let tally = shared.total();
        let report = Report {
            addrs: self.server.addrs(),
            connected: &connected,
            connections: self.connections,
            size: message.len(),
            depth: self.depth,
            rate: self.rate.map(NonZeroU64::get),
            due: self.due(time),
            time,
            tally: &tally,
        };
        let said = if self.json { report.say_json() } else { report.say_table() };
        said.and_then(|()| tally.outcome())
    }

    /// Connects all at the same time, so that the first is not too old when the last one is there.
    fn connect(&self, size: usize) -> Result<Vec<Client>, Failure> {
        let clients = self.server.clients(size.max(LARGEST))?.reconnecting();
        let clients = &clients;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections)
                .map(|number| spawn(scope, move || clients.connect_from(number.into())))
                .collect::<Result<_, _>>()?;
            threads.into_iter().map(joined).collect()
        })
    }

    fn measure(
        &self,
        connected: Vec<Client>,
        message: &[u8],
        interrupted: &Receiver<()>,
    ) -> Result<(Shared, Duration), Failure> {
        let begun = Instant::now();
        let measured_from = begun + self.warm_up;
        let shared = Shared::new(connected.len(), measured_from, self.requests.map(NonZeroU64::get));
        let ended = thread::scope(|scope| {
            let (mut threads, mut failed, mut over) = (Vec::new(), None, None);
            for ((index, client), tally) in connected.into_iter().enumerate().zip(shared.tallies()) {
                let schedule = self.schedule(index, begun);
                match spawn(scope, || drive(client, message, schedule, &shared, tally)) {
                    Ok(thread) => threads.push(thread),
                    Err(failure) => failed = Some(failure),
                }
            }
            if failed.is_none() {
                over = self.watch(&threads, &shared, interrupted);
            }
            // Also when not all threads could be started: those that run are waited for before this returns.
            shared.end();
            let ended = threads.into_iter().map(joined).chain(over).max();
            failed.map_or(Ok(ended), Err)
        })?;
        let time = ended.map(|ended| ended.saturating_duration_since(measured_from));
        Ok((shared, time.unwrap_or_default()))
    }

    /// When this connection's requests are due: each has its share of the rate, and they take turns.
    fn schedule(&self, index: usize, begun: Instant) -> Schedule {
        let interval =
            self.rate.map(|rate| Duration::from_secs(1) * u32::from(self.connections) / clamped(rate));
        let turn = interval.unwrap_or_default().mul_f64(index_of(index) / f64::from(self.connections));
        Schedule::new(interval, begun + turn, self.depth.into())
    }

    /// How many requests were due at the rate, if there is one.
    fn due(&self, time: Duration) -> Option<u64> {
        let rate = self.rate?.get();
        let due = u64::try_from(time.as_nanos() * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX);
        Some(self.requests.map_or(due, |requests| due.min(requests.get())))
    }

    /// Returns when the time is over or a signal has come, with the moment, or when all is sent or no thread is left.
    fn watch(
        &self,
        threads: &[ScopedJoinHandle<'_, Instant>],
        shared: &Shared,
        interrupted: &Receiver<()>,
    ) -> Option<Instant> {
        let limit = self.seconds.or(self.requests.is_none().then_some(SECONDS));
        let end = limit.map(|limit| shared.measured_from() + limit);
        let mut progress = Progress::new(shared.measured_from(), limit, self.requests.map(NonZeroU64::get));
        loop {
            let left = end.map_or(TICK, |end| end.saturating_duration_since(Instant::now()));
            let is_interrupted = interrupted.recv_timeout(left.min(TICK)) != Err(RecvTimeoutError::Timeout);
            if threads.iter().all(ScopedJoinHandle::is_finished) {
                return None;
            }
            if is_interrupted || left <= TICK && end.is_some() {
                return Some(Instant::now());
            }
            progress.show(&shared.total());
        }
    }
}

fn clamped(rate: NonZeroU64) -> u32 {
    u32::try_from(rate.get()).unwrap_or(u32::MAX)
}

fn index_of(index: usize) -> f64 {
    u32::try_from(index).map_or(0.0, f64::from)
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Failure> {
    thread::Builder::new().spawn_scoped(scope, work).map_err(|error| {
        Failure::because("can't start a thread for each connection, use fewer --connections", error)
    })
}

/// What a thread returned; a panic in it goes on here.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// The same message so many times.
fn repeated(message: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    iter::repeat_n(message, count)
}
