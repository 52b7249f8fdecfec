//! What else is measured: idle connections, handlers that block, handlers that compute, and growth.

use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::driver::Load;
use crate::error::Result;
use crate::machine::Processors;
use crate::rounds::{Contender, Participant, Running, Schedule, connect, interleave};
use crate::rows::Row;
use crate::servers::{Kind, Options, Work};
use crate::summary::{Spread, Summary, summaries};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// What idle connections cost: memory, processor time, and the latency of active ones beside them.
    Idle,
    /// 100 connections, 16 workers, one request in ten sleeps 20 ms: latency of the others.
    Blocking,
    /// 8 connections, handlers that burn 50 us of processor time.
    Computing,
    /// 1000 connections against 64.
    Growth,
}

const ECHO: Options = Options { work: Work::Echo, workers: None };
const BLOCKING_WORKERS: usize = 16;
/// Paced: without a pause nearly all connections would soon be waiting for a sleeping handler, more than there are
/// workers, and the measurement would only repeat that 16 workers who sleep 20 ms finish 800 requests a second. With it,
/// about six handlers sleep at a time, and what is measured is whether those hold up the others.
const BLOCKING_LOAD: Load = Load {
    connections: 100,
    message: 64,
    in_flight: 1,
    marked: true,
    pause: Duration::from_millis(30),
    reconnects: false,
};
/// How long an idle server's processor time is watched.
const IDLE_WATCHED: Duration = Duration::from_secs(3);
/// How long idle connections may take to be answered once, before they fall silent.
const GREETING: Duration = Duration::from_secs(20);

/// One sentence a contender.
pub(crate) struct ScenarioResult {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
}

/// The scenarios, with our server in all its builds and, where it says something, of the base line.
pub(crate) struct ScenarioPlan<'a> {
    pub(crate) contenders: &'a [Contender],
    pub(crate) schedule: Schedule,
    pub(crate) processors: &'a Processors,
    pub(crate) idle_connections: usize,
}

impl ScenarioPlan<'_> {
    pub(crate) fn measure(&self, scenario: Scenario) -> Result<ScenarioResult> {
        self.processors.pin(2)?;
        match scenario {
            Scenario::Idle => self.idle(),
            Scenario::Blocking => self.blocking(),
            Scenario::Computing => self.computing(),
            Scenario::Growth => self.growth(),
        }
    }

    fn ours(&self) -> impl Iterator<Item = &Contender> {
        self.contenders.iter().filter(|contender| contender.kind == Kind::Ours)
    }

    fn idle(&self) -> Result<ScenarioResult> {
        let lines = self.ours().map(|contender| self.idle_of(contender)).collect::<Result<_>>()?;
        let title =
            format!("{} idle connections, each answered once before it fell silent", self.idle_connections);
        Ok(ScenarioResult { title, lines })
    }

    fn idle_of(&self, contender: &Contender) -> Result<String> {
        let active = Row::B.load();
        let mut beside = Running::start(contender, ECHO, active)?;
        beside.greet(GREETING)?;
        let empty = beside.server.resident_memory()?;
        let mut idle =
            connect(contender, &beside.server, Load { connections: self.idle_connections, ..active })?;
        idle.greet(GREETING)?;
        let memory =
            beside.server.resident_memory()?.saturating_sub(empty) as f64 / self.idle_connections as f64;

        let before = beside.server.processor_time()?;
        thread::sleep(IDLE_WATCHED);
        let used = (beside.server.processor_time()? - before).as_secs_f64() / IDLE_WATCHED.as_secs_f64();

        let mut participants = [
            Participant::new(contender, ECHO, active),
            Participant::running(contender, ECHO, active, beside),
        ];
        interleave(&mut participants, self.schedule)?;
        let figures = summaries(&participants, Some(0))?;
        let [alone, beside] = figures.as_slice() else {
            return Err("two participants, two summaries".into());
        };
        Ok(format!(
            "{}: {memory:.0} B of memory each, {:.3} % of a core while all are idle; {} active ones beside them: \
             p50 {:.1} us, p99 {:.1} us (alone {:.1}, {:.1})",
            contender.name,
            used * 100.0,
            active.connections,
            beside.latency.p50,
            beside.latency.p99,
            alone.latency.p50,
            alone.latency.p99,
        ))
    }

    fn blocking(&self) -> Result<ScenarioResult> {
        let options = Options { work: Work::Sleep, workers: Some(BLOCKING_WORKERS) };
        let figures = self.against_plain(options, BLOCKING_LOAD)?;
        let line = |summary: &Summary| {
            let Summary { name, latency, rate, .. } = summary;
            format!(
                "{name}: p50 {:.2} ms, p99 {:.2} ms, {rate:.0} requests/s",
                latency.p50 / 1e3,
                latency.p99 / 1e3
            )
        };
        let title = format!(
            "{} connections that pause {} ms between requests, every tenth request sleeps 20 ms, \
             {BLOCKING_WORKERS} workers (plain: a thread a connection): latency of the other requests",
            BLOCKING_LOAD.connections,
            BLOCKING_LOAD.pause.as_millis()
        );
        Ok(ScenarioResult { title, lines: figures.iter().map(line).collect() })
    }

    fn computing(&self) -> Result<ScenarioResult> {
        let load = Row::B.load();
        let figures = self.against_plain(Options { work: Work::Spin, workers: None }, load)?;
        let line = |summary: &Summary| {
            let ratio =
                summary.ratio.map_or_else(String::new, |ratio| format!(", {} of plain", spread(ratio)));
            format!("{}: {:.0} requests/s{ratio}", summary.name, summary.rate)
        };
        let title = format!("{} connections, handlers that burn 50 us of processor time", load.connections);
        Ok(ScenarioResult { title, lines: figures.iter().map(line).collect() })
    }

    fn growth(&self) -> Result<ScenarioResult> {
        let line = |contender: &Contender| {
            let few = Participant::new(contender, ECHO, Row::C.load());
            let many = Participant::new(contender, ECHO, Row::G.load());
            let mut participants = [few, many];
            interleave(&mut participants, self.schedule)?;
            let figures = summaries(&participants, Some(0))?;
            let ratio = figures.last().and_then(|many| many.ratio).ok_or("no round was measured")?;
            Ok(format!("{}: {}", contender.name, spread(ratio)))
        };
        let title = "requests/s at 1000 connections relative to 64".to_owned();
        Ok(ScenarioResult { title, lines: self.ours().map(line).collect::<Result<_>>()? })
    }

    /// The base line, if it takes part, and ours, with the same handler.
    fn against_plain(&self, options: Options, load: Load) -> Result<Vec<Summary>> {
        let chosen = |contender: &&Contender| matches!(contender.kind, Kind::Plain | Kind::Ours);
        let mut participants: Vec<_> = self
            .contenders
            .iter()
            .filter(chosen)
            .map(|contender| Participant::new(contender, options, load))
            .collect();
        interleave(&mut participants, self.schedule)?;
        let base_line = self.contenders.iter().filter(chosen).position(|one| one.kind == Kind::Plain);
        summaries(&participants, base_line)
    }
}

/// A ratio with its spread, as it stands in every table.
pub(crate) fn spread(ratio: Spread) -> String {
    format!("{:.2} [{:.2}..{:.2}]", ratio.median, ratio.least, ratio.most)
}
