//! `kv_store client`: one command from the command line, or many from standard input.

use std::io::{self, BufRead};

use falcotcp_sync::Key;

use crate::arguments::{self, ADDRESS, KEY_FILE};
use crate::client::StoreClient;
use crate::command::{self, CommandError};
use crate::failure::Failure;

pub(crate) fn run(words: impl Iterator<Item = String>) -> Result<(), Failure> {
    let ([connect, key_file], command) = arguments::flags(["--connect", "--key-file"], words)?;
    let addr = connect.as_deref().unwrap_or(ADDRESS);
    let key = Key::load(key_file.as_deref().unwrap_or(KEY_FILE))?;
    let mut client =
        StoreClient::connect(addr, &key).map_err(|error| Failure::because("can't connect", error))?;
    if command.is_empty() { run_lines(&mut client) } else { run_one(&mut client, &command) }
}

fn run_one(client: &mut StoreClient, command: &[String]) -> Result<(), Failure> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    command::run(client, &words, &mut io::stdout().lock()).map_err(|error| match error {
        CommandError::NotUnderstood(message) => Failure::Usage(message),
        error => error.into(),
    })
}

/// Runs each line. A command that fails does not keep the next ones from being run, but a missing answer does: what
/// follows may rely on what may not have been done.
fn run_lines(client: &mut StoreClient) -> Result<(), Failure> {
    let mut failed = 0_u64;
    for (number, line) in (1_u64..).zip(io::stdin().lock().lines()) {
        let line = line?;
        let words = command::words(&line);
        if words.is_empty() {
            continue;
        }
        match command::run(client, &words, &mut io::stdout().lock()) {
            Err(CommandError::NotUnderstood(message) | CommandError::Failed(message)) => {
                eprintln!("line {number}: {message}");
                failed += 1;
            }
            outcome => outcome?,
        }
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Run(format!("commands that failed: {failed}"))),
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotUnderstood(message) | CommandError::Failed(message) => Self::Run(message),
            CommandError::NoAnswer(error) if error.may_be_done() => {
                Self::because("no answer, it may or may not have been done", error)
            }
            CommandError::NoAnswer(error) => Self::because("it was not done", error),
            CommandError::Output(error) => error.into(),
        }
    }
}
