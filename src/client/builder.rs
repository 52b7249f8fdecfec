//! The settings of a client.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::core::Core;
use super::reconnect::Target;
use super::{Client, Settings, keep_alive};
use crate::protocol::Cipher;
use crate::{Error, Key, Phase};

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
    key: Key,
    settings: Settings,
    keep_alive: bool,
    keep_alive_interval: Option<Duration>,
}

impl ClientBuilder {
    pub(super) fn new(key: &Key) -> Self {
        Self {
            key: key.clone(),
            settings: Settings {
                connect_timeout: Duration::from_secs(5),
                request_timeout: Duration::from_secs(30),
                max_message_size: 16 << 20,
                lifetime: Duration::from_secs(60),
                reconnect: false,
            },
            keep_alive: false,
            keep_alive_interval: None,
        }
    }

    /// How long connecting may take: the TCP connection and the establishment together, and all addresses together, each
    /// of which gets its share. Resolving a name is not counted. Default: 5 s.
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

    /// The largest message and the largest response, in bytes of plaintext. Default: 16 MiB, as the server's.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.max_message_size = bytes;
        self
    }

    /// The server's lifetime of a connection, from which [`keep_alive`](Self::keep_alive) and
    /// [`reconnect`](Self::reconnect) know when one ends. Default: 60 s, the protocol's.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.settings.lifetime = lifetime;
        self
    }

    /// Whether the client pings by itself while it is idle, so that its connection never reaches its lifetime. One
    /// background thread does so for all clients of the program; it ends an interval after the last of them. Default: no.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// How long the client is idle until it pings, with [`keep_alive`](Self::keep_alive). Default: a quarter of the
    /// [`lifetime`](Self::lifetime).
    pub fn keep_alive_interval(mut self, interval: Duration) -> Self {
        self.keep_alive_interval = Some(interval);
        self
    }

    /// Whether the client connects anew by itself: before it sends, when the connection is known to be over, because the
    /// server closed it, an error did, or it has been idle for its [`lifetime`](Self::lifetime). Several addresses are
    /// tried in turn, one that failed not again for a while unless all have; between rounds it pauses, from 20 ms to 2 s
    /// with some randomness. All of it counts towards `request_timeout`. What was sent is never sent again, unless by
    /// [`message_idempotent`](Client::message_idempotent). Default: no.
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.settings.reconnect = reconnect;
        self
    }

    /// Connects to the first of `addr`'s addresses that accepts, and proves to the server that both hold the key.
    ///
    /// # Errors
    /// - [`Error::InvalidSetting`] for settings that can't work.
    /// - [`Error::Io`] in [`Phase::Connect`]: the address does not resolve, or nobody listens there.
    /// - [`Error::Refused`]: the server holds another key, is full or stopping, or is none of this protocol.
    /// - [`Error::TimedOut`] in [`Phase::Connect`] or [`Phase::Establishment`].
    /// - [`Error::Io`] in [`Phase::Spawn`]: the thread for [`keep_alive`](Self::keep_alive) could not be started.
    /// - [`Error::Random`]: the operating system gave no random bytes.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> Result<Client, Error> {
        self.check()?;
        let addrs: Vec<SocketAddr> =
            addr.to_socket_addrs().map_err(|source| Error::io(Phase::Connect, source))?.collect();
        let target = Target::new(addrs, Arc::new(Cipher::new(&self.key)));
        let core = Arc::new(Mutex::new(Core::connect(target, self.settings)?));
        if self.keep_alive {
            let interval = self.keep_alive_interval.unwrap_or(self.settings.lifetime / 4);
            keep_alive::register(&core, interval).map_err(|source| Error::io(Phase::Spawn, source))?;
        }
        Ok(Client { core })
    }

    fn check(&self) -> Result<(), Error> {
        let required = [
            ("connect_timeout", self.settings.connect_timeout),
            ("request_timeout", self.settings.request_timeout),
            ("lifetime", self.settings.lifetime),
            ("keep_alive_interval", self.keep_alive_interval.unwrap_or(Duration::MAX)),
        ];
        match required.into_iter().find(|(_, duration)| duration.is_zero()) {
            Some((setting, _)) => Err(Error::InvalidSetting { setting, requirement: "longer than zero" }),
            None => Ok(()),
        }
    }
}
