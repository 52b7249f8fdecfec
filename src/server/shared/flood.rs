//! Log lines about what many connections can cause at the same time: the first at once, and further ones as a number.

use std::time::{Duration, Instant};

use log::warn;

use super::{LOG, Mutex, WatchdogClock};

/// The time from one line to the next.
const PERIOD: Duration = Duration::from_secs(10);

/// The floods of one server, each with lines of its own. The acceptor's thread writes those with numbers.
#[derive(Debug)]
pub(in crate::server) struct Floods {
    /// Establishments that were refused.
    pub(in crate::server) unauthenticated: Flood,
    /// Strangers that made room for others.
    pub(in crate::server) evicted: Flood,
    /// Peers with a key for which there was no place.
    pub(in crate::server) full: Flood,
    /// Connections that could not be accepted.
    pub(in crate::server) failed: Flood,
    /// Messages that were shed.
    pub(in crate::server) shed: Flood,
}

/// One kind of event.
#[derive(Debug)]
pub(in crate::server) struct Flood {
    /// What a line says of further ones, behind their number.
    further: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_line: Option<Instant>,
    /// What has come since.
    count: u64,
}

impl Floods {
    pub(in crate::server) fn new() -> Self {
        Self {
            unauthenticated: Flood::new("further connections were closed: what they sent did not open"),
            evicted: Flood::new("further connections that were not established made room for others"),
            full: Flood::new("further connections were refused: there was no place for them"),
            failed: Flood::new("further times accepting failed"),
            shed: Flood::new("further messages had waited longer than shed_after"),
        }
    }

    /// When the next line with a number is due.
    pub(in crate::server) fn next_summary(&self) -> Option<Instant> {
        self.all().into_iter().filter_map(Flood::next_summary).min()
    }

    /// Writes the lines with numbers that are due.
    pub(in crate::server) fn log_due(&self, now: Instant) {
        for flood in self.all() {
            if flood.next_summary().is_some_and(|at| at <= now) {
                flood.log(now);
            }
        }
    }

    /// Writes those that are still to come.
    pub(in crate::server) fn log_rest(&self, now: Instant) {
        for flood in self.all() {
            flood.log(now);
        }
    }

    fn all(&self) -> [&Flood; 5] {
        [&self.unauthenticated, &self.evicted, &self.full, &self.failed, &self.shed]
    }
}

impl Flood {
    fn new(further: &'static str) -> Self {
        Self { further, state: Mutex::new(State::default()) }
    }

    /// Writes `line`, or counts it if there was one within the period. Not to be called while a table is locked.
    pub(in crate::server) fn record(&self, now: Instant, clock: &WatchdogClock, line: impl FnOnce()) {
        let mut state = self.state.lock();
        let is_in_period = state.last_line.is_some_and(|last| now.saturating_duration_since(last) < PERIOD);
        let is_counted = is_in_period || state.count > 0;
        if is_counted {
            state.count += 1;
        } else {
            state.last_line = Some(now);
        }
        let is_first_counted = is_counted && state.count == 1;
        drop(state);
        if is_first_counted {
            // It is to wake again for the line with the number.
            clock.wake_acceptor();
        }
        if !is_counted {
            line();
        }
    }

    fn next_summary(&self) -> Option<Instant> {
        let state = self.state.lock();
        state.last_line.filter(|_| state.count > 0).map(|last| last + PERIOD)
    }

    fn log(&self, now: Instant) {
        let mut state = self.state.lock();
        let count = std::mem::take(&mut state.count);
        if count > 0 {
            state.last_line = Some(now);
            drop(state);
            warn!(target: LOG, "{count} {}", self.further);
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::server::shared::Waker;

    #[test]
    fn a_flood_is_a_line_and_a_number_for_each_period() {
        let acceptor = mio::Poll::new().unwrap();
        let clock =
            WatchdogClock::new(Waker::new(mio::Waker::new(acceptor.registry(), mio::Token(0)).unwrap()));
        let floods = Floods::new();
        let begun = Instant::now();
        let mut lines = 0;
        for _ in 0..1000 {
            floods.evicted.record(begun, &clock, || lines += 1);
        }
        assert_eq!(lines, 1);
        assert_eq!(floods.evicted.state.lock().count, 999);
        assert_eq!(floods.next_summary(), Some(begun + PERIOD));
        floods.log_due(begun);
        assert_eq!(floods.evicted.state.lock().count, 999, "not yet");
        floods.log_due(begun + PERIOD);
        assert_eq!(floods.next_summary(), None);

        floods.evicted.record(begun + PERIOD, &clock, || lines += 1);
        assert_eq!(
            (lines, floods.next_summary()),
            (1, Some(begun + 2 * PERIOD)),
            "within a period of that line"
        );
        floods.log_rest(begun + PERIOD);
        floods.evicted.record(begun + 3 * PERIOD, &clock, || lines += 1);
        assert_eq!((lines, floods.next_summary()), (2, None), "it had stopped");
    }
}
