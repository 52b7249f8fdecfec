//! What was measured, by one thread or by all.

use std::collections::BTreeMap;
use std::time::Duration;

use falcotcp_sync::Error;

use crate::failure::Failure;
use crate::histogram::Histogram;

#[derive(Default)]
pub(super) struct Tally {
    pub(super) latencies: Histogram,
    pub(super) bytes_received: u64,
    /// Messages without a response, by what went wrong.
    pub(super) errors: BTreeMap<&'static str, u64>,
    first_error: Option<String>,
}

impl Tally {
    pub(super) fn record_answer(&mut self, time: Duration, bytes: usize) {
        self.latencies.record(time);
        self.bytes_received += bytes as u64;
    }

    pub(super) fn record_error(&mut self, error: &Error, messages: u64) {
        *self.errors.entry(kind(error)).or_default() += messages;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.latencies.merge(&other.latencies);
        self.bytes_received += other.bytes_received;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind).or_default() += count;
        }
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
    }

    pub(super) fn unanswered(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(super) fn outcome(&self) -> Result<(), Failure> {
        match &self.first_error {
            Some(error) => {
                let what =
                    format_args!("messages without a response: {}; the first error", self.unanswered())
                        .to_string();
                Err(Failure::because(what, error))
            }
            None => Ok(()),
        }
    }
}

fn kind(error: &Error) -> &'static str {
    match error {
        Error::Rejected => "rejected",
        Error::HandlerFailed => "handler failed",
        Error::Overloaded => "overloaded",
        Error::Refused { .. } | Error::NotForwardSecret { .. } => "refused",
        Error::TooLarge { .. } => "too large",
        Error::NotAuthentic | Error::Unasked => "damaged",
        Error::ClosedByServer { .. } | Error::Closed => "closed",
        error if error.is_timeout() => "timed out",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_kind_and_the_first_is_told() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.record_answer(Duration::from_millis(1), 5);
        other.record_error(&Error::Rejected, 1);
        other.record_error(&Error::Overloaded, 2);
        assert!(one.outcome().is_ok());
        one.add(&other);
        one.add(&other);
        assert_eq!(one.errors, BTreeMap::from([("overloaded", 4), ("rejected", 2)]));
        assert_eq!((one.unanswered(), one.latencies.count()), (6, 1));
        assert!(one.outcome().is_err_and(|failure| failure.to_string().contains("rejected")));
    }
}
