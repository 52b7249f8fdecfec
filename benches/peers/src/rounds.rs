//! Contenders and their turns: A B C, A B C, ..., so that whatever else the machine does falls on all of them.

use std::time::Duration;

use crate::drivers::turn::{Driver, Plan, Slice};
use crate::error::Result;
use crate::process::ServerProcess;

/// How often, and for how long at a time.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) rounds: u32,
    pub(crate) measured: Duration,
}

/// Long enough for caches and threads to settle.
const WARM_UP: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(1);

/// One contender of a row, with all its turns so far.
pub(crate) struct Participant {
    pub(crate) name: String,
    pub(crate) connections: usize,
    /// Bytes of one message.
    pub(crate) message: usize,
    /// Whether its server waits idle for its next turn, with its connections open, or lives for one turn only.
    lasting: bool,
    start: Box<dyn Fn() -> Result<Running>>,
    running: Option<Running>,
    pub(crate) slices: Vec<Slice>,
}

/// A server process and what drives it.
pub(crate) struct Running {
    pub(crate) server: ServerProcess,
    pub(crate) driver: Box<dyn Driver>,
}

impl Participant {
    pub(crate) fn new(
        name: String,
        connections: usize,
        message: usize,
        start: impl Fn() -> Result<Running> + 'static,
    ) -> Participant {
        let start = Box::new(start);
        Participant { name, connections, message, lasting: true, start, running: None, slices: Vec::new() }
    }

    /// With a new server for each turn.
    pub(crate) fn started_anew(self) -> Participant {
        Participant { lasting: false, ..self }
    }

    /// With a server and connections that are there already.
    pub(crate) fn running(self, running: Running) -> Participant {
        Participant { running: Some(running), ..self }
    }

    fn turn(&mut self, measured: Duration) -> Result<()> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => (self.start)()?,
        };
        let drain = if self.lasting { DRAIN } else { Duration::ZERO };
        let plan = Plan { warm_up: WARM_UP, measured, drain };
        self.slices.push(running.driver.drive(plan, running.server.clock())?);
        if self.lasting {
            self.running = Some(running);
        }
        Ok(())
    }
}

/// Gives everybody a turn, round after round, and ends the servers.
pub(crate) fn interleave(participants: &mut [Participant], schedule: Schedule) -> Result<()> {
    for _ in 0..schedule.rounds {
        for participant in participants.iter_mut() {
            participant.turn(schedule.measured).map_err(|error| format!("{}: {error}", participant.name))?;
        }
    }
    for participant in participants {
        participant.running = None;
    }
    Ok(())
}
