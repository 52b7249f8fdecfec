//! The command line, and why a program ends before it has done its work.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::iter::Peekable;

use falcotcp_sync::Error;

/// Where a server listens and a client connects, unless told otherwise.
pub(crate) const ADDRESS: &str = "127.0.0.1:7879";

/// The key's file, unless told otherwise. Not that of the other examples: two services with one key can be played
/// against each other.
pub(crate) const KEY_FILE: &str = "kv_store.key";

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

/// The words after the program's name.
pub(crate) fn words() -> Result<Vec<String>, Failure> {
    env::args_os()
        .skip(1)
        .map(OsString::into_string)
        .collect::<Result<_, _>>()
        .map_err(|word| Failure::Usage(format!("not readable as text: {}", word.display())))
}

/// The value that follows each flag in `names`, and the words after the last flag.
pub(crate) fn flags<const N: usize>(
    names: [&str; N],
    words: impl Iterator<Item = String>,
) -> Result<([Option<String>; N], Vec<String>), Failure> {
    let mut values = [const { None }; N];
    let mut words = words.peekable();
    while let Some(flag) = next_flag(&mut words) {
        let Some(index) = names.iter().position(|name| flag == *name) else {
            return Err(Failure::Usage(format!("unknown flag: {flag}")));
        };
        let value = words.next();
        values[index] = Some(value.ok_or_else(|| Failure::Usage(format!("{flag} needs a value")))?);
    }
    Ok((values, words.collect()))
}

/// The next word if it is a flag. After the first one that is not, a word such as -5 is a value.
fn next_flag(words: &mut Peekable<impl Iterator<Item = String>>) -> Option<String> {
    words.next_if(|word| word.starts_with('-'))
}
