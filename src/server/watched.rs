//! What the watchdog remembers of one worker, and what keeps that worker's connections waiting.

use std::time::{Duration, Instant};

use super::worker_side::{Activity, Glance};

/// Ticks after which a worker that stands still outside its handler may be computing for long, and not preempted.
const PREEMPTED_TICKS: u32 = 3;

/// Ticks after which a worker is held up beyond doubt, and not merely preempted.
const LONG_TICKS: u32 = 10;

/// Ticks in a row that must find a worker waiting until it has nothing to do.
pub(super) const IDLE_TICKS: u32 = 8;

/// For so many ticks it is remembered that a worker lacked a processor.
const RECENT_TICKS: u32 = 64;

/// Of the time since a worker began to be busy, this part may be pauses: one in so many, and one more short one.
const PAUSES: u32 = 16;

/// That short one.
const SHORT_PAUSE: Duration = Duration::from_micros(500);

/// A worker that has hardly paused for so long is saturated.
pub(super) const SATURATED: Duration = Duration::from_millis(30);

/// Bytes of a message, its frame's included, up to which it is small: passing it costs more than sealing it.
const SMALL_MESSAGE: u64 = 1 << 10;

/// One worker as the ticks have found it.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) last: Glance,
    /// For how many ticks it has been in the same turn.
    pub(super) held_up: u32,
    /// For how many ticks it has waited.
    pub(super) idle_ticks: u32,
    /// Since when it has hardly paused, and how long its pauses had been in all by then.
    pub(super) busy_since: Instant,
    pub(super) paused_before: Duration,
    /// Whether it had to begin anew with that at one of the last ticks.
    pub(super) is_pausing: bool,
    pub(super) ticks_since_lack: u32,
    /// Of the ticks that found it in a turn, how many found it in a call to a socket.
    pub(super) socket_calls: Share,
    /// Of the ticks that found messages answered, how many found them small.
    pub(super) small_messages: Share,
    /// Where its connections go when they are ready.
    pub(super) joins: Option<Joins>,
}

/// A worker's connections go to another one, until only so many are left if that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Joins {
    pub(super) to: usize,
    pub(super) until_load: Option<usize>,
}

/// What keeps a worker's connections waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plight {
    None,
    LacksProcessor,
    HeldUp,
    HeldUpForLong,
}

impl Watched {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            last: Glance::default(),
            held_up: 0,
            idle_ticks: 0,
            busy_since: now,
            paused_before: Duration::ZERO,
            is_pausing: false,
            ticks_since_lack: u32::MAX,
            socket_calls: Share::default(),
            small_messages: Share::default(),
            joins: None,
        }
    }

    pub(super) fn look(&mut self, glance: Glance, now: Instant) {
        let last = std::mem::replace(&mut self.last, glance);
        if glance.is_serving() {
            self.socket_calls.note(glance.activity == Activity::SocketCall);
        }
        let bytes = glance.bytes_in.wrapping_sub(last.bytes_in);
        if let Some(mean) = bytes.checked_div(glance.messages.wrapping_sub(last.messages)) {
            self.small_messages.note(mean <= SMALL_MESSAGE);
        }
        let is_held_up = glance.is_serving() && glance.serves == last.serves;
        self.held_up = if is_held_up { self.held_up.saturating_add(1) } else { 0 };
        let is_lacking = self.plight() == Plight::LacksProcessor;
        self.ticks_since_lack = if is_lacking { 0 } else { self.ticks_since_lack.saturating_add(1) };
        self.idle_ticks = if glance.is_waiting { self.idle_ticks.saturating_add(1) } else { 0 };
        let busy = now.saturating_duration_since(self.busy_since);
        let paused = glance.paused.saturating_sub(self.paused_before);
        let is_in_handler = is_held_up && !is_lacking;
        if is_in_handler || self.idle_ticks > 1 || paused > busy / PAUSES + SHORT_PAUSE {
            self.is_pausing = true;
            self.busy_since = now;
            self.paused_before = glance.paused;
        } else if busy > SATURATED / 2 {
            self.is_pausing = false;
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.held_up == 0
    }

    /// Whether it has waited for a while.
    pub(super) fn has_nothing_to_do(&self) -> bool {
        self.idle_ticks >= IDLE_TICKS
    }

    /// Whether it has hardly paused for a while.
    pub(super) fn is_saturated(&self, now: Instant) -> bool {
        self.is_free() && now.saturating_duration_since(self.busy_since) >= SATURATED
    }

    /// Whether it is or was in a turn since the last tick, as this look shows.
    pub(super) fn is_active(&self, glance: Glance) -> bool {
        glance.is_serving() || glance.serves != self.last.serves
    }

    /// Whether it passes small messages and could as well do so for another worker, or the other way round. Handlers that
    /// compute and large messages that are sealed gain more from a second processor than they lose.
    pub(super) fn may_share(&self) -> bool {
        let is_active = self.joins.is_none() && !self.has_nothing_to_do();
        is_active && self.is_free() && self.small_messages.is_most() && self.socket_calls.is_much()
    }

    pub(super) fn may_join(&self) -> bool {
        self.has_lacked_processor() || self.is_pausing
    }

    pub(super) fn has_lacked_processor(&self) -> bool {
        self.ticks_since_lack < RECENT_TICKS
    }

    pub(super) fn plight(&self) -> Plight {
        let is_preempted = match self.last.activity {
            Activity::SocketCall => true,
            Activity::Computing => self.held_up < PREEMPTED_TICKS,
            Activity::Handler => false,
        };
        match self.held_up {
            0 => Plight::None,
            LONG_TICKS.. => Plight::HeldUpForLong,
            _ if is_preempted && self.socket_calls.is_most() => Plight::LacksProcessor,
            _ => Plight::HeldUp,
        }
    }
}

/// How many of the ticks, the recent ones above all, found something to be so.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Share(u32);

impl Share {
    const WHOLE: u32 = 1 << 16;
    /// How many ticks it takes until an old one has lost most of its weight.
    const MEMORY: u32 = 16;

    fn note(&mut self, is_so: bool) {
        let gain = if is_so { Self::WHOLE / Self::MEMORY } else { 0 };
        self.0 = self.0 - self.0 / Self::MEMORY + gain;
    }

    fn is_most(self) -> bool {
        self.0 >= Self::WHOLE / 3 * 2
    }

    fn is_much(self) -> bool {
        self.0 >= Self::WHOLE / 4
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Time between two ticks.
    const TICK: Duration = Duration::from_millis(1);

    /// A worker and the ticks that look at it.
    pub(in super::super) struct Ticking {
        pub(in super::super) watched: Watched,
        now: Instant,
    }

    impl Ticking {
        fn new() -> Self {
            let now = Instant::now();
            Self { watched: Watched::new(now), now }
        }

        /// One that was in socket calls whenever a tick looked.
        pub(in super::super) fn socket_bound() -> Self {
            let mut ticking = Self::new();
            for turn in 0..30 {
                assert_eq!(ticking.look(serving(turn, Activity::SocketCall)), Plight::None);
            }
            ticking
        }

        fn look(&mut self, glance: Glance) -> Plight {
            self.now += TICK;
            self.watched.look(glance, self.now);
            self.watched.plight()
        }

        fn busy(&self) -> Duration {
            self.now - self.watched.busy_since
        }
    }

    /// A worker that a tick finds in its `serves`th turn.
    fn serving(serves: usize, activity: Activity) -> Glance {
        let messages = serves as u64;
        Glance { serves: 2 * serves + 1, activity, messages, bytes_in: 101 * messages, ..Glance::default() }
    }

    #[test]
    fn a_worker_in_the_same_handler_as_a_tick_ago_is_held_up() {
        for mut worker in [Ticking::new(), Ticking::socket_bound()] {
            assert_eq!(worker.look(serving(100, Activity::Handler)), Plight::None);
            assert_eq!(worker.look(serving(100, Activity::Handler)), Plight::HeldUp);
            assert_eq!(worker.look(serving(101, Activity::Handler)), Plight::None);
        }
    }

    #[test]
    fn a_socket_bound_worker_that_stands_still_outside_its_handler_lacks_a_processor() {
        for activity in [Activity::SocketCall, Activity::Computing] {
            let mut worker = Ticking::socket_bound();
            assert_eq!(worker.look(serving(100, activity)), Plight::None);
            assert_eq!(worker.look(serving(100, activity)), Plight::LacksProcessor);
        }
    }

    #[test]
    fn a_worker_that_computes_for_long_is_held_up() {
        let mut worker = Ticking::new();
        worker.look(serving(100, Activity::Computing));
        assert_eq!(worker.look(serving(100, Activity::Computing)), Plight::HeldUp);

        let mut worker = Ticking::socket_bound();
        for _ in 0..PREEMPTED_TICKS {
            worker.look(serving(100, Activity::Computing));
        }
        assert_eq!(worker.look(serving(100, Activity::Computing)), Plight::HeldUp);
    }

    #[test]
    fn whatever_it_does_a_worker_is_held_up_for_long_in_the_end() {
        let mut worker = Ticking::socket_bound();
        for _ in 0..LONG_TICKS {
            worker.look(serving(100, Activity::SocketCall));
        }
        assert_eq!(worker.look(serving(100, Activity::SocketCall)), Plight::HeldUpForLong);
    }

    #[test]
    fn a_worker_is_busy_until_it_pauses() {
        let mut worker = Ticking::socket_bound();
        assert_eq!(worker.busy(), 30 * TICK);
        let short = Glance { paused: TICK, ..serving(100, Activity::SocketCall) };
        worker.look(short);
        assert_eq!(worker.busy(), 31 * TICK, "one thirtieth of the time");
        assert!(!worker.watched.is_pausing);
        worker.look(Glance { paused: 4 * TICK, ..serving(101, Activity::SocketCall) });
        assert_eq!(worker.busy(), Duration::ZERO);
        assert!(worker.watched.is_pausing);
        worker.look(Glance { paused: 4 * TICK, ..serving(102, Activity::SocketCall) });
        assert_eq!(worker.busy(), TICK);
    }

    #[test]
    fn who_passes_small_messages_may_share() {
        let may_share = |bytes: u64, activity_of: fn(usize) -> Activity| {
            let mut worker = Ticking::new();
            for turn in 0..100 {
                let messages = turn as u64 * 10;
                worker.look(Glance {
                    messages,
                    bytes_in: messages * bytes,
                    ..serving(turn, activity_of(turn))
                });
            }
            worker.watched.may_share()
        };
        let socket_call = |_| Activity::SocketCall;
        assert!(may_share(101, socket_call));
        assert!(may_share(SMALL_MESSAGE, socket_call));
        assert!(!may_share(SMALL_MESSAGE + 1, socket_call), "large ones");
        assert!(may_share(101, |turn| if turn % 3 == 0 {
            Activity::SocketCall
        } else {
            Activity::Computing
        }));
        assert!(!may_share(101, |turn| if turn % 8 == 0 { Activity::SocketCall } else { Activity::Handler }));
    }

    #[test]
    fn a_worker_that_waits_or_is_held_up_is_not_busy() {
        let waiting = Glance { is_waiting: true, ..Glance::default() };
        for glance in [waiting, serving(100, Activity::Handler)] {
            let mut worker = Ticking::socket_bound();
            worker.look(glance);
            assert_eq!(worker.busy(), 31 * TICK, "one look may come at a bad moment");
            worker.look(glance);
            assert_eq!(worker.busy(), Duration::ZERO);
        }
    }
}
