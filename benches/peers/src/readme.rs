//! The tables in the repository's README, between two marker comments.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::error::Result;
use crate::report::{disturbance, micros, notes};
use crate::rows::RowResult;
use crate::scenarios::{ScenarioResult, spread};
use crate::servers::Kind;
use crate::summary::Summary;
use crate::versions;
use crate::word::word;

const BEGIN: &str = "<!-- peers:begin -->";
const END: &str = "<!-- peers:end -->";

/// Everything that one run found.
pub(crate) struct Findings {
    pub(crate) machine: String,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<RowResult>,
    pub(crate) scenarios: Vec<ScenarioResult>,
}

/// Fails before anything is measured if there is no place for the tables.
pub(crate) fn check() -> Result<()> {
    split(&read()?).map(|_| ())
}

/// Replaces what stands between the markers.
pub(crate) fn write(findings: &Findings) -> Result<()> {
    let text = read()?;
    let (before, after) = split(&text)?;
    fs::write(path(), format!("{before}{BEGIN}\n\n{}\n{END}{after}", markdown(findings)?))?;
    Ok(())
}

fn read() -> Result<String> {
    Ok(fs::read_to_string(path()).map_err(|error| format!("{}: {error}", path().display()))?)
}

fn path() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md"))
}

fn split(text: &str) -> Result<(&str, &str)> {
    let missing = || format!("README.md has no {BEGIN} followed by {END}");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok((before, after))
}

fn markdown(findings: &Findings) -> Result<String> {
    let mut text = String::new();
    writeln!(
        text,
        "{}. {} interleaved rounds of {} s; {}.\n",
        findings.machine,
        findings.rounds,
        findings.seconds,
        versions::peers()
    )?;
    if let Some(warning) = disturbance(findings.rows.iter().flat_map(|result| &result.summaries)) {
        writeln!(text, "{warning}\n")?;
    }
    writeln!(text, "Requests/s relative to plain threads in the same round, median [least..most]:\n")?;
    contender_table(&mut text, findings, |summary| {
        let ratio = summary.ratio.map_or_else(|| "-".to_owned(), spread);
        let starved =
            if summary.starved > 0 { format!(", {} starve", summary.starved) } else { String::new() };
        ratio + &starved
    })?;
    writeln!(text, "\nServer CPU per request (user + system), us:\n")?;
    contender_table(&mut text, findings, |summary| micros(summary.server_micros))?;
    writeln!(text, "\nWhat `{}` reached:\n", word(Kind::Ours))?;
    figures_of_ours(&mut text, findings)?;
    for result in &findings.scenarios {
        writeln!(text, "\n{}:\n", result.title)?;
        for line in &result.lines {
            writeln!(text, "- {line}")?;
        }
    }
    Ok(text)
}

/// A line a row, a column a contender.
fn contender_table(text: &mut String, findings: &Findings, cell: fn(&Summary) -> String) -> Result<()> {
    let Some(first) = findings.rows.first() else { return Ok(()) };
    write!(text, "| | |")?;
    for summary in &first.summaries {
        write!(text, " {} |", summary.name)?;
    }
    writeln!(text, "\n|---|---|{}", "---|".repeat(first.summaries.len()))?;
    for result in &findings.rows {
        write!(text, "| {} | {} |", word(result.row), result.row.title())?;
        for summary in &result.summaries {
            write!(text, " {} |", cell(summary))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn figures_of_ours(text: &mut String, findings: &Findings) -> Result<()> {
    writeln!(text, "| | | requests/s | MB/s | p50 us | p99 us | p99.9 us |\n|---|---|---|---|---|---|---|")?;
    let name = word(Kind::Ours);
    for result in &findings.rows {
        for summary in result.summaries.iter().filter(|summary| summary.name == name) {
            let latency = summary.latency;
            writeln!(
                text,
                "| {} | {} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} |",
                word(result.row),
                result.row.title(),
                summary.rate,
                summary.megabytes,
                latency.p50,
                latency.p99,
                latency.p999
            )?;
            for note in notes(summary) {
                writeln!(text, "| | {note} | | | | | |")?;
            }
        }
    }
    Ok(())
}
