//! The command line.

use std::env;

use crate::failure::Failure;
use crate::flags;

/// Where a server listens and a client connects, unless told otherwise.
pub(crate) const ADDRESS: &str = "127.0.0.1:7879";

/// The key's file, unless told otherwise. Not that of the other examples: who can redirect a connection can lead
/// a client to any service that has the same key.
pub(crate) const KEY_FILE: &str = "kv_store.key";

/// The words after the program's name.
pub(crate) fn words() -> Result<Vec<String>, Failure> {
    env::args_os().skip(1).map(flags::text).collect()
}

/// The value that follows each flag in `names`, and the words after the last flag. After the first word that is not
/// a flag, one such as -5 is a value.
pub(crate) fn flags<const N: usize>(
    names: [&str; N],
    words: impl Iterator<Item = String>,
) -> Result<([Option<String>; N], Vec<String>), Failure> {
    let (values, rest) = flags::values(names, words)?;
    match rest.first() {
        Some(flag) if flag.starts_with('-') => Err(Failure::Usage(format!("unknown flag: {flag}"))),
        _ => Ok((values, rest)),
    }
}
