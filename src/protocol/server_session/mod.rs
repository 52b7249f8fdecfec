//! The server's side of one connection, as a state machine: what it makes of what arrives, and of time. How it answers is in
//! `answering`.

mod answering;

use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "forward-secrecy")]
use getrandom::SysRng;

use super::frame::{RequestHeader, decode_request};
use super::{
    ACCEPTED, Deadline, EMPTY_RESPONSE, ESTABLISHMENT_LENGTH, Expiry, MESSAGE_HEADER, Refusal, Rejection,
    SEAL_OVERHEAD, ServerEvent, SessionSettings, later,
};
#[cfg(feature = "forward-secrecy")]
use super::{
    ESTABLISHMENT_PLAINTEXT, ForwardSecrecy, NONCE_LENGTH, ServerLimits,
    forward_secrecy::{NoAnswer, ReceivedOffer, ServerFrames},
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
///
///               offer: 0xFE, message 2             first frame that opens
///  Establishing -----------------------> Unproven -----------------------> Forward-secret: messages, pings
///                                           |                                 |            |
///                                           | any bad frame      any bad frame|            | goodbye
///                                           v                                 v            v
///                                         Closed                       answers only      Closed
/// ```
///
/// The caller keeps the received bytes. [`receive`](Self::receive) looks at their start and either gives one event
/// and how many bytes it took, or says that it needs more and takes none. Whatever the session answers by itself
/// (acceptance, empty responses, pongs) it appends to `output`; a message's response is [begun](Self::begin_response)
/// by the session, written by the caller and [sealed](Self::seal). The answers to a connection's messages are sealed
/// in the order of the messages, at any time.
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
    has_said_goodbye: bool,
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
    /// Under keys of the session's own. On the heap, so that classic sessions stay as small as they are.
    #[cfg(feature = "forward-secrecy")]
    ForwardSecret(Box<ForwardSecret>),
    Closed,
}

#[cfg(feature = "forward-secrecy")]
#[derive(Debug)]
struct ForwardSecret {
    /// The key that opened the establishment.
    key: Arc<NamedKey>,
    frames: ServerFrames,
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
            has_said_goodbye: false,
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
        #[cfg(feature = "forward-secrecy")]
        if let State::ForwardSecret(session) = &mut self.state {
            let frames = &mut session.frames;
            let was_unproven = frames.is_unproven();
            let (taken, event) = frames.receive(input, output);
            let is_proof = was_unproven && frames.is_established();
            self.interaction |= matches!(event, ServerEvent::Message(_));
            if is_proof || matches!(event, ServerEvent::Ping) {
                self.interacted(now);
            }
            return (taken, event);
        }
        match (&self.state, decode_request(input)) {
            (State::Closed, _) => (0, ServerEvent::Refused(Refusal::Closed)),
            _ if self.is_over => (0, ServerEvent::Refused(Refusal::Closed)),
            (_, Some(RequestHeader::Establishment)) => self.establishment(input, output, now),
            (State::Establishing, _) if !input.is_empty() => self.refuse(Refusal::NotAnEstablishment),
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
        let Some(opened) = self.keyring.open(sealed) else { return self.refuse(Refusal::NotAuthentic) };
        #[cfg(feature = "forward-secrecy")]
        match self.answer_offer(&opened.0, opened.1, output) {
            Ok(None) => {}
            Ok(Some(frames)) => {
                self.state = State::ForwardSecret(Box::new(ForwardSecret { key: opened.0, frames }));
                if self.lifetime_ends <= now {
                    // The offer came in time and the answer is late, so the proof could not come.
                    self.lifetime_ends = later(now, self.settings.handshake_timeout);
                }
                return (ESTABLISHMENT_LENGTH, ServerEvent::OfferAnswered);
            }
            Err(refusal) => return self.refuse(refusal),
        }
        self.state = State::Established(opened.0);
        self.interacted(now);
        output.push(ACCEPTED);
        (ESTABLISHMENT_LENGTH, ServerEvent::Established)
    }

    /// Answers the offer of a forward-secret session that an establishment may be. Offers count only in the first
    /// one.
    #[cfg(feature = "forward-secrecy")]
    fn answer_offer(
        &self,
        key: &NamedKey,
        mut opened: [u8; ESTABLISHMENT_LENGTH - 1],
        output: &mut Vec<u8>,
    ) -> Result<Option<ServerFrames>, Refusal> {
        let policy = self.settings.forward_secrecy;
        if policy == ForwardSecrecy::Off || !matches!(self.state, State::Establishing) {
            return Ok(None);
        }
        let plaintext = &mut opened[NONCE_LENGTH..][..ESTABLISHMENT_PLAINTEXT];
        let Some(offer) = ReceivedOffer::find(key.cipher().preshared(), plaintext) else {
            return if policy == ForwardSecrecy::Require { Err(Refusal::NoOffer) } else { Ok(None) };
        };
        let SessionSettings { lifetime, max_message_size, .. } = *self.settings;
        let limits = ServerLimits { lifetime, max_message_size: max_message_size as u64 };
        let (answer, keys) = offer.answer(&mut SysRng, limits).map_err(|none| match none {
            NoAnswer::LowOrder => Refusal::LowOrder,
            NoAnswer::Unable => Refusal::Unable,
        })?;
        output.extend_from_slice(&answer);
        Ok(Some(ServerFrames::new(&keys, max_message_size)))
    }

    fn refuse<'i>(&mut self, refusal: Refusal) -> (usize, ServerEvent<'i>) {
        self.state = State::Closed;
        (0, ServerEvent::Refused(refusal))
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
        match self.write_ends {
            _ if self.is_establishing() => Deadline { at: self.lifetime_ends, expiry: Expiry::Handshake },
            Some(at) => Deadline { at, expiry: Expiry::Write },
            None => Deadline { at: self.lifetime_ends, expiry: Expiry::Lifetime },
        }
    }

    /// Whether the peer has shown that it holds the key, and nothing has ended the session since. In a forward-secret
    /// session the establishment alone does not show it, since it may be replayed: a frame does.
    pub fn is_established(&self) -> bool {
        match &self.state {
            State::Established(_) => !self.is_over,
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(session) => session.frames.is_established(),
            State::Establishing | State::Closed => false,
        }
    }

    /// Whether the session is forward-secret, from the answered offer on.
    pub fn is_forward_secret(&self) -> bool {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(_) => true,
            _ => false,
        }
    }

    /// The key that the session lives under, once its establishment has opened.
    pub fn key(&self) -> Option<&Arc<NamedKey>> {
        match &self.state {
            State::Established(key) => Some(key),
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(session) => Some(&session.key),
            State::Establishing | State::Closed => None,
        }
    }

    /// Whether [`goodbye`](Self::goodbye) has something to say.
    pub(crate) fn says_goodbye(&self) -> bool {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(session) => session.frames.says_goodbye(),
            _ => false,
        }
    }

    pub(crate) fn has_said_goodbye(&self) -> bool {
        self.has_said_goodbye
    }

    /// How long the connection lives from its last interaction.
    pub(crate) fn lifetime(&self) -> Duration {
        self.settings.lifetime
    }

    /// Whether an offer was answered, and nothing has come since that shows that it is no replay.
    #[inline]
    pub(crate) fn is_unproven(&self) -> bool {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(session) => session.frames.is_unproven(),
            _ => false,
        }
    }

    #[inline]
    fn is_establishing(&self) -> bool {
        matches!(self.state, State::Establishing) || self.is_unproven()
    }

    #[inline]
    fn interacted(&mut self, now: Instant) {
        self.lifetime_ends = later(now, self.settings.lifetime);
    }
}
