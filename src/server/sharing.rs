//! Decides how many workers share the connections, by what that brings.
//!
//! Where clients run on the same machine, workers that pass small messages and have no processor each only get into
//! each other's way and into the clients': every wait finds fewer connections, and the scheduler does the rest. Then
//! one **joins** another: its connections go there. And when a worker never pauses while another has nothing to do, it
//! **spreads** its connections. The operating system does not tell whether there is a processor. So both are trials of
//! some tens of milliseconds: unless the two workers clearly answer more messages it is undone, and tried again later,
//! twice as late each time.
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

/// With fewer messages a second from the two workers there is nothing to gain.
const WORTH_A_TRIAL: u128 = 20_000;

/// A trial must let one message more be answered for every so many: beyond what two counts differ by themselves.
const GAIN: u128 = 8;

#[derive(Debug)]
pub(super) struct Sharing {
    trial: Option<Trial>,
    ticks: u32,
    /// When messages began to be counted, and how many each worker had answered by then.
    counted_from: (Instant, Vec<u64>),
    joining: Backoff,
    spreading: Backoff,
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
    /// Move the connections of one worker to the other, each when it is ready.
    Join(Pair),
    /// Move half of one worker's connections to the other.
    Spread(Pair),
    /// Give back what came by joining.
    UndoJoin(Pair),
    /// Take back what was spread.
    UndoSpread(Pair),
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    is_join: bool,
    pair: Pair,
    rate_before: u128,
}

impl Sharing {
    pub(super) fn new(workers: usize, now: Instant) -> Self {
        Self {
            trial: None,
            ticks: 0,
            counted_from: (now, vec![0; workers]),
            joining: Backoff::default(),
            spreading: Backoff::default(),
        }
    }

    /// Decides, at every tick: `messages` is how many each worker has answered.
    pub(super) fn step(&mut self, now: Instant, messages: &[u64], chances: Chances) -> Step {
        self.joining.tick();
        self.spreading.tick();
        self.ticks += 1;
        let settling = if self.trial.is_some() { SETTLING_TICKS } else { 1 };
        if self.ticks <= settling {
            self.count_from(now, messages);
        }
        if self.ticks < settling + COUNTED_TICKS {
            return Step::Nothing;
        }
        self.ticks = 0;
        match self.trial.take() {
            Some(trial) => self.judge(trial, self.rate(trial.pair, now, messages)),
            None => self.try_one(now, messages, chances),
        }
    }

    /// Begins to count anew, since nobody has looked for a while. What was being tried stays as it is.
    pub(super) fn restart(&mut self) {
        self.trial = None;
        self.ticks = 0;
    }

    fn try_one(&mut self, now: Instant, messages: &[u64], chances: Chances) -> Step {
        let join = chances.join.filter(|_| self.joining.is_over()).map(|pair| (pair, true));
        let spread = chances.spread.filter(|_| self.spreading.is_over()).map(|pair| (pair, false));
        let Some((pair, is_join)) = join.or(spread) else { return Step::Nothing };
        let rate_before = self.rate(pair, now, messages);
        if rate_before < WORTH_A_TRIAL {
            return Step::Nothing;
        }
        self.trial = Some(Trial { is_join, pair, rate_before });
        if is_join { Step::Join(pair) } else { Step::Spread(pair) }
    }

    fn judge(&mut self, Trial { is_join, pair, rate_before }: Trial, rate: u128) -> Step {
        match (is_join, rate >= rate_before + rate_before / GAIN) {
            (true, true) => {
                self.joining.was_right();
                Step::Nothing
            }
            (true, false) => {
                self.joining.was_wrong();
                Step::UndoJoin(pair)
            }
            (false, true) => {
                self.spreading.was_right();
                // Whoever joined this worker should not have done so.
                self.joining.was_wrong();
                Step::Nothing
            }
            (false, false) => {
                self.spreading.was_wrong();
                Step::UndoSpread(pair)
            }
        }
    }

    fn count_from(&mut self, now: Instant, messages: &[u64]) {
        self.counted_from.0 = now;
        self.counted_from.1.copy_from_slice(messages);
    }

    /// Messages a second that the two workers have answered since the count began.
    fn rate(&self, pair: Pair, now: Instant, messages: &[u64]) -> u128 {
        let (since, before) = &self.counted_from;
        let of = |worker: usize| u128::from(messages[worker].wrapping_sub(before[worker]));
        let nanoseconds = now.saturating_duration_since(*since).as_nanos();
        (of(pair.from) + of(pair.to)) * 1_000_000_000 / nanoseconds.max(1)
    }
}

/// For how many ticks something is not tried again.
#[derive(Debug)]
struct Backoff {
    ticks: u32,
    left: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ticks: Self::LEAST, left: 0 }
    }
}

impl Backoff {
    const LEAST: u32 = 64;
    /// Some seconds: a trial that goes wrong costs some tens of milliseconds, so this keeps it to a hundredth.
    const MOST: u32 = 4096;

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
        self.ticks = (self.ticks * 2).min(Self::MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PAIR: Pair = Pair { from: 0, to: 1 };
    const JOIN: Chances = Chances { join: Some(PAIR), spread: None };
    const SPREAD: Chances = Chances { join: None, spread: Some(PAIR) };

    /// Ticks from one decision to the next.
    const WINDOW: u32 = COUNTED_TICKS + 1;

    /// A server of three workers, of which the first two answer `rate` messages a tick between them.
    struct Server {
        sharing: Sharing,
        now: Instant,
        messages: [u64; 3],
        rate: u64,
    }

    impl Server {
        fn new(rate: u64) -> Self {
            let now = Instant::now();
            Self { sharing: Sharing::new(3, now), now, messages: [0; 3], rate }
        }

        fn tick(&mut self, chances: Chances) -> Step {
            self.now += Duration::from_millis(1);
            self.messages[0] += self.rate / 2;
            self.messages[1] += self.rate - self.rate / 2;
            self.messages[2] += 10_000;
            self.sharing.step(self.now, &self.messages, chances)
        }

        /// Ticks until something is done, and how many that took.
        fn next(&mut self, chances: Chances) -> (u32, Step) {
            for ticks in 1..1 << 14 {
                let step = self.tick(chances);
                if step != Step::Nothing {
                    return (ticks, step);
                }
            }
            (u32::MAX, Step::Nothing)
        }

        /// A trial in which so many messages are answered, and its end.
        fn trial(&mut self, rate: u64) -> Step {
            let before = std::mem::replace(&mut self.rate, rate);
            for _ in 1..SETTLING_TICKS + COUNTED_TICKS {
                assert_eq!(self.tick(Chances::default()), Step::Nothing);
            }
            let step = self.tick(Chances::default());
            self.rate = before;
            step
        }
    }

    #[test]
    fn nothing_is_done_without_a_chance_or_for_few_messages() {
        assert_eq!(Server::new(100).next(Chances::default()).1, Step::Nothing);
        assert_eq!(Server::new(19).next(JOIN).1, Step::Nothing);
        assert_eq!(Server::new(19).next(SPREAD).1, Step::Nothing);
    }

    #[test]
    fn what_lets_more_messages_be_answered_is_kept() {
        let mut server = Server::new(100);
        assert_eq!(server.next(JOIN).1, Step::Join(PAIR));
        assert_eq!(server.trial(113), Step::Nothing);
        assert_eq!(server.next(SPREAD).1, Step::Spread(PAIR));
        assert_eq!(server.trial(113), Step::Nothing);
    }

    #[test]
    fn what_does_not_is_undone_and_tried_again_twice_as_late() {
        for (chances, step, undone) in [
            (JOIN, Step::Join(PAIR), Step::UndoJoin(PAIR)),
            (SPREAD, Step::Spread(PAIR), Step::UndoSpread(PAIR)),
        ] {
            let mut server = Server::new(100);
            let mut least = 0;
            for attempt in 0..9 {
                let (ticks, done) = server.next(chances);
                assert_eq!(done, step);
                assert!((least..=least + WINDOW).contains(&ticks), "{ticks} ticks, attempt {attempt}");
                assert_eq!(server.trial(111), undone);
                least = (Backoff::LEAST << attempt).min(Backoff::MOST);
            }
            assert_eq!(least, Backoff::MOST);
        }
    }

    #[test]
    fn success_makes_the_next_attempt_come_soon_again() {
        for chances in [JOIN, SPREAD] {
            let mut server = Server::new(100);
            for _ in 0..5 {
                server.next(chances);
                server.trial(100);
            }
            server.next(chances);
            server.trial(200);
            server.next(chances);
            server.trial(100);
            assert!(server.next(chances).0 <= Backoff::LEAST + WINDOW);
        }
    }

    #[test]
    fn joining_comes_later_after_spreading_was_right() {
        let mut server = Server::new(100);
        for _ in 0..3 {
            assert_eq!(server.next(SPREAD).1, Step::Spread(PAIR));
            assert_eq!(server.trial(200), Step::Nothing);
        }
        let least = Backoff::LEAST * 4;
        let (ticks, step) = server.next(JOIN);
        assert_eq!(step, Step::Join(PAIR));
        assert!((least..=least + WINDOW).contains(&ticks), "{ticks} ticks");
    }

    #[test]
    fn the_beginning_of_a_trial_does_not_count() {
        let mut server = Server::new(100);
        server.next(JOIN);
        server.messages[0] += 1_000_000;
        assert_eq!(server.trial(100), Step::UndoJoin(PAIR));
    }

    #[test]
    fn a_sleep_is_in_no_count() {
        let mut server = Server::new(100);
        server.sharing.restart();
        server.now += Duration::from_secs(60);
        let (ticks, step) = server.next(JOIN);
        assert_eq!(step, Step::Join(PAIR));
        assert!(ticks <= WINDOW, "the first count was of no use: {ticks} ticks");
    }

    #[test]
    fn nothing_is_judged_over_a_sleep() {
        let mut server = Server::new(100);
        server.next(JOIN);
        server.sharing.restart();
        server.now += Duration::from_secs(60);
        for _ in 0..2 * COUNTED_TICKS {
            assert_eq!(server.tick(Chances::default()), Step::Nothing);
        }
    }
}
