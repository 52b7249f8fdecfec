//! One call with more than the defaults.

use std::fmt;
use std::time::Duration;

use super::SharedClient;
use super::call::Call;
use super::calling::Calling;
use crate::Error;
use crate::client::settings::Ask;

impl SharedClient {
    /// A message to which more than the client's defaults applies; see [`SharedRequest`].
    pub fn request<'c>(&'c self, message: &'c [u8]) -> SharedRequest<'c> {
        SharedRequest { client: self, message, ask: Ask::default() }
    }
}

/// A call that is about to begin, with a time-out of its own, or as one that may be sent twice; made by
/// [`SharedClient::request`].
///
/// ```
/// # use falcotcp_sync::{Client, Key, Server};
/// use std::time::Duration;
/// # let key = Key::generate()?;
/// # let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_vec())?;
/// # let client = Client::builder(&key).connect_shared(server.local_addr())?;
///
/// let short = client.request(b"one").timeout(Duration::from_secs(1)).start()?;
/// assert_eq!(client.request(b"two").idempotent().send()?, b"two");
/// assert_eq!(short.wait()?, b"one");
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
#[derive(Clone, Copy)]
#[must_use = "nothing is sent before `send`, `start` or `call`"]
pub struct SharedRequest<'c> {
    client: &'c SharedClient,
    message: &'c [u8],
    ask: Ask,
}

impl SharedRequest<'_> {
    /// How long this call may take, in place of [`request_timeout`](crate::ClientBuilder::request_timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.ask.timeout = Some(timeout);
        self
    }

    /// Says that the message may be processed more than once with the same result, as reading or setting a value: with
    /// [`reconnect`](crate::ClientBuilder::reconnect) it is sent again if the connection ends before its response is there.
    pub fn idempotent(mut self) -> Self {
        self.ask.is_idempotent = true;
        self
    }

    /// Sends it and waits for the server's response, blocking this thread only.
    ///
    /// # Errors
    /// Those of [`SharedClient::message`]; [`Error::InvalidSetting`] for a time-out of zero.
    pub fn send(self) -> Result<Vec<u8>, Error> {
        self.client.send(self.message, self.ask)
    }

    /// [`send`](Self::send) with the response put into `response`. After an error it is empty.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_into(self, response: &mut Vec<u8>) -> Result<(), Error> {
        response.clear();
        *response = self.send()?;
        Ok(())
    }

    /// Starts the call and does not wait for its response, as [`SharedClient::start`].
    ///
    /// # Errors
    /// Those of [`SharedClient::start`]; [`Error::InvalidSetting`] for a time-out of zero.
    pub fn start(self) -> Result<Call, Error> {
        self.client.start_with(self.message, self.ask)
    }

    /// Starts the call if there is room for it, as [`SharedClient::try_start`].
    ///
    /// # Errors
    /// Those of [`SharedClient::try_start`]; [`Error::InvalidSetting`] for a time-out of zero.
    pub fn try_start(self) -> Result<Call, Error> {
        self.client.try_start_with(self.message, self.ask)
    }

    /// The call as a future, as [`SharedClient::call`]. A time-out of zero is over when it is first polled.
    pub fn call(self) -> Calling {
        self.client.call_with(self.message, self.ask)
    }
}

/// Without the message.
impl fmt::Debug for SharedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRequest")
            .field("size", &self.message.len())
            .field("ask", &self.ask)
            .finish_non_exhaustive()
    }
}
