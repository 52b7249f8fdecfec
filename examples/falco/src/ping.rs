//! `falco ping`: round trips, one after the other.

use std::num::NonZeroU64;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use clap::Args;
use falcotcp_sync::{Client, Error, Phase};

use crate::clients::{Clients, LARGEST, ServerArguments};
use crate::display::say;
use crate::failure::Failure;
use crate::{signals, values};

/// How much of a response that is not what was expected is shown.
const SHOWN: usize = 40;

/// Measure round trips, one message after the other
///
/// Each round trip is a message and its response through the server's handler, whatever that answers. Without --count
/// it goes on until ctrl-c. It fails when any message got no response, or another
/// than --expect.
#[derive(Args)]
pub(crate) struct Ping {
    #[command(flatten)]
    server: ServerArguments,

    /// Messages to send
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<NonZeroU64>,

    /// Time from one message to the next; 0 sends each as soon as the one before is answered
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = values::seconds)]
    interval: Duration,

    /// Size of each message; k, m and g are powers of 1024
    #[arg(long, short, value_name = "BYTES", default_value = "32", value_parser = values::bytes)]
    size: usize,

    /// The message itself
    #[arg(long, short, value_name = "TEXT", conflicts_with = "size")]
    message: Option<String>,

    /// What each response must be, for health checks: any other counts as none
    #[arg(long, short, value_name = "TEXT")]
    expect: Option<String>,
}

impl Ping {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let message =
            self.message.as_ref().map_or_else(|| vec![b'.'; self.size], |text| text.clone().into_bytes());
        let clients = self.server.clients(message.len().max(LARGEST))?;
        let interrupted = signals::interruption()?;
        let mut link = Link::new(&clients)?;
        let kind = if link.client.is_forward_secret() { "forward-secret" } else { "classic" };
        say(format_args!("pinging {} with {} bytes, the session is {kind}", clients.name(), message.len()))?;

        let mut round_trips = Vec::new();
        let mut sent = 0;
        loop {
            let began = Instant::now();
            sent += 1;
            match link.round_trip(&message) {
                Ok(_) if !self.is_expected(&link.response) => {
                    say(format_args!("{sent}: not what is expected but {}", shown(&link.response)))?;
                }
                Ok(time) => {
                    say(format_args!("{sent}: {} bytes in {time:.1?}", link.response.len()))?;
                    round_trips.push(time);
                }
                Err(failure) => say(format_args!("{sent}: {failure}"))?,
            }
            let is_last = self.count.is_some_and(|count| sent >= count.get());
            if is_last
                || interrupted.recv_timeout(self.interval.saturating_sub(began.elapsed()))
                    != Err(RecvTimeoutError::Timeout)
            {
                break;
            }
        }
        summarize(sent, round_trips)
    }
}

impl Ping {
    fn is_expected(&self, response: &[u8]) -> bool {
        self.expect.as_ref().is_none_or(|expected| expected.as_bytes() == response)
    }
}

/// A connection that is made anew when it has ended.
struct Link<'c> {
    clients: &'c Clients,
    client: Client,
    response: Vec<u8>,
}

impl<'c> Link<'c> {
    fn new(clients: &'c Clients) -> Result<Self, Failure> {
        Ok(Self { clients, client: clients.connect()?, response: Vec::new() })
    }

    fn round_trip(&mut self, message: &[u8]) -> Result<Duration, Failure> {
        if !self.client.is_open() {
            self.client = self.clients.connect()?;
        }
        match self.timed(message) {
            // The interval is longer than the server lets a connection live: nothing was sent, and nothing is lost.
            Err(Error::ClosedByServer { phase: Phase::Idle, .. }) => {
                self.client = self.clients.connect()?;
                Ok(self.timed(message)?)
            }
            outcome => Ok(outcome?),
        }
    }

    fn timed(&mut self, message: &[u8]) -> Result<Duration, Error> {
        let began = Instant::now();
        self.client.message_into(message, &mut self.response)?;
        Ok(began.elapsed())
    }
}

/// The beginning of a response, as text.
fn shown(response: &[u8]) -> String {
    let beginning = String::from_utf8_lossy(&response[..response.len().min(SHOWN)]);
    let rest = if response.len() > SHOWN { " and more" } else { "" };
    format!("{:?}{rest} ({} bytes)", beginning, response.len())
}

fn summarize(sent: u64, mut round_trips: Vec<Duration>) -> Result<(), Failure> {
    round_trips.sort_unstable();
    let answered = round_trips.len() as u64;
    say(format_args!("{sent} sent, {answered} answered"))?;
    if let (Some(min), Some(max)) = (round_trips.first(), round_trips.last()) {
        say(format_args!("min {min:.1?}, median {:.1?}, max {max:.1?}", median(&round_trips)))?;
    }
    if answered < sent {
        return Err(Failure::new(format!(
            "{} of {sent} messages got no response that counts",
            sent - answered
        )));
    }
    Ok(())
}

/// The middle of at least one time in order, or between the two in the middle.
fn median(sorted: &[Duration]) -> Duration {
    let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    (sorted[low] + sorted[high]) / 2
}
