//! Decides how many workers share the connections, by what that brings.
//!
//! Workers that pass small messages and have no processor each only get into each other's way, and into that of clients
//! on the same machine: every wait finds fewer connections, and the scheduler does the rest. Then one **joins** another:
//! its connections go there. And when a worker never pauses while another has nothing to do, it **spreads** its
//! connections. The operating system does not tell whether there is a processor. So both are trials: what does
//! not let clearly more messages be answered is undone, and tried again later, twice as late each time.
//!
//! ```text
//!               a pair that may join, or spread
//!      Settled ---------------------------------> Trial
//!         ^                                         |
//!         +-----------------------------------------+
//!           more messages: kept; no more: undone
//! ```
//!
//! It knows no thread and no clock: what the watchdog sees goes in, and what to do comes out.

use std::time::Instant;

/// Ticks over which messages are counted, before a trial and in it.
const COUNTED_TICKS: u32 = 32;

/// Ticks at the beginning of a trial that are not counted: connections move when they are ready.
const SETTLING_TICKS: u32 = 8;

/// With fewer messages a second there is nothing to gain.
const WORTH_A_TRIAL: u128 = 20_000;

#[derive(Debug)]
pub(super) struct Sharing {
    trial: Option<Trial>,
    ticks: u32,
    counted_from: Count,
    joining: Backoff,
    spreading: Backoff,
}

/// How many messages the server had answered at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) at: Instant,
    pub(super) messages: u64,
}

/// Connections go from one worker to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// What the watchdog sees that could be done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Chances {
    /// A worker that could join another.
    pub(super) join: Option<Pair>,
    /// A worker without a pause, and one with nothing to do.
    pub(super) spread: Option<Pair>,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Move the connections of one worker to the other, each when it is ready, until told otherwise.
    Join(Pair),
    /// Move half of the ready connections, and no more by joining.
    Spread(Pair),
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    step: Step,
    rate_before: u128,
}

impl Sharing {
    pub(super) fn new(now: Count) -> Self {
        Self {
            trial: None,
            ticks: 0,
            counted_from: now,
            joining: Backoff::up_to(1 << 16),
            spreading: Backoff::up_to(1 << 12),
        }
    }

    /// Decides, at every tick.
    pub(super) fn step(&mut self, now: Count, chances: Chances) -> Step {
        self.joining.tick();
        self.spreading.tick();
        self.ticks += 1;
        let settling = if self.trial.is_some() { SETTLING_TICKS } else { 0 };
        if self.ticks <= settling {
            self.counted_from = now;
        }
        if self.ticks < settling + COUNTED_TICKS {
            return Step::Nothing;
        }
        let rate = now.rate_since(self.counted_from);
        (self.ticks, self.counted_from) = (0, now);
        match self.trial.take() {
            Some(trial) => self.judge(trial, rate),
            None => self.try_one(chances, rate),
        }
    }

    fn try_one(&mut self, chances: Chances, rate: u128) -> Step {
        let join = chances.join.filter(|_| self.joining.is_over()).map(Step::Join);
        let spread = chances.spread.filter(|_| self.spreading.is_over()).map(Step::Spread);
        let Some(step) = join.or(spread).filter(|_| rate >= WORTH_A_TRIAL) else { return Step::Nothing };
        self.trial = Some(Trial { step, rate_before: rate });
        step
    }

    fn judge(&mut self, trial: Trial, rate: u128) -> Step {
        let before = trial.rate_before;
        match trial.step {
            // What a second worker brings is compared with what it costs: much of a processor.
            Step::Spread(_) if rate >= before + before / 8 => {
                self.spreading.was_right();
                // Whoever joined this worker should not have done so.
                self.joining.was_wrong();
                Step::Nothing
            }
            Step::Join(_) if rate >= before + before / 16 => {
                self.joining.was_right();
                Step::Nothing
            }
            Step::Spread(pair) => {
                self.spreading.was_wrong();
                Step::Join(pair.reversed())
            }
            Step::Join(pair) => {
                self.joining.was_wrong();
                Step::Spread(pair.reversed())
            }
            Step::Nothing => Step::Nothing,
        }
    }
}

impl Count {
    /// Messages a second from an earlier count to this one.
    fn rate_since(self, earlier: Self) -> u128 {
        let nanoseconds = self.at.saturating_duration_since(earlier.at).as_nanos();
        u128::from(self.messages.wrapping_sub(earlier.messages)) * 1_000_000_000 / nanoseconds.max(1)
    }
}

impl Pair {
    fn reversed(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// For how many ticks something is not tried again.
#[derive(Debug)]
struct Backoff {
    ticks: u32,
    left: u32,
    most: u32,
}

impl Backoff {
    const LEAST: u32 = 64;

    fn up_to(most: u32) -> Self {
        Self { ticks: Self::LEAST, left: 0, most }
    }

    fn tick(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }

    fn was_right(&mut self) {
        self.ticks = Self::LEAST;
    }

    fn was_wrong(&mut self) {
        self.left = self.ticks;
        self.ticks = (self.ticks * 2).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PAIR: Pair = Pair { from: 0, to: 1 };
    const BACK: Pair = Pair { from: 1, to: 0 };
    const JOIN: Chances = Chances { join: Some(PAIR), spread: None };
    const SPREAD: Chances = Chances { join: None, spread: Some(PAIR) };

    /// A server that answers `rate` messages a tick.
    struct Server {
        sharing: Sharing,
        now: Count,
        rate: u64,
    }

    impl Server {
        fn new() -> Self {
            let now = Count { at: Instant::now(), messages: 0 };
            Self { sharing: Sharing::new(now), now, rate: 100 }
        }

        /// Ticks until something is done, and how many that took.
        fn next(&mut self, chances: Chances) -> (u32, Step) {
            for ticks in 1..1 << 18 {
                self.now.at += Duration::from_millis(1);
                self.now.messages += self.rate;
                let step = self.sharing.step(self.now, chances);
                if step != Step::Nothing {
                    return (ticks, step);
                }
            }
            (u32::MAX, Step::Nothing)
        }

        /// The end of a trial in which so many messages are answered.
        fn trial(&mut self, rate: u64) -> Step {
            self.rate = rate;
            for _ in 1..SETTLING_TICKS + COUNTED_TICKS {
                self.now.at += Duration::from_millis(1);
                self.now.messages += self.rate;
                assert_eq!(self.sharing.step(self.now, Chances::default()), Step::Nothing);
            }
            self.now.at += Duration::from_millis(1);
            self.now.messages += self.rate;
            let step = self.sharing.step(self.now, Chances::default());
            self.rate = 100;
            step
        }
    }

    #[test]
    fn nothing_is_done_without_a_chance_or_for_few_messages() {
        let mut server = Server::new();
        assert_eq!(server.next(Chances::default()).1, Step::Nothing);
        let mut server = Server { rate: 19, ..Server::new() };
        assert_eq!(server.next(JOIN).1, Step::Nothing);
        assert_eq!(server.next(SPREAD).1, Step::Nothing);
    }

    #[test]
    fn what_lets_more_messages_be_answered_is_kept() {
        let mut server = Server::new();
        assert_eq!(server.next(JOIN).1, Step::Join(PAIR));
        assert_eq!(server.trial(107), Step::Nothing);
        assert_eq!(server.next(SPREAD).1, Step::Spread(PAIR));
        assert_eq!(server.trial(113), Step::Nothing);
    }

    #[test]
    fn what_does_not_is_undone_and_tried_again_twice_as_late() {
        for (chances, step, undone, most) in [
            (JOIN, Step::Join(PAIR), Step::Spread(BACK), 1 << 16),
            (SPREAD, Step::Spread(PAIR), Step::Join(BACK), 1 << 12),
        ] {
            let mut server = Server::new();
            let mut least = 0;
            for attempt in 0..14 {
                let (ticks, done) = server.next(chances);
                assert_eq!(done, step);
                assert!((least..=least + COUNTED_TICKS).contains(&ticks), "{ticks} ticks, attempt {attempt}");
                assert_eq!(server.trial(104), undone);
                least = (Backoff::LEAST << attempt).min(most);
            }
            assert_eq!(least, most);
        }
    }

    #[test]
    fn success_makes_the_next_attempt_come_soon_again() {
        let mut server = Server::new();
        for _ in 0..5 {
            server.next(SPREAD);
            server.trial(100);
        }
        server.next(SPREAD);
        server.trial(200);
        server.next(SPREAD);
        server.trial(100);
        assert!(server.next(SPREAD).0 <= Backoff::LEAST + COUNTED_TICKS);
    }

    #[test]
    fn joining_comes_later_after_spreading_was_right() {
        let mut server = Server::new();
        for reluctance in [64, 128, 256] {
            assert_eq!(server.next(SPREAD).1, Step::Spread(PAIR));
            assert_eq!(server.trial(200), Step::Nothing);
            let (ticks, step) = server.next(JOIN);
            assert_eq!(step, Step::Join(PAIR));
            assert!((reluctance..=reluctance + COUNTED_TICKS).contains(&ticks), "{ticks}");
            assert_eq!(server.trial(110), Step::Nothing);
            // Right as it was, the next time begins from the least.
            server.sharing.joining.ticks = 2 * reluctance;
        }
    }

    #[test]
    fn the_beginning_of_a_trial_does_not_count() {
        let mut server = Server::new();
        server.next(JOIN);
        server.now.messages += 1_000_000;
        assert_eq!(server.trial(100), Step::Spread(BACK));
    }
}
