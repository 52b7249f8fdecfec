//! What every client command needs to reach a server: its address, the key, a time-out.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use falcotcp_sync::{Client, ClientBuilder, Error, ForwardSecrecy, Key};

use crate::failure::Failure;
use crate::values;

/// Where `keygen` puts a key and everybody else looks for it.
pub(crate) const KEY_FILE: &str = "falcotcp.key";

/// Where `serve` listens and the clients connect.
pub(crate) const ADDRESS: &str = "127.0.0.1:7878";

/// The limit of messages and responses that servers and clients have by default.
pub(crate) const LARGEST: usize = 16 << 20;

/// A server that does not answer at all is given up after this time, also when responses may take longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

// No doc comment: clap would show it in place of each command's own description.
#[derive(Args)]
pub(crate) struct ServerArguments {
    /// The server's address; given several times, they are tried in turn
    #[arg(long, short, value_name = "HOST:PORT", default_value = ADDRESS, value_parser = values::address)]
    connect: Vec<String>,

    /// The key file, the same as the server's
    #[arg(long, short, value_name = "FILE", default_value = KEY_FILE)]
    key_file: PathBuf,

    /// How long a response may take; connecting may take as long, but 5 seconds at most
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = values::some_seconds)]
    timeout: Duration,

    /// Which sessions to have: off, prefer (forward-secret where the server knows it) or require
    #[arg(long, value_name = "POLICY", default_value = values::POLICY, value_parser = values::forward_secrecy)]
    forward_secrecy: ForwardSecrecy,
}

impl ServerArguments {
    /// Clients for messages and responses of up to `largest` bytes.
    pub(crate) fn clients(&self, largest: usize) -> Result<Clients, Failure> {
        let builder = Client::builder(&load_key(&self.key_file)?)
            .connect_timeout(self.timeout.min(CONNECT_TIMEOUT))
            .request_timeout(self.timeout)
            .max_message_size(largest)
            .forward_secrecy(self.forward_secrecy);
        Ok(Clients { addrs: self.connect.clone(), builder })
    }

    pub(crate) fn addrs(&self) -> &[String] {
        &self.connect
    }
}

/// Makes clients that are all alike.
pub(crate) struct Clients {
    addrs: Vec<String>,
    builder: ClientBuilder,
}

impl Clients {
    /// The same, which connect anew by themselves.
    pub(crate) fn reconnecting(self) -> Self {
        Self { builder: self.builder.reconnect(true), ..self }
    }

    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        self.connect_from(0)
    }

    /// Connects to the first address from this one on that accepts.
    pub(crate) fn connect_from(&self, first: usize) -> Result<Client, Failure> {
        let mut addrs = self.addrs.clone();
        addrs.rotate_left(first % self.addrs.len());
        self.builder.connect(addrs).map_err(|error| Failure::because("can't connect", error))
    }

    pub(crate) fn name(&self) -> String {
        self.addrs.join(", ")
    }
}

/// The key in `path`; a missing file is what everybody meets first, so it is told what to do.
pub(crate) fn load_key(path: &Path) -> Result<Key, Failure> {
    Key::load(path).map_err(|error| match error {
        Error::KeyFile { source, .. } if source.kind() == ErrorKind::NotFound => Failure::new(format!(
            "there is no key file {0}: make one with `falco keygen {0}`, copy the other endpoint's, or name it with \
             --key-file",
            path.display()
        )),
        error => error.into(),
    })
}
