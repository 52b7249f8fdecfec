//! What a server does with a message.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use mio::net::TcpStream;

use super::connection::deferred::{Place, Reply};
use super::connection_info::{ConnectionId, ConnectionInfo, EndReason};
use crate::protocol::ResponseWriter;

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
/// `Arc`s and `Box`es of handlers are handlers, also of `dyn Handler`. [`TestRequest`](crate::TestRequest) tests one without a
/// server.
///
/// Workers call it at the same time from several threads. It may block: its worker's other connections are served by
/// workers that have nothing to do, so choose as many workers as handlers may block at once. What another thread answers
/// later blocks nothing: [`Response::defer`].
///
/// # Panics
/// A handler that panics rejects its message, which the client sees as [`Error::HandlerFailed`](crate::Error::HandlerFailed),
/// or in a classic session as the empty response, [`Error::Rejected`](crate::Error::Rejected); the connection, its worker and
/// every other connection go on. A panic in the other two methods is logged and counted,
/// and that is all. That needs the default `panic = "unwind"`.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. What `response` holds at the end is sent, also when that is nothing.
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>);

    /// A client has connected and shown that it holds a key, and no message of it has been handled yet. A forward-secret
    /// session comes here with its first frame: until then it may be a recording. A classic one comes here with its
    /// establishment, which may be one even so.
    fn established(&self, connection: ConnectionInfo<'_>) {
        let _ = connection;
    }

    /// A connection that was [`established`](Self::established) is over: its last message has been handled, though what was
    /// deferred may still be worked on. Once for each, whatever happened, so that what was kept for it can be freed.
    ///
    /// Called by any of the server's threads, also by the one that accepts, so it must not take long; and by whoever
    /// [withdraws a key](crate::ServerKeys::withdraw), who must not hold a lock then that this takes.
    fn ended(&self, connection: ConnectionId, reason: EndReason) {
        let _ = (connection, reason);
    }
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

impl<H: Handler + ?Sized> Handler for Arc<H> {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        (**self).handle(request, response);
    }

    fn established(&self, connection: ConnectionInfo<'_>) {
        (**self).established(connection);
    }

    fn ended(&self, connection: ConnectionId, reason: EndReason) {
        (**self).ended(connection, reason);
    }
}

impl Handler for Box<dyn Handler> {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        (**self).handle(request, response);
    }

    fn established(&self, connection: ConnectionInfo<'_>) {
        (**self).established(connection);
    }

    fn ended(&self, connection: ConnectionId, reason: EndReason) {
        (**self).ended(connection, reason);
    }
}

/// One message and where it came from.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub(super) message: &'a [u8],
    pub(super) key_name: &'a str,
    pub(super) peer: SocketAddr,
    pub(super) connection: ConnectionId,
    pub(super) is_forward_secret: bool,
    pub(super) waited: Duration,
    pub(super) socket: PeerSocket<'a>,
}

/// Where a request came from.
#[derive(Clone, Copy)]
pub(super) struct PeerSocket<'a> {
    /// None for one that no peer sent.
    pub(super) stream: Option<&'a TcpStream>,
    /// What events have told.
    pub(super) is_closed: bool,
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

    /// Whether the session is [forward-secret](crate::ForwardSecrecy): nobody has replayed, reordered or reflected this
    /// message, and a key that leaks later does not open a recording of it.
    pub fn is_forward_secret(&self) -> bool {
        self.is_forward_secret
    }

    /// How long the message has waited for its handler, from when the server saw that it had something to read, to the
    /// millisecond or so. [`shed_after`](crate::ServerBuilder::shed_after) says more, and rejects what has waited too long.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether the peer has reset the connection or closed it for sending, by a look at the socket now: for handlers that take
    /// long and would work for nobody. It may be a half-close, of a peer that still reads the answers to what it has sent;
    /// clients of this crate and of the published packages do no such thing. While further messages wait behind this one, an
    /// end behind them is not seen.
    pub fn is_peer_gone(&self) -> bool {
        let is_at_end = |stream: &TcpStream| match stream.peek(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        self.socket.is_closed || self.socket.stream.is_some_and(is_at_end)
    }

    /// The connection that the message came over.
    pub fn connection_id(&self) -> ConnectionId {
        self.connection
    }
}

/// Without the message, which is nobody's to log.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("len", &self.message.len())
            .field("key_name", &self.key_name)
            .field("peer", &self.peer)
            .field("connection", &self.connection)
            .field("is_forward_secret", &self.is_forward_secret)
            .field("waited", &self.waited)
            .finish_non_exhaustive()
    }
}

/// The response to one message, written by a [`Handler`] straight into the worker's output.
///
/// It starts empty; what is appended is sealed in place afterwards, so a handler that appends slices
/// allocates nothing once the buffer has grown to the size of its usual responses.
///
/// ```
/// use falcotcp_sync::{Handler, Request, Response};
/// use std::io::Write;
///
/// struct Length;
///
/// impl Handler for Length {
///     fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
///         let _ = write!(response, "{} bytes", request.message().len());
///     }
/// }
/// ```
pub struct Response<'a> {
    writer: ResponseWriter<'a>,
    place: Place<'a>,
    /// The answer that comes later in place of what is written.
    deferred: Option<u64>,
    is_rejected: bool,
    is_closing: bool,
}

/// What a handler has made of a response, beside what is written.
pub(super) struct Outcome<'a> {
    /// Where the answer that comes later waits, if there is one.
    pub(super) place: Place<'a>,
    pub(super) deferred: Option<u64>,
    pub(super) is_rejected: bool,
    pub(super) is_closing: bool,
}

impl<'a> Response<'a> {
    #[inline]
    pub(super) fn new(writer: ResponseWriter<'a>, place: Place<'a>) -> Self {
        Self { writer, place, deferred: None, is_rejected: false, is_closing: false }
    }

    #[inline]
    pub(super) fn into_outcome(self) -> Outcome<'a> {
        let Self { place, deferred, is_rejected, is_closing, .. } = self;
        Outcome { place, deferred, is_rejected, is_closing }
    }

    /// Answers this message later: the worker is free as soon as the handler returns, and whoever has the reply gives the
    /// response, from any thread. What was written before is thrown away, and so is what is written after.
    ///
    /// Responses leave in the order of the messages, whatever order they become ready in; later messages of the connection are
    /// handled meanwhile, up to [`max_deferred`](crate::ServerBuilder::max_deferred). While an answer is outstanding the
    /// connection's lifetime does not run out; the answer has a time of its own,
    /// [`deferred_timeout`](crate::ServerBuilder::deferred_timeout). After a second call the first reply is not wanted any
    /// more, and neither is the reply of a handler that panics.
    pub fn defer(&mut self) -> Reply {
        let reply = self.place.defer(self.deferred);
        self.deferred = Some(reply.id());
        self.is_rejected = false;
        reply
    }

    /// Rejects this message: the client gets the empty response, and in a forward-secret session a rejection without a reason,
    /// both of which are [`Error::Rejected`](crate::Error::Rejected). What is written is thrown away, and a reply of
    /// [`defer`](Self::defer) not wanted any more.
    pub fn reject(&mut self) {
        if let Some(id) = self.deferred.take() {
            self.place.revoke(id);
        }
        self.is_rejected = true;
    }

    /// Closes the connection behind this answer, also behind one that comes later. Messages that come behind this one are not
    /// handled, of which a forward-secret session tells the client, so that it may send them again elsewhere.
    pub fn close(&mut self) {
        self.is_closing = true;
    }

    /// Appends `bytes`.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.writer.extend_from_slice(bytes);
    }

    /// Makes room for `additional` more bytes at once; never needed, at times faster.
    pub fn reserve(&mut self, additional: usize) {
        self.writer.reserve(additional);
    }

    /// What has been written so far.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.writer.as_slice()
    }

    /// What has been written so far, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.writer.as_mut_slice()
    }

    /// Bytes written so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.writer.len()
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.writer.is_empty()
    }

    /// Forgets what was written beyond the first `length` bytes; no effect when it is that short.
    pub fn truncate(&mut self, length: usize) {
        self.writer.truncate(length);
    }
}

impl io::Write for Response<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Extend<u8> for Response<'_> {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        self.writer.extend(bytes);
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("len", &self.len()).finish_non_exhaustive()
    }
}
