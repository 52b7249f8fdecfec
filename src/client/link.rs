//! A link: one socket and the session over it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::settings::{Settings, rejected};
use super::transport::Transport;
use super::unsent::Unsent;
use crate::protocol::{ClientEvent, ClientSession};
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

/// Bytes of unasked empty responses that are passed over at once: a server sends one now and then, not a flood.
const UNASKED_BYTES: usize = 64 << 10;

/// The shortest time before the lifetime's end that is left unused.
const SHORTEST_MARGIN: Duration = Duration::from_millis(20);

/// Bytes of a forward-secret session's ping.
const FRAME_OVERHEAD: usize = 25;

/// Where a link waits between exchanges, so that it can be kept alive. It is never locked for long.
pub(super) type IdleLink = Mutex<Option<Link>>;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) transport: Transport,
    pub(super) session: ClientSession,
    /// Pipelined messages on their way to the socket.
    pub(super) unsent: Unsent,
    /// Whether what arrives belongs to a pipeline.
    pub(super) is_pipelined: bool,
    /// The server's.
    pub(super) addr: SocketAddr,
    /// When the server last had something of ours that extends the connection's lifetime.
    pub(super) last_used: Instant,
    /// What the slower of connecting and establishing took: a round trip at least.
    round_trip: Duration,
}

impl Link {
    /// Connects to `addr` and sends the `establishment` of `session`, which the server must accept before the deadline.
    pub(super) fn establish(
        addr: &SocketAddr,
        session: ClientSession,
        establishment: &[u8],
        input: &mut ReadBuffer,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<Self, Error> {
        let begun = Instant::now();
        let mut transport =
            Transport::connect(addr, deadline).map_err(|error| settings.io_error(Phase::Connect, error))?;
        let connected = Instant::now();
        transport
            .send(establishment, deadline)
            .map_err(|error| settings.io_error(Phase::Establishment, error))?;
        let round_trip = connected - begun;
        let mut link = Self {
            transport,
            session,
            addr: *addr,
            unsent: Unsent::default(),
            is_pipelined: false,
            last_used: connected,
            round_trip,
        };
        link.receive(input, settings, Phase::Establishment, deadline, |_| Ok(()))?;
        link.last_used = Instant::now();
        link.round_trip = link.round_trip.max(link.last_used - connected);
        if link.session.is_forward_secret() {
            // It shows the server that this is no replay. Its pong comes before the first response.
            let mut proof = Vec::new();
            link.session.ping(&mut proof);
            let sent = link.transport.send(&proof, deadline);
            sent.map_err(|error| settings.io_error(Phase::Establishment, error))?;
        }
        Ok(link)
    }

    /// The lifetime of the connection: the server's, if it says it and no shorter one was set.
    pub(super) fn lifetime(&self, settings: &Settings) -> Duration {
        match self.session.server_limits() {
            Some(limits) => settings.lifetime.map_or(limits.lifetime, |own| own.min(limits.lifetime)),
            None => settings.lifetime(),
        }
    }

    /// Bytes of the largest message: the server's limit, if it says it and no smaller one was set.
    pub(super) fn max_message_size(&self, settings: &Settings) -> u64 {
        let own = settings.max_message_size.map(|own| own as u64);
        match self.session.server_limits() {
            Some(limits) => own.map_or(limits.max_message_size, |own| own.min(limits.max_message_size)),
            None => settings.max_message_size() as u64,
        }
    }

    /// How long the link may be idle: shorter than the lifetime by what a message and the news of its end take.
    pub(super) fn longest_idle(&self, settings: &Settings) -> Duration {
        let lifetime = self.lifetime(settings);
        let margin = self.round_trip.saturating_mul(2).max(SHORTEST_MARGIN);
        lifetime.saturating_sub(margin).max(lifetime / 2)
    }

    /// Reads until there is an event that somebody waits for, and gives it to `take`.
    ///
    /// The deadline is the transport's alone: the session would look at the clock before anybody has looked at the
    /// socket, where the answer may lie since before the deadline.
    pub(super) fn receive(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
        phase: Phase,
        deadline: Instant,
        mut take: impl FnMut(ClientEvent<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            match self.take_event(input, settings, phase, &mut take) {
                ControlFlow::Break(outcome) => return outcome,
                ControlFlow::Continue(frame_length) => {
                    self.read(input, frame_length, settings, phase, deadline)?;
                }
            }
        }
    }

    /// Gives the next event in the input to `take`, behind pongs, unless it is the last; or the bytes of the frame that is not
    /// all there, as far as is known.
    fn take_event(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
        phase: Phase,
        mut take: impl FnMut(ClientEvent<'_>) -> Result<(), Error>,
    ) -> ControlFlow<Result<(), Error>, usize> {
        loop {
            let (taken, outcome) = match self.session.receive(input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => {
                    return ControlFlow::Continue(frame_length);
                }
                Ok((_, ClientEvent::Goodbye)) => return ControlFlow::Break(Err(Error::GOODBYE)),
                Ok((taken, ClientEvent::Pong | ClientEvent::Skipped(_))) => (taken, None),
                Ok((taken, event)) => (taken, Some(take(event))),
                Err(fault) => return ControlFlow::Break(Err(settings.error(phase, fault))),
            };
            input.consume(taken);
            if let Some(outcome) = outcome {
                return ControlFlow::Break(outcome);
            }
        }
    }

    /// Reads what has arrived, or waits for it.
    fn read(
        &mut self,
        input: &mut ReadBuffer,
        frame_length: usize,
        settings: &Settings,
        phase: Phase,
        deadline: Instant,
    ) -> Result<(), Error> {
        match self.transport.receive(input.room(frame_length), deadline) {
            Ok(0) => Err(settings.io_error(phase, ErrorKind::UnexpectedEof.into())),
            Ok(count) => {
                input.received(count);
                Ok(())
            }
            Err(error) => Err(settings.io_error(phase, error)),
        }
    }

    /// Sends the `frame` of the only message in flight.
    ///
    /// A server answers a message that it does not want before it has read all of it: with the empty response, behind
    /// which it closes. So that this is told rather than a broken connection, what has arrived is looked at while the
    /// message does not go out, and when sending has failed. The link can't be used after an error.
    pub(super) fn send(
        &mut self,
        frame: &[u8],
        input: &mut ReadBuffer,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<(), Error> {
        let mut rest = frame;
        loop {
            let failure = match self.transport.send_some(rest, deadline) {
                Ok(sent) if sent == rest.len() => return Ok(()),
                Ok(sent) => {
                    rest = &rest[sent..];
                    None
                }
                Err(error) => Some(settings.io_error(Phase::Send, error)),
            };
            match (self.early_answer(input, settings), failure) {
                (Some(answer), _) if answer.is_rejection() || answer.is_goodbye() => return Err(answer),
                (_, Some(failure)) | (Some(failure), None) => return Err(failure),
                (None, None) => {}
            }
        }
    }

    /// What the server has said to a message of which it does not have all. Without waiting: it may say nothing before it has.
    fn early_answer(&mut self, input: &mut ReadBuffer, settings: &Settings) -> Option<Error> {
        loop {
            let event = self.take_event(input, settings, Phase::Send, |event| match event {
                ClientEvent::Rejected(reason) => Err(rejected(reason)),
                _ => Err(Error::Unasked),
            });
            let frame_length = match event {
                ControlFlow::Break(outcome) => return outcome.err(),
                ControlFlow::Continue(frame_length) => frame_length,
            };
            match self.transport.receive_now(input.room(frame_length)) {
                Ok(None) => return None,
                Ok(Some(0)) => return Some(Error::closed_by_server(Phase::Send)),
                Ok(Some(count)) => input.received(count),
                Err(error) => return Some(settings.io_error(Phase::Send, error)),
            }
        }
    }

    /// Looks at what has arrived while nothing was in flight: it must not be taken for the next answer.
    pub(super) fn pass_over_unasked(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
    ) -> Result<(), Error> {
        if self.session.unanswered() > 0 {
            // Of a pipeline that was forgotten without being dropped. Its late answers are nobody's.
            return Err(Error::Unasked);
        }
        let mut passed_over = 0;
        loop {
            let frame_length = match self.session.receive(input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => frame_length,
                Ok((_, ClientEvent::Goodbye)) => return Err(Error::GOODBYE),
                Ok((taken, _)) if passed_over < UNASKED_BYTES => {
                    input.consume(taken);
                    passed_over += taken;
                    continue;
                }
                Ok(_) => return Err(Error::Unasked),
                Err(fault) => return Err(settings.error(Phase::Idle, fault)),
            };
            match self.transport.receive_now(input.room(frame_length)) {
                Ok(None) if input.is_empty() => return Ok(()),
                Ok(None) => return Err(Error::Unasked),
                Ok(Some(0)) => return Err(Error::GOODBYE),
                Ok(Some(count)) => input.received(count),
                Err(error) => return Err(settings.io_error(Phase::Idle, error)),
            }
        }
    }

    /// Waits for the pongs of all pings that were sent.
    pub(super) fn receive_pongs(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<(), Error> {
        while self.session.unanswered_pings() > 0 {
            let frame_length = match self.session.receive(input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => frame_length,
                Ok((_, ClientEvent::Goodbye)) => return Err(Error::GOODBYE),
                Ok((taken, _)) => {
                    input.consume(taken);
                    continue;
                }
                Err(fault) => return Err(settings.error(Phase::Receive, fault)),
            };
            self.read(input, frame_length, settings, Phase::Receive, deadline)?;
        }
        Ok(())
    }

    /// Extends the connection's lifetime without waiting, whatever is in flight: by what is still to be sent, since a
    /// ping can't stand inside a frame, or else by a ping.
    pub(super) fn extend_lifetime(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            self.session.ping(&mut self.unsent.bytes);
        }
        let sent = self.transport.send_now(self.unsent.rest())?;
        self.unsent.advance(sent);
        self.last_used = Instant::now();
        Ok(())
    }

    /// Finds out without waiting whether the idle link is in order, and pings.
    pub(super) fn refresh(&mut self, input: &mut ReadBuffer, settings: &Settings) -> Result<(), Error> {
        self.pass_over_unasked(input, settings)?;
        if self.session.unanswered_pings() > 0 {
            // The last ping's pong has had an interval to come.
            return Err(settings.io_error(Phase::Idle, ErrorKind::TimedOut.into()));
        }
        let mut ping = Vec::with_capacity(FRAME_OVERHEAD);
        self.session.ping(&mut ping);
        let sent = self.transport.send_now(&ping).map_err(|error| settings.io_error(Phase::Send, error))?;
        // If the socket takes not even a classic ping's byte, the server has enough of ours to read. A part of a frame
        // must not be left behind.
        if sent < ping.len() && self.session.is_forward_secret() {
            return Err(settings.io_error(Phase::Idle, ErrorKind::TimedOut.into()));
        }
        self.last_used = Instant::now();
        Ok(())
    }
}
