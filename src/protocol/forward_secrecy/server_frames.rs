//! The server's side of a session after the handshake.

use super::frame::{self, Incoming, from_client, from_server};
use super::frame_cipher::FrameCipher;
use super::handshake::SessionKeys;
use super::queue::{Awaited, Queue};
use crate::protocol::{Refusal, RejectionReason, ServerEvent};

/// Opens the client's frames and seals the server's, and sees to the order of the answers.
#[derive(Debug)]
pub(in crate::protocol) struct ServerFrames {
    sealing: FrameCipher,
    /// `None` once nothing more is read.
    opening: Option<FrameCipher>,
    stage: Stage,
    unanswered: Queue,
    /// Messages that were answered, by a response or a rejection.
    answered: u64,
    max_message_size: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The establishment may be a replay.
    Unproven,
    /// The client holds the session's keys.
    Proven,
    /// A frame was announced over the limit.
    OverLimit,
    /// A frame was bad: what opened before it may be answered, and nothing else is said.
    Failed,
}

impl ServerFrames {
    pub(in crate::protocol) fn new(keys: &SessionKeys, max_message_size: usize) -> Self {
        let ciphers = (FrameCipher::new(&keys.server_to_client), FrameCipher::new(&keys.client_to_server));
        Self::with_ciphers(ciphers, max_message_size)
    }

    pub(super) fn with_ciphers(
        (sealing, opening): (FrameCipher, FrameCipher),
        max_message_size: usize,
    ) -> Self {
        Self {
            sealing,
            opening: Some(opening),
            stage: Stage::Unproven,
            unanswered: Queue::default(),
            answered: 0,
            max_message_size,
        }
    }

    /// Takes one event from the start of `input` and says how many bytes belong to it. Appends pongs that are due.
    #[inline]
    pub(in crate::protocol) fn receive<'i>(
        &mut self,
        input: &'i mut [u8],
        output: &mut Vec<u8>,
    ) -> (usize, ServerEvent<'i>) {
        let Some(opening) = &mut self.opening else { return (0, ServerEvent::Refused(Refusal::Closed)) };
        let (kind, text, frame_length) = match frame::receive(opening, input, self.max_message_size) {
            Incoming::NeedMore { frame_length } => return (0, ServerEvent::NeedMore { frame_length }),
            Incoming::TooLarge { length } if self.stage == Stage::Proven => {
                self.stop_reading(Stage::OverLimit);
                return (0, ServerEvent::TooLarge { length });
            }
            Incoming::TooLarge { .. } | Incoming::NotAuthentic => return self.fail(Refusal::NotAuthentic),
            Incoming::Frame { kind, text, frame_length } => (kind, text, frame_length),
        };
        if kind == from_client::PING && !text.is_empty() {
            return self.fail(Refusal::Malformed);
        }
        self.stage = Stage::Proven;
        let event = match kind {
            from_client::MESSAGE => {
                self.unanswered.push(Awaited::Message);
                ServerEvent::Message(text)
            }
            from_client::PING => {
                self.unanswered.push(Awaited::Ping);
                self.answer_pings(output);
                ServerEvent::Ping
            }
            kind => ServerEvent::Skipped(kind),
        };
        (frame_length, event)
    }

    /// Makes the next unanswered message's response of what stands in `output` from `start` on: room for the header,
    /// and the text. A rejection takes its place when it can't be sealed, and nothing when no message is unanswered;
    /// `false` then.
    #[inline]
    pub(in crate::protocol) fn respond(&mut self, output: &mut Vec<u8>, start: usize) -> bool {
        if !self.take_message() {
            output.truncate(start);
            return false;
        }
        let is_sealed = frame::seal(&mut self.sealing, from_server::RESPONSE, output, start).is_ok();
        if !is_sealed {
            self.append(from_server::REJECTION, &[RejectionReason::NotGiven.to_byte()], output);
        }
        self.answer_pings(output);
        is_sealed
    }

    /// Appends a rejection of the next unanswered message; `false` when there is none.
    pub(in crate::protocol) fn reject(&mut self, reason: RejectionReason, output: &mut Vec<u8>) -> bool {
        let is_due = self.take_message();
        if is_due {
            self.append(from_server::REJECTION, &[reason.to_byte()], output);
            self.answer_pings(output);
        }
        is_due
    }

    /// Rejects what is unanswered and says goodbye, unless the client has not proven itself, or a frame was bad. It
    /// is the last frame: drop the keys behind it.
    pub(in crate::protocol) fn goodbye(&mut self, output: &mut Vec<u8>) {
        if !self.says_goodbye() {
            return;
        }
        while self.reject(RejectionReason::NotGiven, output) {}
        self.append(from_server::GOODBYE, &self.answered.to_be_bytes(), output);
    }

    /// Whether the client has shown that it holds the session's keys, and nothing has ended the session since.
    pub(in crate::protocol) fn is_established(&self) -> bool {
        self.stage == Stage::Proven
    }

    /// Whether [`goodbye`](Self::goodbye) has something to say.
    pub(in crate::protocol) fn says_goodbye(&self) -> bool {
        !matches!(self.stage, Stage::Unproven | Stage::Failed)
    }

    /// Whether no frame of the client has opened, so that the establishment may be a replay.
    pub(in crate::protocol) fn is_unproven(&self) -> bool {
        self.stage == Stage::Unproven
    }

    /// Messages and pings whose answers are not sealed yet.
    pub(in crate::protocol) fn unanswered(&self) -> usize {
        self.unanswered.messages() + self.unanswered.pings()
    }

    /// A frame of a later version.
    #[cfg(test)]
    pub(super) fn append_unregistered(&mut self, kind: u8, text: &[u8], output: &mut Vec<u8>) {
        self.append(kind, text, output);
    }

    fn fail<'i>(&mut self, refusal: Refusal) -> (usize, ServerEvent<'i>) {
        self.stop_reading(Stage::Failed);
        (0, ServerEvent::Refused(refusal))
    }

    fn stop_reading(&mut self, stage: Stage) {
        self.stage = stage;
        self.opening = None;
    }

    #[inline]
    fn take_message(&mut self) -> bool {
        let is_due = self.unanswered.pop(Awaited::Message);
        self.answered += u64::from(is_due);
        is_due
    }

    /// Answers the pings that no message is before.
    #[inline]
    fn answer_pings(&mut self, output: &mut Vec<u8>) {
        while self.unanswered.pop(Awaited::Ping) {
            self.append(from_server::PONG, &[], output);
        }
    }

    /// Such small frames can be sealed as long as there are counters, of which nobody uses up 2^64.
    fn append(&mut self, kind: u8, text: &[u8], output: &mut Vec<u8>) {
        let _ = frame::append(&mut self.sealing, kind, text, output);
    }
}
