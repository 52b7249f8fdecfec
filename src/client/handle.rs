//! The client as its owner holds it.

use std::fmt;
use std::net::SocketAddr;

use super::connection::Connection;
use super::settings::Ask;
use crate::Error;

/// A connection to a server. Every call blocks until it is done or its time-out is over.
///
/// A client is used by one thread at a time; let each thread have its own, or share one behind a mutex. An
/// error that leaves the stream in doubt closes the connection, so that the late answer to one exchange is not taken for
/// another's. [`is_open`](Self::is_open) tells. Such a client can't be used any more, unless
/// [`reconnect`](crate::ClientBuilder::reconnect) is set: then it connects anew before the next message.
///
/// A process that forks without executing another program gives its child copies of its clients. There they count as
/// closed, so that no nonce is used twice and the parent's connections go on; those that
/// [reconnect](crate::ClientBuilder::reconnect) do so with nonces of their own. Fork while no other thread uses a client:
/// the child has no such thread, and waits for ever for what it had locked.
///
/// ```
/// use falcotcp_sync::{Client, Error, Key, Server};
///
/// let key = Key::generate()?;
/// let server = Server::builder(key.clone())
///     .bind("127.0.0.1:0")?
///     .spawn(|message: &[u8]| message.to_ascii_uppercase())?;
///
/// let mut client = Client::connect(server.local_addr(), &key)?;
/// assert_eq!(client.message(b"hello")?, b"HELLO");
///
/// let stranger = Client::connect(server.local_addr(), Key::generate()?);
/// assert!(matches!(stranger, Err(Error::Refused { .. })));
/// # Ok::<(), Error>(())
/// ```
pub struct Client {
    pub(super) connection: Connection,
}

impl Client {
    /// Sends `message` and returns the server's response to it.
    ///
    /// # Errors
    /// - [`Error::Rejected`]: the server has no answer to it. The client stays open, unless that came before all of the message
    ///   was sent, as for one over the server's limit.
    /// - [`Error::HandlerFailed`]: the handler panicked. The client stays open.
    /// - [`Error::Overloaded`]: the server sheds load and did not handle it. The client stays open.
    /// - [`Error::TooLarge`] in [`Phase::Send`](crate::Phase::Send): over `max_message_size`; nothing was sent and the
    ///   client stays open.
    /// - [`Error::ClosedByServer`] in [`Phase::Idle`](crate::Phase::Idle): the server closed the connection before;
    ///   nothing was sent.
    /// - [`Error::TimedOut`], [`Error::ClosedByServer`] and [`Error::Io`] in other phases: the server may or may not have
    ///   processed it.
    /// - [`Error::NotAuthentic`], [`Error::TooLarge`] in [`Phase::Receive`](crate::Phase::Receive), [`Error::Unasked`]:
    ///   what arrived is not a response that can be used.
    /// - [`Error::Closed`]: the client was closed before.
    ///
    /// With [`reconnect`](crate::ClientBuilder::reconnect), what was not sent is no error as long as the client can connect
    /// anew; if it can't before the time-out, those of [`ClientBuilder::connect`](crate::ClientBuilder::connect). [`Error::was_sent`] tells.
    pub fn message(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut response = Vec::new();
        self.message_into(message, &mut response)?;
        Ok(response)
    }

    /// Sends `message` and puts the server's response to it into `response`, whose memory is used again. After an error
    /// it is empty.
    ///
    /// # Errors
    /// Those of [`message`](Self::message).
    pub fn message_into(&mut self, message: &[u8], response: &mut Vec<u8>) -> Result<(), Error> {
        self.connection.message(message, response, Ask::default())
    }

    /// Tells the server that the client is still there, so that the connection's lifetime starts again.
    ///
    /// In a forward-secret session the server answers it, and success says that the server is alive. A classic ping has no
    /// answer: success says that it was handed to the network.
    ///
    /// # Errors
    /// [`Error::ClosedByServer`], [`Error::TimedOut`], [`Error::Io`], [`Error::Unasked`] and [`Error::Closed`], as for
    /// [`message`](Self::message).
    pub fn ping(&mut self) -> Result<(), Error> {
        self.connection.ping()
    }

    /// Whether the client is connected: no error has left its stream in doubt. The server may have closed the
    /// connection all the same, which the next call tells.
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// Closes the connection for good, also with [`reconnect`](crate::ClientBuilder::reconnect). Dropping the client does the
    /// same.
    pub fn close(&mut self) {
        self.connection.close();
    }

    /// Whether the client has a forward-secret session; `false` while it is not connected. See
    /// [`ForwardSecrecy`](crate::ForwardSecrecy).
    pub fn is_forward_secret(&self) -> bool {
        self.connection.with_link(|link| link.session.is_forward_secret()).unwrap_or(false)
    }

    /// The server's address; `None` while the client is not connected.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.connection.peer_addr()
    }

    /// This end's address; `None` while the client is not connected.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.connection.local_addr()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("peer", &self.peer_addr()).finish_non_exhaustive()
    }
}
