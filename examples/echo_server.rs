//! A server that sends every message back, until SIGINT (ctrl-c) or SIGTERM stops it.
//!
//! `cargo run --release --example echo_server -- [--listen ADDR] [--key-file FILE] [--workers N]`

#[path = "common/echo.rs"]
mod echo;
#[path = "common/failure.rs"]
mod failure;
#[path = "common/key_file.rs"]
mod key_file;
#[path = "common/stop_signals.rs"]
mod stop_signals;

use std::ffi::OsString;
use std::fmt::Arguments;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use failure::Failure;
use falcotcp_sync::{Handler, Request, Response, Server};

const USAGE: &str = "\
usage: echo_server [--listen ADDR] [--key-file FILE] [--workers N]

  --listen ADDR     where to listen (default: 127.0.0.1:7878)
  --key-file FILE   the key that clients need, made if there is none (default: falcotcp.key)
  --workers N       threads that serve (default: one a processor, at least 2)

FALCOTCP_LOG=debug in the environment says more (off, error, warn, info, debug, trace; default: warn).";

/// How long unfinished exchanges may take to end after the first signal.
const DRAIN: Duration = Duration::from_secs(5);

/// Answers with the message itself. Written out, a handler writes into the worker's buffer and allocates nothing.
struct Echo;

impl Handler for Echo {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        response.extend_from_slice(request.message());
    }
}

fn main() -> ExitCode {
    echo::run(USAGE, ["--listen", "--key-file", "--workers"], serve)
}

fn serve([listen, key_file, workers]: [Option<OsString>; 3]) -> Result<(), Failure> {
    let listen = echo::text(listen, "127.0.0.1:7878")?;
    let workers = workers.map(number_of_workers).transpose()?;
    let key_file = key_file.map_or_else(|| "falcotcp.key".into(), PathBuf::from);
    let key = key_file::load_or_make(&key_file, "echo_client")?;

    let mut server = Server::builder(key);
    if let Some(workers) = workers {
        server = server.workers(workers);
    }
    let server = server
        .bind(&listen)
        .and_then(|server| server.spawn(Echo))
        .map_err(|error| Failure::because("can't serve", error))?;
    let stopper = server.stopper();
    stop_signals::on_first(move || stopper.stop_within(DRAIN))
        .map_err(|error| Failure::because("signals can't be caught", error))?;

    // Other programs wait for this line to learn the port.
    say(format_args!("listening on {}", server.local_addr()))?;
    let report = server.wait().map_err(|error| Failure::because("the server ended", error))?;
    say(format_args!("stopped; connections drained: {}, cut: {}", report.drained, report.cut))
}

fn number_of_workers(value: OsString) -> Result<usize, Failure> {
    let value = echo::text(Some(value), "")?;
    match value.parse() {
        Ok(workers) if workers > 0 => Ok(workers),
        _ => Err(Failure::Usage(format!("--workers needs a number from 1 on, not {value}"))),
    }
}

/// One line on standard output, at once even if that is a file or a pipe.
fn say(line: Arguments<'_>) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}
