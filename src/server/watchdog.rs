//! Sees to it that connections are with workers that get on with them.
//!
//! While connections are served the acceptor's thread ticks every millisecond and looks at each worker:
//!
//! - A worker that is in the same turn as one tick ago is **held up**, by its handler as a rule: whoever of its
//!   connections is ready goes to workers with nothing to do.
//! - If it spends its turns in calls to sockets, though, none of which blocks, and is not in a handler now, then it
//!   **lacks a processor**: another worker would only compete for it. Its connections join those of a worker that runs.
//!   So as many workers as there are processors free for them share the load; each serves more connections a wait, and
//!   the rest sleep. On two processors that clients use as well, that is most of what small requests cost. Handlers and
//!   sealing that compute for long gain more from a second processor now and then than full waits save them, so that
//!   this is for workers that are in socket calls most of the time.
//! - A worker that does not wait while another does is **saturated**: it gives half of its ready connections away.
//!   Whether there is a processor for the other worker shows afterwards. If not, they are united again, and the next
//!   attempt comes twice as late.
//!
//! All workers are equal, and a connection belongs to whoever took it. How they are moved is in [`super::moves`].

use std::time::{Duration, Instant};

use super::moves::{Takers, relieve, spread, unite};
use super::shared::Shared;
use super::worker_side::{Activity, Glance, WorkerSide};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(1);

/// Ticks after which a worker is held up beyond doubt, and not merely preempted.
const LONG_TICKS: u32 = 10;

/// Ticks without any turn after which the watchdog sleeps.
const QUIET_TICKS: u32 = 10;

/// The watchdog's memory between two ticks.
pub(super) struct Watchdog {
    workers: Vec<Watched>,
    patience: Patience,
    quiet_ticks: u32,
    next_tick: Instant,
}

impl Watchdog {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            workers: vec![Watched::default(); workers],
            patience: Patience::default(),
            quiet_ticks: 0,
            next_tick: Instant::now(),
        }
    }

    /// How long the acceptor may wait from `now`; `None` while the watchdog sleeps.
    pub(super) fn time_to_tick(&self, shared: &Shared, now: Instant) -> Option<Duration> {
        if shared.ticks.is_asleep() {
            return None;
        }
        Some(self.next_tick.saturating_duration_since(now))
    }

    /// Looks after the workers if a tick is due.
    pub(super) fn tick(&mut self, shared: &Shared, now: Instant) {
        if shared.ticks.is_asleep() {
            self.quiet_ticks = 0;
            return;
        }
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        shared.ticks.advance();
        shared.offer_overflow();
        let is_quiet = self.look(shared);
        for index in 0..self.workers.len() {
            self.look_after(shared, index, now);
        }
        self.quiet_ticks = if is_quiet { self.quiet_ticks + 1 } else { 0 };
        if self.quiet_ticks >= QUIET_TICKS {
            self.quiet_ticks = 0;
            self.sleep(shared);
        }
    }

    /// Looks at every worker; whether nobody needs the watchdog.
    fn look(&mut self, shared: &Shared) -> bool {
        self.patience.tick();
        let mut is_quiet = shared.overflow.1.is_empty();
        let somebody_waits = shared.workers.iter().any(WorkerSide::is_waiting);
        for ((index, worker), watched) in shared.workers.iter().enumerate().zip(&mut self.workers) {
            let glance = worker.glance();
            let is_active = glance.is_serving() || glance.serves != watched.last.serves;
            is_quiet &= !is_active || shared.loads.of(index) <= 1;
            watched.look(glance, somebody_waits);
        }
        is_quiet
    }

    fn look_after(&mut self, shared: &Shared, index: usize, now: Instant) {
        match self.workers[index].plight() {
            Plight::None => {}
            Plight::Saturated(ticks) => {
                if self.patience.is_over(ticks) && spread(shared, index) {
                    self.workers[index].without_wait = 0;
                    self.patience.spread();
                }
            }
            Plight::LacksProcessor => {
                if unite(shared, index, now, |other| self.workers[other].is_free()) {
                    self.patience.united();
                }
            }
            Plight::HeldUp => relieve(shared, index, now, Takers::Idle),
            Plight::HeldUpForLong => {
                let is_anybody_free = self.workers.iter().any(Watched::is_free);
                relieve(shared, index, now, if is_anybody_free { Takers::Busy } else { Takers::Idle });
            }
        }
    }

    fn sleep(&self, shared: &Shared) {
        shared.ticks.set_asleep(true);
        let is_missed =
            shared.workers.iter().zip(&self.workers).enumerate().any(|(index, (worker, watched))| {
                let glance = worker.glance();
                shared.loads.of(index) > 1 && (glance.is_serving() || glance.serves != watched.last.serves)
            });
        if is_missed {
            shared.ticks.set_asleep(false);
        }
    }
}

/// What it remembers of one worker.
#[derive(Debug, Clone, Default)]
struct Watched {
    last: Glance,
    /// For how many ticks it has been in the same turn.
    held_up: u32,
    /// For how many ticks it has not waited while another worker did.
    without_wait: u32,
    socket_calls: Share,
}

/// What keeps a worker's connections waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plight {
    None,
    /// For so many ticks it has not waited while another worker did.
    Saturated(u32),
    LacksProcessor,
    HeldUp,
    HeldUpForLong,
}

impl Watched {
    fn look(&mut self, glance: Glance, somebody_waits: bool) {
        let last = std::mem::replace(&mut self.last, glance);
        if glance.is_serving() {
            self.socket_calls.note(glance.activity == Activity::SocketCall);
        }
        let is_held_up = glance.is_serving() && glance.serves == last.serves;
        self.held_up = if is_held_up { self.held_up + 1 } else { 0 };
        let is_saturated = somebody_waits && !glance.is_waiting() && glance.waits == last.waits;
        self.without_wait = if is_saturated { self.without_wait + 1 } else { 0 };
    }

    fn is_free(&self) -> bool {
        self.held_up == 0
    }

    fn plight(&self) -> Plight {
        match self.held_up {
            0 if self.without_wait > 0 => Plight::Saturated(self.without_wait),
            0 => Plight::None,
            LONG_TICKS.. => Plight::HeldUpForLong,
            _ if self.last.activity != Activity::Handler && self.socket_calls.is_most() => {
                Plight::LacksProcessor
            }
            _ => Plight::HeldUp,
        }
    }
}

/// Of the ticks that found a worker in a turn, the recent ones above all: how many found it in a call to a socket.
#[derive(Debug, Clone, Copy, Default)]
struct Share(u32);

impl Share {
    const WHOLE: u32 = 1 << 16;
    /// How many ticks it takes until an old one has lost most of its weight.
    const MEMORY: u32 = 16;

    fn note(&mut self, in_socket_call: bool) {
        let gain = if in_socket_call { Self::WHOLE / Self::MEMORY } else { 0 };
        self.0 = self.0 - self.0 / Self::MEMORY + gain;
    }

    fn is_most(self) -> bool {
        self.0 >= Self::WHOLE / 4 * 3
    }
}

/// How many ticks a worker must be saturated until it gives connections to one that waits. It grows with each time that
/// turns out to have been wrong.
#[derive(Debug)]
struct Patience {
    ticks: u32,
    /// Ticks since connections were last given away, unless workers have been united since.
    since_spread: Option<u32>,
}

impl Default for Patience {
    /// At the start connections have been spread for ever: the acceptor deals them evenly.
    fn default() -> Self {
        Self { ticks: Self::LEAST, since_spread: Some(u32::MAX) }
    }
}

impl Patience {
    const LEAST: u32 = 8;
    /// About a second: an attempt that fails disturbs the connections for some milliseconds.
    const MOST: u32 = 1024;

    fn tick(&mut self) {
        self.since_spread = self.since_spread.map(|ticks| ticks.saturating_add(1));
    }

    fn is_over(&self, saturated: u32) -> bool {
        saturated >= self.ticks
    }

    fn spread(&mut self) {
        self.since_spread = Some(0);
    }

    /// Workers were united: if that came soon after connections were spread, it was wrong to spread them.
    fn united(&mut self) {
        self.ticks = match self.since_spread.take() {
            Some(since) if since <= self.ticks => (self.ticks * 2).min(Self::MOST),
            Some(_) => Self::LEAST,
            None => self.ticks,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that a tick finds in its `serves`th turn.
    fn serving(serves: usize, activity: Activity) -> Glance {
        Glance { waits: 0, serves: 2 * serves + 1, activity }
    }

    fn waiting(waits: usize) -> Glance {
        Glance { waits: 2 * waits + 1, ..Glance::default() }
    }

    /// A worker that was in socket calls whenever a tick looked.
    fn socket_bound() -> Watched {
        let mut watched = Watched::default();
        for turn in 0..30 {
            watched.look(serving(turn, Activity::SocketCall), false);
            assert_eq!(watched.plight(), Plight::None);
        }
        watched
    }

    #[test]
    fn a_worker_in_the_same_handler_as_a_tick_ago_is_held_up() {
        for mut watched in [Watched::default(), socket_bound()] {
            watched.look(serving(100, Activity::Handler), false);
            assert_eq!(watched.plight(), Plight::None);
            watched.look(serving(100, Activity::Handler), false);
            assert_eq!(watched.plight(), Plight::HeldUp);
            watched.look(serving(101, Activity::Handler), false);
            assert_eq!(watched.plight(), Plight::None);
        }
    }

    #[test]
    fn a_socket_bound_worker_that_stands_still_outside_its_handler_lacks_a_processor() {
        for activity in [Activity::SocketCall, Activity::Computing] {
            let mut watched = socket_bound();
            watched.look(serving(100, activity), false);
            watched.look(serving(100, activity), false);
            assert_eq!(watched.plight(), Plight::LacksProcessor);
        }
    }

    #[test]
    fn a_worker_that_computes_for_long_is_held_up() {
        let mut watched = Watched::default();
        for turn in 0..30 {
            watched.look(serving(turn / 2, Activity::Computing), false);
        }
        assert_eq!(watched.plight(), Plight::HeldUp);
    }

    #[test]
    fn whatever_it_does_a_worker_is_held_up_for_long_in_the_end() {
        let mut watched = socket_bound();
        for _ in 0..=LONG_TICKS {
            watched.look(serving(100, Activity::SocketCall), false);
        }
        assert_eq!(watched.plight(), Plight::HeldUpForLong);
    }

    #[test]
    fn a_worker_is_saturated_while_it_never_waits_and_another_does() {
        let mut watched = Watched::default();
        for turn in 1..=20 {
            watched.look(serving(turn, Activity::SocketCall), true);
        }
        assert_eq!(watched.plight(), Plight::Saturated(20));
        watched.look(serving(21, Activity::SocketCall), false);
        assert_eq!(watched.plight(), Plight::None, "nobody is there to take anything");

        watched.look(waiting(3), true);
        assert_eq!(watched.plight(), Plight::None);
        watched.look(Glance { waits: 10, ..serving(22, Activity::SocketCall) }, true);
        assert_eq!(watched.plight(), Plight::None, "it has waited since the last tick");
    }

    #[test]
    fn patience_grows_when_spreading_was_wrong_and_is_forgotten_when_it_was_right() {
        let mut patience = Patience::default();
        patience.united();
        assert_eq!(patience.ticks, Patience::LEAST, "dealt evenly at first, which was nobody's fault");
        for expected in [16, 32, 64, 128, 256, 512, 1024, 1024] {
            patience.spread();
            patience.tick();
            patience.united();
            patience.united();
            assert_eq!(patience.ticks, expected);
        }
        assert!(patience.is_over(1024) && !patience.is_over(1023));
        patience.spread();
        for _ in 0..=Patience::MOST {
            patience.tick();
        }
        patience.united();
        assert_eq!(patience.ticks, Patience::LEAST);
    }
}
