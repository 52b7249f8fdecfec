//! The settings of a client.

use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::handle::Client;
use super::key_source::KeySource;
use super::settings::Settings;
use super::shared::{SharedClient, SharedSettings};
use super::target::{Failures, Target};
use crate::protocol::{MESSAGE_HEADER, SEAL_OVERHEAD};
use crate::{Addresses, Error, ForwardSecrecy, Key, Phase};

/// The shortest time between two pings of one client, which are to be worth their processor time.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

impl Client {
    /// Connects to a server that holds the same `key`, with the default settings.
    ///
    /// # Errors
    /// Those of [`ClientBuilder::connect`].
    pub fn connect(addr: impl Into<Addresses>, key: impl Into<Key>) -> Result<Self, Error> {
        Self::builder(key).connect(addr)
    }

    /// Settings for clients that hold `key`. A `&key` is copied.
    pub fn builder(key: impl Into<Key>) -> ClientBuilder {
        ClientBuilder::new(KeySource::Fixed(key.into()))
    }

    /// Settings for clients whose key `source` gives, which is asked for each connection: so clients that connect anew
    /// follow a rotation, as that of a file or a secret store. It is called by the thread that connects; of a shared client
    /// that is one in the background.
    ///
    /// Its error is the error of connecting, and nothing was sent then. One that is not about keys, as of another client or
    /// [`Error::Other`], is told as [`Error::Io`], and with [`reconnect`](ClientBuilder::reconnect) the source is asked again
    /// until the time is over. [`Server::builder_with_key`](crate::Server::builder_with_key) is something else: a key, and
    /// its name.
    ///
    /// ```
    /// use falcotcp_sync::{Client, Key};
    ///
    /// let builder = Client::builder_with_keys(|| Key::load("/run/secrets/falcotcp.key"));
    /// # let _ = builder;
    /// ```
    pub fn builder_with_keys(
        source: impl Fn() -> Result<Key, Error> + Send + Sync + 'static,
    ) -> ClientBuilder {
        ClientBuilder::new(KeySource::Asked(Arc::new(source)))
    }
}

/// The settings of a client; made by [`Client::builder`].
///
/// ```
/// # use falcotcp_sync::{Client, Key, Server};
/// use std::time::Duration;
/// # let key = Key::generate()?;
/// # let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_vec())?;
/// # let addr = server.local_addr();
///
/// // For a service that runs for months: pings while idle, connects anew when it has to.
/// let mut client = Client::builder(&key)
///     .request_timeout(Duration::from_secs(10))
///     .keep_alive(true)
///     .reconnect(true)
///     .connect(addr)?;
/// assert_eq!(client.message(b"hello")?, b"hello");
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    key: KeySource,
    settings: Settings,
    keep_alive: bool,
    keep_alive_interval: Option<Duration>,
    failures: Failures,
    max_in_flight: usize,
    stall_timeout: Option<Duration>,
}

impl ClientBuilder {
    fn new(key: KeySource) -> Self {
        Self {
            key,
            settings: Settings {
                connect_timeout: Duration::from_secs(5),
                request_timeout: Duration::from_secs(30),
                max_message_size: None,
                lifetime: None,
                reconnect: false,
                forward_secrecy: ForwardSecrecy::default(),
            },
            keep_alive: false,
            keep_alive_interval: None,
            failures: Failures::default(),
            max_in_flight: 1024,
            stall_timeout: None,
        }
    }

    /// How long connecting may take: the TCP connection and the establishment together, and all addresses together. Each
    /// gets its share, of at least a second, or half of the time that is left if that is shorter. Resolving a name
    /// counts as well, though nothing can cut it short. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long an exchange may take in all, from the first byte sent to the last byte received, connecting anew
    /// included. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// The largest message and the largest response, in bytes of plaintext. Default: 16 MiB, as the server's. In a
    /// forward-secret session the server says its own limit for messages, which replaces the default, and a larger setting.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.max_message_size = Some(bytes);
        self
    }

    /// The server's lifetime of a connection, from which [`keep_alive`](Self::keep_alive) and
    /// [`reconnect`](Self::reconnect) know when one ends; they allow for the round trip that connecting took. Default:
    /// 60 s, the protocol's. In a forward-secret session the server says it, which replaces the default, and a longer
    /// setting.
    ///
    /// A message must arrive whole within the lifetime, also with [`keep_alive`](Self::keep_alive): while one is on its
    /// way, nothing else can tell the server that the client is there.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.lifetime = Some(lifetime);
        self
    }

    /// Whether the client pings by itself while it is idle, so that its connection never reaches its lifetime. One
    /// background thread does so for all clients of the program; it ends an interval after the last of them. Default: no.
    ///
    /// A message must still arrive whole within the [`lifetime`](Self::lifetime).
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// How long the client is idle until it pings, with [`keep_alive`](Self::keep_alive): from 1 ms, and shorter than the
    /// [`lifetime`](Self::lifetime). Default: a quarter of that.
    pub fn keep_alive_interval(mut self, interval: Duration) -> Self {
        self.keep_alive_interval = Some(interval);
        self
    }

    /// Whether the client connects anew by itself: before it sends, when the connection is known to be over, because the
    /// server closed it, an error did, or it has been idle for so much of its [`lifetime`](Self::lifetime) that a message
    /// might come too late. Several addresses are tried in turn, one that failed not again for 5 s, and for up to a minute
    /// if it goes on failing, unless all have, which all clients of a builder and its clones learn from each other;
    /// between rounds it pauses, from 20 ms to 2 s with some randomness. All of it counts towards `request_timeout`. What was sent is never sent again, unless by
    /// [`ClientRequest::idempotent`](crate::ClientRequest::idempotent). Default: no.
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.settings.reconnect = reconnect;
        self
    }

    /// Calls of a [`SharedClient`] that may be in flight at the same time; [`connect`](Self::connect) has no use for it. With the
    /// published Python server use 1: it reads one message at a time. Default: 1024.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// When a [`SharedClient`] gives its connection up: nothing at all has arrived for so long while an answer was due.
    /// [`connect`](Self::connect) has no use for it. Default: the [`request_timeout`](Self::request_timeout), or a longer one of
    /// a call in flight.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = Some(timeout);
        self
    }

    /// Which sessions the client has: with `Prefer` forward-secret ones with servers that know them, and classic ones with
    /// others; with `Require` forward-secret ones only; with `Off` classic ones. Default: `Prefer`, or `Off` without the
    /// feature `forward-secrecy`.
    ///
    /// `Prefer` protects from everybody who only listens. Somebody who can change traffic can make the session classic, which
    /// `Require` rules out.
    pub fn forward_secrecy(mut self, policy: ForwardSecrecy) -> Self {
        self.settings.forward_secrecy = policy;
        self
    }

    /// Connects to the first of `addr`'s addresses that accepts, and proves to the server that both hold the key.
    ///
    /// # Errors
    /// - [`Error::InvalidSetting`] for settings that can't work.
    /// - [`Error::Io`] in [`Phase::Connect`]: the address does not resolve, or nobody listens there. Of several addresses
    ///   that failed in different ways it names each with what happened there, and is of the last one's kind.
    /// - [`Error::Refused`]: the server holds another key, is full or stopping, or is none of this protocol.
    /// - [`Error::NotForwardSecret`]: the server holds the key but has no forward-secret sessions, which
    ///   [`forward_secrecy`](Self::forward_secrecy) requires. Nothing was sent to it.
    /// - [`Error::TimedOut`] in [`Phase::Connect`] or [`Phase::Establishment`].
    /// - [`Error::Io`] in [`Phase::Spawn`]: the thread for [`keep_alive`](Self::keep_alive) could not be started.
    /// - [`Error::Random`]: the operating system gave no random bytes.
    pub fn connect(&self, addr: impl Into<Addresses>) -> Result<Client, Error> {
        self.check()?;
        let target = Target::new(addr.into(), self.failures.clone(), self.key.clone());
        let mut connection = Connection::connect(target, self.settings)?;
        if self.keep_alive {
            connection
                .keep_alive(self.keep_alive_interval)
                .map_err(|source| Error::io(Phase::Spawn, source))?;
        }
        Ok(Client { connection })
    }

    /// Connects as [`connect`](Self::connect) does, for a client that many threads share.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect); [`Error::Io`] in [`Phase::Spawn`] when the operating system gives no thread or
    /// descriptors.
    pub fn connect_shared(&self, addr: impl Into<Addresses>) -> Result<SharedClient, Error> {
        self.check()?;
        let target = Target::new(addr.into(), self.failures.clone(), self.key.clone());
        let connection = Connection::connect(target, self.settings)?;
        let settings = SharedSettings {
            max_in_flight: self.max_in_flight,
            stall_timeout: self.stall_timeout,
            keep_alive: self.keep_alive,
            keep_alive_interval: self.keep_alive_interval,
        };
        SharedClient::new(connection, settings)
    }

    fn interval(&self) -> Duration {
        self.keep_alive_interval.unwrap_or(self.settings.lifetime() / 4)
    }

    fn check(&self) -> Result<(), Error> {
        let Settings { connect_timeout, request_timeout, .. } = self.settings;
        let (lifetime, max_message_size) = (self.settings.lifetime(), self.settings.max_message_size());
        let is_long_enough = self.interval() >= SHORTEST_INTERVAL;
        let requirements = [
            ("max_in_flight", "at least 1", self.max_in_flight > 0),
            ("stall_timeout", "longer than zero", self.stall_timeout != Some(Duration::ZERO)),
            ("connect_timeout", "longer than zero", !connect_timeout.is_zero()),
            ("request_timeout", "longer than zero", !request_timeout.is_zero()),
            ("lifetime", "longer than zero", !lifetime.is_zero()),
            (
                "lifetime",
                "at least 4 ms with keep_alive",
                !self.keep_alive || self.keep_alive_interval.is_some() || is_long_enough,
            ),
            ("keep_alive_interval", "at least 1 ms", self.keep_alive_interval.is_none() || is_long_enough),
            ("keep_alive_interval", "shorter than the lifetime", self.interval() < lifetime),
            (
                "max_message_size",
                "small enough for the length of its frame to be a number",
                max_message_size.checked_add(MESSAGE_HEADER + SEAL_OVERHEAD).is_some(),
            ),
        ];
        match requirements.into_iter().find(|(.., is_met)| !is_met) {
            Some((setting, requirement, _)) => Err(Error::InvalidSetting { setting, requirement }),
            None => Ok(()),
        }
    }
}
