//! When the requests of one connection are due.

use std::time::{Duration, Instant};

pub(super) struct Schedule {
    /// From one request to the next; without one, the next batch is due when the last one is answered.
    interval: Option<Duration>,
    next: Instant,
    depth: usize,
}

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Wait(Duration),
    /// Requests, each with when it was due.
    Batch(Vec<Instant>),
}

impl Schedule {
    pub(super) fn new(interval: Option<Duration>, first: Instant, depth: usize) -> Self {
        Self { interval, next: first, depth }
    }

    pub(super) fn due(&mut self, now: Instant) -> Due {
        let Some(interval) = self.interval else { return Due::Batch(vec![now; self.depth]) };
        if now < self.next {
            return Due::Wait(self.next - now);
        }
        let mut batch = Vec::new();
        while self.next <= now && batch.len() < self.depth {
            batch.push(self.next);
            self.next += interval;
        }
        Due::Batch(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_rate_a_whole_batch_is_due_at_once() {
        let now = Instant::now();
        assert_eq!(Schedule::new(None, now, 3).due(now), Due::Batch(vec![now; 3]));
    }

    #[test]
    fn requests_that_could_not_be_sent_in_time_keep_the_time_at_which_they_were_due() {
        let first = Instant::now();
        let tick = Duration::from_millis(10);
        let mut schedule = Schedule::new(Some(tick), first, 2);
        assert_eq!(schedule.due(first), Due::Batch(vec![first]));
        assert_eq!(schedule.due(first + tick / 2), Due::Wait(tick / 2));
        // The answer took so long that four more are due, of which two are sent at once.
        let late = first + 4 * tick;
        assert_eq!(schedule.due(late), Due::Batch(vec![first + tick, first + 2 * tick]));
        assert_eq!(schedule.due(late), Due::Batch(vec![first + 3 * tick, late]));
        assert_eq!(schedule.due(late), Due::Wait(tick));
    }
}
