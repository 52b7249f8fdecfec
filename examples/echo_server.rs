//! A server that sends every message back, until SIGINT (ctrl-c) or SIGTERM stops it.
//!
//! `cargo run --release --example echo_server -- [--listen ADDR] [--key-file FILE] [--workers N]`

mod common;

use std::ffi::OsString;
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use common::Failure;
use falcotcp_sync::{Error, Handler, Key, Request, Response, Server, Stopper};

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
    common::run(USAGE, ["--listen", "--key-file", "--workers"], serve)
}

fn serve([listen, key_file, workers]: [Option<OsString>; 3]) -> Result<(), Failure> {
    let listen = common::text(listen, "127.0.0.1:7878")?;
    let workers = workers.map(number_of_workers).transpose()?;
    let key = load_or_make_key(&key_file.map_or_else(|| "falcotcp.key".into(), PathBuf::from))?;

    let mut server = Server::builder(key);
    if let Some(workers) = workers {
        server = server.workers(workers);
    }
    let server = server
        .bind(&listen)
        .and_then(|server| server.spawn(Echo))
        .map_err(|error| Failure::because(format_args!("can't serve on {listen}"), error))?;
    stop_on_signal(server.stopper()).map_err(|error| Failure::because("signals can't be caught", error))?;

    // Other programs wait for this line to learn the port.
    say(format_args!("listening on {}", server.local_addr()))?;
    let report = server.wait().map_err(|error| Failure::because("the server ended", error))?;
    say(format_args!("stopped; connections drained: {}, cut: {}", report.drained, report.cut))
}

fn number_of_workers(value: OsString) -> Result<usize, Failure> {
    let value = common::text(Some(value), "")?;
    match value.parse() {
        Ok(workers) if workers > 0 => Ok(workers),
        _ => Err(Failure::Usage(format!("--workers needs a number from 1 on, not {value}"))),
    }
}

fn load_or_make_key(path: &Path) -> Result<Key, Failure> {
    match Key::load(path) {
        Err(Error::KeyFile { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let key = Key::generate()?;
            key.save(path)?;
            eprintln!(
                "made a new key in {0}; clients need a copy: echo_client --key-file {0}",
                path.display()
            );
            Ok(key)
        }
        loaded => Ok(loaded?),
    }
}

/// One line on standard output, at once even if that is a file or a pipe.
fn say(line: Arguments<'_>) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

/// Stops the server on the first signal; the second one ends the program at once.
#[cfg(unix)]
fn stop_on_signal(stopper: Stopper) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            stopper.stop_within(DRAIN);
        }
        if let Some(signal) = signals.next() {
            // Returns only if it can't end the program, and then the first signal still counts.
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// Stops the server on the first ctrl-c; the second one ends the program at once.
#[cfg(not(unix))]
fn stop_on_signal(stopper: Stopper) -> io::Result<()> {
    use signal_hook::consts::SIGINT;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    let interrupted = Arc::new(AtomicBool::new(false));
    // In this order: the first ctrl-c finds the flag unset, sets it, and the second finds it set.
    signal_hook::flag::register_conditional_shutdown(SIGINT, 1, Arc::clone(&interrupted))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while !interrupted.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(100));
        }
        stopper.stop_within(DRAIN);
    })?;
    Ok(())
}
