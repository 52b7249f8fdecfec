//! The connection of a shared client and the calls in flight on it. It reads and writes nothing by itself.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::room::Room;
use super::slot::{Notice, Slot};
use super::socket::{Endpoint, Socket};
use crate::client::link::Link;
use crate::client::settings::{Settings, TimeLimit, rejected};
use crate::protocol::ClientEvent;
use crate::read_buffer::ReadBuffer;
use crate::{Error, Phase};

pub(super) struct State {
    pub(super) socket: Option<Socket>,
    /// Counts the connections, so that nobody takes one for another.
    pub(super) connection: u64,
    /// Sealed frames that nobody has begun to write.
    pub(super) output: Vec<u8>,
    /// Bytes sealed and written since the connection began.
    pub(super) sealed: u64,
    pub(super) written: u64,
    /// Bytes that are being written at the moment: they may be with the server before that is recorded.
    pub(super) in_writing: u64,
    /// Somebody writes, or will before the socket is waited for.
    pub(super) is_writing: bool,
    pub(super) reader: Reader,
    pub(super) input: Option<ReadBuffer>,
    /// Calls whose frames are sealed, the oldest first. One whose caller has gone stays until its answer has come.
    pub(super) calls: VecDeque<InFlight>,
    /// How many of them are pings.
    pub(super) pings: usize,
    /// Calls that wait for a connection.
    pub(super) waiting: VecDeque<InFlight>,
    pub(super) room: Room,
    pub(super) is_connecting: bool,
    pub(super) is_closed: bool,
    /// Calls that were answered since callers were last given time to start the next ones.
    pub(super) answered: usize,
    /// When something last arrived, or the oldest call became the oldest.
    pub(super) last_progress: Instant,
    /// Of the time-outs of the calls since there was last none in flight.
    pub(super) longest_timeout: Duration,
    /// When the background thread will look at the deadlines, as far as it knows.
    pub(super) next_look: Option<Instant>,
}

/// Who reads from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    Nobody,
    /// A caller that waits.
    Caller,
    Driver,
}

pub(super) struct InFlight {
    pub(super) slot: Arc<Slot>,
    /// Its frame ends after this many bytes since the connection began.
    pub(super) end: u64,
    pub(super) time: TimeLimit,
    pub(super) kind: Kind,
    /// Why it waits for another connection, if it may have been processed on an earlier one.
    pub(super) sent_before: Option<Error>,
}

pub(super) enum Kind {
    /// The message is kept as long as it may have to be sent again.
    Message { message: Option<Vec<u8>>, is_idempotent: bool },
    /// A forward-secret session's, whose pong has its turn among the responses.
    Ping,
}

impl InFlight {
    /// Leaves it without a response.
    pub(super) fn fail(self, error: Error) -> Option<Notice> {
        let slot = Arc::clone(&self.slot);
        slot.complete(Err(self.told(error)))
    }

    /// What is told of its failure: what an earlier attempt may have done is what its caller must know.
    pub(super) fn told(self, error: Error) -> Error {
        if error.was_sent() { error } else { self.sent_before.unwrap_or(error) }
    }
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            socket: None,
            connection: 0,
            output: Vec::new(),
            sealed: 0,
            written: 0,
            in_writing: 0,
            is_writing: false,
            reader: Reader::Nobody,
            input: None,
            calls: VecDeque::new(),
            pings: 0,
            waiting: VecDeque::new(),
            room: Room::default(),
            is_connecting: false,
            is_closed: false,
            answered: 0,
            last_progress: Instant::now(),
            longest_timeout: Duration::ZERO,
            next_look: None,
        }
    }

    /// Goes on with a new connection.
    pub(super) fn install(&mut self, link: Link, notices: &mut Vec<Notice>) -> io::Result<()> {
        let pings = link.session.unanswered_pings();
        self.socket = Some(Socket::new(link)?);
        self.connection += 1;
        (self.sealed, self.written, self.in_writing) = (0, 0, 0);
        self.output.clear();
        self.input = None;
        self.last_progress = Instant::now();
        for _ in 0..pings {
            // The ping that proves a forward-secret session is answered first, unless its pong is here already.
            let slot = Arc::new(Slot::default());
            slot.complete(Ok(Vec::new()));
            let time = TimeLimit { deadline: self.last_progress, timeout: Duration::ZERO };
            self.calls.push_back(InFlight { slot, end: 0, time, kind: Kind::Ping, sent_before: None });
            self.pings += 1;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Some(mut call) = waiting.pop_front() {
            if call.slot.is_done() {
                continue;
            }
            if let Kind::Message { message, .. } = &mut call.kind {
                let message = message.take().unwrap_or_default();
                let slot = Arc::clone(&call.slot);
                match (self.seal(&message, call), self.calls.back_mut()) {
                    (Ok(()), Some(InFlight { kind: Kind::Message { message: kept, .. }, .. })) => {
                        *kept = Some(message);
                    }
                    (Ok(()), _) => {}
                    (Err(error), _) => notices.extend(slot.complete(Err(error))),
                }
            }
        }
        Ok(())
    }

    /// Seals a message of a call behind all others, unless it is larger than the server takes.
    pub(super) fn seal(&mut self, message: &[u8], call: InFlight) -> Result<(), Error> {
        let Some(socket) = &mut self.socket else { return Err(Error::Closed) };
        let before = self.output.len();
        if socket.link.session.send(message, &mut self.output).is_err() {
            let limits = socket.link.session.server_limits();
            let (size, limit) =
                (message.len() as u64, limits.map_or(u64::MAX, |limits| limits.max_message_size));
            return Err(call.sent_before.unwrap_or(Error::TooLarge { phase: Phase::Send, size, limit }));
        }
        self.push(before, call);
        Ok(())
    }

    fn push(&mut self, before: usize, call: InFlight) {
        self.sealed += (self.output.len() - before) as u64;
        if self.calls.is_empty() {
            self.last_progress = Instant::now();
            self.longest_timeout = Duration::ZERO;
        }
        self.longest_timeout = self.longest_timeout.max(call.time.timeout);
        if let Some(socket) = &mut self.socket {
            socket.link.last_used = Instant::now();
        }
        self.calls.push_back(InFlight { end: self.sealed, ..call });
    }

    /// Appends a ping; nothing if there is no connection. A classic one is done at once, and a forward-secret one with its pong.
    pub(super) fn ping(&mut self, time: TimeLimit) -> Option<Arc<Slot>> {
        let socket = self.socket.as_mut()?;
        let before = self.output.len();
        socket.link.session.ping(&mut self.output);
        let slot = Arc::new(Slot::default());
        if socket.link.session.is_forward_secret() {
            let (slot, kind) = (Arc::clone(&slot), Kind::Ping);
            self.push(before, InFlight { slot, end: 0, time, kind, sent_before: None });
            self.pings += 1;
        } else {
            self.sealed += (self.output.len() - before) as u64;
            socket.link.last_used = Instant::now();
            slot.complete(Ok(Vec::new()));
        }
        Some(slot)
    }

    /// Calls that take up room.
    pub(super) fn in_flight(&self) -> usize {
        self.calls.len() - self.pings + self.waiting.len()
    }

    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.socket.as_ref().map(|socket| socket.link.addr)
    }

    pub(super) fn is_of(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.socket.as_ref().is_some_and(|socket| Arc::ptr_eq(&socket.endpoint, endpoint))
    }

    pub(super) fn record_written(&mut self, count: usize) {
        self.in_writing = 0;
        let before = self.written;
        self.written += count as u64;
        // The oldest call's time without an answer is counted from when it was written, if that is later.
        if self.calls.front().is_some_and(|oldest| oldest.end > before && oldest.end <= self.written) {
            self.last_progress = Instant::now();
        }
    }

    /// Gives the responses that have arrived whole to their calls; bytes of the next frame, as far as is known.
    pub(super) fn take_events(
        &mut self,
        input: &mut ReadBuffer,
        settings: &Settings,
        notices: &mut Vec<Notice>,
    ) -> Result<usize, Error> {
        let Some(socket) = &mut self.socket else { return Ok(1) };
        loop {
            let phase = if self.calls.is_empty() { Phase::Idle } else { Phase::Receive };
            let (taken, outcome) = match socket.link.session.receive(input.filled_mut(), Instant::now()) {
                Ok((_, ClientEvent::NeedMore { frame_length })) => return Ok(frame_length),
                Ok((_, ClientEvent::Goodbye)) => return Err(Error::GOODBYE),
                Ok((taken, ClientEvent::Response(text))) => (taken, Some(Ok(text.to_vec()))),
                Ok((taken, ClientEvent::Rejected(reason))) => (taken, Some(Err(rejected(reason)))),
                Ok((taken, ClientEvent::Pong)) => (taken, Some(Ok(Vec::new()))),
                Ok((taken, _)) => (taken, None),
                Err(fault) => return Err(settings.error(phase, fault)),
            };
            input.consume(taken);
            if let Some(outcome) = outcome
                && let Some(call) = self.calls.pop_front()
            {
                self.answered += 1;
                self.pings -= usize::from(matches!(call.kind, Kind::Ping));
                notices.extend(match outcome {
                    Ok(response) => call.slot.complete(Ok(response)),
                    Err(error) => call.fail(error),
                });
            }
        }
    }
}
