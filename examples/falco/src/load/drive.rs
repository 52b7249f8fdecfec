//! One connection's thread: batch after batch.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use falcotcp_sync::Client;

use super::repeated;
use super::schedule::{Due, Schedule};
use super::tally::Tally;

/// The longest pause without a look at whether it is over.
const GLANCE: Duration = Duration::from_millis(50);

/// What the threads and the progress line share.
pub(super) struct Shared {
    is_over: AtomicBool,
    measured_from: Instant,
    /// Requests that are still to be sent, if their number is limited.
    left: Option<AtomicU64>,
    tallies: Vec<Mutex<Tally>>,
}

impl Shared {
    pub(super) fn new(connections: usize, measured_from: Instant, requests: Option<u64>) -> Self {
        let tallies = (0..connections).map(|_| Mutex::default()).collect();
        Self { is_over: AtomicBool::new(false), measured_from, left: requests.map(AtomicU64::new), tallies }
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Relaxed);
    }

    pub(super) fn measured_from(&self) -> Instant {
        self.measured_from
    }

    pub(super) fn tallies(&self) -> &[Mutex<Tally>] {
        &self.tallies
    }

    /// What all have measured so far.
    pub(super) fn total(&self) -> Tally {
        let mut total = Tally::default();
        for tally in &self.tallies {
            total.add(&tally.lock().unwrap_or_else(PoisonError::into_inner));
        }
        total
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// How many of so many requests may be sent.
    fn take(&self, wanted: usize) -> usize {
        let Some(left) = &self.left else { return wanted };
        let wanted = wanted as u64;
        let before = left.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(wanted)));
        usize::try_from(before.unwrap_or(0).min(wanted)).unwrap_or(0)
    }
}

/// Sends until it is over, and says when the last response had come.
pub(super) fn drive(
    mut client: Client,
    message: &[u8],
    mut schedule: Schedule,
    shared: &Shared,
    tally: &Mutex<Tally>,
) -> Instant {
    let mut ended = shared.measured_from;
    while !shared.is_over() {
        let now = Instant::now();
        let is_measured = now >= shared.measured_from;
        let mut batch = match schedule.due(now) {
            Due::Wait(time) => {
                thread::sleep(time.min(GLANCE));
                continue;
            }
            Due::Batch(batch) => batch,
        };
        if is_measured {
            batch.truncate(shared.take(batch.len()));
            if batch.is_empty() {
                break;
            }
        }
        let measured = send(&mut client, message, &batch, shared);
        ended = Instant::now();
        if is_measured {
            tally.lock().unwrap_or_else(PoisonError::into_inner).add(&measured);
        }
    }
    ended
}

/// Sends a batch, each request of which was due at its time, and waits for all responses.
fn send(client: &mut Client, message: &[u8], batch: &[Instant], shared: &Shared) -> Tally {
    let mut tally = Tally::default();
    let mut answers = batch.iter();
    // A batch of large messages can take long: it, too, ends when the time is over.
    let messages = repeated(message, batch.len()).take_while(|_| !shared.is_over());
    let mut sent = 0;
    let outcome = client.pipeline(messages.inspect(|_| sent += 1), |result| {
        let Some(due) = answers.next() else { return };
        match result {
            Ok(response) => tally.record_answer(due.elapsed(), response.len()),
            Err(error) => tally.record_error(&error, 1),
        }
    });
    if let Err(error) = outcome {
        let answered = batch.len() - answers.len();
        tally.record_error(&error, (sent - answered).max(1) as u64);
    }
    tally
}
