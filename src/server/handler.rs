//! What a server does with a message.

use std::fmt;
use std::net::SocketAddr;

pub use crate::protocol::Response;

/// What a server does with a message: it reads the request and writes its response.
///
/// Closures `Fn(&[u8]) -> impl AsRef<[u8]>` are handlers. Written out, a handler also sees who asks, and writes into
/// the worker's own output without allocating:
///
/// ```
/// use falcotcp_sync::{Handler, Request, Response};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
///         response.extend_from_slice(request.message());
///     }
/// }
/// ```
///
/// Workers call it at the same time from several threads. It may block: its worker's other connections are served by
/// workers that have nothing to do, so choose as many workers as handlers may block at once.
///
/// # Panics
/// A handler that panics gives the empty response, which the client sees as [`Error::Rejected`](crate::Error::Rejected);
/// the connection, its worker and every other connection go on. That needs the default `panic = "unwind"`.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. What `response` holds at the end is sent, also when that is nothing.
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>);
}

impl<F, R> Handler for F
where
    F: Fn(&[u8]) -> R + Send + Sync + 'static,
    R: AsRef<[u8]>,
{
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        response.extend_from_slice(self(request.message).as_ref());
    }
}

/// One message and where it came from. `Debug` shows the message's length only.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub(super) message: &'a [u8],
    pub(super) key_name: &'a str,
    pub(super) peer: SocketAddr,
    pub(super) connection: ConnectionId,
}

impl<'a> Request<'a> {
    /// The message's plaintext.
    pub fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The address that the connection came from.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The name of the key that the connection lives under: `default` for the key that
    /// [`Server::builder`](crate::Server::builder) was given.
    pub fn key_name(&self) -> &'a str {
        self.key_name
    }

    /// The connection that the message came over.
    pub fn connection_id(&self) -> ConnectionId {
        self.connection
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("len", &self.message.len())
            .field("key_name", &self.key_name)
            .field("peer", &self.peer)
            .field("connection", &self.connection)
            .finish()
    }
}

/// Tells one connection of a server from all others that it has had since it was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub(super) u64);

impl ConnectionId {
    /// The number itself: the first connection has 1.
    pub fn get(self) -> u64 {
        self.0
    }
}
