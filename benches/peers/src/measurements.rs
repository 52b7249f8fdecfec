//! What is measured besides the rows: idle connections, handlers that block, requests that wait, handlers that compute,
//! and growth.

use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::contender::Contender;
use crate::drivers::event_loop::Load;
use crate::error::Result;
use crate::kind::Kind;
use crate::machine::Processors;
use crate::process::ServerProcess;
use crate::rounds::{Running, Schedule, interleave};
use crate::rows::echo;
use crate::servers::options::Options;
use crate::servers::work::Work;
use crate::summary::{Summary, summaries};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measurement {
    /// What idle connections cost: memory, processor time, and the latency of active ones beside them.
    Idle,
    /// 100 connections, 16 workers, one request in ten sleeps 20 ms: latency of the others.
    Blocking,
    /// 10,000 requests on 100 connections that are not answered: memory, threads, descriptors, processor time.
    Outstanding,
    /// 8 connections, handlers that burn 50 us of processor time.
    Computing,
    /// 1000 connections against 64.
    Growth,
}

/// Until the deadlines of all establishments are over, of which the server takes note one by one.
const ESTABLISHED: Duration = Duration::from_secs(6);
const BLOCKING_WORKERS: usize = 16;
/// Paced: without a pause nearly all connections would soon be waiting for a sleeping handler, more than there are
/// workers, and the measurement would only repeat that 16 workers who sleep 20 ms finish 800 requests a second. With it,
/// about six handlers sleep at a time, and what is measured is whether those hold up the others.
const BLOCKING_LOAD: Load =
    Load { connections: 100, message: 64, in_flight: 1, marked: true, pause: Duration::from_millis(30) };
const OUTSTANDING_LOAD: Load =
    Load { connections: 100, message: 64, in_flight: 100, marked: false, pause: Duration::ZERO };
/// How long the processor time of a server with nothing to do is watched.
const IDLE_WATCHED: Duration = Duration::from_secs(3);
/// How long a server may take in what it was sent before it is watched.
const SETTLING: Duration = Duration::from_secs(1);
/// How long all connections together may take to be answered once.
const PATIENCE: Duration = Duration::from_secs(20);

/// One sentence a contender.
pub(crate) struct MeasurementResult {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
}

/// The measurements, of our server in all its builds and, where it says something, of the base line.
pub(crate) struct Measurements<'a> {
    pub(crate) contenders: &'a [Contender],
    pub(crate) schedule: Schedule,
    pub(crate) processors: &'a Processors,
    pub(crate) idle_connections: usize,
}

impl Measurements<'_> {
    pub(crate) fn measure(&self, measurement: Measurement) -> Result<MeasurementResult> {
        self.processors.pin(2)?;
        match measurement {
            Measurement::Idle => self.idle(),
            Measurement::Blocking => self.blocking(),
            Measurement::Outstanding => self.outstanding(),
            Measurement::Computing => self.computing(),
            Measurement::Growth => self.growth(),
        }
    }

    fn ours(&self) -> impl Iterator<Item = &Contender> {
        self.contenders.iter().filter(|contender| contender.kind == Kind::Ours)
    }

    fn idle(&self) -> Result<MeasurementResult> {
        let ours =
            self.contenders.iter().filter(|one| matches!(one.kind, Kind::Ours | Kind::OursForwardSecret));
        let lines = ours.map(|contender| self.idle_of(contender)).collect::<Result<_>>()?;
        let title =
            format!("{} idle connections, each answered once before it fell silent", self.idle_connections);
        Ok(MeasurementResult { title, lines })
    }

    fn idle_of(&self, contender: &Contender) -> Result<String> {
        let (active, options) = (echo(8), Options::default());
        let server = contender.serve(&options)?;
        let mut driver = contender.connect(&server, active)?;
        driver.exchange_once(PATIENCE)?;
        let empty = server.resident_memory()?;
        let mut idle = contender.connect(&server, echo(self.idle_connections))?;
        idle.exchange_once(PATIENCE)?;
        let memory = server.resident_memory()?.saturating_sub(empty) as f64 / self.idle_connections as f64;
        thread::sleep(ESTABLISHED);
        let used = processor_use(&server)?;

        let beside = Running { server, driver: Box::new(driver) };
        let mut participants =
            [contender.under(active, &options), contender.under(active, &options).running(beside)];
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

    fn outstanding(&self) -> Result<MeasurementResult> {
        let Load { connections, in_flight, .. } = OUTSTANDING_LOAD;
        let mut lines = Vec::new();
        for ours in self.ours() {
            let deferring =
                Contender { kind: Kind::Defer, name: format!("{}, deferred", ours.name), ..ours.clone() };
            let blocking = Contender { name: format!("{}, handlers that block", ours.name), ..ours.clone() };
            lines.push(outstanding_of(&deferring, None)?);
            lines.push(outstanding_of(&blocking, Some(connections))?);
        }
        let title = format!(
            "{in_flight} requests outstanding on each of {connections} connections, beyond what the connections cost"
        );
        Ok(MeasurementResult { title, lines })
    }

    fn blocking(&self) -> Result<MeasurementResult> {
        let options = Options { work: Work::Sleep, workers: Some(BLOCKING_WORKERS), ..Options::default() };
        let figures = self.against_plain(&options, BLOCKING_LOAD)?;
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
        Ok(MeasurementResult { title, lines: figures.iter().map(line).collect() })
    }

    fn computing(&self) -> Result<MeasurementResult> {
        let load = echo(8);
        let figures = self.against_plain(&Options { work: Work::Spin, ..Options::default() }, load)?;
        let line = |summary: &Summary| {
            let ratio = summary.ratio.map_or_else(String::new, |ratio| format!(", {ratio} of plain"));
            format!("{}: {:.0} requests/s{ratio}", summary.name, summary.rate)
        };
        let title = format!("{} connections, handlers that burn 50 us of processor time", load.connections);
        Ok(MeasurementResult { title, lines: figures.iter().map(line).collect() })
    }

    fn growth(&self) -> Result<MeasurementResult> {
        let line = |contender: &Contender| {
            let mut participants =
                [64, 1000].map(|connections| contender.under(echo(connections), &Options::default()));
            interleave(&mut participants, self.schedule)?;
            let figures = summaries(&participants, Some(0))?;
            let ratio = figures.last().and_then(|many| many.ratio).ok_or("no round was measured")?;
            Ok(format!("{}: {ratio}", contender.name))
        };
        let title = "requests/s at 1000 connections relative to 64".to_owned();
        Ok(MeasurementResult { title, lines: self.ours().map(line).collect::<Result<_>>()? })
    }

    /// The base line, if it takes part, and ours, with the same handler.
    fn against_plain(&self, options: &Options, load: Load) -> Result<Vec<Summary>> {
        let chosen = |contender: &&Contender| matches!(contender.kind, Kind::Plain | Kind::Ours);
        let mut participants: Vec<_> =
            self.contenders.iter().filter(chosen).map(|contender| contender.under(load, options)).collect();
        interleave(&mut participants, self.schedule)?;
        let base_line = self.contenders.iter().filter(chosen).position(|one| one.kind == Kind::Plain);
        summaries(&participants, base_line)
    }
}

/// The first request of each connection is answered; those after it are not.
fn outstanding_of(contender: &Contender, workers: Option<usize>) -> Result<String> {
    let Load { connections, in_flight, .. } = OUTSTANDING_LOAD;
    let options = Options { work: Work::Hold, workers, ..Options::default() };
    let server = contender.serve(&options)?;
    let mut driver = contender.connect(&server, OUTSTANDING_LOAD)?;
    driver.exchange_once(PATIENCE)?;
    let before = server.resident_memory()?;
    driver.send_marked(in_flight);
    thread::sleep(SETTLING);
    let used = processor_use(&server)?;
    let memory = server.resident_memory()?.saturating_sub(before) as f64 / (connections * in_flight) as f64;
    Ok(format!(
        "{}: {memory:.0} B of memory each, {:.3} % of a core, {} threads, {} descriptors",
        contender.name,
        used * 100.0,
        server.threads()?,
        server.descriptors()?,
    ))
}

/// What part of a core a server uses that nobody asks anything.
fn processor_use(server: &ServerProcess) -> Result<f64> {
    let before = server.processor_time()?;
    thread::sleep(IDLE_WATCHED);
    Ok((server.processor_time()? - before).as_secs_f64() / IDLE_WATCHED.as_secs_f64())
}
