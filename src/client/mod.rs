//! The client: one connection, one exchange at a time.

mod pipeline;
mod transport;

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use getrandom::SysRng;

use crate::protocol::{Cipher, ClientEvent, ClientFault, ClientSession, NonceSequence};
use crate::read_buffer::ReadBuffer;
use crate::{Error, Key, Phase};
use transport::Transport;

/// Bytes of unasked empty responses that are passed over at once: a server sends one now and then, not a flood.
const UNASKED_BYTES: usize = 64 << 10;

const LOG: &str = "falcotcp_sync::client";

/// What a client reads at once.
const READ_BUFFER: usize = 16 << 10;

/// Buffers that grew beyond this are given back to the allocator rather than kept for the next exchange.
const RETAINED: usize = 4 << 20;

/// A connection to a server. Every call blocks until it is done or its time-out is over.
///
/// A client is used by one thread at a time; let each thread have its own, or share one behind a mutex. An
/// error that leaves the stream in doubt closes the client, so that the late answer to one exchange is not taken for
/// another's. [`is_open`](Self::is_open) tells.
///
/// ```
/// use falcotcp_sync::{Client, Error, Key, Server};
///
/// let key = Key::generate()?;
/// let server = Server::builder(key.clone())
///     .bind("127.0.0.1:0")?
///     .spawn(|message: &[u8]| message.to_ascii_uppercase())?;
///
/// let mut client = Client::connect(server.local_addr(), &key)?;
/// assert_eq!(client.message(b"hello")?, b"HELLO");
///
/// let stranger = Client::connect(server.local_addr(), &Key::generate()?);
/// assert!(matches!(stranger, Err(Error::Refused)));
/// # Ok::<(), Error>(())
/// ```
pub struct Client {
    link: Option<Link>,
    settings: Settings,
    input: ReadBuffer,
    output: Vec<u8>,
}

/// What a client has while it is open.
#[derive(Debug)]
struct Link {
    transport: Transport,
    session: ClientSession,
}

/// The settings of a client; made by [`Client::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    key: Key,
    settings: Settings,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    connect_timeout: Duration,
    request_timeout: Duration,
    max_message_size: usize,
}

impl Client {
    /// Connects to a server that holds the same `key`, with the default settings.
    ///
    /// # Errors
    /// Those of [`ClientBuilder::connect`].
    pub fn connect(addr: impl ToSocketAddrs, key: &Key) -> Result<Self, Error> {
        Self::builder(key).connect(addr)
    }

    /// Settings for clients that hold `key`.
    pub fn builder(key: &Key) -> ClientBuilder {
        ClientBuilder {
            key: key.clone(),
            settings: Settings {
                connect_timeout: Duration::from_secs(5),
                request_timeout: Duration::from_secs(30),
                max_message_size: 16 << 20,
            },
        }
    }

    /// Sends `message` and returns the server's response to it.
    ///
    /// # Errors
    /// - [`Error::Rejected`]: the server did not process it; the client stays open.
    /// - [`Error::TooLarge`] in [`Phase::Send`]: over `max_message_size`; nothing was sent and the client stays open.
    /// - [`Error::ClosedByServer`] in [`Phase::Idle`]: the server closed the connection before; nothing was sent.
    /// - [`Error::TimedOut`], [`Error::ClosedByServer`] and [`Error::Io`] in other phases: the server may or may not have
    ///   processed it.
    /// - [`Error::NotAuthentic`], [`Error::TooLarge`] in [`Phase::Receive`], [`Error::Unasked`]: what arrived is not a
    ///   response that can be used.
    /// - [`Error::Closed`]: an earlier error closed the client.
    pub fn message(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut response = Vec::new();
        self.message_into(message, &mut response)?;
        Ok(response)
    }

    /// Sends `message` and puts the server's response to it into `response`, whose memory is used again. After an error
    /// it is empty.
    ///
    /// # Errors
    /// Those of [`message`](Self::message).
    pub fn message_into(&mut self, message: &[u8], response: &mut Vec<u8>) -> Result<(), Error> {
        response.clear();
        self.check(message)?;
        self.exchange(|client| client.request(message, response))
    }

    /// Tells the server that the client is still there, so that the connection's lifetime starts again.
    ///
    /// A ping has no answer: success says that it was handed to the network.
    ///
    /// # Errors
    /// [`Error::ClosedByServer`], [`Error::TimedOut`], [`Error::Io`], [`Error::Unasked`] and [`Error::Closed`], as for
    /// [`message`](Self::message).
    pub fn ping(&mut self) -> Result<(), Error> {
        self.exchange(|client| {
            let deadline = client.settings.deadline();
            client.output.clear();
            let link = client.link.as_mut().ok_or(Error::Closed)?;
            link.session.ping(&mut client.output);
            link.transport.send(&client.output, deadline).map_err(|error| client.failed(Phase::Send, error))
        })
    }

    /// Whether the client can be used: no error has left its stream in doubt. The server may have closed the
    /// connection all the same, which the next call tells.
    pub fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// Closes the connection. Dropping the client does the same.
    pub fn close(&mut self) {
        self.link = None;
    }

    /// The server's address; `None` once the client is closed.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.as_ref()?.transport.peer_addr().ok()
    }

    /// This end's address; `None` once the client is closed.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.as_ref()?.transport.local_addr().ok()
    }

    /// Runs `exchange` on a connection that is known to be in order, and closes it if it is not afterwards.
    fn exchange(&mut self, exchange: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let outcome = self.pass_over_unasked().and_then(|()| exchange(self));
        if let Err(error) = &outcome
            && !matches!(error, Error::Rejected | Error::TooLarge { phase: Phase::Send, .. })
        {
            self.close();
        }
        if self.input.size() > RETAINED && self.input.is_empty() {
            self.input = ReadBuffer::with_size(READ_BUFFER);
        }
        if self.output.capacity() > RETAINED {
            self.output = Vec::new();
        }
        outcome
    }

    fn check(&self, message: &[u8]) -> Result<(), Error> {
        if self.link.is_none() {
            return Err(Error::Closed);
        }
        let limit = self.settings.max_message_size;
        if message.len() > limit {
            let (size, limit) = (message.len() as u64, limit as u64);
            return Err(Error::TooLarge { phase: Phase::Send, size, limit });
        }
        Ok(())
    }

    /// Looks at what has arrived while nothing was in flight: it must not be taken for the next answer.
    fn pass_over_unasked(&mut self) -> Result<(), Error> {
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        let mut passed_over = 0;
        loop {
            let frame_length = match link.session.receive(self.input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => frame_length,
                Ok((taken, _)) if passed_over < UNASKED_BYTES => {
                    self.input.consume(taken);
                    passed_over += taken;
                    continue;
                }
                Ok(_) => return Err(Error::Unasked),
                Err(fault) => return Err(self.settings.error(Phase::Idle, fault)),
            };
            match link.transport.receive_now(self.input.room(frame_length)) {
                Ok(None) if self.input.is_empty() => return Ok(()),
                Ok(None) => return Err(Error::Unasked),
                Ok(Some(0)) => return Err(Error::ClosedByServer { phase: Phase::Idle }),
                Ok(Some(count)) => self.input.received(count),
                Err(error) => return Err(self.failed(Phase::Idle, error)),
            }
        }
    }

    fn request(&mut self, message: &[u8], response: &mut Vec<u8>) -> Result<(), Error> {
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        let deadline = self.settings.deadline();
        link.session.begin_exchange(deadline);
        self.output.clear();
        let limit = self.settings.max_message_size as u64;
        link.session.send(message, &mut self.output).map_err(|_| Error::TooLarge {
            phase: Phase::Send,
            size: message.len() as u64,
            limit,
        })?;
        link.transport.send(&self.output, deadline).map_err(|error| self.failed(Phase::Send, error))?;
        self.receive(Phase::Receive, deadline, |event| match event {
            ClientEvent::Response(text) => {
                response.extend_from_slice(text);
                Ok(())
            }
            _ => Err(Error::Rejected),
        })
    }

    /// Reads until one event is there and gives it to `take`.
    fn receive(
        &mut self,
        phase: Phase,
        deadline: Instant,
        take: impl FnOnce(ClientEvent<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        loop {
            let frame_length = match link.session.receive(self.input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => frame_length,
                Ok((taken, event)) => {
                    let outcome = take(event);
                    self.input.consume(taken);
                    return outcome;
                }
                Err(fault) => return Err(self.settings.error(phase, fault)),
            };
            match link.transport.receive(self.input.room(frame_length), deadline) {
                Ok(0) => return Err(self.failed(phase, ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.input.received(count),
                Err(error) => return Err(self.failed(phase, error)),
            }
        }
    }

    fn failed(&self, phase: Phase, error: io::Error) -> Error {
        self.settings.io_error(phase, error)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("peer", &self.peer_addr()).finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// How long connecting may take: the TCP connection and the establishment together. Resolving a name is not
    /// counted. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long an exchange may take in all, from the first byte sent to the last byte received. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// The largest message and the largest response, in bytes of plaintext. Default: 16 MiB, as the server's.
    pub fn max_message_size(mut self, bytes: usize) -> Self {
        self.settings.max_message_size = bytes;
        self
    }

    /// Connects to the first of `addr`'s addresses that accepts, and proves to the server that both hold the key.
    ///
    /// # Errors
    /// - [`Error::InvalidSetting`] for settings that can't work.
    /// - [`Error::Io`] in [`Phase::Connect`]: the address does not resolve, or nobody listens there.
    /// - [`Error::Refused`]: the server holds another key, or is none of this protocol.
    /// - [`Error::TimedOut`] in [`Phase::Connect`] or [`Phase::Establishment`].
    /// - [`Error::Random`]: the operating system gave no random bytes.
    pub fn connect(&self, addr: impl ToSocketAddrs) -> Result<Client, Error> {
        self.check()?;
        let settings = self.settings;
        let deadline = later(settings.connect_timeout);
        let failed = |error| settings.io_error(Phase::Connect, error);
        let addrs: Vec<SocketAddr> = addr.to_socket_addrs().map_err(failed)?.collect();
        let transport = Transport::connect(&addrs, deadline).map_err(failed)?;

        let cipher = Arc::new(Cipher::new(&self.key));
        let mut session = ClientSession::new(cipher, NonceSequence::new()?, settings.max_message_size);
        let mut output = Vec::new();
        session.establish(&mut SysRng, &mut output).map_err(|source| Error::Random(source.into()))?;
        session.begin_exchange(deadline);

        let input = ReadBuffer::with_size(READ_BUFFER);
        let mut client = Client { link: Some(Link { transport, session }), settings, input, output };
        client.establish(deadline)?;
        Ok(client)
    }

    fn check(&self) -> Result<(), Error> {
        let requirement = "longer than zero";
        if self.settings.connect_timeout.is_zero() {
            return Err(Error::InvalidSetting { setting: "connect_timeout", requirement });
        }
        if self.settings.request_timeout.is_zero() {
            return Err(Error::InvalidSetting { setting: "request_timeout", requirement });
        }
        Ok(())
    }
}

impl Client {
    fn establish(&mut self, deadline: Instant) -> Result<(), Error> {
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        link.transport
            .send(&self.output, deadline)
            .map_err(|error| self.settings.io_error(Phase::Establishment, error))?;
        self.receive(Phase::Establishment, deadline, |_| Ok(()))
    }
}

impl Settings {
    fn deadline(&self) -> Instant {
        later(self.request_timeout)
    }

    fn error(&self, phase: Phase, fault: ClientFault) -> Error {
        match fault {
            ClientFault::Refused => Error::Refused,
            ClientFault::NotAuthentic => Error::NotAuthentic,
            ClientFault::TooLarge { size } => {
                Error::TooLarge { phase, size, limit: self.max_message_size as u64 }
            }
            ClientFault::Unasked => Error::Unasked,
            ClientFault::TimedOut => Error::TimedOut { phase, limit: self.limit(phase) },
            ClientFault::Closed => Error::Closed,
        }
    }

    fn io_error(&self, phase: Phase, error: io::Error) -> Error {
        match (error.kind(), phase) {
            (ErrorKind::TimedOut, _) => Error::TimedOut { phase, limit: self.limit(phase) },
            (_, Phase::Connect) => Error::Io { phase, source: error },
            (
                ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe,
                phase,
            ) => match phase {
                Phase::Establishment => Error::Refused,
                phase => Error::ClosedByServer { phase },
            },
            _ => Error::Io { phase, source: error },
        }
    }

    fn limit(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Connect | Phase::Establishment => self.connect_timeout,
            _ => self.request_timeout,
        }
    }
}

/// `duration` from now.
fn later(duration: Duration) -> Instant {
    crate::protocol::later(Instant::now(), duration)
}
