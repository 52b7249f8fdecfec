//! The servers that are compared. Each runs in a process of its own: this program, started again as `serve`.
//!
//! What all of them share is the handler's [`Work`] and the way they say where they listen: one line on standard
//! output with the address and, for TLS, the certificate in hex.

mod announcement;
mod frames;
mod options;
mod ours;
mod plain;
mod published;
mod rustls_threads;
mod tls;
mod tokio_rustls;
mod work;

use clap::ValueEnum;

use crate::error::Result;
use crate::machine;
pub(crate) use announcement::ANNOUNCEMENT;
pub(crate) use options::Options;
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
    /// The same, with forward-secret sessions.
    OursForwardSecret,
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
        Kind::Ours | Kind::OursForwardSecret => ours::serve(options),
    }
}
