//! What the library logs, as lines on standard error.

use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};

/// Writes records from `level` on.
pub(crate) fn start(level: LevelFilter) -> Result<(), SetLoggerError> {
    log::set_max_level(level);
    log::set_logger(&StandardError)
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
