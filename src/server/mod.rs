//! The server: an acceptor, and workers that share its connections.
//!
//! ```text
//! acceptor --deals to the least loaded--> inbox --> worker: table of connections, one wait
//!    |                                                ^
//!    +--watchdog: moves ready connections to workers that get on with them -+
//!    +--alarm: wakes a worker at the nearest of its connections' deadlines -+
//! ```

mod acceptor;
mod alarm;
mod buffers;
mod connection;
mod ending;
mod exchange;
#[cfg(test)]
mod fixture;
mod handle;
mod handler;
mod keys;
mod listener;
mod load;
mod moves;
#[cfg(feature = "proxy-protocol")]
mod proxy;
mod shared;
mod sharing;
mod stats;
mod table;
mod ticks;
mod timers;
mod watchdog;
mod watched;
mod worker;
mod worker_side;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::info;

pub use handle::{ServerHandle, ShutdownReport, Stopper};
pub use handler::{ConnectionId, Handler, Request, Response};
pub use keys::ServerKeys;
pub use stats::{Stats, WorkerStats};

use crate::keyring::{Keyring, check_name};
use crate::protocol::{MESSAGE_HEADER, NonceSequence, SEAL_OVERHEAD, SessionSettings};
use crate::{Error, Key, Phase};
use acceptor::{Acceptor, AcceptorSettings};
use shared::Shared;

const LOG: &str = "falcotcp_sync::server";

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
    builder: ServerBuilder,
}

/// The settings of a server; made by [`Server::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is bound"]
pub struct ServerBuilder {
    keys: Vec<(String, Key)>,
    session: SessionSettings,
    workers: usize,
    max_connections: usize,
    backlog: u32,
    #[cfg(unix)]
    reuse_port: bool,
    #[cfg(feature = "proxy-protocol")]
    proxies: Vec<std::net::IpAddr>,
}

impl Server {
    /// Settings for a server whose clients hold `key`, which is called `default`.
    pub fn builder(key: Key) -> ServerBuilder {
        Self::builder_with_key("default", key)
    }

    /// Settings for a server whose clients hold `key`, which is called `name`.
    pub fn builder_with_key(name: impl Into<String>, key: Key) -> ServerBuilder {
        ServerBuilder {
            keys: vec![(name.into(), key)],
            session: SessionSettings::default(),
            workers: thread::available_parallelism().map_or(2, usize::from).max(2),
            max_connections: 65_536,
            backlog: 1024,
            #[cfg(unix)]
            reuse_port: false,
            #[cfg(feature = "proxy-protocol")]
            proxies: Vec::new(),
        }
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
        let failed = |source| Error::io(Phase::Spawn, source);
        let Self { listener, local_addr, builder } = self;
        let keyring = Arc::new(Keyring::new());
        for (name, key) in &builder.keys {
            keyring.add(name.as_str(), key)?;
        }
        let session = (Arc::new(builder.session), Arc::clone(&keyring));
        let listener = mio::net::TcpListener::from_std(listener);
        let settings = AcceptorSettings {
            max_connections: builder.max_connections,
            session,
            #[cfg(feature = "proxy-protocol")]
            proxies: builder.proxies,
        };
        let (acceptor, acceptor_waker) = Acceptor::new(listener, settings).map_err(failed)?;
        let nonces = (0..builder.workers).map(|_| NonceSequence::new()).collect::<Result<Vec<_>, Error>>()?;
        let shared =
            Shared::new(builder.workers, Box::new(handler), keyring, acceptor_waker).map_err(failed)?;
        let shared = Arc::new(shared);
        let acceptor = start_threads(&shared, acceptor, nonces).map_err(failed)?;
        info!(target: LOG, "serving on {local_addr} with {} workers", builder.workers);
        Ok(ServerHandle { shared, local_addr, acceptor: Some(acceptor) })
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// Accepts another key as well, under a name that handlers see. Keys can also be added and withdrawn while the
    /// server runs: [`ServerHandle::keys`]. A key under two names and an empty name are errors. Default: none but the first.
    pub fn accept_key(mut self, name: impl Into<String>, key: Key) -> Self {
        self.keys.push((name.into(), key));
        self
    }

    /// Threads that serve connections. Each serves many: what needs more of them is handlers that block, one for each
    /// that may do so at the same time. At most 65,536. Default: [`available_parallelism`](thread::available_parallelism), at least 2.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// How long a connection lives from its last interaction: its establishment, a message that opened, or a ping.
    /// A message that arrives more slowly than this is cut off, also when the client pings by itself
    /// ([`keep_alive`](crate::ClientBuilder::keep_alive)): no ping fits into a frame, so the largest message must be
    /// through the slowest link within it. Default: 60 s (protocol, "Lifetime").
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.session.lifetime = lifetime;
        self
    }

    /// How long a peer may take to establish its connection. Default: 5 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.session.handshake_timeout = timeout;
        self
    }

    /// How long a peer may take nothing at all of a response that is being sent. Default: 10 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.session.write_timeout = timeout;
        self
    }

    /// The largest message, in bytes of plaintext. A larger one is answered with the empty response and its connection
    /// closed. At most `usize::MAX` less the 37 bytes that a frame has besides. Default: 16 MiB.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.session.max_message_size = bytes;
        self
    }

    /// Connections that may be open at the same time; further ones are closed at once. Default: 65,536, beyond
    /// which most systems' descriptors end anyway.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
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
        self.proxies.extend(addrs.into_iter().map(|addr| addr.to_canonical()));
        self
    }

    /// Binds the first of `addr`'s addresses that can be bound.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] for settings that can't work; [`Error::KeyTaken`] for a key under two names;
    /// [`Error::Io`] in [`Phase::Bind`] when the address does not resolve, or when none of its addresses can be bound:
    /// the text names each of them with what failed.
    pub fn bind(self, addr: impl ToSocketAddrs) -> Result<Server, Error> {
        self.check()?;
        #[cfg(unix)]
        let reuse_port = self.reuse_port;
        #[cfg(not(unix))]
        let reuse_port = false;
        let listener = listener::bind(addr, self.backlog, reuse_port)
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
        Ok(Server { listener, local_addr, builder: self })
    }

    fn check(&self) -> Result<(), Error> {
        let required = [
            ("workers", (1..=65_536).contains(&self.workers), "from 1 to 65536"),
            ("lifetime", !self.session.lifetime.is_zero(), "longer than zero"),
            ("handshake_timeout", !self.session.handshake_timeout.is_zero(), "longer than zero"),
            ("write_timeout", !self.session.write_timeout.is_zero(), "longer than zero"),
            ("max_connections", self.max_connections > 0, "at least 1"),
            (
                "max_message_size",
                self.session.max_message_size.checked_add(MESSAGE_HEADER + SEAL_OVERHEAD).is_some(),
                "small enough that a frame's length can be counted",
            ),
            ("backlog", self.backlog > 0 && i32::try_from(self.backlog).is_ok(), "from 1 to 2147483647"),
        ];
        #[cfg(feature = "proxy-protocol")]
        if self.proxies.iter().any(std::net::IpAddr::is_unspecified) {
            let (setting, requirement) =
                ("proxy_protocol_from", "addresses of load balancers, not 0.0.0.0 or ::");
            return Err(Error::InvalidSetting { setting, requirement });
        }
        match required.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, requirement)) => Err(Error::InvalidSetting { setting, requirement }),
            None => self.check_keys(),
        }
    }

    /// What [`Keyring::add`] refuses, before anything is bound. Two keys of one name are an error of `spawn`.
    fn check_keys(&self) -> Result<(), Error> {
        for (index, (name, key)) in self.keys.iter().enumerate() {
            check_name(name)?;
            let same = self.keys[..index].iter().find(|(other, same)| other != name && same == key);
            if let Some((other, _)) = same {
                return Err(Error::KeyTaken { name: other.clone() });
            }
        }
        Ok(())
    }
}

/// Starts the workers and the acceptor, all of them or none.
fn start_threads(
    shared: &Arc<Shared>,
    acceptor: Acceptor,
    nonces: Vec<NonceSequence>,
) -> io::Result<JoinHandle<ShutdownReport>> {
    let start = || {
        let mut workers = Vec::new();
        for (index, nonces) in nonces.into_iter().enumerate() {
            let shared = Arc::clone(shared);
            workers.push(
                thread::Builder::new()
                    .name(format!("falcotcp-{index}"))
                    .spawn(move || worker::run(&shared, index, nonces))?,
            );
        }
        let shared = Arc::clone(shared);
        thread::Builder::new()
            .name("falcotcp-accept".to_owned())
            .spawn(move || acceptor.run(&shared, workers))
    };
    start().inspect_err(|_| {
        shared.stop.finish();
        shared.wake_workers();
    })
}
