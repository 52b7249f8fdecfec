//! `falco send`: one message, one response.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};

use clap::Args;

use crate::clients::ServerArguments;
use crate::failure::Failure;
use crate::values;

/// Send one message and write the response to standard output
///
/// The response is written as its bytes are, without a line end. Without MESSAGE, standard input up to its end is the
/// message.
#[derive(Args)]
pub(crate) struct Send {
    /// The message; put -- before one that begins with a dash
    message: Option<OsString>,

    #[command(flatten)]
    server: ServerArguments,

    /// The largest message and the largest response
    #[arg(long, value_name = "BYTES", default_value = "16m", value_parser = values::bytes)]
    max_message_size: usize,
}

impl Send {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let clients = self.server.clients(self.max_message_size)?;
        // Before connecting, so that the connection does not grow old while somebody types.
        let message = self.message()?;
        let response = clients.connect()?.message(&message)?;
        let mut output = io::stdout().lock();
        output
            .write_all(&response)
            .and_then(|()| output.flush())
            .map_err(|error| Failure::because("can't write the response to standard output", error))
    }

    fn message(&self) -> Result<Vec<u8>, Failure> {
        let message = match &self.message {
            Some(message) => message.as_encoded_bytes().to_vec(),
            None => self.standard_input()?,
        };
        if message.len() > self.max_message_size {
            return Err(Failure::new(format!(
                "the message has more than {} bytes: raise --max-message-size, here and at the server",
                self.max_message_size
            )));
        }
        Ok(message)
    }

    /// No more than one byte over the limit is read, so that an endless input does not fill the memory.
    fn standard_input(&self) -> Result<Vec<u8>, Failure> {
        let input = io::stdin().lock();
        if input.is_terminal() {
            let _ = writeln!(io::stderr(), "Type the message; ctrl-d on an empty line ends it.");
        }
        let mut message = Vec::new();
        input
            .take(self.max_message_size as u64 + 1)
            .read_to_end(&mut message)
            .map_err(|error| Failure::because("can't read the message from standard input", error))?;
        Ok(message)
    }
}
