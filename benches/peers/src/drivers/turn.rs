//! One turn of one contender: how long it takes, and what it gives.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::Result;
use crate::machine::{self, ProcessorClock};

pub(crate) trait Driver {
    /// Warms up, measures, and leaves the server idle.
    fn drive(&mut self, plan: Plan, server: ProcessorClock) -> Result<Slice>;
}

/// How long one turn takes, in three parts.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// At most this long is waited for responses that are still due, so that the server is idle in others' turns.
    pub(crate) drain: Duration,
}

/// What one turn gave.
pub(crate) struct Slice {
    pub(crate) used: Used,
    pub(crate) requests: u64,
    /// In nanoseconds, of the requests without a mark.
    pub(crate) latencies: Histogram<u64>,
    /// Connections or threads without a single response in the whole turn.
    pub(crate) starved: usize,
    /// Why the first connection was lost, if one was.
    pub(crate) failure: Option<String>,
}

/// Time of the measured part.
pub(crate) struct Used {
    pub(crate) elapsed: Duration,
    pub(crate) server_time: Duration,
    pub(crate) driver_time: Duration,
    /// What the cores did altogether, other programs included.
    pub(crate) busy_time: Duration,
}

/// All clocks as they stood at the beginning of the measured part.
pub(crate) struct Meter {
    server: ProcessorClock,
    driver: ProcessorClock,
    busy_before: Duration,
    server_before: Duration,
    driver_before: Duration,
    started: Instant,
}

impl Meter {
    pub(crate) fn start(server: ProcessorClock) -> Result<Meter> {
        let driver = ProcessorClock::of_this_process();
        Ok(Meter {
            server,
            driver,
            busy_before: machine::busy_time()?,
            server_before: server.now()?,
            driver_before: driver.now()?,
            started: Instant::now(),
        })
    }

    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn stop(self) -> Result<Used> {
        Ok(Used {
            elapsed: self.started.elapsed(),
            server_time: self.server.now()? - self.server_before,
            driver_time: self.driver.now()? - self.driver_before,
            busy_time: machine::busy_time()?.saturating_sub(self.busy_before),
        })
    }
}

/// Nanoseconds with an error of at most a hundredth, up to a minute.
pub(crate) fn empty_histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(60_000_000_000, 2)?)
}
