//! `falco serve`: an echo server that says what it does.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use clap::Args;
use falcotcp_sync::{ForwardSecrecy, Handler, Request, Response, Server, ServerHandle, Stats};

use crate::clients::{ADDRESS, KEY_FILE, load_key};
use crate::display::{Megabytes, per_second, say};
use crate::failure::Failure;
use crate::{signals, values};

/// How long unfinished exchanges may take to end after the first signal.
const DRAIN: Duration = Duration::from_secs(5);

/// Answer each message with the message itself, and print statistics
///
/// The first line says where it listens. A line of statistics follows for each period in which something happened. The
/// first ctrl-c or SIGTERM stops it: what has arrived is answered, for 5 seconds at most, and all counters are
/// printed. The second one ends it at once.
#[derive(Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes any that is free
    #[arg(long, short, value_name = "HOST:PORT", default_value = ADDRESS, value_parser = values::address)]
    listen: String,

    /// The key file, the same as the clients'
    #[arg(long, short, value_name = "FILE", default_value = KEY_FILE)]
    key_file: PathBuf,

    /// Threads that serve connections [default: one for each processor, at least 2]
    #[arg(long, short, value_name = "N")]
    workers: Option<NonZeroUsize>,

    /// How long a connection lives without a message or a ping
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = values::some_seconds)]
    lifetime: Duration,

    /// The largest message; k, m and g are powers of 1024
    #[arg(long, value_name = "BYTES", default_value = "16m", value_parser = values::bytes)]
    max_message_size: usize,

    /// Which sessions peers have: off, prefer (forward-secret with those that offer it) or require
    #[arg(long, value_name = "POLICY", default_value = values::POLICY, value_parser = values::forward_secrecy)]
    forward_secrecy: ForwardSecrecy,

    /// Time from one line of statistics to the next; 0 prints them at the end only
    #[arg(long, short, value_name = "SECONDS", default_value = "10", value_parser = values::seconds)]
    every: Duration,
}

/// Answers with the message itself.
struct Echo;

impl Handler for Echo {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        response.extend_from_slice(request.message());
    }
}

impl Serve {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let server = self.start()?;
        let interrupted = signals::interruption()?;
        // Other programs wait for this line to learn the port.
        say(format_args!("listening on {}", server.local_addr()))?;

        self.report_until(&interrupted, &server)?;
        let report = server.shutdown(DRAIN).map_err(|error| Failure::because("the server ended", error))?;
        say_all(&report.stats)?;
        say(format_args!("stopped; connections drained: {}, cut: {}", report.drained, report.cut))
    }

    fn start(&self) -> Result<ServerHandle, Failure> {
        let mut server = Server::builder(load_key(&self.key_file)?)
            .lifetime(self.lifetime)
            .max_message_size(self.max_message_size)
            .forward_secrecy(self.forward_secrecy);
        if let Some(workers) = self.workers {
            server = server.workers(workers.get());
        }
        server
            .bind(&self.listen)
            .and_then(|server| server.spawn(Echo))
            .map_err(|error| Failure::because("can't serve", error))
    }

    /// Prints what has happened, period after period, until a signal comes.
    fn report_until(&self, interrupted: &Receiver<()>, server: &ServerHandle) -> Result<(), Failure> {
        let began = Instant::now();
        let mut last = server.stats();
        let mut last_time = began;
        while !self.is_interrupted(interrupted) {
            let (stats, now) = (server.stats(), Instant::now());
            if stats != last {
                let new_messages = stats.messages - last.messages;
                say(format_args!(
                    "{:.0?}: {} open, {} accepted, {} messages ({}/s), {} in, {} out",
                    now - began,
                    stats.open,
                    stats.accepted,
                    stats.messages,
                    per_second(new_messages, now - last_time),
                    Megabytes(stats.bytes_in),
                    Megabytes(stats.bytes_out),
                ))?;
            }
            (last, last_time) = (stats, now);
        }
        Ok(())
    }

    /// Waits for one period, or for a signal.
    fn is_interrupted(&self, interrupted: &Receiver<()>) -> bool {
        if self.every.is_zero() {
            // An error would be the end of the signals' thread: nothing can be waited for then.
            let _ = interrupted.recv();
            return true;
        }
        interrupted.recv_timeout(self.every) != Err(RecvTimeoutError::Timeout)
    }
}

/// Every counter by its name, and those of workers in one line each.
fn say_all(stats: &Stats) -> Result<(), Failure> {
    let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
    for metric in &stats.metrics() {
        let name = metric.name.trim_start_matches("falcotcp_");
        let value = metric.value.to_string();
        match lines.last_mut() {
            Some((last, values)) if *last == name => values.push(value),
            _ => lines.push((name, vec![value])),
        }
    }
    for (name, values) in lines {
        say(format_args!("{name:<30} {}", values.join(" ")))?;
    }
    Ok(())
}
