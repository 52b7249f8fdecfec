//! What is sent.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::values;

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
            io::stdin().lock().read_to_end(&mut message).map(|_| message)
        } else {
            std::fs::read(path)
        };
        outcome.map_err(|error| {
            Failure::because(format_args!("can't read the payload {}", path.display()), error)
        })
    }
}
