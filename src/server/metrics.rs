//! Counters for exporters: each with its name, so that a new one reaches them without a change of theirs.

use std::fmt;
use std::time::Duration;

use super::stats::{Stats, WorkerStats};

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

/// Takes a struct of counters apart, field by field so that none can be forgotten, and names each: one a line.
macro_rules! metrics {
    ($counters:ident of $worker:expr => $type:ident { $($field:ident: $kind:ident, $name:literal, $help:literal;)* }) => {{
        let $type { $($field),* } = $counters;
        [$(Metric { name: $name, help: $help, kind: MetricKind::$kind, value: $field.number(), worker: $worker }),*]
    }};
}

impl Stats {
    /// All of them with their names, for an exporter.
    pub fn metrics(&self) -> Metrics {
        let all = metrics!(self of None => Stats {
            open: Gauge, "falcotcp_connections_open", "Connections that are open, established or not.";
            unestablished: Gauge, "falcotcp_connections_unestablished", "Open ones that are not established.";
            accepted: Counter, "falcotcp_connections_accepted_total", "Connections that were accepted.";
            refused: Counter, "falcotcp_connections_refused_total", "Connections of peers with a key for which there was no place.";
            evicted: Counter, "falcotcp_connections_evicted_total", "Connections that were not established and made room.";
            unauthenticated: Counter, "falcotcp_connections_unauthenticated_total", "Connections that were closed since something did not open.";
            established_classic: Counter, "falcotcp_sessions_classic_total", "Classic sessions that were established.";
            established_forward_secret: Counter, "falcotcp_sessions_forward_secret_total", "Forward-secret sessions that were established.";
            expired: Counter, "falcotcp_connections_expired_total", "Connections that were closed at a deadline.";
            cut: Counter, "falcotcp_connections_cut_total", "Connections that a stop cut before they had finished.";
            withdrawn: Counter, "falcotcp_connections_withdrawn_total", "Connections whose key was withdrawn.";
            redealt: Counter, "falcotcp_connections_redealt_total", "Moves of connections away from workers that were held up.";
            waiting: Gauge, "falcotcp_connections_waiting", "Connections that have something to do and wait for a worker.";
            oldest_wait: Gauge, "falcotcp_oldest_wait_seconds", "How long the next of them has waited.";
            messages: Counter, "falcotcp_messages_total", "Messages that were handed to the handler.";
            rejected: Counter, "falcotcp_messages_rejected_total", "Messages that were rejected as damaged or too large.";
            shed: Counter, "falcotcp_messages_shed_total", "Messages that had waited too long.";
            panics: Counter, "falcotcp_handler_panics_total", "Panics of the handler.";
            pings: Counter, "falcotcp_pings_total", "Pings.";
            deferred: Counter, "falcotcp_answers_deferred_total", "Messages whose answer was to come later.";
            deferred_now: Gauge, "falcotcp_answers_outstanding", "Answers that are to come later and have not.";
            bytes_in: Counter, "falcotcp_received_bytes_total", "Bytes read from sockets.";
            bytes_out: Counter, "falcotcp_sent_bytes_total", "Bytes written to sockets.";
            workers: Gauge, "falcotcp_workers", "Workers.";
            workers_busy: Gauge, "falcotcp_workers_busy", "Workers that are at a turn.";
        });
        let workers = self.workers.iter().enumerate().map(|(worker, own)| {
            metrics!(own of Some(worker) => WorkerStats {
                connections: Gauge, "falcotcp_worker_connections", "Connections that a worker owns.";
                messages: Counter, "falcotcp_worker_messages_total", "Messages that a worker handed to the handler.";
            })
        });
        let mut workers: Vec<_> = workers.flatten().collect();
        // Stable, so that those of one name are together and in the workers' order.
        workers.sort_by_key(|metric| metric.name);
        Metrics(all.into_iter().chain(workers).collect())
    }
}

/// What a field of [`Stats`] is as a number.
trait Number {
    fn number(&self) -> f64;
}

impl Number for u64 {
    #[expect(clippy::cast_precision_loss, reason = "exporters want floating point, exact up to 2^53")]
    fn number(&self) -> f64 {
        *self as f64
    }
}

impl Number for usize {
    fn number(&self) -> f64 {
        (*self as u64).number()
    }
}

/// Seconds; none is none at all.
impl Number for Option<Duration> {
    fn number(&self) -> f64 {
        self.as_ref().map_or(0.0, Duration::as_secs_f64)
    }
}

/// How many there are.
impl<T> Number for Vec<T> {
    fn number(&self) -> f64 {
        self.len().number()
    }
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
        // Nothing that the text format would have to escape.
        assert!(metrics.iter().all(|metric| !metric.help.contains(['\\', '\n'])));
        assert_eq!(names.len(), metrics.into_iter().count());
    }
}
