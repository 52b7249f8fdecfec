//! A running server in its owner's hands: look at it, wait for it, stop it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::keys::ServerKeys;
use super::shared::Counters;
use super::stats::Stats;
use super::worker::Pool;

/// How long a server that is stopped without a time of its own answers what has arrived.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// A running server. Dropping it stops the server as [`Stopper::stop`] does, and waits for its threads; so it must not be
/// dropped in a handler.
///
/// ```
/// use falcotcp_sync::{Key, Server};
/// use std::time::Duration;
///
/// let handle = Server::builder(Key::generate()?)
///     .bind("127.0.0.1:0")?
///     .spawn(|message: &[u8]| message.to_vec())?;
/// println!("serving on {}", handle.local_addr());
///
/// let report = handle.shutdown(Duration::from_secs(5))?;
/// assert_eq!(report.cut, 0);
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
#[must_use = "dropping the handle stops the server"]
pub struct ServerHandle {
    /// Nothing of the server is kept by whoever holds this.
    pub(super) pool: Weak<Pool>,
    pub(super) counters: Arc<Counters>,
    pub(super) local_addr: SocketAddr,
    pub(super) acceptor: Option<JoinHandle<ShutdownReport>>,
}

/// What became of the connections that were open when a server was stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Connections that were closed with nothing unfinished: idle ones, and those whose messages were all answered.
    pub drained: u64,
    /// Connections that were closed in the middle of a message or with an answer unsent.
    pub cut: u64,
    /// The server's last counters.
    pub stats: Stats,
}

impl ServerHandle {
    /// The address that the server listens on, with the port that the operating system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What the server has done so far.
    pub fn stats(&self) -> Stats {
        Stats::snapshot(&self.counters)
    }

    /// Something to read the counters with from another thread, also while the server drains and after its end.
    pub fn monitor(&self) -> Monitor {
        Monitor { counters: Arc::clone(&self.counters) }
    }

    /// The keys that the server accepts, to be changed from any thread.
    pub fn keys(&self) -> ServerKeys {
        ServerKeys::new(Weak::clone(&self.pool))
    }

    /// Something to stop the server with from another thread, a signal handler's or a request's.
    pub fn stopper(&self) -> Stopper {
        Stopper { pool: Weak::clone(&self.pool) }
    }

    /// Waits until the server has been stopped through a [`Stopper`].
    ///
    /// # Errors
    /// None at present; reserved for a server that can't go on.
    pub fn wait(mut self) -> Result<ShutdownReport, crate::Error> {
        Ok(self.join())
    }

    /// Stops the server and waits for its end.
    ///
    /// It accepts no more connections, answers every complete message that has arrived, and closes each connection as soon
    /// as nothing of it is unfinished: idle ones at once. When `drain` is over, what is still in the middle of a
    /// message or has an answer unsent is cut. A handler can't be interrupted: the server ends when the last one has
    /// returned, and its answer is still written if the socket takes it at once; no further message is handled then.
    /// Peers that are told of the end have a while to read it, unless they close: up to half a second, in forward-secret sessions
    /// up to one, and up to two if they go on sending. An idle client does not read, so drop clients first where that time matters, as in tests. Don't call this in
    /// a handler; use a [`Stopper`] there.
    ///
    /// # Errors
    /// None at present; reserved for a server that can't go on.
    pub fn shutdown(mut self, drain: Duration) -> Result<ShutdownReport, crate::Error> {
        self.stopper().stop_within(drain);
        Ok(self.join())
    }

    fn join(&mut self) -> ShutdownReport {
        self.acceptor.take().and_then(|acceptor| acceptor.join().ok()).unwrap_or_default()
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        if self.acceptor.is_some() {
            self.stopper().stop();
            self.join();
        }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("local_addr", &self.local_addr)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Reads a server's counters from anywhere; clones read the same ones. It outlives the server and keeps nothing else of it.
///
/// ```
/// use falcotcp_sync::{Key, Server};
/// use std::time::Duration;
///
/// let server = Server::builder(Key::generate()?).bind("127.0.0.1:0")?.spawn(|message: &[u8]| message.to_vec())?;
/// let monitor = server.monitor();
/// let exporter = std::thread::spawn(move || println!("{}", monitor.stats().metrics()));
/// server.shutdown(Duration::from_secs(5))?;
/// # exporter.join().unwrap();
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Monitor {
    counters: Arc<Counters>,
}

impl Monitor {
    /// What the server has done so far.
    pub fn stats(&self) -> Stats {
        Stats::snapshot(&self.counters)
    }
}

/// Stops a server from anywhere; clones stop the same one. Neither call waits: [`ServerHandle::wait`] does.
///
/// It keeps nothing of a server that has ended; a handler may hold one of its own server.
#[derive(Debug, Clone)]
pub struct Stopper {
    pool: Weak<Pool>,
}

impl Stopper {
    /// Stops the server soon: [`stop_within`](Self::stop_within) 100 ms, which is enough to answer what has arrived
    /// unless handlers take long, and does not wait for slow peers.
    pub fn stop(&self) {
        self.stop_within(STOP_GRACE);
    }

    /// Stops the server as [`ServerHandle::shutdown`] does with this `drain`; of several calls the earliest end counts.
    pub fn stop_within(&self, drain: Duration) {
        if let Some(pool) = self.pool.upgrade() {
            pool.stop(drain);
        }
    }
}
