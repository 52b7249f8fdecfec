//! Threads that each do one exchange after another and wait for its end, as callers of a blocking client do.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;

use super::turn::{Driver, Meter, Plan, Slice, Used, empty_histogram};
use crate::error::Result;
use crate::machine::ProcessorClock;

/// A request and its response.
pub(crate) type Exchange = Box<dyn FnMut() -> std::result::Result<(), String> + Send>;

/// A thread for each of these.
pub(crate) struct Threads(pub(crate) Vec<Exchange>);

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

impl Driver for Threads {
    /// A thread ends its last exchange by itself, so there is nothing to wait for afterwards.
    fn drive(&mut self, plan: Plan, server: ProcessorClock) -> Result<Slice> {
        let phase = AtomicU8::new(WARMING_UP);
        let mut records = Vec::new();
        for _ in &self.0 {
            records.push(Record {
                answered: false,
                requests: 0,
                latencies: empty_histogram()?,
                failure: None,
            });
        }
        let used = thread::scope(|scope| {
            for (exchange, record) in self.0.iter_mut().zip(&mut records) {
                scope.spawn(|| record.repeat(exchange, &phase));
            }
            let used = measure(&phase, plan, server);
            // Also if a clock failed: the scope waits for the threads.
            phase.store(OVER, Ordering::Relaxed);
            used
        })?;

        let mut latencies = empty_histogram()?;
        for record in &records {
            latencies.add(&record.latencies)?;
        }
        Ok(Slice {
            used,
            requests: records.iter().map(|record| record.requests).sum(),
            latencies,
            starved: records.iter().filter(|record| !record.answered).count(),
            failure: records.into_iter().find_map(|record| record.failure),
        })
    }
}

fn measure(phase: &AtomicU8, plan: Plan, server: ProcessorClock) -> Result<Used> {
    thread::sleep(plan.warm_up);
    let meter = Meter::start(server)?;
    phase.store(MEASURING, Ordering::Relaxed);
    thread::sleep(plan.measured);
    phase.store(OVER, Ordering::Relaxed);
    meter.stop()
}

/// What one thread saw.
struct Record {
    answered: bool,
    requests: u64,
    latencies: Histogram<u64>,
    failure: Option<String>,
}

impl Record {
    fn repeat(&mut self, exchange: &mut Exchange, phase: &AtomicU8) {
        let mut sent = Instant::now();
        loop {
            if let Err(failure) = exchange() {
                self.failure = Some(failure);
                return;
            }
            self.answered = true;
            let now = Instant::now();
            match phase.load(Ordering::Relaxed) {
                WARMING_UP => {}
                MEASURING => {
                    self.requests += 1;
                    let latency = now.duration_since(sent).as_nanos();
                    self.latencies.saturating_record(u64::try_from(latency).unwrap_or(u64::MAX));
                }
                _ => return,
            }
            sent = now;
        }
    }
}
