//! What was measured, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::tally::Tally;
use crate::display::{Megabytes, per_second, say};
use crate::failure::Failure;

/// Which times are told, of 1000.
const QUANTILES: [(&str, u64); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)];

pub(super) struct Report<'r> {
    pub(super) addrs: &'r [String],
    /// How many connections there were at first to each.
    pub(super) connected: &'r BTreeMap<SocketAddr, u16>,
    pub(super) connections: u16,
    pub(super) size: usize,
    pub(super) depth: u16,
    pub(super) rate: Option<u64>,
    /// How many requests were due by then, at the rate.
    pub(super) due: Option<u64>,
    pub(super) time: Duration,
    pub(super) tally: &'r Tally,
}

impl Report<'_> {
    pub(super) fn say_table(&self) -> Result<(), Failure> {
        let Self { connections, size, depth, time, tally, .. } = self;
        let rate = self.rate.map_or_else(String::new, |rate| format!(", {rate}/s"));
        let requests = tally.latencies.count();
        say(format_args!("{connections} connections, {size} bytes, depth {depth}{rate}, {time:.1?}"))?;
        if self.addrs.len() > 1 {
            for (addr, connections) in self.connected {
                say(format_args!("to {addr}: {connections}"))?;
            }
        }
        say(format_args!("requests    {requests}"))?;
        if let Some(due) = self.due {
            say(format_args!("due         {due}"))?;
        }
        say(format_args!("requests/s  {}", per_second(requests, *time)))?;
        say(format_args!("sent        {}/s", Megabytes(per_second(self.bytes_sent(), *time))))?;
        say(format_args!("received    {}/s", Megabytes(per_second(tally.bytes_received, *time))))?;
        if requests > 0 {
            for (name, permille) in QUANTILES {
                say(format_args!("{name:<11} {:.1?}", tally.latencies.quantile(permille)))?;
            }
            say(format_args!("max         {:.1?}", tally.latencies.max()))?;
        }
        for (kind, count) in &tally.errors {
            say(format_args!("{kind:<11} {count}"))?;
        }
        Ok(())
    }

    pub(super) fn say_json(&self) -> Result<(), Failure> {
        say(format_args!("{}", self.json()))
    }

    fn json(&self) -> String {
        let Self { connections, size, depth, time, tally, .. } = self;
        let requests = tally.latencies.count();
        let addrs: Vec<_> = self.addrs.iter().map(|addr| quoted(addr)).collect();
        let connected: Vec<_> = self
            .connected
            .iter()
            .map(|(addr, connections)| format!("{}:{connections}", quoted(&addr.to_string())))
            .collect();
        let number =
            |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
        let quantile = |(name, permille): (&str, u64)| {
            format!("{}:{}", quoted(name), tally.latencies.quantile(permille).as_secs_f64())
        };
        let mut latencies: Vec<_> = QUANTILES.into_iter().map(quantile).collect();
        latencies.push(format!("\"max\":{}", tally.latencies.max().as_secs_f64()));
        let errors: Vec<_> =
            tally.errors.iter().map(|(kind, count)| format!("{}:{count}", quoted(kind))).collect();
        format!(
            "{{\"addresses\":[{}],\"connected\":{{{}}},\"connections\":{connections},\"bytes\":{size},\"depth\":{depth},\
             \"rate\":{},\"due\":{},\"seconds\":{},\"requests\":{requests},\"requests_per_second\":{},\
             \"bytes_sent\":{},\"bytes_received\":{},\"latency_seconds\":{{{}}},\"errors\":{{{}}}}}",
            addrs.join(","),
            connected.join(","),
            number(self.rate),
            number(self.due),
            time.as_secs_f64(),
            per_second(requests, *time),
            self.bytes_sent(),
            tally.bytes_received,
            latencies.join(","),
            errors.join(","),
        )
    }

    fn bytes_sent(&self) -> u64 {
        self.tally.latencies.count().saturating_mul(self.size as u64)
    }
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control < ' ' => _ = write!(quoted, "\\u{:04x}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_object_with_everything() {
        let mut tally = Tally::default();
        tally.record_answer(Duration::from_millis(2), 10);
        tally.record_error(&falcotcp_sync::Error::Rejected, 3);
        let addrs = ["a:1".to_owned(), "\"b\\\n:2".to_owned()];
        let time = Duration::from_secs(1);
        let connected = BTreeMap::from([(SocketAddr::from(([127, 0, 0, 1], 1)), 2)]);
        let report = Report {
            addrs: &addrs,
            connected: &connected,
            connections: 2,
            size: 10,
            depth: 1,
            rate: Some(5),
            due: Some(5),
            time,
            tally: &tally,
        };
        assert_eq!(
            report.json(),
            r#"{"addresses":["a:1","\"b\\\u000a:2"],"connected":{"127.0.0.1:1":2},"connections":2,"bytes":10,"depth":1,"rate":5,"due":5,"#
                .to_owned()
                + r#""seconds":1,"requests":1,"requests_per_second":1,"bytes_sent":10,"bytes_received":10,"#
                + r#""latency_seconds":{"p50":0.002,"p90":0.002,"p99":0.002,"p99.9":0.002,"max":0.002},"errors":{"rejected":3}}"#
        );
    }
}
