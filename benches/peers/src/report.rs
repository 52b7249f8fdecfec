//! The tables on the terminal.

use crate::measurements::MeasurementResult;
use crate::rows::RowResult;
use crate::summary::Summary;
use crate::word::word;

/// What the columns mean, said once.
pub(crate) const LEGEND: &str = "\
MB/s: message bytes one way. Latencies: all rounds together. Server CPU: user + system of the server process.
Rates and CPU: medians over the rounds. Ratio: of requests/s in the same round, median [least..most].";

pub(crate) fn print_row(result: &RowResult) {
    let ratio = result.base_line.as_ref().map_or_else(String::new, |name| format!("ratio to {name}"));
    println!("\n{}: {}", word(result.row), result.row.title());
    println!(
        "  {:<19} {:>10} {:>8} {:>9} {:>9} {:>9} {:>11} {:>11}  {ratio}",
        "", "requests/s", "MB/s", "p50 us", "p99 us", "p99.9 us", "server us/r", "driver us/r"
    );
    for summary in &result.summaries {
        println!("  {}", line(summary));
        for note in notes(summary) {
            println!("  {:<19} {note}", "");
        }
    }
    if let Some(warning) = disturbance(&result.summaries) {
        println!("  {warning}");
    }
}

pub(crate) fn print_measurement(result: &MeasurementResult) {
    println!("\n{}", result.title);
    for line in &result.lines {
        println!("  {line}");
    }
}

fn line(summary: &Summary) -> String {
    format!(
        "{:<19} {:>10.0} {:>8.1} {:>9.1} {:>9.1} {:>9.1} {:>11} {:>11}  {}",
        summary.name,
        summary.rate,
        summary.megabytes,
        summary.latency.p50,
        summary.latency.p99,
        summary.latency.p999,
        micros(summary.server_micros),
        micros(summary.driver_micros),
        ratio_of(summary),
    )
}

pub(crate) fn ratio_of(summary: &Summary) -> String {
    summary.ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.to_string())
}

/// Processor time of one request; there is none where nothing was answered.
pub(crate) fn micros(value: f64) -> String {
    if value.is_finite() { format!("{value:.2}") } else { "-".to_owned() }
}

/// What must not be overlooked beside the figures.
pub(crate) fn notes(summary: &Summary) -> Vec<String> {
    let starved = (summary.starved > 0)
        .then(|| format!("{} of {} connections starved", summary.starved, summary.connections));
    starved.into_iter().chain(summary.failure.clone()).collect()
}

/// More than this, in cores, is worth a warning. The accounting itself is good to a few hundredths.
const DISTURBED: f64 = 0.15;

/// Says so when the machine had other things to do.
pub(crate) fn disturbance<'a>(summaries: impl IntoIterator<Item = &'a Summary>) -> Option<String> {
    let most = summaries.into_iter().map(|summary| summary.others).fold(0.0, f64::max);
    (most > DISTURBED)
        .then(|| format!("Not a quiet machine: other programs used up to {most:.2} cores meanwhile."))
}
