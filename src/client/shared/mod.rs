//! A client that many threads share: calls in flight, on one connection.
//!
//! A call goes down this list, and each file knows only those below it:
//!
//! - `request`: a call with more than the defaults; this file: [`SharedClient`];
//! - `calling`: the future that waits for room; `call`: a call in flight;
//! - `connecting`: what the background thread does for a client, and new connections;
//! - `begin`, `writing`, `reading`, `ending`: the way of a call;
//! - `client`: what all clones share; `state`: the connection, and the calls in flight on it;
//! - `driver`: the background thread; `socket`; `slot`: where results are left; `room`.

mod begin;
mod call;
mod calling;
mod client;
mod connecting;
mod driver;
mod ending;
mod reading;
mod request;
mod room;
mod slot;
mod socket;
mod state;
mod writing;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

pub use self::call::Call;
pub use self::calling::Calling;
pub(super) use self::client::SharedSettings;
pub use self::request::SharedRequest;

use self::begin::Begin;
use self::client::Shared;
use super::connection::Connection;
use super::settings::Ask;
use crate::{Error, Phase};

/// A connection that any number of threads share; clones are the same client. Made by
/// [`ClientBuilder::connect_shared`](crate::ClientBuilder::connect_shared).
///
/// Calls of all threads are sent in the order in which they were started, written together with what waits, and each gets its
/// own response. Who waits blocks no other thread. But answers come in order, so a slow call delays the later ones: have a
/// client for each class of latency.
///
/// ```
/// use falcotcp_sync::{Client, Key, Server};
///
/// let key = Key::generate()?;
/// let server = Server::builder(key.clone())
///     .bind("127.0.0.1:0")?
///     .spawn(|message: &[u8]| message.to_ascii_uppercase())?;
///
/// let client = Client::builder(&key).reconnect(true).connect_shared(server.local_addr())?;
/// assert_eq!(client.message(b"hello")?, b"HELLO");                 // blocks this thread only
///
/// let (one, two) = (client.start(b"one")?, client.start(b"two")?); // both in flight
/// assert_eq!((one.wait()?, two.wait()?), (b"ONE".to_vec(), b"TWO".to_vec()));
///
/// client.start(b"three")?.then(|result| drop(result));             // on the client's own thread; must not block
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
///
/// In an executor, [`call`](Self::call) is a future that never blocks its thread. When the connection ends, what was not written
/// goes out on the next one with [`reconnect`](crate::ClientBuilder::reconnect), and fails otherwise; what was written fails, with
/// [`was_sent`](Error::was_sent), unless the server said that it was not taken up. Connecting anew is done on a thread of its own
/// that lives no longer than that takes. A forked child can't use its parent's client: make one there.
#[derive(Clone)]
pub struct SharedClient {
    handle: Arc<Handle>,
}

/// What all clones hold, and neither calls nor threads: the last one closes.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl SharedClient {
    pub(super) fn new(connector: Connection, settings: SharedSettings) -> Result<Self, Error> {
        let shared = Shared::new(connector, settings)?;
        let weak = Arc::downgrade(&shared);
        shared.registration.attach(weak);
        Ok(Self { handle: Arc::new(Handle(shared)) })
    }

    /// Sends `message` and waits for the server's response, blocking this thread only.
    ///
    /// # Errors
    /// Those of [`Client::message`](crate::Client::message); [`Error::TimedOut`] also when there was no room for the call in its
    /// time; [`Error::InCallback`] on the client's own thread, where nothing was sent.
    pub fn message(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.send(message, Ask::default())
    }

    /// Starts a call and does not wait for its response. Waits for room if [`max_in_flight`](crate::ClientBuilder::max_in_flight)
    /// calls are in flight, which counts towards the call's time.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Closed`], and [`Error::TimedOut`] in [`Phase::Idle`](crate::Phase::Idle) when there was no
    /// room; nothing was sent then. On the client's own thread those of [`try_start`](Self::try_start), which it is there.
    pub fn start(&self, message: &[u8]) -> Result<Call, Error> {
        self.start_with(message, Ask::default())
    }

    /// Starts a call if there is room for it.
    ///
    /// # Errors
    /// [`Error::Busy`] when there is none, [`Error::TooLarge`], [`Error::Closed`]; nothing was sent.
    pub fn try_start(&self, message: &[u8]) -> Result<Call, Error> {
        self.try_start_with(message, Ask::default())
    }

    /// A call as a future, for any executor: it waits for room and for the response without blocking its thread. Its time counts
    /// from now.
    pub fn call(&self, message: &[u8]) -> Calling {
        self.call_with(message, Ask::default())
    }

    /// Tells the server that the client is still there; in a forward-secret session its pong is waited for, so that success
    /// says that the server is alive.
    ///
    /// # Errors
    /// Those of [`Client::ping`](crate::Client::ping); [`Error::InCallback`] on the client's own thread.
    pub fn ping(&self) -> Result<(), Error> {
        if self.handle.0.registration.is_own_thread() {
            return Err(Error::InCallback { phase: Phase::Idle });
        }
        self.handle.0.ping(self.handle.0.settings.time_limit(Ask::default()))
    }

    /// Whether the client is connected. The server may have closed the connection all the same, which the next call tells.
    pub fn is_open(&self) -> bool {
        let shared = &self.handle.0;
        !shared.is_forked() && shared.state.lock().socket.is_some()
    }

    /// Whether the session is forward-secret; `false` while the client is not connected.
    pub fn is_forward_secret(&self) -> bool {
        let state = self.handle.0.state.lock();
        state.socket.as_ref().is_some_and(|socket| socket.link.session.is_forward_secret())
    }

    /// The server's address; `None` while the client is not connected.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.handle.0.state.lock().peer_addr()
    }

    /// Closes the client for good, and with it all clones. Calls whose messages are on the way fail with
    /// [`Error::ClosedInFlight`], others with [`Error::Closed`]. Dropping the last clone does the same.
    pub fn close(&self) {
        self.handle.0.close();
    }
}

/// The calls, with what each asks for.
impl SharedClient {
    fn send(&self, message: &[u8], ask: Ask) -> Result<Vec<u8>, Error> {
        if self.handle.0.registration.is_own_thread() {
            return Err(Error::InCallback { phase: Phase::Idle });
        }
        let shared = &self.handle.0;
        let begin = self.begin(ask, true)?;
        let slot = shared.begin_when_room(message, begin)?;
        shared.wait(&slot, begin.time.deadline).unwrap_or_else(|| shared.time_out(&slot, begin.time))
    }

    fn start_with(&self, message: &[u8], ask: Ask) -> Result<Call, Error> {
        if self.handle.0.registration.is_own_thread() {
            return self.try_start_with(message, ask);
        }
        let begin = self.begin(ask, false)?;
        let slot = self.handle.0.begin_when_room(message, begin)?;
        Ok(Call::new(Arc::clone(&self.handle.0), slot, begin.time))
    }

    fn try_start_with(&self, message: &[u8], ask: Ask) -> Result<Call, Error> {
        let begin = self.begin(ask, false)?;
        let slot = self.handle.0.begin(message, begin)?;
        Ok(Call::new(Arc::clone(&self.handle.0), slot, begin.time))
    }

    fn call_with(&self, message: &[u8], ask: Ask) -> Calling {
        let time = self.handle.0.settings.time_limit(ask);
        let begin = Begin { time, is_idempotent: ask.is_idempotent, will_wait: false };
        Calling::new(Arc::clone(&self.handle.0), message.to_vec(), begin)
    }

    fn begin(&self, ask: Ask, will_wait: bool) -> Result<Begin, Error> {
        ask.check()?;
        let time = self.handle.0.settings.time_limit(ask);
        Ok(Begin { time, is_idempotent: ask.is_idempotent, will_wait })
    }
}

impl fmt::Debug for SharedClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedClient").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}
