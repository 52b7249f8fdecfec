//! `falco keygen`: a new key in a new file.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;
use falcotcp_sync::{Error, Key};

use crate::clients::KEY_FILE;
use crate::display::say;
use crate::failure::Failure;

/// Make a key file and print its path
///
/// The file has 64 hexadecimal digits, and on Unix only you can read it. An existing file is never overwritten. The
/// key itself is not printed: terminals and logs keep what they are shown.
#[derive(Args)]
pub(crate) struct Keygen {
    /// The file to make
    #[arg(default_value = KEY_FILE)]
    file: PathBuf,
}

impl Keygen {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        Key::generate()?.save(&self.file).map_err(|error| self.explained(error))?;
        let path = std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone());
        say(format_args!("{}", path.display()))?;
        // Beside the path, not in its place: a script reads the path from standard output.
        let _ = writeln!(
            io::stderr(),
            "Carry a copy to each other endpoint over a channel that you trust, as scp. Who has it reads everything."
        );
        Ok(())
    }

    fn explained(&self, error: Error) -> Failure {
        match error {
            Error::KeyFile { source, .. } if source.kind() == ErrorKind::AlreadyExists => {
                Failure::new(format!(
                    "{} exists already and was left as it is: name another file, or remove it first",
                    self.file.display()
                ))
            }
            error => error.into(),
        }
    }
}
