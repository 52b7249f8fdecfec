//! Output: lines that arrive at once, and numbers as people read them.

use std::fmt::{self, Arguments, Display};
use std::io::{self, Write};
use std::time::Duration;

use crate::failure::Failure;

/// One line on standard output, at once even if that is a file or a pipe.
pub(crate) fn say(line: Arguments<'_>) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .map_err(|error| Failure::because("can't write to standard output", error))
}

/// How many a second `count` in `time` are, to the nearest.
pub(crate) fn per_second(count: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    let rate = (u128::from(count) * 1_000_000_000 + nanos / 2) / nanos;
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Bytes as millions of bytes, with one decimal.
pub(crate) struct Megabytes(pub(crate) u64);

impl Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 / 100_000;
        write!(f, "{}.{} MB", tenths / 10, tenths % 10)
    }
}
