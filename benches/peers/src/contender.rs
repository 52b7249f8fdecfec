//! Somebody's server, and how it takes part in a row.

use std::path::PathBuf;

use crate::client::{ClientOptions, Connector};
use crate::drivers::callers::{Way, callers};
use crate::drivers::event_loop::{EventLoop, Load};
use crate::drivers::short_connections::connect_for_each;
use crate::drivers::threads::Threads;
use crate::error::Result;
use crate::kind::Kind;
use crate::process::ServerProcess;
use crate::requests::Requests;
use crate::rounds::{Participant, Running};
use crate::servers::options::Options;
use crate::word::word;

#[derive(Clone)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The build of this program that serves.
    pub(crate) program: PathBuf,
    pub(crate) client: ClientOptions,
}

impl Contender {
    /// As this build of the program has it, with the fair client.
    pub(crate) fn of_this_build(kind: Kind) -> Result<Contender> {
        let program = std::env::current_exe()?;
        Ok(Contender { name: word(kind), kind, program, client: ClientOptions::default() })
    }

    pub(crate) fn serve(&self, options: &Options) -> Result<ServerProcess> {
        ServerProcess::start(&self.program, self.kind, options)
    }

    /// Connections to a server that runs already.
    pub(crate) fn connect(&self, server: &ServerProcess, load: Load) -> Result<EventLoop> {
        EventLoop::connect(&self.connector(server, load.message)?, load)
    }

    /// Under a load of open connections.
    pub(crate) fn under(&self, load: Load, options: &Options) -> Participant {
        let (this, options) = (self.clone(), options.clone());
        self.participant(load.connections, load.message, move || {
            let server = this.serve(&options)?;
            let driver = Box::new(this.connect(&server, load)?);
            Ok(Running { server, driver })
        })
    }

    /// With clients that connect for each message.
    pub(crate) fn with_short_connections(&self, clients: usize, message: usize) -> Participant {
        let this = self.clone();
        self.participant(clients, message, move || {
            let server = this.serve(&Options::default())?;
            let client = |_| Ok(connect_for_each(this.connector(&server, message)?));
            let exchanges = (0..clients).map(client).collect::<Result<_>>()?;
            Ok(Running { server, driver: Box::new(Threads(exchanges)) })
        })
    }

    /// Called from threads through the library's client.
    pub(crate) fn called(&self, way: Way, threads: usize, message: usize) -> Participant {
        let this = Contender { name: word(way), ..self.clone() };
        let start = {
            let this = this.clone();
            move || {
                let server = this.serve(&Options::default())?;
                let callers = callers(way, server.endpoint().address, threads, message)?;
                Ok(Running { server, driver: Box::new(Threads(callers)) })
            }
        };
        this.participant(threads, message, start)
    }

    fn connector(&self, server: &ServerProcess, message: usize) -> Result<Connector> {
        Connector::new(self.kind, self.client, server.endpoint(), Requests::new(message))
    }

    /// The published server burns the processors while idle and leaves most of its connections unanswered, so it
    /// lives for one turn only.
    fn participant(
        &self,
        connections: usize,
        message: usize,
        start: impl Fn() -> Result<Running> + 'static,
    ) -> Participant {
        let participant = Participant::new(self.name.clone(), connections, message, start);
        if self.kind == Kind::Falcotcp { participant.started_anew() } else { participant }
    }
}
