//! The server: an acceptor, and workers that share its connections.
//!
//! ```text
//! acceptor --assigns to the least loaded--> mailbox --> worker: table of connections, one wait
//!    |                                                    |         |  one at a time, for a turn
//!    |                                                    |         v
//!    |                                                    |     connection: read, open, handle, seal, write
//!    +--watchdog: ready connections of a stalled worker ->+ (any worker that has nothing to do)
//!    +--alarm: wakes a worker at the nearest of its connections' deadlines
//! ```
//!
//! Calls go downwards: this module and the handles start and stop; `acceptor` knows workers, `worker` knows connections,
//! `connection` knows the session; all of them know what is in `shared` and the application's handler.

mod acceptor;
mod connection;
mod connection_info;
mod descriptors;
mod handle;
mod handler;
mod keys;
mod metrics;
#[cfg(all(test, shuttle))]
mod models;
mod shared;
mod spawn;
mod stats;
mod test_request;
mod worker;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

pub use connection::{NotWanted, Reply};
pub use connection_info::{ConnectionId, ConnectionInfo, EndReason};
pub use handle::{Monitor, ServerHandle, ShutdownReport, Stopper};
pub use handler::{Handler, Request, Response};
pub use keys::ServerKeys;
pub use metrics::{Metric, MetricKind, Metrics};
pub use stats::{Stats, WorkerStats};
pub use test_request::{TestAnswer, TestReply, TestRequest};

use crate::keyring::check_name;
use crate::protocol::{ForwardSecrecy, MESSAGE_HEADER, SEAL_OVERHEAD, SessionSettings};
use crate::{Addresses, Error, Key, Phase};
use acceptor::listener;
use connection::DeferralLimits;
use shared::AdmissionLimits;
use spawn::Settings;

/// A server that has its address but does not serve yet: clients can connect and wait.
///
/// ```
/// use falcotcp_sync::{Client, Key, Server};
/// use std::time::Duration;
///
/// let key = Key::generate()?;
/// let server = Server::builder(key.clone()).workers(4).bind("127.0.0.1:0")?;
/// let handle = server.spawn(|message: &[u8]| message.to_ascii_uppercase())?;
///
/// let mut client = Client::connect(handle.local_addr(), &key)?;
/// assert_eq!(client.message(b"hello")?, b"HELLO");
/// handle.shutdown(Duration::from_secs(5))?;
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
pub struct Server {
    listener: TcpListener,
    local_addr: SocketAddr,
    settings: Settings,
}

/// The settings of a server; made by [`Server::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is bound"]
pub struct ServerBuilder {
    settings: Settings,
    backlog: u32,
    #[cfg(unix)]
    reuse_port: bool,
}

impl Server {
    /// Settings for a server whose clients hold `key`, which is called `default`. A `&key` is copied.
    pub fn builder(key: impl Into<Key>) -> ServerBuilder {
        Self::builder_with_key("default", key)
    }

    /// Settings for a server whose clients hold `key`, which is called `name`.
    pub fn builder_with_key(name: impl Into<String>, key: impl Into<Key>) -> ServerBuilder {
        ServerBuilder::new(name.into(), key.into())
    }

    /// The address that the server listens on, with the port that the operating system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Starts serving: `handler` answers each message, on any of the workers.
    ///
    /// # Errors
    /// [`Error::Io`] in [`Phase::Spawn`] when the operating system gives no threads or descriptors;
    /// [`Error::Random`] when it gives no random bytes for the nonces; [`Error::KeyNameTaken`] when two keys have the
    /// same name.
    pub fn spawn(self, handler: impl Handler) -> Result<ServerHandle, Error> {
        spawn::spawn(self.listener, self.local_addr, self.settings, Box::new(handler))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl ServerBuilder {
    fn new(name: String, key: Key) -> Self {
        Self {
            settings: Settings {
                keys: vec![(name, key)],
                session: SessionSettings::default(),
                workers: thread::available_parallelism().map_or(2, usize::from).max(2),
                admission: AdmissionLimits::default(),
                shed_after: None,
                deferral: DeferralLimits::default(),
                #[cfg(feature = "proxy-protocol")]
                proxies: Vec::new(),
            },
            backlog: 1024,
            #[cfg(unix)]
            reuse_port: false,
        }
    }

    /// Accepts another key as well, under a name that handlers see. Keys can also be added and withdrawn while the
    /// server runs: [`ServerHandle::keys`]. A key under two names and an empty name are errors. Default: none but the first.
    pub fn accept_key(mut self, name: impl Into<String>, key: impl Into<Key>) -> Self {
        self.settings.keys.push((name.into(), key.into()));
        self
    }

    /// Threads that serve connections. Each serves many: what needs more of them is handlers that block, one for each
    /// that may do so at the same time. At most 65,536. Default: [`available_parallelism`](thread::available_parallelism), at least 2.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// How long a connection lives from its last interaction: its establishment, a message that opened, or a ping.
    /// A message that arrives more slowly than this is cut off, also when the client pings by itself
    /// ([`keep_alive`](crate::ClientBuilder::keep_alive)): no ping fits into a frame, so the largest message must be
    /// through the slowest link within it. Default: 60 s (protocol, "Lifetime").
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.session.lifetime = lifetime;
        self
    }

    /// How long a peer may take to establish its connection. One whose offer of a forward-secret session is answered only when
    /// that is over, by a server that is late, has the time once more to follow. Default: 5 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.settings.session.handshake_timeout = timeout;
        self
    }

    /// How long a peer may take nothing at all of a response that is being sent. Default: 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.settings.session.write_timeout = timeout;
        self
    }

    /// The largest message, in bytes of plaintext. A larger one is answered with the empty response, in a forward-secret session
    /// with a goodbye, and its connection closed. At most `usize::MAX` less the 37 bytes that a frame has besides. Default: 16 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.session.max_message_size = bytes;
        self
    }

    /// Which peers have forward-secret sessions: with `Prefer` those that offer it; with `Require` all, since others are
    /// refused, among them the published packages; with `Off` none. Default: `Prefer`, or `Off` without the feature
    /// `forward-secrecy`.
    pub fn forward_secrecy(mut self, policy: ForwardSecrecy) -> Self {
        self.settings.session.forward_secrecy = policy;
        self
    }

    /// Sheds load: a message that has waited longer than this for its handler is answered without it, since its client has given
    /// it up by then or will. In a forward-secret session the client gets [`Error::Overloaded`], and may send it again after a
    /// pause; in a classic one the empty response, which is [`Error::Rejected`]. Choose it below the clients'
    /// [`request_timeout`](crate::ClientBuilder::request_timeout), less what a handler takes. `None` for never, the default.
    ///
    /// The wait counts from when the server saw that something had arrived, which is within a millisecond also while the
    /// worker is in a handler, if it has other connections; for what a handler of the same connection kept waiting, from the end
    /// of that one at the latest. What has arrived when the server stops is handled, however long it waited.
    pub fn shed_after(mut self, wait: impl Into<Option<Duration>>) -> Self {
        self.settings.shed_after = wait.into();
        self
    }

    /// Answers of one connection that may wait at the same time, of those that come later
    /// ([`Response::defer`]): outstanding ones, and finished ones behind them. While so many wait, or
    /// [`max_message_size`](Self::max_message_size) bytes of finished ones, nothing more is read from the connection. Default: 256.
    pub fn max_deferred(mut self, answers: usize) -> Self {
        self.settings.deferral.max_deferred = answers;
        self
    }

    /// How long an answer that comes later ([`Response::defer`]) may take; then its message is rejected and its [`Reply`]
    /// not wanted any more. `None` for as long as it takes: then a peer that has vanished without a word keeps its
    /// connection until the answer is given. Default: 5 minutes.
    pub fn deferred_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.deferral.timeout = timeout.into();
        self
    }

    /// Established connections that may be open at the same time; a further client is [refused](Error::Refused). Others do
    /// not count ([`max_unestablished`](Self::max_unestablished)), and neither do forward-secret sessions before their first
    /// frame: until then they may be a recording. Default: 65,536, beyond which most systems' descriptors end anyway.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.settings.admission.established = connections;
        self
    }

    /// Established connections that may be open at the same time from one IP address, behind a load balancer the true one
    /// (`proxy_protocol_from`); a further client from there is [refused](Error::Refused). Default: none.
    pub fn max_connections_per_peer(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.settings.admission.of_peer = connections.into();
        self
    }

    /// Connections that may be open without being established: peers that have not shown that they hold a key, for no longer
    /// than [`handshake_timeout`](Self::handshake_timeout). When there are so many, the oldest of them is closed for the next
    /// one, so strangers keep nobody out who establishes at once. Default: 1,024.
    ///
    /// They need descriptors beside those of [`max_connections`](Self::max_connections). When there are none left, the oldest of
    /// them make room as well, a sixteenth at a time.
    pub fn max_unestablished(mut self, connections: usize) -> Self {
        self.settings.admission.unestablished = connections;
        self
    }

    /// Connections that the operating system may queue before they are accepted. It may allow fewer. Default: 1024.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Lets several processes listen on the same address (`SO_REUSEPORT`), all of which must set it; the operating
    /// system spreads the connections over them. So a new version of a service can start before the old one stops.
    /// [`listen`](Self::listen) ignores it, the listener being bound. Default: no.
    #[cfg(unix)]
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.reuse_port = reuse_port;
        self
    }

    /// Expects a PROXY protocol header, version 2, first on each connection from these addresses, which are those of
    /// your load balancers; handlers and the log then see the true peer (feature `proxy-protocol`). A connection
    /// from there without one is closed in silence, and so is one from elsewhere with one. The header is not
    /// sealed: never name an address from which strangers can connect. `0.0.0.0` and `::` are nobody's address and an
    /// error. Default: none.
    #[cfg(feature = "proxy-protocol")]
    pub fn proxy_protocol_from(mut self, addrs: impl IntoIterator<Item = std::net::IpAddr>) -> Self {
        self.settings.proxies.extend(addrs.into_iter().map(|addr| addr.to_canonical()));
        self
    }

    /// Binds the first of `addr`'s addresses that can be bound.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for settings that can't work; [`Error::KeyTaken`] for a key under two names;
    /// [`Error::Io`] in [`Phase::Bind`] when nothing resolves, or when no address that was found can be bound: the text names
    /// each with what failed.
    pub fn bind(self, addr: impl Into<Addresses>) -> Result<Server, Error> {
        self.check()?;
        #[cfg(unix)]
        let reuse_port = self.reuse_port;
        #[cfg(not(unix))]
        let reuse_port = false;
        let listener = listener::bind(&addr.into(), self.backlog, reuse_port)
            .map_err(|source| Error::io(Phase::Bind, source))?;
        self.listen(listener)
    }

    /// Serves a listener that the caller has: one passed in by a service manager, or with options of its own.
    /// [`backlog`](Self::backlog) has no say then.
    ///
    /// The listener is made non-blocking and stays so when the server has ended, also for whoever else holds the same
    /// socket (a clone, another process): somebody may still be using it, so nothing is put back.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for settings that can't work; [`Error::KeyTaken`] for a key under two names;
    /// [`Error::Io`] in [`Phase::Bind`] when the listener has no address or can't be made non-blocking.
    pub fn listen(self, listener: TcpListener) -> Result<Server, Error> {
        self.check()?;
        let local_addr = listener
            .set_nonblocking(true)
            .and_then(|()| listener.local_addr())
            .map_err(|source| Error::io(Phase::Bind, source))?;
        Ok(Server { listener, local_addr, settings: self.settings })
    }

    fn check(&self) -> Result<(), Error> {
        let required = [
            ("workers", (1..=65_536).contains(&self.settings.workers), "from 1 to 65536"),
            ("lifetime", !self.settings.session.lifetime.is_zero(), "longer than zero"),
            ("handshake_timeout", !self.settings.session.handshake_timeout.is_zero(), "longer than zero"),
            ("write_timeout", !self.settings.session.write_timeout.is_zero(), "longer than zero"),
            ("shed_after", self.settings.shed_after != Some(Duration::ZERO), "longer than zero"),
            ("max_deferred", self.settings.deferral.max_deferred > 0, "at least 1"),
            ("deferred_timeout", self.settings.deferral.timeout != Some(Duration::ZERO), "longer than zero"),
            ("max_connections", self.settings.admission.established > 0, "at least 1"),
            ("max_connections_per_peer", self.settings.admission.of_peer != Some(0), "at least 1"),
            ("max_unestablished", self.settings.admission.unestablished > 0, "at least 1"),
            (
                "max_message_size",
                self.settings.session.max_message_size.checked_add(MESSAGE_HEADER + SEAL_OVERHEAD).is_some(),
                "small enough that a frame's length can be counted",
            ),
            ("backlog", self.backlog > 0 && i32::try_from(self.backlog).is_ok(), "from 1 to 2147483647"),
        ];
        #[cfg(feature = "proxy-protocol")]
        if self.settings.proxies.iter().any(std::net::IpAddr::is_unspecified) {
            let (setting, requirement) =
                ("proxy_protocol_from", "addresses of load balancers, not 0.0.0.0 or ::");
            return Err(Error::InvalidSetting { setting, requirement });
        }
        match required.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, requirement)) => Err(Error::InvalidSetting { setting, requirement }),
            None => self.check_keys(),
        }
    }

    /// What [`Keyring::add`](crate::Keyring::add) refuses, before anything is bound. Two keys of one name are an error of `spawn`.
    fn check_keys(&self) -> Result<(), Error> {
        for (index, (name, key)) in self.settings.keys.iter().enumerate() {
            check_name(name)?;
            let same = self.settings.keys[..index].iter().find(|(other, same)| other != name && same == key);
            if let Some((other, _)) = same {
                return Err(Error::KeyTaken { name: other.clone() });
            }
        }
        Ok(())
    }
}
