//! What both echo programs do with their command line.

#[path = "environment_log.rs"]
mod environment_log;
#[path = "flags.rs"]
mod flags;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use crate::failure::{self, Failure};

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
    let outcome = environment_log::start().and_then(|()| values(names, arguments)).and_then(program);
    failure::exit_status(outcome, usage)
}

/// The text of a flag's value, or what stands for it when the flag is not given.
pub(crate) fn text(value: Option<OsString>, otherwise: &str) -> Result<String, Failure> {
    value.map_or_else(|| Ok(otherwise.to_owned()), flags::text)
}

/// The value that follows each flag in `names`; these programs take nothing else.
fn values<const N: usize>(
    names: [&str; N],
    arguments: Vec<OsString>,
) -> Result<[Option<OsString>; N], Failure> {
    let (values, rest) = flags::values(names, arguments.into_iter())?;
    match rest.first() {
        Some(argument) => Err(Failure::Usage(format!("unknown argument: {}", argument.display()))),
        None => Ok(values),
    }
}
