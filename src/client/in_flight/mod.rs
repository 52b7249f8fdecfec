//! What is in flight on one link: messages that are sealed, and their responses in the same order. `arrived` looks which of
//! them are there.

mod arrived;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::ops::Range;
use std::time::Instant;

use super::link::Link;
use super::settings::Settings;
use crate::protocol::{ClientEvent, EMPTY_RESPONSE, RESPONSE_HEADER, RejectionReason, TAG_LENGTH};
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

/// What is written at once while waiting until the socket takes it.
const LONGEST_WRITE: usize = 64 << 10;

/// Empty responses to nothing that are passed over at once: a server sends one now and then, not a flood.
const MOST_UNASKED: usize = 8 << 10;

pub(super) struct InFlight {
    settings: Settings,
    pub(super) input: ReadBuffer,
    /// Bytes at the start of the input whose response the caller has had.
    given: usize,
    pending: VecDeque<Pending>,
    /// What ended the link. What had arrived before is still given.
    failed: Option<Error>,
    /// By when the next result must be there; `None` until the server is waited for.
    deadline: Option<Instant>,
}

/// A message whose result has not been given yet.
enum Pending {
    /// Its frame lies between these positions of what is sent. It is kept if it may have to go out on another link.
    Sealed { start: u64, end: u64, message: Option<Box<[u8]>> },
    /// It was not sent, being over the limit.
    TooLarge { size: u64, limit: u64 },
}

/// The result of a message.
pub(super) enum Outcome {
    /// A response, which is this part of the input.
    Response(Range<usize>),
    Rejected(RejectionReason),
    TooLarge {
        size: u64,
        limit: u64,
    },
}

/// How far to look for a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Only at what has been read.
    Buffer,
    /// At the socket, without waiting.
    Socket,
    /// Until the deadline.
    Wait,
}

impl InFlight {
    pub(super) fn new(settings: Settings, input: ReadBuffer) -> Self {
        Self { settings, input, given: 0, pending: VecDeque::new(), failed: None, deadline: None }
    }

    /// How many results are still to be given.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_any_sealed(&self) -> bool {
        self.pending.iter().any(|pending| matches!(pending, Pending::Sealed { .. }))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Forgets what ended the link, for another one on which what is in flight goes out again.
    pub(super) fn recover(&mut self, link: &mut Link) -> Result<(), Error> {
        self.failed = None;
        if self.pending.is_empty() {
            return Ok(());
        }
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Sealed { message: Some(message), .. } => match self.seal(link, &message) {
                    Err(Error::TooLarge { size, limit, .. }) => self.push_too_large(size, limit),
                    outcome => outcome?,
                },
                pending => self.pending.push_back(pending),
            }
        }
        Ok(())
    }

    /// What the caller has taken its time for is not the server's.
    pub(super) fn restart_deadline(&mut self) {
        self.deadline = None;
    }

    /// The response that was given last is not needed any more.
    pub(super) fn release(&mut self) {
        self.input.consume(std::mem::take(&mut self.given));
    }

    /// Says that a message is over the limit, which is its result when its turn comes.
    pub(super) fn push_too_large(&mut self, size: u64, limit: u64) {
        self.pending.push_back(Pending::TooLarge { size, limit });
    }

    pub(super) fn seal(&mut self, link: &mut Link, message: &[u8]) -> Result<(), Error> {
        if self.failed.is_some() && !self.may_send_again() {
            return Err(self.failure(link));
        }
        let (size, limit) = (message.len() as u64, link.max_message_size(&self.settings));
        let too_large = Error::TooLarge { phase: Phase::Send, size, limit };
        if size > limit {
            return Err(too_large);
        }
        let is_kept = self.settings.reconnect && link.session.is_forward_secret();
        let kept = is_kept.then(|| message.into());
        if self.may_send_again() {
            self.pending.push_back(Pending::Sealed { start: u64::MAX, end: u64::MAX, message: kept });
            return Ok(());
        }
        link.is_pipelined = true;
        let start = link.unsent.end();
        link.session.send(message, &mut link.unsent.bytes).map_err(|_| too_large)?;
        self.pending.push_back(Pending::Sealed { start, end: link.unsent.end(), message: kept });
        Ok(())
    }

    /// Whether the server has said goodbye, and what it did not take up is to go out on another link.
    pub(super) fn may_send_again(&self) -> bool {
        self.settings.reconnect && self.failed.as_ref().is_some_and(Error::is_goodbye)
    }

    /// Sends what is sealed.
    ///
    /// While the server has a response to write, it may take nothing more until that is read. Then this either reads,
    /// and goes on until all is sent (`completely`), or leaves the reading to the caller.
    pub(super) fn flush(&mut self, link: &mut Link, completely: bool) -> Result<(), Error> {
        self.release();
        while !link.unsent.is_empty() {
            let rest = link.unsent.rest();
            let is_owed = self.is_response_owed(link);
            let sent = if is_owed {
                link.transport.send_now(rest)
            } else {
                link.transport.send_some(&rest[..rest.len().min(LONGEST_WRITE)], self.deadline())
            };
            match sent {
                Ok(0) if !is_owed => {
                    // It may have been rejected before the server has all of it.
                    if self.read(link, Look::Socket, usize::MAX)? && self.are_all_answered(link) {
                        return Ok(());
                    }
                }
                Ok(0) if !completely => return Ok(()),
                Ok(0) => drop(self.read(link, Look::Wait, usize::MAX)?),
                Ok(count) => {
                    link.unsent.advance(count);
                    link.last_used = Instant::now();
                }
                Err(error) => {
                    self.failed = Some(self.settings.io_error(Phase::Send, error));
                    self.collect(link);
                    if self.settings.reconnect && self.is_goodbye_there(link) {
                        // It comes behind the results that have arrived.
                        self.failed = None;
                        return Ok(());
                    }
                    return if self.are_all_answered(link) { Ok(()) } else { Err(self.failure(link)) };
                }
            }
        }
        Ok(())
    }

    /// The next result, if it is there. `None` with [`Look::Wait`] says that nothing is in flight.
    ///
    /// An error of the outer kind says that the link is over, and comes after all that has arrived on it.
    pub(super) fn take(&mut self, link: Option<&mut Link>, look: Look) -> Result<Option<Outcome>, Error> {
        self.release();
        let start = match self.pending.front() {
            None => return Ok(None),
            Some(&Pending::TooLarge { size, limit }) => {
                self.pending.pop_front();
                return Ok(Some(Outcome::TooLarge { size, limit }));
            }
            Some(Pending::Sealed { start, .. }) => *start,
        };
        let link = link.ok_or(Error::Closed)?;
        let is_begun = start < link.unsent.sent();
        if self.failed.is_some() && !(is_begun && link.session.is_established()) {
            return Err(self.failure(link));
        }
        if !is_begun {
            if look != Look::Buffer {
                self.pass_over_unasked(link)?;
            }
            return Ok(None);
        }
        let now = Instant::now();
        if now.saturating_duration_since(link.last_used) >= link.lifetime(&self.settings) / 4 {
            // Should it fail, reading tells, and what has arrived comes first.
            let _ = link.extend_lifetime();
        }
        while let Some(frame_length) = self.missing(link)? {
            if self.failed.is_some() {
                return Err(self.failure(link));
            }
            if look == Look::Buffer || !self.read(link, look, frame_length)? {
                return Ok(None);
            }
        }
        self.deadline = None;
        let (taken, outcome) = match link.session.receive(self.input.filled_mut(), now) {
            Ok((taken, ClientEvent::Response(text))) => {
                let end = taken - TAG_LENGTH;
                (taken, Outcome::Response(end - text.len()..end))
            }
            Ok((_, ClientEvent::Goodbye)) => {
                self.failed = Some(Error::GOODBYE);
                return Err(Error::GOODBYE);
            }
            Ok((taken, ClientEvent::Rejected(reason))) => (taken, Outcome::Rejected(reason)),
            Ok((taken, _)) => (taken, Outcome::Rejected(RejectionReason::NotGiven)),
            Err(fault) => {
                // Nothing behind it can be used.
                let error = self.settings.error(Phase::Receive, fault);
                self.failed = Some(error.clone());
                return Err(error);
            }
        };
        self.given = taken;
        self.pending.pop_front();
        Ok(Some(outcome))
    }

    /// Reads once; says whether there was something.
    fn read(&mut self, link: &mut Link, look: Look, frame_length: usize) -> Result<bool, Error> {
        let deadline = self.deadline();
        let room = self.input.room(frame_length);
        let outcome = match look {
            Look::Wait => link.transport.receive(room, deadline).map(Some),
            _ => link.transport.receive_now(room),
        };
        let error = match outcome {
            Ok(None) => return Ok(false),
            Ok(Some(0)) => ErrorKind::UnexpectedEof.into(),
            Ok(Some(count)) => {
                self.input.received(count);
                return Ok(true);
            }
            Err(error) => error,
        };
        self.failed = Some(self.settings.io_error(Phase::Receive, error));
        Err(self.failure(link))
    }

    /// Reads the responses that are there, after a failure. They may say more than it does.
    fn collect(&mut self, link: &mut Link) {
        while !self.are_all_answered(link) {
            let Ok(Some(count @ 1..)) = link.transport.receive_now(self.input.room(usize::MAX)) else {
                return;
            };
            self.input.received(count);
        }
    }

    /// Looks at what arrives before anything in flight was sent: it must not be taken for an answer to that.
    fn pass_over_unasked(&mut self, link: &mut Link) -> Result<(), Error> {
        let is_classic = !link.session.is_forward_secret();
        let mut passed_over = 0;
        loop {
            while is_classic && passed_over < MOST_UNASKED && self.input.filled().starts_with(&EMPTY_RESPONSE)
            {
                self.input.consume(RESPONSE_HEADER);
                passed_over += 1;
            }
            match self.missing(link)? {
                Some(frame_length) if self.read(link, Look::Socket, frame_length)? => {}
                Some(_) if !is_classic || self.input.is_empty() => return Ok(()),
                _ => break,
            }
        }
        // A goodbye is the only answer to nothing that a server gives.
        let error = if self.is_goodbye_next(link) { Error::GOODBYE } else { Error::Unasked };
        self.failed = Some(error.clone());
        Err(error)
    }

    /// Where the frames of messages without a result lie.
    fn sealed(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pending.iter().filter_map(|pending| match pending {
            Pending::Sealed { start, end, .. } => Some((*start, *end)),
            Pending::TooLarge { .. } => None,
        })
    }

    /// What ended the link, in the terms of the messages that have no result.
    fn failure(&self, link: &Link) -> Error {
        let is_any_begun = self.sealed().next().is_some_and(|(start, _)| start < link.unsent.sent());
        match self.failed.clone().unwrap_or(Error::Closed) {
            error if is_any_begun => error,
            // The server had nothing of them.
            Error::ClosedByServer { .. } => Error::GOODBYE,
            Error::TimedOut { limit, .. } => Error::timed_out(Phase::Idle, limit),
            Error::Io { source, addr, .. } => Error::Io { phase: Phase::Idle, source, addr },
            error => error,
        }
    }

    fn deadline(&mut self) -> Instant {
        *self.deadline.get_or_insert_with(|| self.settings.deadline())
    }
}
