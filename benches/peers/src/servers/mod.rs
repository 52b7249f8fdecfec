//! The servers that are compared. Each runs in a process of its own: this program, started again as `serve`.
//!
//! What all of them share is the handler's work and the way they say where they listen.

mod asking;
mod defer;
mod fan_in;
mod frames;
mod hand_over;
pub(crate) mod options;
mod ours;
mod plain;
mod published;
mod rustls_threads;
mod tls;
mod tokio_rustls;
pub(crate) mod work;

use crate::error::Result;
use crate::kind::Kind;
use crate::machine;
use asking::Asking;
use defer::Defer;
use fan_in::FanIn;
use hand_over::HandOver;
use options::Options;
use ours::Echo;

/// Serves until the process is killed.
pub(crate) fn serve(kind: Kind, options: Options) -> Result<()> {
    machine::die_with_parent()?;
    machine::raise_open_files()?;
    match kind {
        Kind::Plain => plain::serve(options.work),
        Kind::Rustls => rustls_threads::serve(options.work),
        Kind::TokioRustls => tokio_rustls::serve(&options),
        Kind::Falcotcp => published::serve(&options),
        Kind::Ours | Kind::OursForwardSecret => ours::serve(&options, Echo(options.work)),
        Kind::HandOver => ours::serve(&options, HandOver::start()),
        Kind::Defer => ours::serve(&options, Defer::start(options.work)),
        Kind::AskInTurn => ours::serve(&options, Asking::new(options.services.clone(), false)),
        Kind::AskAtOnce => ours::serve(&options, Asking::new(options.services.clone(), true)),
        Kind::FanIn => ours::serve(&options, FanIn::connect(&options.services)?),
    }
}
