//! What the library logs, on standard error.

use std::env;
use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record};

use crate::arguments::Failure;

/// Writes what is logged from the level in `FALCOTCP_LOG` on; warnings and errors without it.
pub(crate) fn start() -> Result<(), Failure> {
    let level = match env::var("FALCOTCP_LOG") {
        Ok(level) => level.parse().map_err(|_| {
            Failure::Usage(format!("FALCOTCP_LOG is off, error, warn, info, debug or trace, not {level}"))
        })?,
        Err(_) => LevelFilter::Warn,
    };
    log::set_max_level(level);
    log::set_logger(&StandardError).map_err(|error| Failure::because("the log can't be started", error))
}

struct StandardError;

impl Log for StandardError {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // `eprintln` would panic when standard error is closed, and a log must not end a server.
        let _ = writeln!(io::stderr(), "{} {}: {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}
