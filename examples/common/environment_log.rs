//! A log on standard error whose level is in the environment.

#[path = "stderr_log.rs"]
mod stderr_log;

use std::env;

use log::LevelFilter;

use crate::failure::Failure;

/// Writes what is logged from the level in `FALCOTCP_LOG` on; warnings and errors without it.
pub(crate) fn start() -> Result<(), Failure> {
    let level = match env::var("FALCOTCP_LOG") {
        Ok(level) => level.parse().map_err(|_| {
            Failure::Usage(format!("FALCOTCP_LOG is off, error, warn, info, debug or trace, not {level}"))
        })?,
        Err(_) => LevelFilter::Warn,
    };
    stderr_log::start(level).map_err(|error| Failure::because("the log can't be started", error))
}
