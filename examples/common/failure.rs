//! Why a program ends before it has done its work, and how it says so.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use falcotcp_sync::Error;

/// Why the program ends early.
pub(crate) enum Failure {
    /// It was called in a way that it does not understand: exit status 2.
    Usage(String),
    /// What it was asked to do failed: exit status 1.
    Run(String),
}

impl Failure {
    /// `what` failed because of `error`.
    pub(crate) fn because(what: impl Display, error: impl Display) -> Self {
        Self::Run(format!("{what}: {error}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Run(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Run(error.to_string())
    }
}

/// Says what failed, with `usage` if that helps, and turns the outcome into an exit status.
pub(crate) fn exit_status(outcome: Result<(), Failure>, usage: &str) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => {
            eprintln!("{message}\n\n{usage}");
            ExitCode::from(2)
        }
        Err(Failure::Run(message)) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
