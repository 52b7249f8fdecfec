//! The rows of the comparison: what each of them measures, and of whom.

use std::time::Duration;

use clap::ValueEnum;

use crate::contender::Contender;
use crate::drivers::callers::Way;
use crate::drivers::event_loop::Load;
use crate::error::Result;
use crate::kind::Kind;
use crate::machine::Processors;
use crate::rounds::{Participant, Schedule, interleave};
use crate::servers::options::Options;
use crate::services;
use crate::summary::{Summary, summaries};
use crate::word::word;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// 1 connection, 64 B, server and driver on one core.
    A,
    /// 8 connections, 64 B.
    B,
    /// 64 connections, 64 B.
    C,
    /// 8 connections, 16 KiB.
    D,
    /// 2 connections, 1 MiB.
    E,
    /// 8 connections, 64 B, 32 in flight.
    F,
    /// 1000 connections, 64 B.
    G,
    /// 32 threads that share a client, against a mutex around it.
    H,
    /// 32 threads that share a client, against a pool of 8.
    I,
    /// 1 thread, against a client of its own.
    J,
    /// 64 connections, every answer given by one other thread.
    K,
    /// 64 connections, handlers that ask three services, each of which takes 20 ms.
    M,
    /// 8 clients that connect, send one message of 64 B, and close.
    N,
}

/// What is measured, and of whom. Ratios are to the first of those that are named here; to plain threads where
/// whole servers are compared.
enum Scenario {
    /// Echo servers under a load.
    Echo(Load),
    /// Echo servers, and clients that connect for each message.
    ShortConnections { clients: usize },
    /// Ours, called from threads in several ways.
    Calls { threads: usize, ways: &'static [Way] },
    /// Ours under a load, with several handlers and numbers of workers (`None`: the default), which may ask services.
    Handlers { load: Load, title: &'static str, services: usize, handlers: &'static [(Kind, Option<usize>)] },
}

/// Of one message, where nothing else is said.
const SMALL: usize = 64;

impl Row {
    fn scenario(self) -> Scenario {
        match self {
            Row::A => Scenario::Echo(echo(1)),
            Row::B => Scenario::Echo(echo(8)),
            Row::C => Scenario::Echo(echo(64)),
            Row::D => Scenario::Echo(Load { message: 16 << 10, ..echo(8) }),
            Row::E => Scenario::Echo(Load { message: 1 << 20, ..echo(2) }),
            Row::F => Scenario::Echo(Load { in_flight: 32, ..echo(8) }),
            Row::G => Scenario::Echo(echo(1000)),
            Row::H => Scenario::Calls { threads: 32, ways: &[Way::Mutex, Way::Owner, Way::Shared] },
            Row::I => {
                Scenario::Calls { threads: 32, ways: &[Way::Pool, Way::Client, Way::Owner, Way::Shared] }
            }
            Row::J => Scenario::Calls { threads: 1, ways: &[Way::Client, Way::Owner, Way::Shared] },
            Row::K => Scenario::Handlers {
                load: echo(64),
                title: "one other thread gives the answers",
                services: 0,
                handlers: &[(Kind::Ours, None), (Kind::HandOver, Some(64)), (Kind::Defer, None)],
            },
            Row::M => Scenario::Handlers {
                load: echo(64),
                title: "handlers ask three services, 20 ms each",
                services: 3,
                handlers: &[(Kind::AskInTurn, Some(64)), (Kind::AskAtOnce, Some(64)), (Kind::FanIn, Some(2))],
            },
            Row::N => Scenario::ShortConnections { clients: 8 },
        }
    }

    /// How many cores server and driver share.
    fn cores(self) -> usize {
        if self == Row::A { 1 } else { 2 }
    }

    pub(crate) fn title(self) -> String {
        let mut title = match self.scenario() {
            Scenario::Echo(load) => load_title(load),
            Scenario::ShortConnections { clients } => {
                format!("{clients} clients, each connects for one message of {SMALL} B")
            }
            Scenario::Calls { threads, ways } => {
                let caller = if threads == 1 { "caller" } else { "callers" };
                let base_line =
                    ways.first().map_or_else(String::new, |&way| format!(", against {}", word(way)));
                format!("{threads} {caller}, {SMALL} B{base_line}")
            }
            Scenario::Handlers { load, title, .. } => format!("{}, {title}", load_title(load)),
        };
        if self.cores() == 1 {
            title += ", one core";
        }
        title
    }
}

/// So many connections, each with one small message in flight.
pub(crate) fn echo(connections: usize) -> Load {
    Load { connections, message: SMALL, in_flight: 1, marked: false, pause: Duration::ZERO }
}

fn load_title(load: Load) -> String {
    let message = match load.message {
        bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    };
    let connections = if load.connections == 1 { "connection" } else { "connections" };
    let mut title = format!("{} {connections}, {message}", load.connections);
    if load.in_flight > 1 {
        title += &format!(", {} in flight", load.in_flight);
    }
    title
}

/// One row with the figures of every contender.
pub(crate) struct RowResult {
    pub(crate) row: Row,
    /// Whether the chosen contenders take part, rather than those that the row names.
    pub(crate) of_servers: bool,
    pub(crate) base_line: Option<String>,
    pub(crate) summaries: Vec<Summary>,
}

impl RowResult {
    /// The figures of the contender of this name, if it takes part.
    pub(crate) fn summary(&self, name: &str) -> Option<&Summary> {
        self.summaries.iter().find(|summary| summary.name == name)
    }
}

pub(crate) fn measure(
    row: Row,
    contenders: &[Contender],
    schedule: Schedule,
    processors: &Processors,
) -> Result<RowResult> {
    processors.pin(row.cores())?;
    let scenario = row.scenario();
    let of_servers = matches!(scenario, Scenario::Echo(_) | Scenario::ShortConnections { .. });
    let mut participants = participants(&scenario, contenders)?;
    interleave(&mut participants, schedule)?;
    let plain = || contenders.iter().position(|contender| contender.kind == Kind::Plain);
    let base_line = if of_servers { plain() } else { Some(0) };
    Ok(RowResult {
        row,
        of_servers,
        base_line: base_line.map(|index| participants[index].name.clone()),
        summaries: summaries(&participants, base_line)?,
    })
}

fn participants(scenario: &Scenario, contenders: &[Contender]) -> Result<Vec<Participant>> {
    match *scenario {
        Scenario::Echo(load) => {
            Ok(contenders.iter().map(|contender| contender.under(load, &Options::default())).collect())
        }
        Scenario::ShortConnections { clients } => {
            Ok(contenders.iter().map(|contender| contender.with_short_connections(clients, SMALL)).collect())
        }
        Scenario::Calls { threads, ways } => {
            let ours = Contender::of_this_build(Kind::Ours)?;
            Ok(ways.iter().map(|&way| ours.called(way, threads, SMALL)).collect())
        }
        Scenario::Handlers { load, services, handlers, .. } => {
            let services = services::start(services)?;
            let participant = |&(kind, workers)| {
                let options = Options { workers, services: services.clone(), ..Options::default() };
                Ok(Contender::of_this_build(kind)?.under(load, &options))
            };
            handlers.iter().map(participant).collect()
        }
    }
}
