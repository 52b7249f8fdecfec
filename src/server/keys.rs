//! The keys of a running server.

use std::sync::Weak;

use super::worker::Pool;
use crate::{Error, Key};

/// The keys that a running server accepts. Clones change the same server; they keep nothing of one that has ended, which
/// has no keys. A handler may hold those of its own server.
///
/// To replace a key without a failed request:
///
/// 1. [`add`](Self::add) the new one under a name of its own;
/// 2. give it to the clients, each of which connects anew with it;
/// 3. wait until [`connections`](Self::connections) says that nobody uses the old one;
/// 4. [`withdraw`](Self::withdraw) that.
///
/// ```
/// use falcotcp_sync::{Client, Error, Key, Server};
///
/// let (old, new) = (Key::generate()?, Key::generate()?);
/// let server = Server::builder_with_key("2026", old.clone())
///     .bind("127.0.0.1:0")?
///     .spawn(|message: &[u8]| message.to_vec())?;
/// let mut client = Client::connect(server.local_addr(), &old)?;
///
/// server.keys().add("2027", &new)?;
/// let mut renewed = Client::connect(server.local_addr(), &new)?;
///
/// server.keys().withdraw("2026");
/// assert!(matches!(client.message(b"hello"), Err(Error::ClosedByServer { .. })));
/// assert_eq!(renewed.message(b"hello")?, b"hello");
/// assert!(matches!(Client::connect(server.local_addr(), &old), Err(Error::Refused { .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ServerKeys {
    pool: Weak<Pool>,
}

impl ServerKeys {
    pub(super) fn new(pool: Weak<Pool>) -> Self {
        Self { pool }
    }

    /// Accepts `key`, under `name`, from now on.
    ///
    /// # Errors
    /// [`Error::KeyNameTaken`] when a key has this name, [`Error::KeyTaken`] when this key has another name,
    /// [`Error::InvalidSetting`] for an empty name, [`Error::Random`] when the operating system gives no random bytes,
    /// [`Error::Stopped`] when the server has ended.
    pub fn add(&self, name: impl Into<String>, key: impl Into<Key>) -> Result<(), Error> {
        self.pool.upgrade().ok_or(Error::Stopped)?.keyring.add(name, &key.into())
    }

    /// Accepts the key of this name no more and closes the connections that live under it; `false` when there is no
    /// such key.
    ///
    /// A message that a handler is answering still gets its response; no further one is handled. This thread may be the one
    /// that tells the handler of connections' ends ([`Handler::ended`](crate::Handler::ended)): hold no lock that it takes there.
    pub fn withdraw(&self, name: &str) -> bool {
        let Some(pool) = self.pool.upgrade() else { return false };
        let found = pool.keyring.withdraw(name);
        if found {
            pool.sweep_withdrawn();
        }
        found
    }

    /// How many connections live under the key of this name; `None` when there is no such key.
    pub fn connections(&self, name: &str) -> Option<usize> {
        self.pool.upgrade()?.keyring.sessions(name)
    }

    /// The names of the keys that are accepted, in the order in which they were added.
    pub fn names(&self) -> Vec<String> {
        self.pool.upgrade().map_or_else(Vec::new, |pool| pool.keyring.names())
    }
}
