//! Counters for exporters: each with its name, so that a new one reaches them without a change of theirs.

use std::fmt;
use std::time::Duration;

use super::stats::Stats;

/// All numbers of [`Stats`], each with a name and a text. `Display` is the text format of Prometheus:
///
/// ```
/// # use falcotcp_sync::{Key, Server};
/// # let server = Server::builder(Key::generate()?).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_vec())?;
/// let page = server.stats().metrics().to_string();
/// assert!(page.contains("# TYPE falcotcp_messages_total counter\nfalcotcp_messages_total 0\n"));
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
///
/// For another exporter, iterate: `for metric in &stats.metrics()`.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics(Vec<Metric>);

/// One number of a server.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// By the conventions of Prometheus: `falcotcp_`, what is counted, its unit, and `_total` if it only grows.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// The number itself; times are in seconds.
    pub value: f64,
    /// Whose number it is, if each worker has one.
    pub worker: Option<usize>,
}

/// Whether a number only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows while the server runs.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Stats {
    /// All of them with their names, for an exporter.
    #[expect(clippy::too_many_lines, reason = "one list")]
    pub fn metrics(&self) -> Metrics {
        use MetricKind::{Counter, Gauge};
        // Every field by its name, so that none can be forgotten.
        let Self {
            open,
            unestablished,
            accepted,
            refused,
            evicted,
            unauthenticated,
            established_classic,
            established_forward_secret,
            expired,
            cut,
            redealt,
            withdrawn,
            messages,
            rejected,
            shed,
            pings,
            panics,
            deferred_now,
            deferred,
            bytes_in,
            bytes_out,
            workers_busy,
            waiting,
            oldest_wait,
            ref workers,
        } = *self;
        let mut metrics = Metrics(Vec::new());
        for (name, kind, value, help) in [
            (
                "falcotcp_connections_open",
                Gauge,
                float(open),
                "Connections that are open, established or not.",
            ),
            (
                "falcotcp_connections_unestablished",
                Gauge,
                float(unestablished),
                "Open ones that are not established.",
            ),
            (
                "falcotcp_connections_accepted_total",
                Counter,
                count(accepted),
                "Connections that were accepted.",
            ),
            (
                "falcotcp_connections_refused_total",
                Counter,
                count(refused),
                "Connections of peers with a key for which there was no place.",
            ),
            (
                "falcotcp_connections_evicted_total",
                Counter,
                count(evicted),
                "Connections that were not established and made room.",
            ),
            (
                "falcotcp_connections_unauthenticated_total",
                Counter,
                count(unauthenticated),
                "Connections that were closed since something did not open.",
            ),
            (
                "falcotcp_sessions_classic_total",
                Counter,
                count(established_classic),
                "Classic sessions that were established.",
            ),
            (
                "falcotcp_sessions_forward_secret_total",
                Counter,
                count(established_forward_secret),
                "Forward-secret sessions that were established.",
            ),
            (
                "falcotcp_connections_expired_total",
                Counter,
                count(expired),
                "Connections that were closed at a deadline.",
            ),
            (
                "falcotcp_connections_cut_total",
                Counter,
                count(cut),
                "Connections that a stop cut before they had finished.",
            ),
            (
                "falcotcp_connections_withdrawn_total",
                Counter,
                count(withdrawn),
                "Connections whose key was withdrawn.",
            ),
            (
                "falcotcp_connections_redealt_total",
                Counter,
                count(redealt),
                "Moves of connections away from workers that were held up.",
            ),
            (
                "falcotcp_connections_waiting",
                Gauge,
                float(waiting),
                "Connections that have something to do and wait for a worker.",
            ),
            (
                "falcotcp_oldest_wait_seconds",
                Gauge,
                oldest_wait.as_ref().map_or(0.0, Duration::as_secs_f64),
                "How long the next of them has waited.",
            ),
            (
                "falcotcp_messages_total",
                Counter,
                count(messages),
                "Messages that were handed to the handler.",
            ),
            (
                "falcotcp_messages_rejected_total",
                Counter,
                count(rejected),
                "Messages that were rejected as damaged or too large.",
            ),
            ("falcotcp_messages_shed_total", Counter, count(shed), "Messages that had waited too long."),
            ("falcotcp_handler_panics_total", Counter, count(panics), "Handlers that panicked."),
            ("falcotcp_pings_total", Counter, count(pings), "Pings."),
            (
                "falcotcp_answers_deferred_total",
                Counter,
                count(deferred),
                "Messages whose answer was to come later.",
            ),
            (
                "falcotcp_answers_outstanding",
                Gauge,
                float(deferred_now),
                "Answers that are to come later and have not.",
            ),
            ("falcotcp_received_bytes_total", Counter, count(bytes_in), "Bytes read from sockets."),
            ("falcotcp_sent_bytes_total", Counter, count(bytes_out), "Bytes written to sockets."),
            ("falcotcp_workers", Gauge, float(workers.len()), "Workers."),
            ("falcotcp_workers_busy", Gauge, float(workers_busy), "Workers that are at a turn."),
        ] {
            metrics.0.push(Metric { name, help, kind, value, worker: None });
        }
        for (worker, own) in workers.iter().enumerate() {
            metrics.0.push(Metric {
                name: "falcotcp_worker_connections",
                help: "Connections that a worker owns.",
                kind: Gauge,
                value: float(own.connections),
                worker: Some(worker),
            });
        }
        for (worker, own) in workers.iter().enumerate() {
            metrics.0.push(Metric {
                name: "falcotcp_worker_messages_total",
                help: "Messages that a worker handed to the handler.",
                kind: Counter,
                value: count(own.messages),
                worker: Some(worker),
            });
        }
        metrics
    }
}

#[expect(clippy::cast_precision_loss, reason = "exporters want floating point, exact up to 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

fn float(number: usize) -> f64 {
    count(number as u64)
}

impl Metrics {
    /// One after the other, those of one name together.
    pub fn iter(&self) -> std::slice::Iter<'_, Metric> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Metrics {
    type Item = &'a Metric;
    type IntoIter = std::slice::Iter<'a, Metric>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Metrics {
    type Item = Metric;
    type IntoIter = std::vec::IntoIter<Metric>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The text format of Prometheus, version 0.0.4.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for Metric { name, help, kind, value, worker } in self {
            if *name != last {
                writeln!(f, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
                last = name;
            }
            match worker {
                Some(worker) => writeln!(f, "{name}{{worker=\"{worker}\"}} {value}")?,
                None => writeln!(f, "{name} {value}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::WorkerStats;

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let mut stats = Stats { open: 3, messages: 1 << 40, ..Stats::default() };
        stats.oldest_wait = Some(Duration::from_millis(1500));
        stats.workers = vec![WorkerStats { connections: 1, messages: 7 }, WorkerStats::default()];
        let page = stats.metrics().to_string();
        let mut announced = HashSet::new();
        let mut kind = "";
        for line in page.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["#", "HELP", name, ..] => assert!(announced.insert(name), "{name} twice"),
                ["#", "TYPE", name, of] => {
                    assert!(announced.contains(name));
                    kind = of;
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                }
                [name, value] => {
                    let name = name.split('{').next().unwrap();
                    assert!(announced.contains(name) && name.starts_with("falcotcp_"), "{name}");
                    assert!(matches!(kind, "counter" | "gauge"));
                    assert!(value.parse::<f64>().is_ok(), "{line}");
                }
                _ => panic!("{line}"),
            }
        }
        for line in [
            "falcotcp_connections_open 3",
            "falcotcp_messages_total 1099511627776",
            "falcotcp_oldest_wait_seconds 1.5",
            "falcotcp_worker_messages_total{worker=\"0\"} 7",
            "falcotcp_worker_messages_total{worker=\"1\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn metrics_are_iterated_with_names_of_their_own() {
        let metrics = Stats::default().metrics();
        let names: HashSet<_> = metrics.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), metrics.into_iter().count());
    }
}
