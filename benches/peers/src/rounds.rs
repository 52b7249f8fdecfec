//! Contenders and their turns: A B C, A B C, ..., so that whatever else the machine does falls on all of them.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::{ClientOptions, Connector};
use crate::driver::{Fleet, Load, Plan, Slice};
use crate::error::Result;
use crate::process::ServerProcess;
use crate::reconnecting;
use crate::requests::Requests;
use crate::servers::{Kind, Options};

/// Somebody's server.
#[derive(Clone)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The build of this program that serves.
    pub(crate) program: PathBuf,
    pub(crate) client: ClientOptions,
}

/// How often, and for how long at a time.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) rounds: u32,
    pub(crate) measured: Duration,
}

/// Long enough for caches and threads to settle.
const WARM_UP: Duration = Duration::from_millis(100);
const DRAIN: Duration = Duration::from_secs(1);

/// A contender under a load, with all its turns so far.
pub(crate) struct Participant {
    contender: Contender,
    options: Options,
    load: Load,
    running: Option<Running>,
    pub(crate) slices: Vec<Slice>,
}

/// A server process and the connections to it.
pub(crate) struct Running {
    pub(crate) server: ServerProcess,
    /// None where each request has a connection of its own.
    fleet: Option<Fleet>,
}

impl Running {
    pub(crate) fn start(contender: &Contender, options: Options, load: Load) -> Result<Running> {
        let server = ServerProcess::start(&contender.program, contender.kind, options)?;
        let fleet = if load.reconnects { None } else { Some(connect(contender, &server, load)?) };
        Ok(Running { server, fleet })
    }

    /// Lets every connection be answered once, unmeasured.
    pub(crate) fn greet(&mut self, within: Duration) -> Result<()> {
        self.fleet.as_mut().map_or(Ok(()), |fleet| fleet.greet(within))
    }

    fn drive(&mut self, contender: &Contender, load: Load, plan: Plan) -> Result<Slice> {
        let clock = self.server.clock();
        match &mut self.fleet {
            Some(fleet) => fleet.drive(plan, clock),
            None => reconnecting::drive(|| connector(contender, &self.server, load), load, plan, clock),
        }
    }
}

/// Connections to a server that runs already.
pub(crate) fn connect(contender: &Contender, server: &ServerProcess, load: Load) -> Result<Fleet> {
    Fleet::connect(&connector(contender, server, load)?, load)
}

fn connector(contender: &Contender, server: &ServerProcess, load: Load) -> Result<Connector> {
    let requests = Requests::new(load.message);
    Connector::new(contender.kind, contender.client, server.endpoint(), requests)
}

impl Participant {
    pub(crate) fn new(contender: &Contender, options: Options, load: Load) -> Participant {
        Participant { contender: contender.clone(), options, load, running: None, slices: Vec::new() }
    }

    /// With a server and connections that are there already.
    pub(crate) fn running(
        contender: &Contender,
        options: Options,
        load: Load,
        running: Running,
    ) -> Participant {
        Participant { running: Some(running), ..Participant::new(contender, options, load) }
    }

    pub(crate) fn load(&self) -> Load {
        self.load
    }

    pub(crate) fn name(&self) -> &str {
        &self.contender.name
    }

    /// A server waits idle for its next turn, with its connections open. The published one does not: it burns the
    /// processors while idle and leaves most of its connections unanswered, so it lives for one turn only.
    fn turn(&mut self, measured: Duration) -> Result<()> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.contender, self.options, self.load)?,
        };
        let lasts = self.contender.kind != Kind::Falcotcp;
        let drain = if lasts { DRAIN } else { Duration::ZERO };
        let plan = Plan { warm_up: WARM_UP, measured, drain };
        self.slices.push(running.drive(&self.contender, self.load, plan)?);
        if lasts {
            self.running = Some(running);
        }
        Ok(())
    }
}

/// Gives everybody a turn, round after round, and ends the servers.
pub(crate) fn interleave(participants: &mut [Participant], schedule: Schedule) -> Result<()> {
    for _ in 0..schedule.rounds {
        for participant in participants.iter_mut() {
            participant
                .turn(schedule.measured)
                .map_err(|error| format!("{}: {error}", participant.contender.name))?;
        }
    }
    for participant in participants {
        participant.running = None;
    }
    Ok(())
}
