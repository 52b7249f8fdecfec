//! The server's side of one connection, as a state machine.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{Request, decode_request};
use super::{
    ACCEPTED, EMPTY_RESPONSE, ESTABLISHMENT_LENGTH, MESSAGE_HEADER, NonceSequence, RESPONSE_HEADER, Response,
    SEAL_OVERHEAD, response_header,
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
/// the caller through [`Response`] and sealed with [`seal`](Self::seal).
///
/// Time is passed in, and [`deadline`](Self::deadline) names the one moment at which the connection ends
/// unless something happens before.
#[derive(Debug)]
pub struct ServerSession {
    settings: Arc<SessionSettings>,
    keyring: Arc<Keyring>,
    state: State,
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

/// What [`ServerSession::receive`] found at the start of its input. `Debug` and `Display` show a message's length only.
#[derive(PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub enum Rejection {
    /// Its length has no room for nonce and tag.
    TooShort,
    /// Its tag does not verify.
    NotAuthentic,
}

/// Why a connection is closed in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
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
#[non_exhaustive]
pub enum Expiry {
    /// The time for the establishment.
    Handshake,
    /// The lifetime since the last interaction.
    Lifetime,
    /// The time in which the peer must take something of a response.
    Write,
}

impl fmt::Debug for ServerEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore { frame_length } => {
                f.debug_struct("NeedMore").field("frame_length", frame_length).finish()
            }
            Self::Established => f.write_str("Established"),
            Self::Message(text) => f.debug_struct("Message").field("len", &text.len()).finish(),
            Self::Ping => f.write_str("Ping"),
            Self::Skipped(kind) => f.debug_tuple("Skipped").field(kind).finish(),
            Self::Rejected(rejection) => f.debug_tuple("Rejected").field(rejection).finish(),
            Self::TooLarge { length } => f.debug_struct("TooLarge").field("length", length).finish(),
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
        }
    }
}

impl fmt::Display for ServerEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore { frame_length } => {
                write!(f, "no whole frame yet, of {frame_length} bytes or more")
            }
            Self::Established => f.write_str("established"),
            Self::Message(text) => write!(f, "a message of {} bytes", text.len()),
            Self::Ping => f.write_str("a ping"),
            Self::Skipped(kind) => write!(f, "skipped a byte of the unregistered type {kind}"),
            Self::Rejected(rejection) => write!(f, "a message was rejected: {rejection}"),
            Self::TooLarge { length } => write!(f, "a message of {length} sealed bytes is over the limit"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "it is too short to hold a nonce and a tag",
            Self::NotAuthentic => "it does not open under the connection's key",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnEstablishment => "something else than an establishment came first",
            Self::NotAuthentic => "the establishment does not open under a key that is accepted",
            Self::Closed => "the session has ended before",
        })
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "the time for its establishment is over",
            Self::Lifetime => "its lifetime since the last interaction is over",
            Self::Write => "the time in which the peer must take something of a response is over",
        })
    }
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
            (_, Some(Request::Establishment)) => self.establishment(input, output, now),
            (State::Establishing, _) if !input.is_empty() => {
                self.state = State::Closed;
                (0, ServerEvent::Refused(Refusal::NotAnEstablishment))
            }
            (_, None) => {
                let frame_length = if input.is_empty() { 1 } else { MESSAGE_HEADER };
                (0, ServerEvent::NeedMore { frame_length })
            }
            (_, Some(Request::Message { length })) => self.message(length, input, output),
            (_, Some(Request::Ping)) => {
                self.interacted(now);
                (1, ServerEvent::Ping)
            }
            (_, Some(Request::Unregistered(kind))) => (1, ServerEvent::Skipped(kind)),
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
            self.state = State::Closed;
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

    /// Seals the response to a message.
    ///
    /// A response longer than AES-GCM allows becomes the empty response, and `false` is returned; so does one of a
    /// session that is not established, which has no message to answer.
    #[inline]
    pub fn seal(&self, response: Response<'_>, nonces: &mut NonceSequence) -> bool {
        if let State::Established(key) = &self.state {
            response.seal(key.cipher(), nonces).is_ok()
        } else {
            response.reject();
            false
        }
    }

    /// Seals the response to the message in `frame` where that message was opened, if all of it is `part` of the text.
    /// Gives the response's frame: its header and nonce fit before the text, and its tag behind.
    ///
    /// `None` as long as the session is not established, and for a part that is not within the text.
    pub(crate) fn seal_in_place<'f>(
        &self,
        frame: &'f mut [u8],
        part: Range<usize>,
        nonces: &mut NonceSequence,
    ) -> Option<&'f [u8]> {
        const BEFORE: usize = MESSAGE_HEADER - RESPONSE_HEADER;
        let State::Established(key) = &self.state else { return None };
        let response =
            frame.get_mut(BEFORE + part.start..BEFORE + part.end + RESPONSE_HEADER + SEAL_OVERHEAD)?;
        let (header, sealed) = response.split_first_chunk_mut()?;
        *header = response_header(sealed.len());
        key.cipher().seal(nonces, sealed).ok()?;
        Some(response)
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
        matches!(self.state, State::Established(_))
    }

    /// The key that the session lives under, once it is established.
    pub fn key(&self) -> Option<&Arc<NamedKey>> {
        match &self.state {
            State::Established(key) => Some(key),
            State::Establishing | State::Closed => None,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use crate::protocol::{Cipher, NONCE_LENGTH, message_header};

    fn nonces() -> NonceSequence {
        NonceSequence::new().unwrap()
    }

    fn established(cipher: &Arc<Cipher>) -> ServerSession {
        let keyring = Keyring::from(Arc::clone(cipher));
        let mut session = ServerSession::new(Arc::default(), Arc::new(keyring), Instant::now());
        let mut opening = vec![0; ESTABLISHMENT_LENGTH];
        cipher.seal(&mut nonces(), &mut opening[1..]).unwrap();
        let (_, event) = session.receive(&mut opening, &mut Vec::new(), Instant::now());
        assert_eq!(event, ServerEvent::Established);
        session
    }

    #[test]
    fn events_show_lengths_and_no_plaintext() {
        let mut text = *b"ABCDE";
        let event = ServerEvent::Message(&mut text);
        assert_eq!(format!("{event:?} {event}"), "Message { len: 5 } a message of 5 bytes");
        let mut text = *b"ABCDE";
        let event = crate::protocol::ClientEvent::Response(&mut text);
        assert_eq!(format!("{event:?} {event}"), "Response { len: 5 } a response of 5 bytes");
    }

    #[test]
    fn any_part_of_a_message_is_sealed_where_it_is() {
        let cipher = Arc::new(Cipher::new(&Key::from_bytes([7; 32])));
        let mut session = established(&cipher);
        let text = b"a message of some length";
        for (start, end) in (0..=text.len()).flat_map(|end| (0..=end).map(move |start| (start, end))) {
            let mut frame = message_header(text.len() + SEAL_OVERHEAD).to_vec();
            frame.resize(MESSAGE_HEADER + NONCE_LENGTH, 0);
            frame.extend_from_slice(text);
            frame.resize(MESSAGE_HEADER + text.len() + SEAL_OVERHEAD, 0);
            cipher.seal(&mut nonces(), &mut frame[MESSAGE_HEADER..]).unwrap();
            let (taken, event) = session.receive(&mut frame, &mut Vec::new(), Instant::now());
            assert!(matches!(event, ServerEvent::Message(message) if message == text));
            assert_eq!(taken, frame.len());

            let response = session.seal_in_place(&mut frame, start..end, &mut nonces()).unwrap();
            let (header, sealed) = response.split_at(RESPONSE_HEADER);
            assert_eq!(header, response_header(sealed.len()));
            assert_eq!(cipher.open(&mut sealed.to_vec()).unwrap(), &text[start..end]);
            assert!(session.seal_in_place(&mut frame, start..text.len() + 1, &mut nonces()).is_none());
        }
    }
}
