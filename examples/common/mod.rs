//! What both echo programs need: flags, errors as a user wants to read them, and a log on standard error.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use falcotcp_sync::Error;
use log::{LevelFilter, Log, Metadata, Record};

/// Why a program ends before it has done its work.
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

/// Runs `program` with the values of the flags in `names`, and turns its outcome into an exit status.
pub(crate) fn run<const N: usize>(
    usage: &str,
    names: [&str; N],
    program: impl FnOnce([Option<OsString>; N]) -> Result<(), Failure>,
) -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    match start_log().and_then(|()| values(names, arguments)).and_then(program) {
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

/// The text of a flag's value, or what stands for it when the flag is not given.
pub(crate) fn text(value: Option<OsString>, otherwise: &str) -> Result<String, Failure> {
    value
        .map_or_else(|| Ok(otherwise.to_owned()), OsString::into_string)
        .map_err(|value| Failure::Usage(format!("not readable as text: {}", value.display())))
}

/// The value that follows each flag in `names`.
fn values<const N: usize>(
    names: [&str; N],
    arguments: Vec<OsString>,
) -> Result<[Option<OsString>; N], Failure> {
    let mut values = [const { None }; N];
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let Some(index) = names.iter().position(|name| argument == *name) else {
            return Err(Failure::Usage(format!("unknown argument: {}", argument.display())));
        };
        let value = arguments.next();
        values[index] = Some(value.ok_or_else(|| Failure::Usage(format!("{} needs a value", names[index])))?);
    }
    Ok(values)
}

/// Writes what the library logs to standard error, from the level in `FALCOTCP_LOG` on; warnings without it.
fn start_log() -> Result<(), Failure> {
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
