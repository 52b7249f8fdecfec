//! `falco load`: as many requests as the server answers.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};
use std::{iter, panic};

use clap::Args;
use falcotcp_sync::Client;

use crate::clients::{Clients, LARGEST, ServerArguments};
use crate::display::{Megabytes, per_second, say};
use crate::failure::Failure;
use crate::histogram::Histogram;
use crate::{signals, values};

/// How often the progress line is renewed, and how late the end may be noticed.
const TICK: Duration = Duration::from_millis(200);

/// Send as many messages as the server answers, and print how many and how fast
///
/// Each connection is a thread that hands over --depth messages at once, waits for their responses, and begins
/// again. A request's time is from handing over its batch to its response. ctrl-c ends the measurement early and
/// prints what there is. It fails when any message got no response.
#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    server: ServerArguments,

    /// Connections, one thread each
    #[arg(long, short = 'n', value_name = "N", default_value = "8", value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,

    /// Size of each message; k, m and g are powers of 1024
    #[arg(long, short, value_name = "BYTES", default_value = "128", value_parser = values::bytes)]
    size: usize,

    /// Messages in flight on each connection
    #[arg(long, short, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    depth: u16,

    /// How long to measure
    #[arg(long, short = 't', value_name = "SECONDS", default_value = "10", value_parser = values::some_seconds)]
    seconds: Duration,
}

/// What the threads and the progress line share.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    answered: AtomicU64,
}

/// What was measured, by one thread or by all.
#[derive(Default)]
struct Tally {
    latencies: Histogram,
    bytes_received: u64,
    unanswered: u64,
    connections_lost: u64,
    first_error: Option<String>,
}

impl Load {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let clients = self.server.clients(self.size.max(LARGEST))?;
        let interrupted = signals::interruption()?;
        let connected = self.connect(&clients)?;
        let (tally, time) = self.measure(connected, &interrupted)?;
        self.report(&tally, time)?;
        tally.outcome()
    }

    /// Connects all at the same time, so that the first is not too old when the last one is there.
    fn connect(&self, clients: &Clients) -> Result<Vec<Client>, Failure> {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections)
                .map(|_| spawn(scope, || clients.connect()))
                .collect::<Result<_, _>>()?;
            threads.into_iter().map(joined).collect()
        })
    }

    fn measure(
        &self,
        connected: Vec<Client>,
        interrupted: &Receiver<()>,
    ) -> Result<(Tally, Duration), Failure> {
        let shared = Shared::default();
        let message = vec![b'.'; self.size];
        let began = Instant::now();
        thread::scope(|scope| {
            let threads: Result<Vec<_>, _> = connected
                .into_iter()
                .map(|client| spawn(scope, || self.drive(client, &message, &shared)))
                .collect();
            if let Ok(threads) = &threads {
                self.watch(began, threads, &shared, interrupted);
            }
            // Also when not all threads could be started: those that run are waited for before this returns.
            shared.is_over.store(true, Relaxed);
            let mut total = Tally::default();
            for thread in threads? {
                total.add(joined(thread));
            }
            Ok((total, began.elapsed()))
        })
    }

    /// One connection's thread: batch after batch.
    fn drive(&self, mut client: Client, message: &[u8], shared: &Shared) -> Tally {
        let mut tally = Tally::default();
        while !shared.is_over.load(Relaxed) {
            let began = Instant::now();
            // A batch of large messages can take long: it, too, ends when the time is over.
            let batch = iter::repeat_n(message, usize::from(self.depth))
                .take_while(|_| !shared.is_over.load(Relaxed));
            let outcome = client.pipeline(batch, |result| match result {
                Ok(response) => {
                    tally.latencies.record(began.elapsed());
                    tally.bytes_received += response.len() as u64;
                    shared.answered.fetch_add(1, Relaxed);
                }
                Err(error) => {
                    tally.unanswered += 1;
                    tally.first_error.get_or_insert_with(|| error.to_string());
                }
            });
            if let Err(error) = outcome {
                tally.connections_lost += 1;
                tally.first_error.get_or_insert_with(|| error.to_string());
                break;
            }
        }
        tally
    }

    /// Returns when the time is over, a signal has come, or no connection is left.
    fn watch(
        &self,
        began: Instant,
        threads: &[ScopedJoinHandle<'_, Tally>],
        shared: &Shared,
        interrupted: &Receiver<()>,
    ) {
        let mut progress = Progress::new(began, self.size);
        loop {
            let left = self.seconds.saturating_sub(began.elapsed());
            let is_interrupted = interrupted.recv_timeout(left.min(TICK)) != Err(RecvTimeoutError::Timeout);
            if is_interrupted || left <= TICK || threads.iter().all(ScopedJoinHandle::is_finished) {
                return;
            }
            progress.show(shared.answered.load(Relaxed));
        }
    }

    fn report(&self, tally: &Tally, time: Duration) -> Result<(), Failure> {
        let requests = tally.latencies.count();
        let sent = requests.saturating_mul(self.size as u64);
        say(format_args!(
            "{} connections, {} bytes, depth {}, {time:.1?}",
            self.connections, self.size, self.depth
        ))?;
        say(format_args!("requests    {requests}"))?;
        say(format_args!("requests/s  {}", per_second(requests, time)))?;
        say(format_args!("sent        {}/s", Megabytes(per_second(sent, time))))?;
        say(format_args!("received    {}/s", Megabytes(per_second(tally.bytes_received, time))))?;
        if requests > 0 {
            for (name, permille) in [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)] {
                say(format_args!("{name:<11} {:.1?}", tally.latencies.quantile(permille)))?;
            }
            say(format_args!("max         {:.1?}", tally.latencies.max()))?;
        }
        Ok(())
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.latencies.merge(&other.latencies);
        self.bytes_received += other.bytes_received;
        self.unanswered += other.unanswered;
        self.connections_lost += other.connections_lost;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn outcome(self) -> Result<(), Failure> {
        match self.first_error {
            Some(error) => Err(Failure::because(
                format_args!(
                    "messages rejected: {}, connections lost: {}; the first error",
                    self.unanswered, self.connections_lost
                ),
                error,
            )),
            None => Ok(()),
        }
    }
}

/// The line on a terminal that says how it goes; nothing at all when standard error is none.
struct Progress {
    is_shown: bool,
    began: Instant,
    size: usize,
    last: (Instant, u64),
}

impl Progress {
    fn new(began: Instant, size: usize) -> Self {
        Self { is_shown: io::stderr().is_terminal(), began, size, last: (began, 0) }
    }

    fn show(&mut self, answered: u64) {
        if !self.is_shown {
            return;
        }
        let (last_time, last_answered) = self.last;
        let now = Instant::now();
        let rate = per_second(answered - last_answered, now - last_time);
        let bytes = Megabytes(rate.saturating_mul(self.size as u64));
        // Back to the line's beginning, and what is left of the line before is erased. Nothing depends on it.
        let _ = write!(
            io::stderr(),
            "\r{:.1} s: {answered} requests, {rate}/s, {bytes}/s\x1b[K",
            (now - self.began).as_secs_f64()
        );
        self.last = (now, answered);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
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
