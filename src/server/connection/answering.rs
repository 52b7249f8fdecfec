//! What a message is answered with, and when that is written: at once, or in its turn behind answers that come later.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use log::{error, trace, warn};

use super::deferred::{Answer, Outbox, Place};
use super::writing::OUTPUT_BYTES;
use super::{Connection, LOG, Scratch};
use crate::keyring::NamedKey;
use crate::protocol::{ACCEPTED, NonceSequence, RejectionReason, ResponseWriter};
use crate::server::handler::{Handler, Outcome, PeerSocket, Request, Response};
use crate::server::shared::{Floods, WatchdogClock, WorkerCounters};
use crate::unwind::contained;

/// What became of a message, and of its connection.
pub(super) struct Answered {
    by: Handled,
    /// The handler closes the connection behind this answer.
    pub(super) is_closing: bool,
}

/// What became of a message in its handler.
enum Handled {
    /// It is answered with what was written.
    Answered,
    /// It is answered later.
    Deferred,
    /// It has no response.
    Rejected(RejectionReason),
}

/// Runs the handler. A panic takes back what it has deferred.
#[inline]
fn handle(
    handler: &dyn Handler,
    request: Request<'_>,
    writer: &mut ResponseWriter<'_>,
    place: Place<'_>,
    counters: &WorkerCounters,
) -> Answered {
    let peer = request.peer;
    trace!(target: LOG, "{peer}: a message of {} bytes", request.message.len());
    counters.messages.add(1);
    let mut response = Response::new(writer.reborrow(), place);
    let is_handled = contained(|| handler.handle(request, &mut response)).is_some();
    let Outcome { mut place, deferred, is_rejected, is_closing } = response.into_outcome();
    let by = match (is_handled, deferred) {
        (true, None) if is_rejected => Handled::Rejected(RejectionReason::NotGiven),
        (true, None) => Handled::Answered,
        (true, Some(_)) => Handled::Deferred,
        (false, deferred) => {
            if let Some(id) = deferred {
                place.revoke(id);
            }
            counters.panics.add(1);
            error!(target: LOG, "{peer}: the handler panicked; its message is rejected");
            Handled::Rejected(RejectionReason::HandlerFailed)
        }
    };
    Answered { by, is_closing }
}

#[cold]
fn log_shed(request: &Request<'_>, floods: &Floods, clock: &WatchdogClock, now: Instant) {
    floods.shed.record(now, clock, || {
        let Request { peer, waited, .. } = request;
        warn!(target: LOG, "{peer}: a message had waited for {waited:.1?}, longer than shed_after, and was rejected");
    });
}

impl Connection {
    /// Lets the handler answer a message, unless that has waited too long.
    #[inline]
    pub(super) fn answer_message(&mut self, message: &[u8], scratch: &mut Scratch<'_>) -> Answered {
        let key_name = self.session.key().map_or("", |key| key.name());
        let request = Request {
            message,
            key_name,
            peer: self.peer,
            connection: self.id(),
            is_forward_secret: self.session.is_forward_secret(),
            waited: scratch.now.saturating_duration_since(scratch.since),
            socket: PeerSocket { stream: Some(&self.stream), is_closed: self.read_closed || self.broken },
        };
        let is_too_late = scratch.shed_after.is_some_and(|limit| request.waited > limit);
        let mut writer = self.session.begin_response(&mut scratch.output.bytes);
        let place = Place {
            outbox: &mut self.outbox,
            deferral: &scratch.deferral,
            token: scratch.token,
            key: self.session.key(),
            counters: scratch.counters,
        };
        let answered = if is_too_late && !scratch.is_draining {
            scratch.counters.shed.add(1);
            log_shed(&request, scratch.floods, scratch.clock, scratch.now);
            Answered { by: Handled::Rejected(RejectionReason::Overloaded), is_closing: false }
        } else {
            handle(scratch.handler, request, &mut writer, place, scratch.counters)
        };
        self.answer_with(writer, &answered.by, &mut scratch.nonces);
        answered
    }

    /// Seals the answer to a message behind what is in the output, or queues it behind answers that come later.
    #[inline]
    fn answer_with(&mut self, writer: ResponseWriter<'_>, handled: &Handled, nonces: &mut NonceSequence) {
        match (handled, &self.outbox) {
            (Handled::Deferred, _) => _ = writer.discard(),
            (Handled::Answered, Some(outbox)) => {
                outbox.push(Answer::Response(writer.as_slice().to_vec()));
                writer.discard();
            }
            (Handled::Rejected(reason), Some(outbox)) => {
                outbox.push(Answer::Rejection(*reason));
                writer.discard();
            }
            (Handled::Answered, None) => {
                let is_sealed = self.session.seal(writer, nonces);
                self.record_sealed(is_sealed);
            }
            (Handled::Rejected(reason), None) => self.session.reject(writer, *reason),
        }
    }

    /// Takes back what the session has appended by itself behind `length` bytes, and queues it behind answers that come
    /// later, if there are any.
    pub(super) fn queue_own_answer(&self, output: &mut Vec<u8>, length: usize, answer: Answer) {
        if let Some(outbox) = &self.outbox
            && output.len() > length
        {
            output.truncate(length);
            outbox.push(answer);
        }
    }

    /// Whether so many answers wait for others that no more messages are to be handled, or any under another key: the peer may
    /// have established anew.
    pub(super) fn are_too_many_waiting(&self, scratch: &Scratch<'_>) -> bool {
        let limits = &scratch.deferral.limits;
        self.outbox.as_ref().is_some_and(|outbox| {
            // Pings that wait for their turn are the session's.
            outbox.is_full(limits)
                || self.session.unanswered() >= limits.max_deferred
                || self.earlier_key(outbox).is_some()
        })
    }

    /// Seals the answers that come later and whose turn it is. `false` when the socket does not take them all. After the last
    /// time in a turn the worker is notified of further ones.
    pub(super) fn send_answers(&mut self, scratch: &mut Scratch<'_>, is_last: bool) -> io::Result<bool> {
        let Some(outbox) = self.outbox.as_ref().map(Arc::clone) else { return Ok(true) };
        while let Some(answer) = outbox.take(scratch.now, is_last) {
            let output = &mut scratch.output.bytes;
            match answer {
                Answer::Acceptance => output.push(ACCEPTED),
                Answer::Rejection(reason) => {
                    let writer = self.session.begin_response(output);
                    self.session.reject(writer, reason);
                }
                Answer::Response(text) => {
                    let mut writer = self.session.begin_response(output);
                    writer.reserve(text.len());
                    writer.extend_from_slice(&text);
                    let is_sealed = match self.earlier_key(&outbox) {
                        Some(key) => self.session.seal_under(key, writer, &mut scratch.nonces),
                        None => self.session.seal(writer, &mut scratch.nonces),
                    };
                    self.record_sealed(is_sealed);
                }
            }
            if scratch.output.bytes.len() >= OUTPUT_BYTES && !self.flush(scratch)? {
                return Ok(false);
            }
        }
        if outbox.is_empty() {
            self.outbox = None;
        }
        Ok(true)
    }

    /// The key of the answers that wait, if the peer has established anew under another since.
    fn earlier_key<'o>(&self, outbox: &'o Outbox) -> Option<&'o NamedKey> {
        let key = outbox.key.as_ref()?;
        let is_earlier = !self.session.key().is_some_and(|now| Arc::ptr_eq(now, key));
        is_earlier.then_some(key)
    }

    fn record_sealed(&self, is_sealed: bool) {
        if !is_sealed {
            error!(target: LOG, "{}: a response can't be sealed; its message is rejected", self.peer);
        }
    }
}
