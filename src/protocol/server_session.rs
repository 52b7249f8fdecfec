//! The server's side of one connection, as a state machine.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

#[cfg(feature = "forward-secrecy")]
use getrandom::SysRng;

use super::frame::{Request, decode_request};
use super::response::CLASSIC_PREFIX;
use super::{
    ACCEPTED, Deadline, EMPTY_RESPONSE, ESTABLISHMENT_LENGTH, Expiry, MESSAGE_HEADER, NonceSequence,
    RESPONSE_HEADER, Refusal, Rejection, RejectionReason, Response, SEAL_OVERHEAD, ServerEvent,
    SessionSettings, later, response_header,
};
#[cfg(feature = "forward-secrecy")]
use super::{
    ESTABLISHMENT_PLAINTEXT, ForwardSecrecy, NONCE_LENGTH, ServerLimits,
    forward_secrecy::{FRAME_HEADER, NoAnswer, ReceivedOffer, ServerFrames},
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
    ForwardSecret {
        key: Arc<NamedKey>,
        frames: Box<ServerFrames>,
    },
    Closed,
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
        #[cfg(feature = "forward-secrecy")]
        if let State::ForwardSecret { frames, .. } = &mut self.state {
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
            (_, Some(Request::Establishment)) => self.establishment(input, output, now),
            (State::Establishing, _) if !input.is_empty() => self.refuse(Refusal::NotAnEstablishment),
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
        let Some(opened) = self.keyring.open(sealed) else { return self.refuse(Refusal::NotAuthentic) };
        #[cfg(feature = "forward-secrecy")]
        match self.answer_offer(&opened.0, opened.1, output) {
            Ok(None) => {}
            Ok(Some(frames)) => {
                self.state = State::ForwardSecret { key: opened.0, frames };
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
    ) -> Result<Option<Box<ServerFrames>>, Refusal> {
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
        Ok(Some(Box::new(ServerFrames::new(&keys, max_message_size))))
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

    /// An empty response behind whatever `output` holds already, to be written and [sealed](Self::seal).
    #[inline]
    pub fn begin_response<'o>(&self, output: &'o mut Vec<u8>) -> Response<'o> {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret { .. } => Response::behind_prefix(FRAME_HEADER, output),
            _ => Response::behind_prefix(CLASSIC_PREFIX, output),
        }
    }

    /// Seals the response to the oldest message that has none.
    ///
    /// `false` for a response longer than AES-GCM allows, which becomes the empty response or a rejection; and where
    /// there is no message to answer, since the session is not established or its last frame is sealed: nothing is
    /// left of it then. The nonces are for classic sessions; forward-secret ones count theirs.
    #[inline]
    pub fn seal(&mut self, response: Response<'_>, nonces: &mut NonceSequence) -> bool {
        match &mut self.state {
            State::Established(key) => response.seal(key.cipher(), nonces).is_ok(),
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret { frames, .. } => {
                let (output, start) = response.into_output(FRAME_HEADER);
                frames.respond(output, start)
            }
            State::Establishing | State::Closed => {
                response.discard();
                false
            }
        }
    }

    /// Rejects the oldest message without a response in place of answering it. What was written of `response` is
    /// forgotten. A classic session says the empty response, whatever the reason.
    #[cfg_attr(
        not(feature = "forward-secrecy"),
        expect(unused_variables, reason = "only one says more than nothing")
    )]
    pub fn reject(&mut self, response: Response<'_>, reason: RejectionReason) {
        match &mut self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret { frames, .. } => _ = frames.reject(reason, response.discard()),
            State::Established(_) => response.reject(),
            State::Establishing | State::Closed => _ = response.discard(),
        }
    }

    /// Ends a forward-secret session: rejects the messages that are unanswered, without a reason, and appends the
    /// goodbye, which says how many were taken up. Half-close behind it, and read on for a while.
    ///
    /// Appends nothing where no goodbye belongs: in a classic session, before the client has proven itself, after a
    /// bad frame, and a second time. The keys of the session are wiped.
    #[cfg_attr(
        not(feature = "forward-secrecy"),
        expect(unused_variables, clippy::ptr_arg, reason = "no classic session says it")
    )]
    pub fn goodbye(&mut self, output: &mut Vec<u8>) {
        #[cfg(feature = "forward-secrecy")]
        if let State::ForwardSecret { frames, .. } = &mut self.state {
            frames.goodbye(output);
            self.state = State::Closed;
        }
    }

    /// Messages and pings of a forward-secret session whose answers are not sealed yet. It grows while messages are
    /// answered later than they come: read no more while there are too many. Always 0 in a classic session.
    pub fn unanswered(&self) -> usize {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret { frames, .. } => frames.unanswered(),
            _ => 0,
        }
    }

    /// Seals the response to the message in `frame` where that message was opened, if all of it is `part` of the text.
    /// Gives the response's frame: its header and nonce fit before the text, and its tag behind.
    ///
    /// `None` as long as the session is not established, for a part that is not within the text, and in a
    /// forward-secret session, whose responses are never begun beside their messages.
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
            State::Established(_) => true,
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret { frames, .. } => frames.is_established(),
            State::Establishing | State::Closed => false,
        }
    }

    /// Whether the session is forward-secret, from the answered offer on.
    pub fn is_forward_secret(&self) -> bool {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret { .. } => true,
            _ => false,
        }
    }

    /// The key that the session lives under, once its establishment has opened.
    pub fn key(&self) -> Option<&Arc<NamedKey>> {
        match &self.state {
            State::Established(key) => Some(key),
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret { key, .. } => Some(key),
            State::Establishing | State::Closed => None,
        }
    }

    #[inline]
    fn is_establishing(&self) -> bool {
        match &self.state {
            State::Establishing => true,
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret { frames, .. } => frames.is_unproven(),
            _ => false,
        }
    }

    #[inline]
    fn interacted(&mut self, now: Instant) {
        self.lifetime_ends = later(now, self.settings.lifetime);
    }
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "forward-secrecy")]
    use std::time::Duration;

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

    /// A frame of a type that nothing is known of shows the keys as any other, and then no more extends the lifetime.
    #[cfg(feature = "forward-secrecy")]
    #[test]
    fn ignored_frames_extend_no_lifetime() {
        use crate::protocol::forward_secrecy::{ClientFrames, Offer};

        let (cipher, mut now) = (Arc::new(Cipher::new(&Key::from_bytes([7; 32]))), Instant::now());
        let keyring = Arc::new(Keyring::from(Arc::clone(&cipher)));
        let mut session = ServerSession::new(Arc::default(), keyring, now);
        let mut opening = [0; ESTABLISHMENT_LENGTH];
        let plaintext = &mut opening[1 + NONCE_LENGTH..][..ESTABLISHMENT_PLAINTEXT];
        let mut offer = Offer::new(cipher.preshared(), &mut SysRng, plaintext).unwrap();
        cipher.seal(&mut nonces(), &mut opening[1..]).unwrap();
        let mut answer = Vec::new();
        session.receive(&mut opening, &mut answer, now);
        let (keys, limits) = offer.finish(&answer.try_into().unwrap()).unwrap();
        let mut client = ClientFrames::new(&keys, limits, 0);

        now += Duration::from_secs(1);
        let established = now;
        for _ in 0..2 {
            assert_eq!(session.is_established(), now != established);
            let mut frame = Vec::new();
            client.append_unregistered(99, b"from the future", &mut frame);
            let (taken, event) = session.receive(&mut frame, &mut Vec::new(), now);
            assert_eq!((taken, event), (9 + 15 + 16, ServerEvent::Skipped(99)));
            assert_eq!(session.deadline().at, established + Duration::from_secs(60));
            now += Duration::from_secs(1);
        }
    }
}
