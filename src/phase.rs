//! What was going on when something went wrong.

use std::fmt;

/// What was going on when an [`Error`](crate::Error) occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Binding a server's address.
    Bind,
    /// Starting a server's threads.
    Spawn,
    /// Opening the TCP connection.
    Connect,
    /// Proving to the server that both hold the same key.
    Establishment,
    /// Nothing was in flight.
    Idle,
    /// Sending a message.
    Send,
    /// Waiting for a response or reading it.
    Receive,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bind => "binding the address",
            Self::Spawn => "starting the server's threads",
            Self::Connect => "connecting",
            Self::Establishment => "establishing the connection",
            Self::Idle => "looking at the idle connection",
            Self::Send => "sending a message",
            Self::Receive => "waiting for a response",
        })
    }
}
