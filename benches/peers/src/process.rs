//! One server process: this program again, or another build of it, as `serve`.

use std::io::BufReader;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::kind::Kind;
use crate::machine::{self, ProcessorClock};
use crate::servers::options::Options;
use crate::word::word;

/// Killed when dropped.
pub(crate) struct ServerProcess {
    child: Child,
    /// Kept open: a server that prints would fail on a closed pipe.
    _output: BufReader<ChildStdout>,
    endpoint: Endpoint,
    clock: ProcessorClock,
}

impl ServerProcess {
    pub(crate) fn start(binary: &Path, kind: Kind, options: &Options) -> Result<ServerProcess> {
        let mut command = Command::new(binary);
        command.args(["serve", &word(kind), "--work", &word(options.work)]);
        if let Some(workers) = options.workers {
            command.args(["--workers", &workers.to_string()]);
        }
        if !options.services.is_empty() {
            let services: Vec<_> = options.services.iter().map(ToString::to_string).collect();
            command.args(["--services", &services.join(",")]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or("a server without standard output")?;
        let clock = ProcessorClock::of_process(child.id())?;
        let mut output = BufReader::new(output);
        let endpoint = Endpoint::announced(&mut output).map_err(|error| {
            // Nothing refers to the process yet that would end it.
            let _ = child.kill();
            let _ = child.wait();
            format!("the server {} did not start: {error}", word(kind))
        })?;
        Ok(ServerProcess { child, _output: output, endpoint, clock })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn clock(&self) -> ProcessorClock {
        self.clock
    }

    pub(crate) fn processor_time(&self) -> Result<Duration> {
        self.clock.now()
    }

    pub(crate) fn resident_memory(&self) -> Result<u64> {
        machine::resident_memory(self.child.id())
    }

    pub(crate) fn threads(&self) -> Result<usize> {
        machine::threads(self.child.id())
    }

    pub(crate) fn descriptors(&self) -> Result<usize> {
        machine::descriptors(self.child.id())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
