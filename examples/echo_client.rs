//! Sends each line of standard input as a message and prints each response as a line.
//!
//! `cargo run --release --example echo_client -- [--connect ADDR] [--key-file FILE]`

#[path = "common/echo.rs"]
mod echo;
#[path = "common/failure.rs"]
mod failure;

use std::ffi::OsString;
use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use failure::Failure;
use falcotcp_sync::{Client, Key};

const USAGE: &str = "\
usage: echo_client [--connect ADDR] [--key-file FILE]

  --connect ADDR    the server's address (default: 127.0.0.1:7878)
  --key-file FILE   the key that the server has (default: falcotcp.key)

FALCOTCP_LOG=debug in the environment says more (off, error, warn, info, debug, trace; default: warn).";

/// As long as anybody waits at a terminal for one line, connecting anew included.
const TIMEOUT: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    echo::run(USAGE, ["--connect", "--key-file"], talk)
}

fn talk([connect, key_file]: [Option<OsString>; 2]) -> Result<(), Failure> {
    let addr = echo::text(connect, "127.0.0.1:7878")?;
    let path = key_file.map_or_else(|| "falcotcp.key".into(), PathBuf::from);
    let key = Key::load(&path)?;
    // If nobody types for longer than the connection lives, it is made anew before the next line is sent. A line that
    // the server may have processed is never sent again.
    let mut client = Client::builder(&key)
        .request_timeout(TIMEOUT)
        .reconnect(true)
        .connect(&addr)
        .map_err(|error| Failure::because("can't connect", error))?;

    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut line = Vec::new();
    let mut response = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        let message = without_line_end(&line);
        match client.message_into(message, &mut response) {
            Ok(()) => {
                response.push(b'\n');
                output.write_all(&response)?;
                output.flush()?;
            }
            Err(error) if client.is_open() => eprintln!("no response to this message: {error}"),
            Err(error) => return Err(Failure::because("no response, ending", error)),
        }
        line.clear();
    }
    Ok(())
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
