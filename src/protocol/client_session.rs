//! The client's side of one connection, as a state machine.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rand_core::TryCryptoRng;

use super::frame::{ESTABLISHMENT_TYPE, PING_TYPE, decode_response, message_header};
use super::{
    ACCEPTED, Cipher, EMPTY_RESPONSE, ESTABLISHMENT_LENGTH, ESTABLISHMENT_PLAINTEXT, NONCE_LENGTH,
    NonceSequence, RESPONSE_HEADER, SEAL_OVERHEAD, SealError, TAG_LENGTH,
};

/// The client's side of one connection: bytes and instants in, events and bytes to send out.
///
/// ```text
///          establish()            0xFF
///   New -----------------> Establishing ------> Established  <--- messages, responses
///                               |                   |
///                               | anything else     | a response that does not open, is too large,
///                               v                   | or answers nothing
///                             Closed <--------------+
/// ```
///
/// The session counts the messages whose responses are still to come, so that it can tell a response from
/// bytes that nobody asked for. The exchange in flight has one [`deadline`](Self::deadline), however the
/// bytes dribble in.
#[derive(Debug)]
pub struct ClientSession {
    cipher: Arc<Cipher>,
    nonces: NonceSequence,
    max_message_size: usize,
    state: State,
    unanswered: usize,
    deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Establishing,
    Established,
    Closed,
}

/// What [`ClientSession::receive`] found at the start of its input. `Debug` and `Display` show a response's length only.
#[derive(PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent<'a> {
    /// No whole frame yet; nothing was taken.
    NeedMore {
        /// Bytes of the frame that has begun, as far as is known: never more than the session's largest.
        frame_length: usize,
    },
    /// The server accepted the establishment.
    Established,
    /// The response to the oldest message that had none.
    Response(&'a mut [u8]),
    /// The empty response to the oldest message that had none: it was not processed.
    Rejected,
    /// An empty response that answers nothing, as the published Python server sends to clients that are idle. It says
    /// nothing and can be passed over.
    Unasked,
}

impl fmt::Debug for ClientEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore { frame_length } => {
                f.debug_struct("NeedMore").field("frame_length", frame_length).finish()
            }
            Self::Established => f.write_str("Established"),
            Self::Response(text) => f.debug_struct("Response").field("len", &text.len()).finish(),
            Self::Rejected => f.write_str("Rejected"),
            Self::Unasked => f.write_str("Unasked"),
        }
    }
}

impl fmt::Display for ClientEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore { frame_length } => {
                write!(f, "no whole frame yet, of {frame_length} bytes or more")
            }
            Self::Established => f.write_str("established"),
            Self::Response(text) => write!(f, "a response of {} bytes", text.len()),
            Self::Rejected => f.write_str("a message was rejected"),
            Self::Unasked => f.write_str("an empty response that answers nothing"),
        }
    }
}

/// Why a session can't go on: the connection must be closed and nothing of it used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientFault {
    /// The server answered the establishment with another byte than 0xFF.
    Refused,
    /// A response does not open under the key, or is too short to be one.
    NotAuthentic,
    /// A response is longer than the limit.
    TooLarge {
        /// Bytes of its plaintext, as announced.
        size: u64,
    },
    /// Bytes arrived that answer nothing.
    Unasked,
    /// The exchange in flight is not complete at its deadline.
    TimedOut,
    /// The session has ended before.
    Closed,
}

impl fmt::Display for ClientFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("the server refused the establishment"),
            Self::NotAuthentic => f.write_str("a response does not open under the key"),
            Self::TooLarge { size } => write!(f, "a response of {size} bytes is over the limit"),
            Self::Unasked => f.write_str("bytes arrived that answer no message"),
            Self::TimedOut => f.write_str("the exchange is not complete at its deadline"),
            Self::Closed => f.write_str("the session has ended before"),
        }
    }
}

impl std::error::Error for ClientFault {}

impl ClientSession {
    /// A session that has not sent anything yet. `max_message_size` is the largest plaintext of a response, in bytes,
    /// that it takes.
    pub fn new(cipher: Arc<Cipher>, nonces: NonceSequence, max_message_size: usize) -> Self {
        Self { cipher, nonces, max_message_size, state: State::New, unanswered: 0, deadline: None }
    }

    /// Appends the establishment, whose 128 random bytes come from `rng`.
    ///
    /// # Errors
    /// Whatever `rng` fails with; nothing was appended then.
    pub fn establish<R: TryCryptoRng>(&mut self, rng: &mut R, output: &mut Vec<u8>) -> Result<(), R::Error> {
        let mut frame = [ESTABLISHMENT_TYPE; ESTABLISHMENT_LENGTH];
        let sealed = &mut frame[1..];
        rng.try_fill_bytes(&mut sealed[NONCE_LENGTH..][..ESTABLISHMENT_PLAINTEXT])?;
        // Sealing fails only without room for nonce and tag, and this frame has it by its type.
        let _ = self.cipher.seal(&mut self.nonces, sealed);
        output.extend_from_slice(&frame);
        if self.state == State::New {
            self.state = State::Establishing;
        }
        Ok(())
    }

    /// Appends `message`, sealed, and expects one more response.
    ///
    /// # Errors
    /// [`SealError`] when it is longer than AES-GCM allows; nothing was appended then.
    pub fn send(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), SealError> {
        let start = output.len();
        output.reserve(message.len().saturating_add(SEAL_OVERHEAD + 9));
        output.extend_from_slice(&message_header(message.len() + SEAL_OVERHEAD));
        let sealed = output.len();
        output.extend_from_slice(&[0; NONCE_LENGTH]);
        output.extend_from_slice(message);
        output.extend_from_slice(&[0; TAG_LENGTH]);
        let outcome = self.cipher.seal(&mut self.nonces, &mut output[sealed..]);
        match outcome {
            Ok(()) => self.unanswered += 1,
            Err(_) => output.truncate(start),
        }
        outcome
    }

    /// Appends a ping, which nothing answers.
    pub fn ping(&mut self, output: &mut Vec<u8>) {
        output.push(PING_TYPE);
    }

    /// Takes one event from the start of `input` and says how many bytes belong to it.
    ///
    /// What has arrived whole is given even when `now` is past the deadline. Bytes that are left while nothing is in
    /// flight came unasked: close the session before they can be taken for a part of the next answer.
    ///
    /// # Errors
    /// [`ClientFault`]; from then on the session gives [`ClientFault::Closed`].
    #[inline]
    pub fn receive<'i>(
        &mut self,
        input: &'i mut [u8],
        now: Instant,
    ) -> Result<(usize, ClientEvent<'i>), ClientFault> {
        let overdue = self.deadline.is_some_and(|deadline| deadline <= now);
        let outcome = match self.state {
            State::Closed => Err(ClientFault::Closed),
            _ if input.is_empty() => Ok((0, ClientEvent::NeedMore { frame_length: 1 })),
            State::Establishing if input[0] == ACCEPTED => {
                self.state = State::Established;
                self.end_exchange_if_answered();
                Ok((1, ClientEvent::Established))
            }
            State::Establishing => Err(ClientFault::Refused),
            State::Established if self.unanswered > 0 => self.response(input),
            State::Established if input.starts_with(&EMPTY_RESPONSE) => {
                Ok((RESPONSE_HEADER, ClientEvent::Unasked))
            }
            State::Established if EMPTY_RESPONSE.starts_with(input) => {
                Ok((0, ClientEvent::NeedMore { frame_length: RESPONSE_HEADER }))
            }
            State::Established | State::New => Err(ClientFault::Unasked),
        };
        let outcome = match outcome {
            Ok((_, ClientEvent::NeedMore { .. })) if overdue => Err(ClientFault::TimedOut),
            outcome => outcome,
        };
        if outcome.is_err() {
            self.state = State::Closed;
        }
        outcome
    }

    #[inline]
    fn response<'i>(&mut self, input: &'i mut [u8]) -> Result<(usize, ClientEvent<'i>), ClientFault> {
        let Some(length) = decode_response(input) else {
            return Ok((0, ClientEvent::NeedMore { frame_length: RESPONSE_HEADER }));
        };
        if length == 0 {
            self.answered();
            return Ok((RESPONSE_HEADER, ClientEvent::Rejected));
        }
        let size = length.checked_sub(SEAL_OVERHEAD as u64).ok_or(ClientFault::NotAuthentic)?;
        let frame_length = usize::try_from(size)
            .ok()
            .filter(|size| *size <= self.max_message_size)
            .and_then(|size| size.checked_add(SEAL_OVERHEAD + RESPONSE_HEADER))
            .ok_or(ClientFault::TooLarge { size })?;
        let Some(frame) = input.get_mut(..frame_length) else {
            return Ok((0, ClientEvent::NeedMore { frame_length }));
        };
        let text = self.cipher.open(&mut frame[RESPONSE_HEADER..]).map_err(|_| ClientFault::NotAuthentic)?;
        self.answered();
        Ok((frame_length, ClientEvent::Response(text)))
    }

    fn answered(&mut self) {
        self.unanswered -= 1;
        self.end_exchange_if_answered();
    }

    fn end_exchange_if_answered(&mut self) {
        if self.unanswered == 0 {
            self.deadline = None;
        }
    }

    /// Gives the exchange that begins its deadline. It ends with the last response that is expected.
    pub fn begin_exchange(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// The moment by which the exchange in flight must be complete; `None` while there is none.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends the session, so that no late bytes can be taken for an answer.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Whether the session can take messages.
    pub fn is_established(&self) -> bool {
        self.state == State::Established
    }

    /// How many messages have no response yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }
}
