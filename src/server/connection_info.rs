//! What a handler is told of connections: which one, whose, and why it ended.

use std::fmt;
use std::net::SocketAddr;

use super::shared::End;

/// Tells one connection of a server from all others that it has had since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(super) u64);

impl ConnectionId {
    /// The number itself: the first connection has 1.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A connection that was established, as [`Handler::established`](crate::Handler::established) is told of it.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionInfo<'a> {
    pub(super) id: ConnectionId,
    pub(super) peer: SocketAddr,
    pub(super) key_name: &'a str,
    pub(super) is_forward_secret: bool,
}

impl<'a> ConnectionInfo<'a> {
    /// The connection, as its requests and its end name it.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The address that it came from, behind a load balancer the true one.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The name of the key that it lives under.
    pub fn key_name(&self) -> &'a str {
        self.key_name
    }

    /// Whether its session is [forward-secret](crate::ForwardSecrecy).
    pub fn is_forward_secret(&self) -> bool {
        self.is_forward_secret
    }
}

/// Why a connection ended. Overload is no reason: what is shed ([`shed_after`](crate::ServerBuilder::shed_after)) is a message,
/// and its connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The peer closed or reset it.
    Peer,
    /// Its lifetime was over, or the peer took nothing of a response for the `write_timeout`.
    Lifetime,
    /// Something went wrong with it: its socket failed, a message was over the limit, or a frame did not open.
    Error,
    /// The server stopped.
    Stop,
    /// Its key was withdrawn.
    Withdrawn,
    /// The handler closed it, with [`Response::close`](crate::Response::close).
    Handler,
}

impl EndReason {
    pub(super) fn new(end: End) -> Self {
        match end {
            End::Closed => Self::Peer,
            End::Expired => Self::Lifetime,
            // Those that make room were never established.
            End::Failed | End::Evicted => Self::Error,
            End::Drained | End::Cut => Self::Stop,
            End::Withdrawn => Self::Withdrawn,
            End::ByHandler => Self::Handler,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "the peer closed it",
            Self::Lifetime => "its time was over",
            Self::Error => "something went wrong with it",
            Self::Stop => "the server stopped",
            Self::Withdrawn => "its key was withdrawn",
            Self::Handler => "the handler closed it",
        })
    }
}
