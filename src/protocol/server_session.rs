//! The server's side of one connection, as a state machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{RequestHeader, decode_request};
use super::{
    ACCEPTED, EMPTY_RESPONSE, ESTABLISHMENT_LENGTH, MESSAGE_HEADER, NonceSequence, ResponseWriter,
    SEAL_OVERHEAD,
};
use crate::keyring::{Keyring, NamedKey};

/// The server's side of one connection: bytes and instants in, events and bytes to send out.
///
/// ```text
///               opens: 0xFF                  message, ping, establishment
///  Establishing ------------> Established --------------------------------+
///       |                      |   |    ^                                 |
///       | anything else        |   |    +---------------------------------+
///       v                      |   | too large: empty response
///     Closed <-----------------+---+
///              establishment that does not open
/// ```
///
/// The caller keeps the received bytes. [`receive`](Self::receive) looks at their start and either gives
/// one event and how many bytes it took, or says that it needs more and takes none. Whatever the session
/// answers by itself (acceptance, empty responses) it appends to `output`; a message's response is written by
/// the caller through [`ResponseWriter`] and sealed with [`seal`](Self::seal).
///
/// Time is passed in, and [`deadline`](Self::deadline) names the one moment at which the connection ends
/// unless something happens before.
#[derive(Debug)]
pub struct ServerSession {
    settings: Arc<SessionSettings>,
    keyring: Arc<Keyring>,
    state: State,
    /// Nothing is read any more, but what was taken up may still be answered.
    is_over: bool,
    lifetime_ends: Instant,
    write_ends: Option<Instant>,
    /// Whether the lifetime starts again once the output has been handed over.
    interaction: bool,
}

#[derive(Debug)]
enum State {
    Establishing,
    /// Under the key that opened the establishment.
    Established(Arc<NamedKey>),
    Closed,
}

/// What limits a session; the defaults are those of the protocol.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionSettings {
    /// How long a connection lives from its last interaction. Default: 60 s.
    pub lifetime: Duration,
    /// How long a peer may take for its establishment. Default: 5 s, many round trips of any network.
    pub handshake_timeout: Duration,
    /// How long nothing at all may be taken of a response that is being sent. Default: 10 s.
    pub write_timeout: Duration,
    /// Bytes of plaintext in the largest message. Default: 16 MiB, so that a hundred peers in the middle of
    /// their largest message fit into the memory of a small machine.
    pub max_message_size: usize,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            max_message_size: 16 << 20,
        }
    }
}

/// What [`ServerSession::receive`] found at the start of its input.
#[derive(Debug, PartialEq, Eq)]
pub enum ServerEvent<'a> {
    /// No whole frame yet; nothing was taken.
    NeedMore {
        /// Bytes of the frame that has begun, as far as is known: never more than the session's largest.
        frame_length: usize,
    },
    /// The establishment opened; its answer was appended.
    Established,
    /// A message opened. It wants one response.
    Message(&'a mut [u8]),
    /// A ping.
    Ping,
    /// One byte of an unregistered type was skipped.
    Skipped(u8),
    /// A message was not processed; the empty response was appended and the connection goes on.
    Rejected(Rejection),
    /// A message is longer than the limit. The empty response was appended: send it, then close.
    TooLarge {
        /// Bytes that the peer announced for nonce, ciphertext and tag.
        length: u64,
    },
    /// Close the connection in silence.
    Refused(Refusal),
}

/// Why a message was answered with the empty response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Its length has no room for nonce and tag.
    TooShort,
    /// Its tag does not verify.
    NotAuthentic,
}

/// Why a connection is closed in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Something else than an establishment came first.
    NotAnEstablishment,
    /// The establishment does not open under the key.
    NotAuthentic,
    /// The session has ended; nothing is read any more.
    Closed,
}

/// The one moment at which a connection ends unless something happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// What will have run out then.
    pub expiry: Expiry,
}

/// What ran out for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// The time for the establishment.
    Handshake,
    /// The lifetime since the last interaction.
    Lifetime,
    /// The time in which the peer must take something of a response.
    Write,
}

impl ServerSession {
    /// A session of a connection that was accepted at `now`.
    ///
    /// It is established under whichever key of `keyring` opens its establishment when that arrives, and lives under
    /// that key alone.
    pub fn new(settings: Arc<SessionSettings>, keyring: Arc<Keyring>, now: Instant) -> Self {
        let lifetime_ends = later(now, settings.handshake_timeout);
        Self {
            settings,
            keyring,
            state: State::Establishing,
            is_over: false,
            lifetime_ends,
            write_ends: None,
            interaction: false,
        }
    }

    /// Takes one event from the start of `input` and says how many bytes belong to it.
    #[inline]
    pub fn receive<'i>(
        &mut self,
        input: &'i mut [u8],
        output: &mut Vec<u8>,
        now: Instant,
    ) -> (usize, ServerEvent<'i>) {
        match (&self.state, decode_request(input)) {
            (State::Closed, _) => (0, ServerEvent::Refused(Refusal::Closed)),
            _ if self.is_over => (0, ServerEvent::Refused(Refusal::Closed)),
            (_, Some(RequestHeader::Establishment)) => self.establishment(input, output, now),
            (State::Establishing, _) if !input.is_empty() => {
                self.state = State::Closed;
                (0, ServerEvent::Refused(Refusal::NotAnEstablishment))
            }
            (_, None) => {
                let frame_length = if input.is_empty() { 1 } else { MESSAGE_HEADER };
                (0, ServerEvent::NeedMore { frame_length })
            }
            (_, Some(RequestHeader::Message { length })) => self.message(length, input, output),
            (_, Some(RequestHeader::Ping)) => {
                self.interacted(now);
                (1, ServerEvent::Ping)
            }
            (_, Some(RequestHeader::Unregistered(kind))) => (1, ServerEvent::Skipped(kind)),
        }
    }

    fn establishment<'i>(
        &mut self,
        input: &[u8],
        output: &mut Vec<u8>,
        now: Instant,
    ) -> (usize, ServerEvent<'i>) {
        let Some([_, sealed @ ..]) = input.first_chunk::<ESTABLISHMENT_LENGTH>() else {
            return (0, ServerEvent::NeedMore { frame_length: ESTABLISHMENT_LENGTH });
        };
        let Some(key) = self.keyring.open::<{ ESTABLISHMENT_LENGTH - 1 }>(sealed) else {
            self.state = State::Closed;
            return (0, ServerEvent::Refused(Refusal::NotAuthentic));
        };
        self.state = State::Established(key);
        self.interacted(now);
        output.push(ACCEPTED);
        (ESTABLISHMENT_LENGTH, ServerEvent::Established)
    }

    #[inline]
    fn message<'i>(
        &mut self,
        length: u64,
        input: &'i mut [u8],
        output: &mut Vec<u8>,
    ) -> (usize, ServerEvent<'i>) {
        let Some(frame_length) = self.frame_length(length) else {
            self.is_over = true;
            output.extend_from_slice(&EMPTY_RESPONSE);
            return (0, ServerEvent::TooLarge { length });
        };
        let Some(frame) = input.get_mut(..frame_length) else {
            return (0, ServerEvent::NeedMore { frame_length });
        };
        let sealed = &mut frame[MESSAGE_HEADER..];
        let rejection = if sealed.len() < SEAL_OVERHEAD {
            Rejection::TooShort
        } else if let State::Established(key) = &self.state
            && let Ok(text) = key.cipher().open(sealed)
        {
            self.interaction = true;
            return (frame_length, ServerEvent::Message(text));
        } else {
            Rejection::NotAuthentic
        };
        output.extend_from_slice(&EMPTY_RESPONSE);
        (frame_length, ServerEvent::Rejected(rejection))
    }

    /// Bytes of the whole frame of a message, unless it is over the limit.
    #[inline]
    fn frame_length(&self, length: u64) -> Option<usize> {
        let length = usize::try_from(length).ok()?;
        (length.saturating_sub(SEAL_OVERHEAD) <= self.settings.max_message_size)
            .then(|| length.checked_add(MESSAGE_HEADER))
            .flatten()
    }

    /// An empty response behind whatever `output` holds already, to be written and [sealed](Self::seal).
    #[inline]
    pub fn begin_response<'o>(&self, output: &'o mut Vec<u8>) -> ResponseWriter<'o> {
        ResponseWriter::begin(output)
    }

    /// Seals the response to the oldest message that has none. That is an interaction, as the message was.
    ///
    /// A response longer than AES-GCM allows becomes the empty response, and `false` is returned; so does one of a
    /// session that is not established, which has no message to answer.
    #[inline]
    pub fn seal(&mut self, response: ResponseWriter<'_>, nonces: &mut NonceSequence) -> bool {
        self.interaction = true;
        if let State::Established(key) = &self.state {
            response.seal(key.cipher(), nonces).is_ok()
        } else {
            response.reject();
            false
        }
    }

    /// Seals it under the key that its message came under, in a session that was established anew since.
    pub(crate) fn seal_under(
        &mut self,
        key: &NamedKey,
        response: ResponseWriter<'_>,
        nonces: &mut NonceSequence,
    ) -> bool {
        self.interaction = true;
        response.seal(key.cipher(), nonces).is_ok()
    }

    /// Rejects the oldest message that has no response; what was written of that is forgotten.
    pub fn reject(&mut self, response: ResponseWriter<'_>) {
        self.interaction = true;
        response.reject();
    }

    /// Says that all output has been handed to the socket. After an interaction the lifetime starts here.
    #[inline]
    pub fn output_sent(&mut self, now: Instant) {
        self.write_ends = None;
        if self.interaction {
            self.interacted(now);
            self.interaction = false;
        }
    }

    /// Says that output is waiting for the socket, and that at `now` the peer last took some of it.
    pub fn output_waiting(&mut self, now: Instant) {
        self.write_ends = Some(later(now, self.settings.write_timeout));
    }

    /// The moment at which this connection is over unless something happens before.
    #[inline]
    pub fn deadline(&self) -> Deadline {
        match (self.write_ends, &self.state) {
            (Some(at), _) => Deadline { at, expiry: Expiry::Write },
            (None, State::Establishing) => Deadline { at: self.lifetime_ends, expiry: Expiry::Handshake },
            (None, _) => Deadline { at: self.lifetime_ends, expiry: Expiry::Lifetime },
        }
    }

    /// Whether the peer has shown that it holds the key, and nothing has ended the session since.
    pub fn is_established(&self) -> bool {
        matches!(self.state, State::Established(_)) && !self.is_over
    }

    /// The key that the session lives under, once it is established.
    pub fn key(&self) -> Option<&Arc<NamedKey>> {
        match &self.state {
            State::Established(key) => Some(key),
            State::Establishing | State::Closed => None,
        }
    }

    /// How long the connection lives from its last interaction.
    pub(crate) fn lifetime(&self) -> Duration {
        self.settings.lifetime
    }

    #[inline]
    fn interacted(&mut self, now: Instant) {
        self.lifetime_ends = later(now, self.settings.lifetime);
    }
}

/// `now + duration`, or some decades from `now` where the platform's clock can't count that far.
#[inline]
pub(crate) fn later(now: Instant, duration: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(30 * 365 * 86_400);
    now.checked_add(duration).unwrap_or_else(|| now + DECADES)
}
