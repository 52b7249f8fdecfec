//! A tool for the shell: makes keys, serves an echo, sends messages, measures round trips and throughput.
//!
//! `cargo install --path examples/falco`, then `falco --help`.

mod clients;
mod display;
mod failure;
mod histogram;
mod keygen;
mod load;
mod ping;
mod send;
mod serve;
mod signals;
mod values;

#[path = "../../common/stderr_log.rs"]
mod stderr_log;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use log::LevelFilter;

use failure::Failure;

/// Encrypted request/response over TCP, from the shell: for trying a server and for measuring it.
///
/// Both endpoints need the same key file. `keygen` makes it, `serve` answers every message with the message
/// itself, and the other commands are clients of that server or of any other that speaks the protocol.
#[derive(Parser)]
#[command(name = "falco", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What to say on standard error about connections: off, error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "warn", value_parser = values::level)]
    log: LevelFilter,
}

const AFTER_HELP: &str = "\
Try it:
  falco keygen             make falcotcp.key in the current directory
  falco serve              listen on 127.0.0.1:7878, in another terminal
  falco send hello         prints hello
  falco ping --count 3
  falco load --seconds 5

Exit status: 0 success, 1 failure, 2 wrong usage.";

#[derive(Subcommand)]
enum Command {
    Keygen(keygen::Keygen),
    Serve(serve::Serve),
    Send(send::Send),
    Ping(ping::Ping),
    Load(load::Load),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // `eprintln` would panic when standard error is closed, and the exit status says it anyway.
            let _ = writeln!(io::stderr(), "falco: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    stderr_log::start(cli.log).map_err(|error| Failure::because("the log can't be started", error))?;
    match &cli.command {
        Command::Keygen(keygen) => keygen.run(),
        Command::Serve(serve) => serve.run(),
        Command::Send(send) => send.run(),
        Command::Ping(ping) => ping.run(),
        Command::Load(load) => load.run(),
    }
}
