//! A call in flight, in its caller's hands.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::client::Shared;
use super::driver;
use super::slot::Slot;
use crate::client::settings::TimeLimit;
use crate::protocol::later;
use crate::{Error, Phase};

/// A call in flight of a [`SharedClient`](crate::SharedClient): wait for its result on any thread, await it in any executor, or
/// give it to a callback.
///
/// Its time is the client's `request_timeout`, or its own ([`SharedRequest::timeout`](crate::SharedRequest::timeout)), counted
/// from its start. Dropping it abandons the answer, not the connection: the
/// response is read and thrown away.
///
/// ```
/// # use falcotcp_sync::{Client, Key, Server};
/// # let key = Key::generate()?;
/// # let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_vec())?;
/// let client = Client::builder(&key).connect_shared(server.local_addr())?;
/// let (one, two) = (client.start(b"one")?, client.start(b"two")?);
/// assert_eq!((one.wait()?, two.wait()?), (b"one".to_vec(), b"two".to_vec()));
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
#[must_use = "dropping a call abandons its answer"]
pub struct Call {
    client: Arc<Shared>,
    slot: Arc<Slot>,
    time: TimeLimit,
}

impl Call {
    pub(super) fn new(client: Arc<Shared>, slot: Arc<Slot>, time: TimeLimit) -> Self {
        Self { client, slot, time }
    }

    /// Waits for the response, blocking this thread alone.
    ///
    /// # Errors
    /// Those of [`Client::message`](crate::Client::message); [`Error::InCallback`] on the client's own thread.
    pub fn wait(self) -> Result<Vec<u8>, Error> {
        if self.client.registration.is_own_thread() {
            let own_thread = |phase| Error::InCallback { phase };
            return match self.client.forget(&self.slot) {
                Some(call) => Err(call.told(own_thread(Phase::Idle))),
                None => self.slot.take().unwrap_or(Err(own_thread(Phase::Receive))),
            };
        }
        match self.client.wait(&self.slot, self.time.deadline) {
            Some(outcome) => outcome,
            None => self.client.time_out(&self.slot, self.time),
        }
    }

    /// Waits for the response no longer than this, and gives the call back when it is not there by then; on the client's own
    /// thread without waiting.
    ///
    /// # Errors
    /// The call itself. What [`wait`](Self::wait) gives is inside.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<Vec<u8>, Error>, Call> {
        if self.client.registration.is_own_thread() {
            return self.slot.take().ok_or(self);
        }
        let until = later(Instant::now(), timeout);
        if until >= self.time.deadline {
            return Ok(self.wait());
        }
        self.client.wait(&self.slot, until).ok_or(self)
    }

    /// Whether the result is there, so that waiting for it takes no time.
    pub fn is_done(&self) -> bool {
        self.slot.is_done()
    }

    /// Gives the result to `callback`, on the thread that all shared clients of the program have in common. It must not block:
    /// as long as it takes, all others' callbacks, futures and keep-alives wait. One that panics costs itself and nothing else.
    pub fn then(self, callback: impl FnOnce(Result<Vec<u8>, Error>) + Send + 'static) {
        if let Some(notice) = self.slot.then(Box::new(callback)) {
            driver::give(vec![notice]);
        }
        self.client.see_to_reader(self.time.deadline);
    }
}

impl Future for Call {
    type Output = Result<Vec<u8>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = self.slot.poll(context);
        if outcome.is_pending() {
            self.client.see_to_reader(self.time.deadline);
        }
        outcome
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.slot.abandon() && !self.client.is_forked() {
            self.client.forget(&self.slot);
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("is_done", &self.is_done()).finish_non_exhaustive()
    }
}
