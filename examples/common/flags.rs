//! The command line: flags, each with a value.

use std::ffi::{OsStr, OsString};

use crate::failure::Failure;

/// The value that follows each flag in `names`, and the words from the first one on that is none of these flags.
pub(crate) fn values<const N: usize, W: AsRef<OsStr>>(
    names: [&str; N],
    words: impl Iterator<Item = W>,
) -> Result<([Option<W>; N], Vec<W>), Failure> {
    let mut values = [const { None }; N];
    let mut words = words.peekable();
    while let Some(index) = words.peek().and_then(|word| names.iter().position(|name| word.as_ref() == *name))
    {
        words.next();
        let value = words.next();
        values[index] = Some(value.ok_or_else(|| Failure::Usage(format!("{} needs a value", names[index])))?);
    }
    Ok((values, words.collect()))
}

/// A word as text.
pub(crate) fn text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|word| Failure::Usage(format!("not readable as text: {}", word.display())))
}
