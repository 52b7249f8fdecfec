//! Many messages in flight on one connection.

use std::collections::VecDeque;
use std::time::Instant;

use super::handle::Client;
use super::link::Link;
use super::settings::Settings;
use crate::protocol::ClientEvent;
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

/// Sealed messages are collected up to about this many bytes before they are sent together.
const BATCH: usize = 64 << 10;

/// Messages whose responses may be outstanding at the same time.
const IN_FLIGHT: usize = 1024;

impl Client {
    /// Sends `messages` without waiting for each response, and gives every result to `each`, in the order of the
    /// messages.
    ///
    /// A result is the response, [`Error::Rejected`] if the server did not process that message, or
    /// [`Error::TooLarge`] in [`Phase::Send`] if it is over `max_message_size` and was not sent; neither spoils the
    /// others. Messages are taken from the iterator as there is room: up to 1024 are in flight, and as much as the
    /// sockets' buffers take. However large the messages and responses are, both ends make progress: while
    /// responses are outstanding, the client reads instead of waiting until it can send. `request_timeout` is the
    /// longest time without a result.
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
    /// before has been given to `each`, and the server may have processed further messages.
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
        let core = &mut self.connection;
        let deadline = core.settings.deadline();
        core.exchange(deadline, |core| {
            // Out of the client while foreign code runs: should that panic, no half-read stream is left in it.
            let link = core.link.take().ok_or(Error::Closed)?;
            let (input, output) = (&mut core.input, &mut core.output);
            output.clear();
            let mut pipeline = Pipeline {
                link,
                settings: core.settings,
                input,
                output,
                batch_sent: 0,
                sealed: 0,
                sent: 0,
                pending: VecDeque::new(),
                deadline: core.settings.deadline(),
            };
            pipeline.run(&mut messages.into_iter(), &mut each)?;
            core.link = Some(pipeline.link);
            Ok(())
        })
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
}

struct Pipeline<'c> {
    link: Link,
    settings: Settings,
    input: &'c mut ReadBuffer,
    /// Sealed messages, sent up to `batch_sent`.
    output: &'c mut Vec<u8>,
    batch_sent: usize,
    /// Bytes sealed and bytes sent since the beginning.
    sealed: u64,
    sent: u64,
    pending: VecDeque<Pending>,
    /// By when the next result must be there.
    deadline: Instant,
}

/// A message whose result has not been given yet.
enum Pending {
    /// Its frame ends after this many bytes since the beginning.
    Sealed { end: u64 },
    /// It was not sent, being over the limit.
    TooLarge { size: usize },
}

impl Pipeline<'_> {
    fn run<M: AsRef<[u8]>>(
        &mut self,
        messages: &mut impl Iterator<Item = M>,
        each: &mut impl FnMut(Result<&[u8], Error>),
    ) -> Result<(), Error> {
        loop {
            let is_idle = self.pending.is_empty();
            self.seal_batch(messages)?;
            if is_idle {
                // What the iterator took while nothing was in flight is not the server's time.
                self.deadline = self.settings.deadline();
            }
            self.send_batch()?;
            self.give_unsent(each);
            if self.pending.is_empty() {
                return Ok(());
            }
            if self.is_response_outstanding() {
                self.receive(each)?;
            }
        }
    }

    fn seal_batch<M: AsRef<[u8]>>(&mut self, messages: &mut impl Iterator<Item = M>) -> Result<(), Error> {
        if self.batch_sent == self.output.len() {
            self.output.clear();
            self.batch_sent = 0;
        }
        while self.output.len() < BATCH && self.pending.len() < IN_FLIGHT {
            let Some(message) = messages.next() else { break };
            let message = message.as_ref();
            let limit = self.link.max_message_size(&self.settings);
            if message.len() as u64 > limit {
                self.pending.push_back(Pending::TooLarge { size: message.len() });
                continue;
            }
            let before = self.output.len();
            self.link.session.send(message, self.output).map_err(|_| Error::TooLarge {
                phase: Phase::Send,
                size: message.len() as u64,
                limit,
            })?;
            self.sealed += (self.output.len() - before) as u64;
            self.pending.push_back(Pending::Sealed { end: self.sealed });
        }
        Ok(())
    }

    /// Sends what the socket takes, and all of it when the server has nothing left to say: then it reads.
    fn send_batch(&mut self) -> Result<(), Error> {
        let failed = |error| self.settings.io_error(Phase::Send, error);
        while self.batch_sent < self.output.len() {
            let rest = &self.output[self.batch_sent..];
            let sent = if self.is_response_outstanding() {
                self.link.transport.send_now(rest).map_err(failed)?
            } else {
                let sent = rest.len().min(BATCH);
                self.link.transport.send(&rest[..sent], self.deadline).map_err(failed)?;
                sent
            };
            if sent == 0 {
                break;
            }
            self.batch_sent += sent;
            self.sent += sent as u64;
        }
        Ok(())
    }

    /// Whether the server has a whole message of ours that it has not answered.
    fn is_response_outstanding(&self) -> bool {
        matches!(self.pending.front(), Some(Pending::Sealed { end }) if *end <= self.sent)
    }

    /// Gives the results of messages that were not sent, as far as it is their turn.
    fn give_unsent(&mut self, each: &mut impl FnMut(Result<&[u8], Error>)) {
        let limit = self.link.max_message_size(&self.settings);
        while let Some(Pending::TooLarge { size }) = self.pending.front() {
            each(Err(Error::TooLarge { phase: Phase::Send, size: *size as u64, limit }));
            self.pending.pop_front();
        }
    }

    /// Waits for one response and takes whatever else has arrived with it.
    fn receive(&mut self, each: &mut impl FnMut(Result<&[u8], Error>)) -> Result<(), Error> {
        self.link.session.begin_exchange(self.deadline);
        let mut is_first = true;
        while self.is_response_outstanding() {
            let frame_length = match self.link.session.receive(self.input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => frame_length,
                Ok((taken, ClientEvent::Pong | ClientEvent::Skipped(_))) => {
                    self.input.consume(taken);
                    continue;
                }
                Ok((_, ClientEvent::Goodbye)) => return Err(Error::Goodbye),
                Ok((taken, event)) => {
                    match event {
                        ClientEvent::Response(text) => each(Ok(text)),
                        _ => each(Err(Error::Rejected)),
                    }
                    self.input.consume(taken);
                    self.pending.pop_front();
                    self.give_unsent(each);
                    is_first = false;
                    self.deadline = self.settings.deadline();
                    if self.link.session.unanswered() > 0 {
                        self.link.session.begin_exchange(self.deadline);
                    }
                    continue;
                }
                Err(fault) => return Err(self.settings.error(Phase::Receive, fault)),
            };
            if !is_first {
                break;
            }
            let failed = |error| self.settings.io_error(Phase::Receive, error);
            match self.link.transport.receive(self.input.room(frame_length), self.deadline).map_err(failed)? {
                0 => return Err(Error::ClosedByServer { phase: Phase::Receive }),
                count => self.input.received(count),
            }
        }
        Ok(())
    }
}
