//! The commands, as words that a user types.

use std::io::{self, Write};

use crate::client::{AskError, StoreClient};
use crate::encoding::{Answer, MAX_KEY, MAX_VALUE, Operation, is_key};

/// Why a command has no result.
pub(crate) enum CommandError {
    /// It is none of the commands, or its words are not those that it needs.
    NotUnderstood(String),
    /// The store could not do it, and said so.
    Failed(String),
    /// There is no answer that says whether the store did it.
    NoAnswer(AskError),
    /// The result could not be written.
    Output(io::Error),
}

/// Runs the command that `words` are and writes its result to `output`.
pub(crate) fn run(
    client: &mut StoreClient,
    words: &[&str],
    output: &mut impl Write,
) -> Result<(), CommandError> {
    let operation = parse(words).map_err(CommandError::NotUnderstood)?;
    match operation {
        Operation::List { prefix, .. } => list(client, prefix, output)?,
        operation => print(&client.ask(&operation)?, output)?,
    }
    Ok(output.flush()?)
}

/// The words of a line, of which the last may be a value that has spaces in it.
pub(crate) fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let is_value = words.len() == 2;
        let (word, after) = rest
            .split_once(char::is_whitespace)
            .filter(|_| !is_value)
            .map_or((rest, ""), |(word, after)| (word, after.trim_start()));
        words.push(word);
        rest = after;
    }
    words
}

fn parse<'a>(words: &[&'a str]) -> Result<Operation<'a>, String> {
    match *words {
        ["get", name] => Ok(Operation::Get { key: key(name)? }),
        ["set", name, text] => Ok(Operation::Set { key: key(name)?, value: value(text)? }),
        ["delete", name] => Ok(Operation::Delete { key: key(name)? }),
        ["list"] => Ok(Operation::List { prefix: "", after: "" }),
        ["list", prefix] => Ok(Operation::List { prefix, after: "" }),
        ["add", name, number] => Ok(Operation::Add { key: key(name)?, amount: amount(number)? }),
        [] => Err("no command".to_owned()),
        [command, ..] => Err(match form(command) {
            Some(form) => format!("it is: {form}"),
            None => format!("unknown command: {command}; there are get, set, delete, list and add"),
        }),
    }
}

fn form(command: &str) -> Option<&'static str> {
    Some(match command {
        "get" => "get KEY",
        "set" => "set KEY VALUE",
        "delete" => "delete KEY",
        "list" => "list [PREFIX]",
        "add" => "add KEY N",
        _ => return None,
    })
}

fn key(word: &str) -> Result<&str, String> {
    if is_key(word) { Ok(word) } else { Err(format!("a key has 1 to {MAX_KEY} bytes, not {}", word.len())) }
}

fn value(word: &str) -> Result<&[u8], String> {
    let value = word.as_bytes();
    if value.len() <= MAX_VALUE {
        Ok(value)
    } else {
        Err(format!("a value has at most {MAX_VALUE} bytes, not {}", value.len()))
    }
}

fn amount(word: &str) -> Result<i64, String> {
    word.parse().map_err(|_| format!("not a number of 64 bits: {word}"))
}

/// Asks for the keys piece by piece. Each piece is of one moment; all of them together are not.
fn list(client: &mut StoreClient, prefix: &str, output: &mut impl Write) -> Result<(), CommandError> {
    let mut after = String::new();
    loop {
        let answer = client.ask(&Operation::List { prefix, after: &after })?;
        print(&answer, output)?;
        match answer {
            Answer::Keys { mut keys, more: true } => after = keys.pop().ok_or(AskError::NotTheAnswer)?,
            _ => return Ok(()),
        }
    }
}

fn print(answer: &Answer, output: &mut impl Write) -> Result<(), CommandError> {
    match answer {
        Answer::Done => writeln!(output, "ok")?,
        Answer::Number(number) => writeln!(output, "{number}")?,
        Answer::Value(value) => {
            output.write_all(value)?;
            writeln!(output)?;
        }
        Answer::Keys { keys, .. } => {
            for key in keys {
                writeln!(output, "{key}")?;
            }
        }
        Answer::NotFound => return Err(CommandError::Failed("there is no such key".to_owned())),
        Answer::Problem(problem) => return Err(CommandError::Failed(problem.to_string())),
    }
    Ok(())
}

impl From<AskError> for CommandError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Problem(problem) => Self::Failed(problem.to_string()),
            error => Self::NoAnswer(error),
        }
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lines_value_keeps_its_spaces() {
        assert_eq!(words(" set  greeting   hello,  falcon \r\n"), ["set", "greeting", "hello,  falcon"]);
        assert_eq!(words("list"), ["list"]);
        assert_eq!(words(" \n"), [""; 0]);
    }

    #[test]
    fn commands_are_told_apart() {
        assert_eq!(parse(&["add", "n", "-5"]), Ok(Operation::Add { key: "n", amount: -5 }));
        assert_eq!(parse(&["list", "user:"]), Ok(Operation::List { prefix: "user:", after: "" }));
        assert_eq!(parse(&["set", "k"]), Err("it is: set KEY VALUE".to_owned()));
        assert!(parse(&["get", ""]).is_err());
        assert!(parse(&["add", "n", "five"]).is_err());
        assert!(parse(&["drop"]).is_err());
    }
}
