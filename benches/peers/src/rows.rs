//! The rows of the comparison: echo servers under eight loads.

use std::time::Duration;

use clap::ValueEnum;

use crate::driver::Load;
use crate::error::Result;
use crate::machine::Processors;
use crate::rounds::{Contender, Participant, Schedule, interleave};
use crate::servers::{Kind, Options, Work};
use crate::summary::{Summary, summaries};

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
    /// 8 clients that connect, send 64 B, and close.
    N,
}

impl Row {
    pub(crate) fn load(self) -> Load {
        let (connections, message, in_flight) = match self {
            Row::A => (1, 64, 1),
            Row::B => (8, 64, 1),
            Row::C => (64, 64, 1),
            Row::D => (8, 16 << 10, 1),
            Row::E => (2, 1 << 20, 1),
            Row::F => (8, 64, 32),
            Row::G => (1000, 64, 1),
            Row::N => (8, 64, 1),
        };
        let reconnects = self == Row::N;
        Load { connections, message, in_flight, marked: false, pause: Duration::ZERO, reconnects }
    }

    /// How many cores server and driver share.
    fn cores(self) -> usize {
        if self == Row::A { 1 } else { 2 }
    }

    pub(crate) fn title(self) -> String {
        let load = self.load();
        let message = match load.message {
            bytes if bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
            bytes if bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
            bytes => format!("{bytes} B"),
        };
        if load.reconnects {
            return format!("{} clients connect, send {message}, close", load.connections);
        }
        let connections = if load.connections == 1 { "connection" } else { "connections" };
        let mut title = format!("{} {connections}, {message}", load.connections);
        if load.in_flight > 1 {
            title += &format!(", {} in flight", load.in_flight);
        }
        if self.cores() == 1 {
            title += ", one core";
        }
        title
    }
}

/// One row with the figures of every contender.
pub(crate) struct RowResult {
    pub(crate) row: Row,
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
    let options = Options { work: Work::Echo, workers: None };
    // The published server leaves most connections unanswered: there is nothing to measure where each has one request.
    let taking_part: Vec<_> = contenders
        .iter()
        .filter(|contender| !(row.load().reconnects && contender.kind == Kind::Falcotcp))
        .collect();
    let mut participants: Vec<_> =
        taking_part.iter().map(|contender| Participant::new(contender, options, row.load())).collect();
    interleave(&mut participants, schedule)?;
    let base_line = taking_part.iter().position(|contender| contender.kind == Kind::Plain);
    Ok(RowResult { row, summaries: summaries(&participants, base_line)? })
}
