//! The servers that are compared. Each runs in a process of its own: this program, started again as `serve`.
//!
//! What all of them share is the handler's [`Work`] and the way they say where they listen: one line on standard
//! output with the address and, for TLS, the certificate in hex.

mod frames;
mod ours;
mod plain;
mod published;
mod rustls_threads;
mod tls;
mod tokio_rustls;
mod work;

use std::io::{self, Write};
use std::net::SocketAddr;

use clap::ValueEnum;

use crate::error::Result;
use crate::machine;
pub(crate) use work::Work;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// No encryption, a thread a connection: what every other one is compared to.
    Plain,
    /// rustls, a thread a connection.
    Rustls,
    /// rustls on tokio's multi-threaded runtime.
    TokioRustls,
    /// The published crate `falcotcp` 0.1.4.
    Falcotcp,
    /// This repository's library.
    Ours,
}

/// What a server process is told on its command line.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long, value_enum, default_value = "echo")]
    pub(crate) work: Work,
    /// Worker threads of a server that has a fixed number of them; its own default where nothing is said.
    #[arg(long)]
    pub(crate) workers: Option<usize>,
}

/// Serves until the process is killed.
pub(crate) fn serve(kind: Kind, options: Options) -> Result<()> {
    machine::die_with_parent()?;
    machine::raise_open_files()?;
    match kind {
        Kind::Plain => plain::serve(options.work),
        Kind::Rustls => rustls_threads::serve(options.work),
        Kind::TokioRustls => tokio_rustls::serve(options),
        Kind::Falcotcp => published::serve(options),
        Kind::Ours => ours::serve(options),
    }
}

/// How the one line begins that the parent process waits for; a server may print others of its own.
pub(crate) const ANNOUNCEMENT: &str = "listening on ";

fn announce(address: SocketAddr, certificate: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{ANNOUNCEMENT}{address} {certificate}")?;
    output.flush()
}
