//! A client's connection and the exchanges over it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;

use super::reconnect::{Backoff, Target};
use super::transport::Transport;
use super::{LOG, Settings};
use crate::protocol::{ClientEvent, ClientFault, ClientSession};
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

/// Bytes of unasked empty responses that are passed over at once: a server sends one now and then, not a flood.
const UNASKED_BYTES: usize = 64 << 10;

/// What a client reads at once.
const READ_BUFFER: usize = 16 << 10;

/// Buffers that grew beyond this are given back to the allocator rather than kept for the next exchange.
const RETAINED: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) link: Option<Link>,
    pub(super) settings: Settings,
    pub(super) input: ReadBuffer,
    pub(super) output: Vec<u8>,
    target: Target,
    /// When the server last had something of ours that extends the connection's lifetime.
    last_used: Instant,
    closed_by_owner: bool,
}

/// What a client has while it is connected.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) transport: Transport,
    pub(super) session: ClientSession,
}

impl Core {
    /// Connects to the first address of `target` that accepts.
    pub(super) fn connect(target: Target, settings: Settings) -> Result<Self, Error> {
        let mut core = Self {
            link: None,
            settings,
            input: ReadBuffer::with_size(READ_BUFFER),
            output: Vec::new(),
            target,
            last_used: Instant::now(),
            closed_by_owner: false,
        };
        core.try_each_address(later(settings.connect_timeout))?;
        Ok(core)
    }

    pub(super) fn message(&mut self, message: &[u8], response: &mut Vec<u8>) -> Result<(), Error> {
        response.clear();
        self.check(message)?;
        let deadline = self.settings.deadline();
        self.exchange(deadline, |core| core.request(message, response, deadline))
    }

    pub(super) fn message_idempotent(&mut self, message: &[u8], response: &mut Vec<u8>) -> Result<(), Error> {
        response.clear();
        self.check(message)?;
        let deadline = self.settings.deadline();
        let mut backoff = Backoff::new();
        let mut sent_before = None;
        loop {
            let outcome = self.exchange(deadline, |core| core.request(message, response, deadline));
            let Err(error) = outcome else { return Ok(()) };
            if !error.was_sent() {
                // What an earlier attempt may have done is what the caller must know.
                return Err(sent_before.unwrap_or(error));
            }
            let may_help = matches!(error, Error::ClosedByServer { .. } | Error::Io { .. });
            if !self.settings.reconnect || !may_help || !backoff.pause(deadline) {
                return Err(error);
            }
            debug!(target: LOG, "sending an idempotent message again after: {error}");
            sent_before = Some(error);
        }
    }

    pub(super) fn ping(&mut self) -> Result<(), Error> {
        let deadline = self.settings.deadline();
        self.exchange(deadline, |core| {
            core.output.clear();
            let link = core.link.as_mut().ok_or(Error::Closed)?;
            link.session.ping(&mut core.output);
            link.transport
                .send(&core.output, deadline)
                .map_err(|error| core.settings.io_error(Phase::Send, error))
        })
    }

    /// Pings if the client has been idle for `interval`, without waiting; says when to look again.
    pub(super) fn keep_alive(&mut self, interval: Duration) -> Instant {
        let now = Instant::now();
        let due = crate::protocol::later(self.last_used, interval);
        if due > now {
            return due;
        }
        if self.link.is_some()
            && let Err(error) = self.pass_over_unasked().and_then(|()| self.ping_now())
        {
            self.link = None;
            debug!(target: LOG, "found closed while idle: {error}");
        }
        self.last_used = now;
        crate::protocol::later(now, interval)
    }

    fn ping_now(&mut self) -> Result<(), Error> {
        self.output.clear();
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        link.session.ping(&mut self.output);
        // If the socket takes not even this byte, the server has enough of ours to read.
        let sent = link.transport.send_now(&self.output);
        sent.map(drop).map_err(|error| self.settings.io_error(Phase::Send, error))
    }

    /// Whether the connection is in order, found out without waiting.
    #[cfg(feature = "r2d2")]
    pub(super) fn check_idle(&mut self) -> Result<(), Error> {
        let outcome = self.pass_over_unasked().and_then(|()| self.ping_now());
        match &outcome {
            Ok(()) => self.last_used = Instant::now(),
            Err(_) => self.link = None,
        }
        outcome
    }

    /// How long ago the client was last used.
    #[cfg(feature = "r2d2")]
    pub(super) fn idle_for(&self) -> Duration {
        self.last_used.elapsed()
    }

    pub(super) fn is_open(&self) -> bool {
        self.link.is_some()
    }

    pub(super) fn close(&mut self) {
        self.link = None;
        self.closed_by_owner = true;
    }

    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.as_ref()?.transport.peer_addr().ok()
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.link.as_ref()?.transport.local_addr().ok()
    }

    /// Runs `exchange` on a connection that is known to be in order, and closes it if it is not afterwards.
    pub(super) fn exchange(
        &mut self,
        deadline: Instant,
        exchange: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let outcome = self.make_ready(deadline).and_then(|()| exchange(self));
        match &outcome {
            Ok(()) | Err(Error::Rejected) => self.last_used = Instant::now(),
            Err(Error::TooLarge { phase: Phase::Send, .. }) => {}
            Err(_) => self.link = None,
        }
        if self.input.size() > RETAINED && self.input.is_empty() {
            self.input = ReadBuffer::with_size(READ_BUFFER);
        }
        if self.output.capacity() > RETAINED {
            self.output = Vec::new();
        }
        outcome
    }

    /// Sees to it that there is a connection on which nothing is in flight, a new one if that is wanted.
    fn make_ready(&mut self, deadline: Instant) -> Result<(), Error> {
        if !self.settings.reconnect {
            return self.pass_over_unasked();
        }
        if self.closed_by_owner {
            return Err(Error::Closed);
        }
        if self.last_used.elapsed() < self.settings.lifetime {
            match self.pass_over_unasked() {
                Ok(()) => return Ok(()),
                Err(error) => debug!(target: LOG, "connecting anew: {error}"),
            }
        } else {
            debug!(target: LOG, "connecting anew: idle for the connection's lifetime");
        }
        self.link = None;
        let mut backoff = Backoff::new();
        loop {
            // What came behind the acceptance is no answer to a message that is still to be sent.
            match self.try_each_address(deadline).and_then(|()| self.pass_over_unasked()) {
                Err(error) if !error.may_pass() || !backoff.pause(deadline) => return Err(error),
                Err(error) => debug!(target: LOG, "connecting again after a pause: {error}"),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Connects to the first address that accepts, before the deadline; the error is that of the last one tried.
    fn try_each_address(&mut self, deadline: Instant) -> Result<(), Error> {
        let mut last_error = None;
        let candidates = self.target.candidates();
        for (tried, &index) in candidates.iter().enumerate() {
            // Each has its share of the time that is left, so that one that hangs does not use up the others'.
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && last_error.is_some() {
                break;
            }
            let share = left / u32::try_from(candidates.len() - tried).unwrap_or(u32::MAX);
            match self.establish(index, later(share.min(self.settings.connect_timeout))) {
                Ok(()) => return Ok(()),
                Err(error @ Error::Random(_)) => return Err(error),
                Err(error) => {
                    self.link = None;
                    self.target.avoid(index);
                    last_error = Some(error);
                }
            }
        }
        Err(last_error.unwrap_or_else(|| {
            let nothing = "the address resolves to no socket address";
            Error::io(Phase::Connect, io::Error::new(ErrorKind::InvalidInput, nothing))
        }))
    }

    fn establish(&mut self, index: usize, deadline: Instant) -> Result<(), Error> {
        let settings = self.settings;
        let transport = Transport::connect(self.target.addr(index), deadline)
            .map_err(|error| settings.io_error(Phase::Connect, error))?;
        self.output.clear();
        self.input.clear();
        let mut session = self.target.session(settings.max_message_size, &mut self.output)?;
        session.begin_exchange(deadline);
        let link = self.link.insert(Link { transport, session });
        link.transport
            .send(&self.output, deadline)
            .map_err(|error| settings.io_error(Phase::Establishment, error))?;
        self.receive(Phase::Establishment, deadline, |_| Ok(()))?;
        self.target.accepted(index);
        self.last_used = Instant::now();
        Ok(())
    }

    fn check(&self, message: &[u8]) -> Result<(), Error> {
        if self.link.is_none() && (!self.settings.reconnect || self.closed_by_owner) {
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
                Err(error) => return Err(self.settings.io_error(Phase::Idle, error)),
            }
        }
    }

    fn request(&mut self, message: &[u8], response: &mut Vec<u8>, deadline: Instant) -> Result<(), Error> {
        let settings = self.settings;
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        link.session.begin_exchange(deadline);
        self.output.clear();
        link.session.send(message, &mut self.output).map_err(|_| Error::TooLarge {
            phase: Phase::Send,
            size: message.len() as u64,
            limit: settings.max_message_size as u64,
        })?;
        link.transport.send(&self.output, deadline).map_err(|error| settings.io_error(Phase::Send, error))?;
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
        let settings = self.settings;
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        loop {
            let frame_length = match link.session.receive(self.input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => frame_length,
                Ok((taken, event)) => {
                    let outcome = take(event);
                    self.input.consume(taken);
                    return outcome;
                }
                Err(fault) => return Err(settings.error(phase, fault)),
            };
            match link.transport.receive(self.input.room(frame_length), deadline) {
                Ok(0) => return Err(settings.io_error(phase, ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.input.received(count),
                Err(error) => return Err(settings.io_error(phase, error)),
            }
        }
    }
}

impl Settings {
    pub(super) fn deadline(&self) -> Instant {
        later(self.request_timeout)
    }

    pub(super) fn error(&self, phase: Phase, fault: ClientFault) -> Error {
        match fault {
            ClientFault::Refused => Error::Refused,
            ClientFault::NotForwardSecret => Error::NotForwardSecret,
            ClientFault::NotAuthentic | ClientFault::Malformed => Error::NotAuthentic,
            ClientFault::TooLarge { size } => {
                Error::TooLarge { phase, size, limit: self.max_message_size as u64 }
            }
            ClientFault::Unasked => Error::Unasked,
            ClientFault::TimedOut => Error::TimedOut { phase, limit: self.limit(phase) },
            ClientFault::Closed => Error::Closed,
        }
    }

    pub(super) fn io_error(&self, phase: Phase, error: io::Error) -> Error {
        match (error.kind(), phase) {
            (ErrorKind::TimedOut, _) => Error::TimedOut { phase, limit: self.limit(phase) },
            (_, Phase::Connect) => Error::io(phase, error),
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
            _ => Error::io(phase, error),
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
