//! What is sent.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::values::{self, MOST_BYTES};

// No doc comment: clap would show it in place of the command's own description.
#[derive(Args)]
pub(super) struct Payload {
    /// Size of each message, which is filled with dots; k, m and g are powers of 1024
    #[arg(long, short, value_name = "BYTES", default_value = "128", value_parser = values::bytes)]
    size: usize,

    /// The file that each message is; - for standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "size")]
    payload: Option<PathBuf>,
}

impl Payload {
    pub(super) fn read(&self) -> Result<Vec<u8>, Failure> {
        let Some(path) = &self.payload else { return Ok(vec![b'.'; self.size]) };
        let mut message = Vec::new();
        let outcome = if path == Path::new("-") {
            read_bounded(io::stdin().lock(), &mut message)
        } else {
            File::open(path).and_then(|file| read_bounded(file, &mut message))
        };
        let failed = |why: &dyn fmt::Display| {
            Failure::because(format_args!("can't send the payload {}", path.display()), why)
        };
        match outcome {
            Err(error) => Err(failed(&error)),
            Ok(()) if message.is_empty() => Err(failed(&"it is empty")),
            Ok(()) if message.len() > MOST_BYTES => Err(failed(&"it is over 1g")),
            Ok(()) => Ok(message),
        }
    }
}

/// Reads to the end, or as much as shows that it is too much.
fn read_bounded(source: impl Read, message: &mut Vec<u8>) -> io::Result<()> {
    source.take(MOST_BYTES as u64 + 1).read_to_end(message).map(drop)
}
