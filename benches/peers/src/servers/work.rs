//! What a handler does besides echoing, the same for every contender.

use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use nix::time::{ClockId, clock_gettime};

use crate::requests::BLOCKING_MARK;

/// How long a handler sleeps over a request that is marked for it.
const SLEEP: Duration = Duration::from_millis(20);
/// How much processor time a spinning handler burns on every request.
const SPIN: Duration = Duration::from_micros(50);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// Nothing: the message goes straight back.
    #[default]
    Echo,
    /// Blocks for 20 ms, as on a database or a file, over the requests that carry the mark.
    Sleep,
    /// Never ends over the requests that carry the mark.
    Hold,
    /// Burns 50 us of processor time on every request.
    Spin,
}

impl Work {
    pub(crate) fn run(self, message: &[u8]) {
        match self {
            Work::Echo => {}
            Work::Sleep => thread::sleep(self.sleep(message)),
            Work::Hold if self.holds(message) => loop {
                thread::park();
            },
            Work::Hold => {}
            Work::Spin => spin(),
        }
    }

    /// Whether this message is never to be answered.
    pub(crate) fn holds(self, message: &[u8]) -> bool {
        self == Work::Hold && is_marked(message)
    }

    /// For how long this message blocks its handler.
    pub(crate) fn sleep(self, message: &[u8]) -> Duration {
        if self == Work::Sleep && is_marked(message) { SLEEP } else { Duration::ZERO }
    }
}

fn is_marked(message: &[u8]) -> bool {
    message.first() == Some(&BLOCKING_MARK)
}

/// Counts the thread's own processor time, not the time of day: a handler that is preempted has not worked.
fn spin() {
    let start = thread_time();
    while thread_time().saturating_sub(start) < SPIN {
        std::hint::spin_loop();
    }
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or(Duration::MAX)
}
