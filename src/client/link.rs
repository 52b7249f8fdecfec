//! A link: one socket and the session over it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::settings::Settings;
use super::transport::Transport;
use crate::protocol::{ClientEvent, ClientSession, RESPONSE_HEADER};
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

/// Bytes of unasked empty responses that are passed over at once: a server sends one now and then, not a flood.
const UNASKED_BYTES: usize = 64 << 10;

/// The shortest time before the lifetime's end that is left unused.
const SHORTEST_MARGIN: Duration = Duration::from_millis(20);

/// Where a link waits between exchanges, so that it can be kept alive. It is never locked for long.
pub(super) type IdleLink = Mutex<Option<Link>>;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) transport: Transport,
    pub(super) session: ClientSession,
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
        let mut link = Self { transport, session, last_used: connected, round_trip: connected - begun };
        link.receive(input, settings, Phase::Establishment, deadline, |_| Ok(()))?;
        link.last_used = Instant::now();
        link.round_trip = link.round_trip.max(link.last_used - connected);
        Ok(link)
    }

    /// How long the link may be idle: shorter than the `lifetime` by what a message and the news of its end take.
    pub(super) fn longest_idle(&self, lifetime: Duration) -> Duration {
        let margin = self.round_trip.saturating_mul(2).max(SHORTEST_MARGIN);
        lifetime.saturating_sub(margin).max(lifetime / 2)
    }

    /// Reads until one event is there and gives it to `take`.
    ///
    /// The deadline is the transport's alone: the session would look at the clock before anybody has looked at the
    /// socket, where the answer may lie since before the deadline.
    pub(super) fn receive(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
        phase: Phase,
        deadline: Instant,
        take: impl FnOnce(ClientEvent<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            let frame_length = match self.session.receive(input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => frame_length,
                Ok((taken, event)) => {
                    let outcome = take(event);
                    input.consume(taken);
                    return outcome;
                }
                Err(fault) => return Err(settings.error(phase, fault)),
            };
            match self.transport.receive(input.room(frame_length), deadline) {
                Ok(0) => return Err(settings.io_error(phase, ErrorKind::UnexpectedEof.into())),
                Ok(count) => input.received(count),
                Err(error) => return Err(settings.io_error(phase, error)),
            }
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
            match (self.early_answer(input, settings, deadline), failure) {
                (Some(Error::Rejected), _) => return Err(Error::Rejected),
                (_, Some(failure)) | (Some(failure), None) => return Err(failure),
                (None, None) => {}
            }
        }
    }

    /// What the server says to a message of which it does not have all.
    fn early_answer(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
        deadline: Instant,
    ) -> Option<Error> {
        match self.transport.receive_now(input.room(RESPONSE_HEADER)) {
            Ok(None) => return None,
            Ok(Some(0)) => return Some(Error::ClosedByServer { phase: Phase::Send }),
            Ok(Some(count)) => input.received(count),
            Err(error) => return Some(settings.io_error(Phase::Send, error)),
        }
        let answer = self.receive(input, settings, Phase::Send, deadline, |event| match event {
            ClientEvent::Rejected(_) => Err(Error::Rejected),
            _ => Err(Error::Unasked),
        });
        answer.err()
    }

    /// Looks at what has arrived while nothing was in flight: it must not be taken for the next answer.
    pub(super) fn pass_over_unasked(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
    ) -> Result<(), Error> {
        let mut passed_over = 0;
        loop {
            let frame_length = match self.session.receive(input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => frame_length,
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
                Ok(Some(0)) => return Err(Error::ClosedByServer { phase: Phase::Idle }),
                Ok(Some(count)) => input.received(count),
                Err(error) => return Err(settings.io_error(Phase::Idle, error)),
            }
        }
    }

    /// Finds out without waiting whether the idle link is in order, and pings.
    pub(super) fn refresh(&mut self, input: &mut ReadBuffer, settings: &Settings) -> Result<(), Error> {
        self.pass_over_unasked(input, settings)?;
        let mut ping = Vec::with_capacity(1);
        self.session.ping(&mut ping);
        // If the socket takes not even this byte, the server has enough of ours to read.
        self.transport.send_now(&ping).map_err(|error| settings.io_error(Phase::Send, error))?;
        self.last_used = Instant::now();
        Ok(())
    }
}
