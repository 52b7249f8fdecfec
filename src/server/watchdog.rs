//! Sees to it that connections are with workers that get on with them.
//!
//! While connections are served the acceptor's thread ticks every millisecond and looks at each worker:
//!
//! - One that is in the same turn as a tick ago is **held up**, by its handler as a rule: whoever of its connections is
//!   ready goes to workers with nothing to do.
//! - If it spends its turns in calls to sockets, though, none of which blocks, and stands in one now, then it **lacks a
//!   processor**. What becomes of that, and of one that never pauses, is decided in [`super::sharing`].
//!
//! All workers are equal, and a connection belongs to whoever took it. How they are moved is in [`super::moves`].

use std::time::{Duration, Instant};

use super::moves::{Takers, join, relieve, spread};
use super::shared::Shared;
use super::sharing::{Chances, Pair, Sharing, Step};
use super::watched::{Joins, Plight, Watched};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(1);

/// For so many ticks, at most, connections are spread that are ready.
const PARTING_TICKS: u32 = 64;

/// Ticks without any turn after which the watchdog sleeps.
const QUIET_TICKS: u32 = 10;

/// The watchdog's memory between two ticks.
pub(super) struct Watchdog {
    workers: Vec<Watched>,
    sharing: Sharing,
    /// How many messages each worker has answered.
    messages: Vec<u64>,
    /// How many connections the two workers of a trial had before it.
    loads_before: [usize; 2],
    parting: Option<Parting>,
    quiet_ticks: u32,
    next_tick: Instant,
}

impl Watchdog {
    pub(super) fn new(workers: usize) -> Self {
        let now = Instant::now();
        Self {
            workers: vec![Watched::new(now); workers],
            sharing: Sharing::new(workers, now),
            messages: vec![0; workers],
            loads_before: [0; 2],
            parting: None,
            quiet_ticks: 0,
            next_tick: now,
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
        let is_quiet = self.look(shared, now);
        self.relieve(shared, now);
        self.share(shared, now);
        self.quiet_ticks = if is_quiet { self.quiet_ticks + 1 } else { 0 };
        if self.quiet_ticks >= QUIET_TICKS {
            self.quiet_ticks = 0;
            self.sleep(shared);
        }
    }

    /// Looks at every worker; whether nobody needs the watchdog.
    fn look(&mut self, shared: &Shared, now: Instant) -> bool {
        let mut is_quiet = shared.overflow.1.is_empty();
        for ((index, worker), watched) in shared.workers.iter().enumerate().zip(&mut self.workers) {
            let glance = worker.glance();
            is_quiet &= !watched.is_active(glance) || shared.loads.of(index) <= 1;
            watched.look(glance, now);
        }
        is_quiet
    }

    /// Does for workers that are held up what they can't do themselves.
    fn relieve(&self, shared: &Shared, now: Instant) {
        let is_anybody_free = self.workers.iter().any(Watched::is_free);
        for (index, watched) in self.workers.iter().enumerate() {
            match watched.plight() {
                Plight::None | Plight::LacksProcessor => {}
                Plight::HeldUpForLong if is_anybody_free => relieve(shared, index, now, Takers::Busy),
                Plight::HeldUp | Plight::HeldUpForLong => relieve(shared, index, now, Takers::Idle),
            }
        }
    }

    /// Moves connections between workers that are not held up.
    fn share(&mut self, shared: &Shared, now: Instant) {
        for (messages, worker) in self.messages.iter_mut().zip(&self.workers) {
            *messages = worker.last.messages;
        }
        let chances = Chances { join: self.may_join(shared), spread: self.may_spread(shared, now) };
        let step = self.sharing.step(now, &self.messages, chances);
        self.take(step, shared);
        self.move_on(shared, now);
    }

    fn take(&mut self, step: Step, shared: &Shared) {
        if let Step::Join(pair) | Step::Spread(pair) = step {
            self.loads_before = [shared.loads.of(pair.from), shared.loads.of(pair.to)];
        }
        let [from_before, to_before] = self.loads_before;
        match step {
            Step::Nothing => {}
            Step::Join(Pair { from, to }) => self.join(from, Joins { to, until_load: None }),
            Step::UndoSpread(Pair { from, to }) => {
                self.join(to, Joins { to: from, until_load: Some(to_before) });
            }
            Step::Spread(pair) => self.part(pair, to_before + from_before / 2),
            Step::UndoJoin(Pair { from, to }) => self.part(Pair { from: to, to: from }, from_before),
        }
    }

    fn join(&mut self, from: usize, joins: Joins) {
        // Never in a circle.
        self.workers[joins.to].joins = None;
        self.workers[from].joins = Some(joins);
        self.parting = None;
    }

    fn part(&mut self, pair: Pair, until_load: usize) {
        self.workers[pair.to].joins = None;
        self.parting = Some(Parting { pair, until_load, ticks_left: PARTING_TICKS });
    }

    /// Moves who is ready at this tick of those who are to be moved.
    fn move_on(&mut self, shared: &Shared, now: Instant) {
        for from in 0..self.workers.len() {
            let Some(Joins { to, until_load }) = self.workers[from].joins else { continue };
            let is_over = until_load.is_some_and(|load| shared.loads.of(from) <= load);
            match self.workers[to].plight() {
                _ if is_over => self.workers[from].joins = None,
                Plight::None => join(shared, Pair { from, to }, now),
                Plight::LacksProcessor | Plight::HeldUp => {}
                Plight::HeldUpForLong => self.workers[from].joins = None,
            }
        }
        if let Some(parting) = &mut self.parting {
            spread(shared, parting.pair);
            parting.ticks_left -= 1;
            if parting.ticks_left == 0 || shared.loads.of(parting.pair.to) >= parting.until_load {
                self.parting = None;
            }
        }
    }

    /// The worker with the fewest connections of those that could join another, and the one with the most.
    ///
    /// Two that pause are no more in need of two processors than one that lacks its own. Clients elsewhere need none here.
    fn may_join(&self, shared: &Shared) -> Option<Pair> {
        if !shared.loads.are_local() {
            return None;
        }
        let candidates = || {
            let active = self.workers.iter().enumerate().filter(|(_, worker)| worker.may_share());
            active.map(|(index, worker)| (shared.loads.of(index), index, worker))
        };
        let by_load = |&(load, index, _): &(usize, usize, &Watched)| (load, index);
        let from = candidates().filter(|(_, _, worker)| worker.may_join()).min_by_key(by_load);
        let (fewest, from, joining) = from?;
        let fits = |other: &Watched| joining.has_lacked_processor() || other.is_pausing;
        let to = candidates().filter(|&(_, to, other)| to != from && fits(other)).max_by_key(by_load);
        to.filter(|&(most, ..)| most >= fewest).map(|(_, to, _)| Pair { from, to })
    }

    /// A worker that has not paused for a while, and one with nothing to do.
    fn may_spread(&self, shared: &Shared, now: Instant) -> Option<Pair> {
        let to = self.workers.iter().position(Watched::has_nothing_to_do)?;
        let mut workers = self.workers.iter().enumerate();
        let from =
            workers.position(|(index, worker)| worker.is_saturated(now) && shared.loads.of(index) > 1)?;
        Some(Pair { from, to })
    }

    fn sleep(&mut self, shared: &Shared) {
        shared.ticks.set_asleep(true);
        let pairs = shared.workers.iter().zip(&self.workers).enumerate();
        let is_missed = pairs.into_iter().any(|(index, (worker, watched))| {
            shared.loads.of(index) > 1 && watched.is_active(worker.glance())
        });
        if is_missed {
            shared.ticks.set_asleep(false);
        } else {
            self.sharing.restart();
        }
    }
}

/// One worker gives connections to another until that has so many.
#[derive(Debug, Clone, Copy)]
struct Parting {
    pair: Pair,
    until_load: usize,
    ticks_left: u32,
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::super::watched::tests::Ticking;
    use super::super::watched::{IDLE_TICKS, SATURATED, Share};
    use super::super::worker_side::Activity;
    use super::*;

    /// A watchdog whose workers are in socket calls, with a fixture whose workers have these many ready connections.
    fn watched(loads: [usize; 3]) -> (Watchdog, Fixture) {
        let fixture = Fixture::new(loads.len());
        let mut watchdog = Watchdog::new(loads.len());
        for (worker, load) in loads.into_iter().enumerate() {
            (0..load).for_each(|_| fixture.deal(worker, true));
            watchdog.workers[worker] = Ticking::socket_bound().watched;
        }
        (watchdog, fixture)
    }

    #[test]
    fn the_smallest_worker_that_pauses_may_join_the_largest() {
        let (mut watchdog, fixture) = watched([2, 3, 1]);
        let may_join = |watchdog: &Watchdog| watchdog.may_join(&fixture.shared);
        assert_eq!(may_join(&watchdog), None, "nobody pauses");
        watchdog.workers.iter_mut().for_each(|worker| worker.is_pausing = true);
        assert_eq!(may_join(&watchdog), Some(Pair { from: 2, to: 1 }));
        watchdog.workers[1].is_pausing = false;
        assert_eq!(may_join(&watchdog), Some(Pair { from: 2, to: 0 }));
        watchdog.workers[2].ticks_since_lack = 0;
        assert_eq!(may_join(&watchdog), Some(Pair { from: 2, to: 1 }), "it lacked a processor");
        watchdog.workers[1].idle_ticks = IDLE_TICKS;
        assert_eq!(may_join(&watchdog), Some(Pair { from: 2, to: 0 }), "the other has nothing to do");
        watchdog.workers[0].socket_calls = Share::default();
        assert_eq!(may_join(&watchdog), None, "the other computes");
        watchdog.workers[1].idle_ticks = 0;
        watchdog.workers[2].joins = Some(Joins { to: 1, until_load: None });
        assert_eq!(may_join(&watchdog), None, "it has joined already");
    }

    #[test]
    fn the_largest_worker_joins_nobody() {
        let (mut watchdog, fixture) = watched([1, 3, 2]);
        watchdog.workers[1].ticks_since_lack = 0;
        assert_eq!(watchdog.may_join(&fixture.shared), None);
    }

    #[test]
    fn a_worker_without_pauses_may_spread_to_one_with_nothing_to_do() {
        let (mut watchdog, fixture) = watched([2, 3, 0]);
        let now = watchdog.workers.iter().map(|worker| worker.busy_since).max().expect("three") + SATURATED;
        assert_eq!(watchdog.may_spread(&fixture.shared, now), None);
        watchdog.workers[2].idle_ticks = IDLE_TICKS;
        assert_eq!(watchdog.may_spread(&fixture.shared, now), Some(Pair { from: 0, to: 2 }));
        watchdog.workers[0].busy_since = now;
        assert_eq!(watchdog.may_spread(&fixture.shared, now), Some(Pair { from: 1, to: 2 }));
        watchdog.workers[1].held_up = 1;
        assert_eq!(watchdog.may_spread(&fixture.shared, now), None);
    }

    fn loads(shared: &Shared) -> [usize; 3] {
        [0, 1, 2].map(|worker| shared.loads.of(worker))
    }

    #[test]
    fn who_has_joined_gives_all_that_gets_ready_unless_the_other_is_held_up_for_long() {
        let (mut watchdog, fixture) = watched([2, 1, 0]);
        let (shared, now) = (&fixture.shared, Instant::now());
        watchdog.take(Step::Join(Pair { from: 0, to: 1 }), shared);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [0, 3, 0]);
        fixture.deal(0, true);
        watchdog.workers[1].last.activity = Activity::Handler;
        watchdog.workers[1].held_up = 1;
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [1, 3, 0], "not while the other is held up");
        watchdog.workers[1].held_up = 0;
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [0, 4, 0]);
        fixture.deal(0, true);
        watchdog.workers[1].held_up = u32::MAX;
        watchdog.move_on(shared, now);
        watchdog.workers[1].held_up = 0;
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [1, 4, 0], "it has parted for good");
    }

    #[test]
    fn what_a_trial_moved_is_moved_back() {
        let (mut watchdog, fixture) = watched([4, 6, 0]);
        let (shared, now) = (&fixture.shared, Instant::now());
        let pair = Pair { from: 0, to: 1 };
        watchdog.take(Step::Join(pair), shared);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [0, 10, 0]);
        watchdog.take(Step::UndoJoin(pair), shared);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [5, 5, 0]);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [5, 5, 0], "and no more than that");

        let pair = Pair { from: 1, to: 2 };
        watchdog.take(Step::Spread(pair), shared);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [5, 2, 3]);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [5, 2, 3], "that was half of them");
        watchdog.take(Step::UndoSpread(pair), shared);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [5, 5, 0]);
        watchdog.move_on(shared, now);
        fixture.deal(2, true);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [5, 5, 1], "and no more than that");
    }

    #[test]
    fn connections_are_spread_over_as_many_ticks_as_it_takes() {
        let (mut watchdog, fixture) = watched([4, 0, 0]);
        let (shared, now) = (&fixture.shared, Instant::now());
        watchdog.take(Step::Spread(Pair { from: 0, to: 1 }), shared);
        let at_its_table = shared.workers[0].table.lock();
        watchdog.move_on(shared, now);
        drop(at_its_table);
        assert_eq!(loads(shared), [4, 0, 0]);
        watchdog.move_on(shared, now);
        assert_eq!(loads(shared), [2, 2, 0]);
    }
}
