//! From the turns of one participant to the figures of its line.

use std::fmt;

use hdrhistogram::Histogram;

use crate::drivers::turn::{Slice, empty_histogram};
use crate::error::Result;
use crate::rounds::Participant;

/// The median over the rounds, and between which values it lies.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { median, least, most })
    }
}

/// As it stands in every table.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} [{:.2}..{:.2}]", self.median, self.least, self.most)
    }
}

pub(crate) struct Summary {
    pub(crate) name: String,
    /// Requests answered in a second.
    pub(crate) rate: f64,
    /// Message bytes answered in a second, counted one way, in millions.
    pub(crate) megabytes: f64,
    pub(crate) latency: Latency,
    /// Processor time of the server for one request, in microseconds.
    pub(crate) server_micros: f64,
    pub(crate) driver_micros: f64,
    /// To the base line, round by round.
    pub(crate) ratio: Option<Spread>,
    /// What other programs used meanwhile, in cores: the figures of a busy machine are worth less.
    pub(crate) others: f64,
    /// Connections or threads to which nothing was answered, in the worst round.
    pub(crate) starved: usize,
    pub(crate) connections: usize,
    pub(crate) failure: Option<String>,
}

/// Percentiles over all rounds, in microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Latency {
    fn of(slices: &[Slice]) -> Result<Latency> {
        let mut all = empty_histogram()?;
        for slice in slices {
            all.add(&slice.latencies)?;
        }
        Ok(Latency { p50: micros(&all, 0.5), p99: micros(&all, 0.99), p999: micros(&all, 0.999) })
    }
}

fn micros(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// Every participant's figures, with ratios to the one of that index.
pub(crate) fn summaries(participants: &[Participant], base_line: Option<usize>) -> Result<Vec<Summary>> {
    let base_line = base_line.map(|index| &participants[index]);
    participants.iter().map(|participant| summary(participant, base_line)).collect()
}

fn summary(participant: &Participant, base_line: Option<&Participant>) -> Result<Summary> {
    let slices = &participant.slices;
    let median = |value: fn(&Slice) -> f64| {
        Spread::of(slices.iter().map(value)).map_or(f64::NAN, |spread| spread.median)
    };
    let rate = median(rate);
    let ratio = base_line.and_then(|base_line| {
        let rounds = slices.iter().zip(&base_line.slices);
        Spread::of(rounds.map(|(slice, base_line)| self::rate(slice) / self::rate(base_line)))
    });
    Ok(Summary {
        name: participant.name.clone(),
        rate,
        megabytes: rate * participant.message as f64 / 1e6,
        latency: Latency::of(slices)?,
        server_micros: median(|slice| slice.used.server_time.as_secs_f64() * 1e6 / slice.requests as f64),
        driver_micros: median(|slice| slice.used.driver_time.as_secs_f64() * 1e6 / slice.requests as f64),
        ratio,
        others: others(slices),
        starved: slices.iter().map(|slice| slice.starved).max().unwrap_or(0),
        connections: participant.connections,
        failure: slices.iter().find_map(|slice| slice.failure.clone()),
    })
}

fn rate(slice: &Slice) -> f64 {
    slice.requests as f64 / slice.used.elapsed.as_secs_f64()
}

fn others(slices: &[Slice]) -> f64 {
    let seconds = |value: fn(&Slice) -> f64| slices.iter().map(value).sum::<f64>();
    let busy = seconds(|slice| slice.used.busy_time.as_secs_f64());
    let ours = seconds(|slice| (slice.used.server_time + slice.used.driver_time).as_secs_f64());
    (busy - ours).max(0.0) / seconds(|slice| slice.used.elapsed.as_secs_f64())
}
