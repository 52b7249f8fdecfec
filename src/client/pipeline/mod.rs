//! Many messages in flight on one connection; `feed` takes them from an iterator.

mod feed;

use std::fmt;
use std::mem;
use std::thread;
use std::time::Instant;

use log::debug;

use crate::client::handle::Client;
use crate::client::in_flight::{InFlight, Look, Outcome};
use crate::client::link::Link;
use crate::client::reconnect::Backoff;
use crate::client::settings::{LOG, rejected};
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

/// What a client reads with while the pipeline has its buffer: bytes that nobody asked for.
const SCRATCH: usize = 256;

impl Client {
    /// Sends `messages` without waiting for each response, and gives every result to `each`, in the order of the
    /// messages.
    ///
    /// A result is the response, a [rejection](Error::is_rejection) if the server has none to that message, or
    /// [`Error::TooLarge`] in [`Phase::Send`](crate::Phase::Send) if it is over `max_message_size` and was not sent; neither spoils the
    /// others. Messages are taken from the iterator as there is room: up to 1024 are in flight, and as much as the
    /// sockets' buffers take. However large the messages and responses are, both ends make progress: while responses
    /// are outstanding, the client reads instead of waiting until it can send. `request_timeout` is the longest time
    /// without a result while the client waits for the server.
    ///
    /// The iterator and `each` may take their time. Messages that come quickly are collected, up to 64 KiB, and sent
    /// together. After a message that took the iterator a millisecond or more, and from the beginning if its
    /// `size_hint` has no upper bound (as a channel's), they go out one by one until 32 have come quickly; and what has
    /// arrived is given before a slow iterator is asked again. The connection is pinged in between, and with
    /// [`keep_alive`](crate::ClientBuilder::keep_alive) also while the iterator or `each` is at work, or what is
    /// collected is sent. Without it, a single call of either can outlast the connection's lifetime: what had arrived
    /// is given all the same, and then comes the error, or with [`reconnect`](crate::ClientBuilder::reconnect) and
    /// nothing in flight, a new connection. With it, messages are also kept until they are answered in a forward-secret
    /// session, and what the server's goodbye says was not taken up is sent on a new connection.
    ///
    /// While the iterator is at work nothing can be given. One whose messages follow from earlier results may give
    /// `None` as long as it has none, if it can go on afterwards: it is asked again after results, and the end is a
    /// `None` while nothing is in flight. For one that would wait for a result there is [`pipelined`](Self::pipelined).
    ///
    /// ```
    /// # use falcotcp_sync::{Client, Key, Server};
    /// # let key = Key::generate()?;
    /// # let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_vec())?;
    /// # let mut client = Client::connect(server.local_addr(), &key)?;
    /// let mut total = 0;
    /// client.pipeline((0..1000).map(|number| format!("row {number}")), |result| {
    ///     if let Ok(response) = result {
    ///         total += response.len();
    ///     }
    /// })?;
    /// # assert_eq!(total, 6890);
    /// # Ok::<(), falcotcp_sync::Error>(())
    /// ```
    ///
    /// # Errors
    /// What ends the connection, as for [`message`](Self::message); the client is closed then. Every result that came
    /// before has been given to `each`, and the server may have processed further messages if
    /// [`was_sent`](Error::was_sent) says so.
    ///
    /// # Panics
    /// Not by itself. If the iterator or `each` panics, the client is closed.
    pub fn pipeline<I>(
        &mut self,
        messages: I,
        mut each: impl FnMut(Result<&[u8], Error>),
    ) -> Result<(), Error>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        self.pipelined().run(&mut messages.into_iter(), &mut each)
    }

    /// Sends `messages` without waiting for each response, and returns all results in their order.
    ///
    /// As [`pipeline`](Self::pipeline), for batches whose responses fit into memory.
    ///
    /// # Errors
    /// What ends the connection; the results are lost then. Use [`pipeline`](Self::pipeline) to keep those that came.
    pub fn messages<M: AsRef<[u8]>>(&mut self, messages: &[M]) -> Result<Vec<Result<Vec<u8>, Error>>, Error> {
        let mut results = Vec::with_capacity(messages.len());
        self.pipeline(messages, |result| results.push(result.map(<[u8]>::to_vec)))?;
        Ok(results)
    }

    /// Many messages in flight, sent and received as the caller likes: for messages that follow from earlier results
    /// or come at their own times.
    ///
    /// For many messages at hand [`pipeline`](Self::pipeline) is faster, since it writes them together.
    ///
    /// ```
    /// # use falcotcp_sync::{Client, Key, Server};
    /// # let key = Key::generate()?;
    /// # let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_ascii_uppercase())?;
    /// # let mut client = Client::connect(server.local_addr(), &key)?;
    /// let mut pipeline = client.pipelined();
    /// pipeline.send("one")?;
    /// pipeline.send("two")?;
    /// let mut first = pipeline.receive()?.expect("two are in flight").to_vec();
    /// first.extend_from_slice(b" and more");
    /// pipeline.send(first)?;
    /// assert_eq!(pipeline.receive()?, Some(&b"TWO"[..]));
    /// assert_eq!(pipeline.receive()?, Some(&b"ONE AND MORE"[..]));
    /// assert_eq!(pipeline.receive()?, None);
    /// # Ok::<(), falcotcp_sync::Error>(())
    /// ```
    pub fn pipelined(&mut self) -> Pipeline<'_> {
        let input = mem::replace(&mut self.connection.input, ReadBuffer::with_size(SCRATCH));
        let in_flight = InFlight::new(self.connection.settings, input);
        Pipeline { client: self, in_flight }
    }
}

/// Messages in flight on a client's connection; made by [`Client::pipelined`].
///
/// Between two calls the caller may take its time: [`keep_alive`](crate::ClientBuilder::keep_alive) pings meanwhile.
/// Without it each call pings if that is due, but the connection ends when there is none for its lifetime.
///
/// Receive now and then: responses that are not received fill the sockets' buffers and then, as far as that is needed
/// to send more messages, the client's memory.
///
/// If it is dropped while responses are outstanding or after an error, the client is closed.
pub struct Pipeline<'c> {
    client: &'c mut Client,
    in_flight: InFlight,
}

impl Pipeline<'_> {
    /// Sends a message, whose response is to be received later. It blocks until the network has taken all of the
    /// message, for `request_timeout` at the most, and reads meanwhile if it has to.
    ///
    /// When nothing is in flight, [`reconnect`](crate::ClientBuilder::reconnect) does what it does for
    /// [`Client::message`]. After a forward-secret session's goodbye, the call that receives it connects anew and sends
    /// what was not taken up.
    ///
    /// # Errors
    /// - [`Error::TooLarge`] in [`Phase::Send`](crate::Phase::Send): over `max_message_size`; nothing was sent and all
    ///   goes on.
    /// - What ends the connection, as for [`Client::message`]. What had arrived can still be
    ///   [received](Self::receive). [`Error::was_sent`] is about all messages that have no response.
    pub fn send(&mut self, message: impl AsRef<[u8]>) -> Result<(), Error> {
        self.in_flight.restart_deadline();
        self.seal(message.as_ref())?;
        self.with_link(|in_flight, link| in_flight.flush(link, true))
    }

    /// The response to the oldest message that has none. It blocks until that is there, for `request_timeout` at the
    /// most. `None` if nothing is in flight.
    ///
    /// # Errors
    /// - A [rejection](Error::is_rejection): the server has no answer to that message; all goes on.
    /// - What ends the connection, as for [`Client::message`], after all responses that had arrived.
    pub fn receive(&mut self) -> Result<Option<&[u8]>, Error> {
        self.in_flight.restart_deadline();
        self.take(Look::Wait)?.transpose()
    }

    /// [`receive`](Self::receive) without waiting: `None` also if the response has not arrived.
    ///
    /// # Errors
    /// Those of [`receive`](Self::receive), but for the time-out.
    pub fn try_receive(&mut self) -> Result<Option<&[u8]>, Error> {
        self.take(Look::Socket)?.transpose()
    }

    /// How many messages have been sent whose responses have not been received.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// The next result. What a goodbye says was not taken up goes out again first, if that is wanted.
    fn take(&mut self, look: Look) -> Result<Option<Result<&[u8], Error>>, Error> {
        let mut again = None;
        let outcome = loop {
            let connection = &mut self.client.connection;
            connection.reclaim();
            let outcome = self.in_flight.take(connection.link.as_mut(), look);
            let outcome = outcome.map_err(|error| error.at(connection.peer_addr()));
            connection.park();
            match outcome {
                Err(error) if self.in_flight.may_send_again() => {
                    let settings = &self.client.connection.settings;
                    let (deadline, backoff) =
                        again.get_or_insert_with(|| (settings.deadline(), Backoff::new()));
                    if !backoff.pause(*deadline) {
                        return Err(error);
                    }
                    debug!(target: LOG, "the server said goodbye before messages were processed: sending them again");
                    self.send_again(*deadline)?;
                }
                outcome => break outcome?,
            }
        };
        Ok(outcome.map(|outcome| match outcome {
            Outcome::Response(part) => Ok(&self.in_flight.input.filled()[part]),
            Outcome::Rejected(reason) => Err(rejected(reason)),
            Outcome::TooLarge { size, limit } => Err(Error::TooLarge { phase: Phase::Send, size, limit }),
        }))
    }

    fn send_again(&mut self, deadline: Instant) -> Result<(), Error> {
        self.client.connection.unpark();
        self.client.connection.link = None;
        let outcome = self.renew(deadline);
        self.client.connection.park();
        outcome.and_then(|()| self.with_link(|in_flight, link| in_flight.flush(link, true)))
    }

    /// Seals a message, on a new link if nothing is in flight and that is wanted. Returns how many bytes are held.
    fn seal(&mut self, message: &[u8]) -> Result<usize, Error> {
        self.client.connection.reclaim();
        let outcome = self.make_ready().and_then(|()| {
            let link = self.client.connection.link.as_mut().ok_or(Error::Closed)?;
            self.in_flight.seal(link, message)?;
            Ok(link.unsent.bytes.len())
        });
        let outcome = outcome.map_err(|error| error.at(self.client.peer_addr()));
        self.client.connection.park();
        outcome
    }

    /// If nothing is in flight, sees to it that there is a link on which something can be.
    fn make_ready(&mut self) -> Result<(), Error> {
        let (connection, in_flight) = (&mut self.client.connection, &mut self.in_flight);
        if in_flight.is_any_sealed() || in_flight.has_failed() && !connection.settings.reconnect {
            return Ok(());
        }
        in_flight.release();
        connection.unpark();
        if in_flight.has_failed() || connection.link.as_ref().is_some_and(|link| !link.unsent.is_empty()) {
            connection.link = None;
        }
        self.renew(self.client.connection.settings.deadline())
    }

    /// Sees to it that there is a link on which nothing that arrives is old, and seals on it what is in flight.
    fn renew(&mut self, deadline: Instant) -> Result<(), Error> {
        let (connection, in_flight) = (&mut self.client.connection, &mut self.in_flight);
        mem::swap(&mut connection.input, &mut in_flight.input);
        let outcome = connection.make_ready(deadline);
        mem::swap(&mut connection.input, &mut in_flight.input);
        match (outcome, &mut connection.link) {
            (Ok(()), Some(link)) => in_flight.recover(link),
            (outcome, link) => {
                *link = None;
                outcome
            }
        }
    }

    fn held(&self) -> usize {
        self.client.connection.with_link(|link| link.unsent.bytes.len()).unwrap_or(0)
    }

    fn with_link(
        &mut self,
        operation: impl FnOnce(&mut InFlight, &mut Link) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let connection = &mut self.client.connection;
        connection.unpark();
        let outcome = match &mut connection.link {
            Some(link) => operation(&mut self.in_flight, link).map_err(|error| error.at(link.addr)),
            None => Err(Error::Closed),
        };
        connection.park();
        outcome
    }
}

impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        let connection = &mut self.client.connection;
        connection.unpark();
        self.in_flight.release();
        let is_in_order = connection.link.as_mut().is_some_and(|link| {
            link.is_pipelined = false;
            // A pong behind the last response is done with. Half a pong would be in the way of the one who reads next.
            let is_read = self
                .in_flight
                .missing(link)
                .is_ok_and(|_| !link.session.is_forward_secret() || self.in_flight.input.is_empty());
            is_read && link.session.unanswered() == 0 && link.unsent.is_empty() && !thread::panicking()
        });
        if !is_in_order {
            connection.link = None;
        }
        connection.input = mem::take(&mut self.in_flight.input);
        connection.release_buffers();
        connection.park();
    }
}

impl fmt::Debug for Pipeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
