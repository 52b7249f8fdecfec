//! The line on a terminal that says how it goes.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use super::tally::Tally;
use crate::display::per_second;

/// Nothing at all when standard error is no terminal.
pub(super) struct Progress {
    is_shown: bool,
    begun: Instant,
    time: Option<Duration>,
    requests: Option<u64>,
    last: (Instant, u64),
}

impl Progress {
    pub(super) fn new(begun: Instant, time: Option<Duration>, requests: Option<u64>) -> Self {
        Self { is_shown: io::stderr().is_terminal(), begun, time, requests, last: (begun, 0) }
    }

    pub(super) fn show(&mut self, tally: &Tally) {
        let now = Instant::now();
        if !self.is_shown {
            return;
        }
        // Back to the line's beginning, and what is left of the line before is erased. Nothing depends on it.
        let _ = write!(io::stderr(), "\r{}\x1b[K", self.line(tally, now));
        self.last = (now, tally.latencies.count());
    }

    fn line(&self, tally: &Tally, now: Instant) -> String {
        let elapsed = now.saturating_duration_since(self.begun).as_secs_f64();
        if now < self.begun {
            return format!("warming up, {:.1} s left", (self.begun - now).as_secs_f64());
        }
        let answered = tally.latencies.count();
        let (last_time, last_answered) = self.last;
        let rate = per_second(answered - last_answered, now.saturating_duration_since(last_time));
        let of_time = self.time.map_or_else(String::new, |time| format!(" of {:.1}", time.as_secs_f64()));
        let of_requests = self.requests.map_or_else(String::new, |requests| format!(" of {requests}"));
        let p99 = tally.latencies.quantile(990);
        let errors = tally.unanswered();
        format!(
            "{elapsed:.1}{of_time} s: {answered}{of_requests} requests, {rate}/s, p99 {p99:.1?}, {errors} errors"
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is_and_how_it_goes() {
        let begun = Instant::now();
        let progress = Progress::new(begun, Some(Duration::from_secs(10)), Some(5000));
        let mut tally = Tally::default();
        for _ in 0..100 {
            tally.record_answer(Duration::from_millis(2), 1);
        }
        let line = progress.line(&tally, begun + Duration::from_secs(2));
        assert_eq!(line, "2.0 of 10.0 s: 100 of 5000 requests, 50/s, p99 2.0ms, 0 errors");
    }
}
