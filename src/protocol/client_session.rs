//! The client's side of one connection, as a state machine.

use std::sync::Arc;
use std::time::Instant;

use rand_core::TryCryptoRng;

#[cfg(feature = "forward-secrecy")]
use super::forward_secrecy::{ANSWER_LENGTH, ClientFrames, OFFER_ACCEPTED, Offer};
use super::frame::{ESTABLISHMENT_TYPE, PING_TYPE, decode_response, message_header};
use super::{
    ACCEPTED, Cipher, ClientEvent, ClientFault, EMPTY_RESPONSE, ESTABLISHMENT_LENGTH,
    ESTABLISHMENT_PLAINTEXT, ForwardSecrecy, NONCE_LENGTH, NonceSequence, RESPONSE_HEADER, RejectionReason,
    SEAL_OVERHEAD, SealError, ServerLimits, TAG_LENGTH,
};

/// The client's side of one connection: bytes and instants in, events and bytes to send out.
///
/// ```text
///          establish()            0xFF
///   New -----------------> Establishing ------> Established  <--- messages, responses
///    |                          |                   |
///    |                          | anything else     | a response that does not open, is too large,
///    |                          v                   | or answers nothing
///    |                        Closed <--------------+
///    |                          ^                   |
///    |                          | anything else     | any frame that is not what is due
///    | establish()              |     0xFE, message 2
///    +-----------------------> Offered -----------> Forward-secret <--- messages, pings, responses, pongs
///                               |                   |
///                               | 0xFF              | goodbye
///                               v                   v
///                          Established            Ended
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
    policy: ForwardSecrecy,
    state: State,
    /// Of a classic session, and of a forward-secret one that is closed.
    unanswered: usize,
    deadline: Option<Instant>,
}

#[derive(Debug)]
enum State {
    New,
    Establishing,
    Established,
    #[cfg(feature = "forward-secrecy")]
    Offered(Box<Offer>),
    #[cfg(feature = "forward-secrecy")]
    ForwardSecret(Box<ClientFrames>),
    Closed,
}

impl ClientSession {
    /// A classic session that has not sent anything yet. `max_message_size` is the largest plaintext of a response,
    /// in bytes, that it takes.
    pub fn new(cipher: Arc<Cipher>, nonces: NonceSequence, max_message_size: usize) -> Self {
        Self::with_policy(cipher, nonces, max_message_size, ForwardSecrecy::Off)
    }

    /// The same, which offers the server a forward-secret session if `policy` says so.
    pub fn with_policy(
        cipher: Arc<Cipher>,
        nonces: NonceSequence,
        max_message_size: usize,
        policy: ForwardSecrecy,
    ) -> Self {
        Self { cipher, nonces, max_message_size, policy, state: State::New, unanswered: 0, deadline: None }
    }

    /// Appends the establishment, whose 128 random bytes, or ephemeral key and payload of its offer, come from `rng`.
    /// Appends nothing once an offer has been made.
    ///
    /// # Errors
    /// Whatever `rng` fails with; nothing was appended then.
    pub fn establish<R: TryCryptoRng>(&mut self, rng: &mut R, output: &mut Vec<u8>) -> Result<(), R::Error> {
        let mut frame = [ESTABLISHMENT_TYPE; ESTABLISHMENT_LENGTH];
        let sealed = &mut frame[1..];
        let plaintext = &mut sealed[NONCE_LENGTH..][..ESTABLISHMENT_PLAINTEXT];
        let next = match (&self.state, self.policy) {
            (State::New, ForwardSecrecy::Off) => {
                rng.try_fill_bytes(plaintext)?;
                Some(State::Establishing)
            }
            #[cfg(feature = "forward-secrecy")]
            (State::New, _) => {
                Some(State::Offered(Box::new(Offer::new(self.cipher.preshared(), rng, plaintext)?)))
            }
            #[cfg(feature = "forward-secrecy")]
            (State::Offered(_) | State::ForwardSecret(_), _) => return Ok(()),
            _ => {
                rng.try_fill_bytes(plaintext)?;
                None
            }
        };
        // Sealing fails only without room for nonce and tag, and this frame has it by its type.
        let _ = self.cipher.seal(&mut self.nonces, sealed);
        output.extend_from_slice(&frame);
        if let Some(next) = next {
            self.state = next;
        }
        Ok(())
    }

    /// Appends `message`, sealed, and expects one more response.
    ///
    /// # Errors
    /// [`SealError`] when it is longer than AES-GCM allows, when the session is closed, while an offer is not
    /// answered, and, in a forward-secret session, when it is over the [server's limit](Self::server_limits) and
    /// after a goodbye. Nothing was appended then.
    pub fn send(&mut self, message: &[u8], output: &mut Vec<u8>) -> Result<(), SealError> {
        match &mut self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(frames) => return frames.send(message, output),
            State::Established | State::Establishing => {}
            State::New if self.policy == ForwardSecrecy::Off => {}
            _ => return Err(SealError),
        }
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

    /// Appends a ping. Nothing answers it in a classic session; in a forward-secret one a pong does. Appends nothing
    /// when the session is closed, while an offer is not answered, and after a goodbye.
    pub fn ping(&mut self, output: &mut Vec<u8>) {
        match &mut self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(frames) => _ = frames.ping(output),
            State::Established | State::Establishing => output.push(PING_TYPE),
            State::New if self.policy == ForwardSecrecy::Off => output.push(PING_TYPE),
            _ => {}
        }
    }

    /// Takes one event from the start of `input` and says how many bytes belong to it.
    ///
    /// What has arrived whole is given even when `now` is past the deadline. Bytes that are left while nothing is in
    /// flight came unasked, but for the beginning of a frame in a forward-secret session: close the session before
    /// they can be taken for a part of the next answer.
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
        let outcome = match &mut self.state {
            State::Closed => Err(ClientFault::Closed),
            _ if input.is_empty() => Ok((0, ClientEvent::NeedMore { frame_length: 1 })),
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(frames) => {
                let outcome = frames.receive(input);
                self.end_exchange_if_answered();
                outcome
            }
            #[cfg(feature = "forward-secrecy")]
            State::Offered(_) if input[0] == OFFER_ACCEPTED => self.offer_accepted(input),
            #[cfg(feature = "forward-secrecy")]
            State::Offered(_) if input[0] == ACCEPTED && self.policy == ForwardSecrecy::Require => {
                Err(ClientFault::NotForwardSecret)
            }
            #[cfg(feature = "forward-secrecy")]
            State::Offered(_) if input[0] == ACCEPTED => Ok(self.accepted()),
            #[cfg(feature = "forward-secrecy")]
            State::Offered(_) => Err(ClientFault::Refused),
            State::Establishing if input[0] == ACCEPTED => Ok(self.accepted()),
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
            self.close();
        }
        outcome
    }

    fn accepted<'i>(&mut self) -> (usize, ClientEvent<'i>) {
        self.state = State::Established;
        self.end_exchange_if_answered();
        (1, ClientEvent::Established)
    }

    #[cfg(feature = "forward-secrecy")]
    fn offer_accepted<'i>(&mut self, input: &[u8]) -> Result<(usize, ClientEvent<'i>), ClientFault> {
        let Some(answer) = input.first_chunk::<ANSWER_LENGTH>() else {
            return Ok((0, ClientEvent::NeedMore { frame_length: ANSWER_LENGTH }));
        };
        let State::Offered(offer) = &mut self.state else { return Err(ClientFault::Refused) };
        let (keys, limits) = offer.finish(answer).ok_or(ClientFault::Refused)?;
        let frames = ClientFrames::new(&keys, limits, self.max_message_size);
        self.state = State::ForwardSecret(Box::new(frames));
        self.end_exchange_if_answered();
        Ok((ANSWER_LENGTH, ClientEvent::Established))
    }

    #[inline]
    fn response<'i>(&mut self, input: &'i mut [u8]) -> Result<(usize, ClientEvent<'i>), ClientFault> {
        let Some(length) = decode_response(input) else {
            return Ok((0, ClientEvent::NeedMore { frame_length: RESPONSE_HEADER }));
        };
        if length == 0 {
            self.answered();
            return Ok((RESPONSE_HEADER, ClientEvent::Rejected(RejectionReason::NotGiven)));
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
        if self.unanswered() == 0 && self.unanswered_pings() == 0 {
            self.deadline = None;
        }
    }

    /// Gives the exchange that begins its deadline. It ends with the last answer that is expected.
    pub fn begin_exchange(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    /// The moment by which the exchange in flight must be complete; `None` while there is none.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Ends the session, so that no late bytes can be taken for an answer. Keys of its own are wiped.
    pub fn close(&mut self) {
        self.unanswered = self.unanswered();
        self.state = State::Closed;
    }

    /// Whether the session can take messages.
    pub fn is_established(&self) -> bool {
        match &self.state {
            State::Established => true,
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(frames) => frames.is_open(),
            _ => false,
        }
    }

    /// Whether the session is forward-secret: not before the server has accepted the offer.
    pub fn is_forward_secret(&self) -> bool {
        self.server_limits().is_some()
    }

    /// What the server said of itself in the handshake of a forward-secret session.
    pub fn server_limits(&self) -> Option<ServerLimits> {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(frames) => Some(frames.limits()),
            _ => None,
        }
    }

    /// How many messages have no response yet. After a [goodbye](ClientEvent::Goodbye), how many were not processed.
    pub fn unanswered(&self) -> usize {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(frames) => frames.unanswered(),
            _ => self.unanswered,
        }
    }

    /// How many pings have no pong yet: none in a classic session, where nothing answers them.
    pub fn unanswered_pings(&self) -> usize {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(frames) => frames.unanswered_pings(),
            _ => 0,
        }
    }
}
