//! One message with more than the defaults.

use std::fmt;
use std::time::Duration;

use super::handle::Client;
use super::settings::Ask;
use crate::Error;

impl Client {
    /// A message to which more than the client's defaults applies; see [`ClientRequest`].
    pub fn request<'c>(&'c mut self, message: &'c [u8]) -> ClientRequest<'c> {
        ClientRequest { client: self, message, ask: Ask::default() }
    }
}

/// A message that is about to be sent, with a time-out of its own, or as one that may be sent twice; made by
/// [`Client::request`].
///
/// ```
/// # use falcotcp_sync::{Client, Key, Server};
/// use std::time::Duration;
/// # let key = Key::generate()?;
/// # let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_vec())?;
/// # let mut client = Client::connect(server.local_addr(), &key)?;
///
/// let report = client.request(b"the whole year").timeout(Duration::from_secs(120)).idempotent().send()?;
/// assert_eq!(report, b"the whole year");
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
#[must_use = "nothing is sent before `send`"]
pub struct ClientRequest<'c> {
    client: &'c mut Client,
    message: &'c [u8],
    ask: Ask,
}

impl ClientRequest<'_> {
    /// How long this exchange may take, in place of [`request_timeout`](crate::ClientBuilder::request_timeout).
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

    /// Sends it and returns the server's response.
    ///
    /// # Errors
    /// Those of [`Client::message`]; [`Error::InvalidSetting`] for a time-out of zero.
    pub fn send(self) -> Result<Vec<u8>, Error> {
        let mut response = Vec::new();
        self.send_into(&mut response)?;
        Ok(response)
    }

    /// Sends it and puts the server's response into `response`, whose memory is used again. After an error it is empty.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_into(self, response: &mut Vec<u8>) -> Result<(), Error> {
        self.client.connection.message(self.message, response, self.ask)
    }
}

/// Without the message.
impl fmt::Debug for ClientRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRequest")
            .field("size", &self.message.len())
            .field("ask", &self.ask)
            .finish_non_exhaustive()
    }
}
