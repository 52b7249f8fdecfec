//! Whose server it is: the server program is chosen by it, and the client half that speaks to it.

use clap::ValueEnum;

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
    /// Ours with a handler that lets one other thread answer and waits for it.
    #[value(hide = true)]
    HandOver,
    /// Ours with a handler that defers, and one other thread that answers.
    #[value(hide = true)]
    Defer,
    /// Ours with a handler that asks services, one after the other.
    #[value(hide = true)]
    AskInTurn,
    /// Ours with a handler that asks services at once, each from a thread of its own.
    #[value(hide = true)]
    AskAtOnce,
    /// Ours with a handler that asks services at once through shared clients, and defers.
    #[value(hide = true)]
    FanIn,
}
