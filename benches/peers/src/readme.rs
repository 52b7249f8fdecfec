//! The tables in the repository's README and in the benchmark's own, between two marker comments.

use std::fmt::Write;
use std::fs;

use crate::error::Result;
use crate::kind::Kind;
use crate::measurements::MeasurementResult;
use crate::report::{disturbance, micros, notes, ratio_of};
use crate::rows::RowResult;
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
    pub(crate) measurements: Vec<MeasurementResult>,
}

/// The repository's README, with one table.
const OVERVIEW: Place =
    Place { name: "README.md", path: concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md") };
/// The benchmark's own README, with everything.
const WHOLE: Place =
    Place { name: "benches/peers/README.md", path: concat!(env!("CARGO_MANIFEST_DIR"), "/README.md") };

/// Fails before anything is measured if there is no place for the tables.
pub(crate) fn check() -> Result<()> {
    for place in [OVERVIEW, WHOLE] {
        place.split(&place.read()?)?;
    }
    Ok(())
}

/// Replaces what stands between the markers of both files.
pub(crate) fn write(findings: &Findings) -> Result<()> {
    OVERVIEW.replace(&overview(findings)?)?;
    WHOLE.replace(&whole(findings)?)
}

/// A file with markers.
struct Place {
    name: &'static str,
    path: &'static str,
}

impl Place {
    fn read(&self) -> Result<String> {
        Ok(fs::read_to_string(self.path).map_err(|error| format!("{}: {error}", self.name))?)
    }

    fn split<'a>(&self, text: &'a str) -> Result<(&'a str, &'a str)> {
        let missing = || format!("{} has no {BEGIN} followed by {END}", self.name);
        let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
        let (_, after) = rest.split_once(END).ok_or_else(missing)?;
        Ok((before, after))
    }

    fn replace(&self, new: &str) -> Result<()> {
        let text = self.read()?;
        let (before, after) = self.split(&text)?;
        Ok(fs::write(self.path, format!("{before}{BEGIN}\n\n{new}\n{END}{after}"))?)
    }
}

/// Median ratios, and what ours reached.
fn overview(findings: &Findings) -> Result<String> {
    let mut text = String::new();
    contender_table(
        &mut text,
        findings,
        ["ours: requests/s", "p99 us"],
        |summary| {
            let ratio = summary.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median));
            ratio + &starving(summary)
        },
        |result| {
            let ours = result.summary(&word(Kind::Ours));
            [
                ours.map(|ours| format!("{:.0}", ours.rate)),
                ours.map(|ours| format!("{:.1}", ours.latency.p99)),
            ]
        },
    )?;
    Ok(text)
}

fn whole(findings: &Findings) -> Result<String> {
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
    contender_table(&mut text, findings, [], |summary| ratio_of(summary) + &starving(summary), |_| [])?;
    writeln!(text, "\nServer CPU per request (user + system), us:\n")?;
    contender_table(&mut text, findings, [], |summary| micros(summary.server_micros), |_| [])?;
    writeln!(text, "\nWhat `{}` reached:\n", word(Kind::Ours))?;
    figures_of_ours(&mut text, findings)?;
    figures_within_ours(&mut text, findings)?;
    for result in &findings.measurements {
        writeln!(text, "\n{}:\n", result.title)?;
        for line in &result.lines {
            writeln!(text, "- {line}")?;
        }
    }
    Ok(text)
}

fn starving(summary: &Summary) -> String {
    if summary.starved > 0 { format!(", {} starve", summary.starved) } else { String::new() }
}

/// A line a row, a column a contender, and more columns behind them. A cell without a value has a dash.
fn contender_table<const MORE: usize>(
    text: &mut String,
    findings: &Findings,
    more_titles: [&str; MORE],
    cell: fn(&Summary) -> String,
    more: fn(&RowResult) -> [Option<String>; MORE],
) -> Result<()> {
    let rows = || findings.rows.iter().filter(|result| result.of_servers);
    let mut names: Vec<&str> = Vec::new();
    for summary in rows().flat_map(|result| &result.summaries) {
        if !names.contains(&summary.name.as_str()) {
            names.push(&summary.name);
        }
    }
    let titles: Vec<&str> = names.iter().copied().chain(more_titles).collect();
    writeln!(text, "| | | {} |\n|---|---|{}", titles.join(" | "), "---|".repeat(titles.len()))?;
    for result in rows() {
        write!(text, "| {} | {} |", word(result.row), result.row.title())?;
        let cells = names.iter().map(|name| result.summary(name).map(cell));
        for cell in cells.chain(more(result)) {
            write!(text, " {} |", cell.as_deref().unwrap_or("-"))?;
        }
        writeln!(text)?;
    }
    Ok(())
}

fn figures_of_ours(text: &mut String, findings: &Findings) -> Result<()> {
    writeln!(text, "| | | requests/s | MB/s | p50 us | p99 us | p99.9 us |\n|---|---|---|---|---|---|---|")?;
    let name = word(Kind::Ours);
    for result in findings.rows.iter().filter(|result| result.of_servers) {
        if let Some(summary) = result.summary(&name) {
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

/// A line a contender, of the rows that compare ways to use the library.
fn figures_within_ours(text: &mut String, findings: &Findings) -> Result<()> {
    let rows = || findings.rows.iter().filter(|result| !result.of_servers);
    if rows().next().is_none() {
        return Ok(());
    }
    writeln!(text, "\nWays to use it, each relative to the first of its row:\n")?;
    writeln!(
        text,
        "| | | | requests/s | ratio | p50 us | server us a request |\n|---|---|---|---|---|---|---|"
    )?;
    for result in rows() {
        for summary in &result.summaries {
            writeln!(
                text,
                "| {} | {} | {} | {:.0} | {} | {:.1} | {} |",
                word(result.row),
                result.row.title(),
                summary.name,
                summary.rate,
                ratio_of(summary),
                summary.latency.p50,
                micros(summary.server_micros)
            )?;
            for note in notes(summary) {
                writeln!(text, "| | {note} | | | | | |")?;
            }
        }
    }
    Ok(())
}
