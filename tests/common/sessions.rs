//! Both sessions fed like a connection, with every promise of `receive` checked on the way.

// Each test file is a crate of its own and uses its part of this.
#![allow(dead_code)]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use falcotcp_sync::protocol::{
    ACCEPTED, Cipher, ClientEvent, ClientFault, ClientSession, EMPTY_RESPONSE, ESTABLISHMENT_LENGTH,
    ESTABLISHMENT_PLAINTEXT, MESSAGE_HEADER, NONCE_LENGTH, NonceSequence, RESPONSE_HEADER, Refusal,
    Rejection, RejectionReason, ResponseWriter, SEAL_OVERHEAD, ServerEvent, ServerSession, SessionSettings,
    TAG_LENGTH,
};
use falcotcp_sync::{Key, Keyring};
use rand_core::{TryCryptoRng, TryRng};

/// The largest plaintext of the sessions here: small, so that what is over the limit is small too.
pub(crate) const LIMIT: usize = 600;

/// An owned [`ServerEvent`], without `NeedMore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Served {
    Established,
    Message(Vec<u8>),
    Ping,
    Skipped(u8),
    Rejected(Rejection),
    TooLarge(u64),
    Refused(Refusal),
}

/// An owned [`ClientEvent`] or the fault that ended the session, without `NeedMore`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Received {
    Established,
    Response(Vec<u8>),
    Rejected,
    Unasked,
    Fault(ClientFault),
}

/// A server's end of a connection: it echoes every message.
pub(crate) struct ServerEnd {
    pub(crate) session: ServerSession,
    pub(crate) seen: Vec<Served>,
    pub(crate) output: Vec<u8>,
    /// What has arrived and is not taken.
    pub(crate) input: Vec<u8>,
    /// Bytes of all frames that were taken.
    pub(crate) taken: usize,
    /// The frame length that the last `NeedMore` named.
    pub(crate) needs: Option<usize>,
    now: Instant,
    limit: usize,
    nonces: NonceSequence,
}

impl ServerEnd {
    pub(crate) fn accepted(cipher: &Arc<Cipher>, now: Instant) -> Self {
        Self::with_settings(cipher, settings(), now)
    }

    /// Established, and with nothing seen or sent since.
    pub(crate) fn established(cipher: &Arc<Cipher>, now: Instant) -> Self {
        let mut server = Self::accepted(cipher, now);
        server.feed(&establishment(cipher));
        assert_eq!(
            (server.seen.as_slice(), server.output.as_slice()),
            (&[Served::Established][..], &[0xFF][..])
        );
        server.seen.clear();
        server.output.clear();
        server.taken = 0;
        server
    }

    pub(crate) fn with_settings(cipher: &Arc<Cipher>, settings: SessionSettings, now: Instant) -> Self {
        Self {
            limit: settings.max_message_size,
            session: ServerSession::new(Arc::new(settings), Arc::new(Keyring::from(cipher.clone())), now),
            seen: Vec::new(),
            output: Vec::new(),
            input: Vec::new(),
            taken: 0,
            needs: None,
            now,
            nonces: nonces([0xAA; NONCE_LENGTH]),
        }
    }

    /// Lets `bytes` arrive and takes every event that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while !self.ended() && self.take_one() {}
    }

    /// Lets `bytes` arrive in pieces of the given sizes, over and over.
    pub(crate) fn feed_in_pieces(&mut self, bytes: &[u8], sizes: &[usize]) {
        self.feed(&[]);
        for piece in pieces(bytes, sizes) {
            self.feed(piece);
        }
    }

    /// Whether the connection is to be closed.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.seen.last(), Some(Served::TooLarge(_) | Served::Refused(_)))
    }

    /// Asserts that nothing is read or said any more, whatever arrives.
    pub(crate) fn assert_closed(&mut self) {
        let said = self.output.len();
        for mut input in [Vec::new(), vec![2], EMPTY_RESPONSE.to_vec(), self.input.clone()] {
            let (taken, event) = self.session.receive(&mut input, &mut self.output, self.now);
            assert_eq!((taken, event), (0, ServerEvent::Refused(Refusal::Closed)));
        }
        assert_eq!(self.output.len(), said);
        assert!(!self.session.is_established());
    }

    /// All that two ends must agree on when the same bytes arrived at both.
    pub(crate) fn outcome(self) -> (Vec<Served>, Vec<u8>, usize, Vec<u8>, String) {
        (self.seen, self.output, self.taken, self.input, format!("{:?}", self.session))
    }

    /// Gives whether there was an event.
    fn take_one(&mut self) -> bool {
        let before = self.input.clone();
        let said = self.output.len();
        let (taken, event) = self.session.receive(&mut self.input, &mut self.output, self.now);
        let (seen, answer): (_, &[u8]) = match event {
            ServerEvent::NeedMore { frame_length } => {
                assert_eq!(
                    (taken, &self.input, self.output.len()),
                    (0, &before, said),
                    "NeedMore changes nothing"
                );
                let largest =
                    ESTABLISHMENT_LENGTH.max(self.limit.saturating_add(MESSAGE_HEADER + SEAL_OVERHEAD));
                assert!(
                    frame_length <= largest,
                    "{frame_length} bytes wanted, but no frame is over {largest}"
                );
                self.needs = Some(frame_length);
                return false;
            }
            ServerEvent::Established => (Served::Established, &[ACCEPTED]),
            ServerEvent::OfferAnswered => panic!("nobody made an offer"),
            ServerEvent::Message(text) => (Served::Message(text.to_vec()), &[]),
            ServerEvent::Ping => (Served::Ping, &[]),
            ServerEvent::Skipped(kind) => (Served::Skipped(kind), &[]),
            ServerEvent::Rejected(rejection) => (Served::Rejected(rejection), &EMPTY_RESPONSE),
            ServerEvent::TooLarge { length } => (Served::TooLarge(length), &EMPTY_RESPONSE),
            ServerEvent::Refused(refusal) => (Served::Refused(refusal), &[]),
            unknown => panic!("an event that no test knows: {unknown}"),
        };
        assert_eq!(&self.output[said..], answer, "{seen:?} says exactly this by itself");
        self.needs = None;
        self.seen.push(seen);
        assert_eq!(taken == 0, self.ended(), "every event but the last takes bytes");
        if !self.ended() {
            assert_eq!(self.input[taken..], before[taken..], "bytes behind the frame are left alone");
        }
        self.input.drain(..taken);
        self.taken += taken;
        if let Some(Served::Message(text)) = self.seen.last() {
            let mut response = ResponseWriter::begin(&mut self.output);
            response.extend_from_slice(text);
            assert!(self.session.seal(response, &mut self.nonces));
        }
        true
    }
}

/// A client's end of a connection.
pub(crate) struct ClientEnd {
    pub(crate) session: ClientSession,
    pub(crate) seen: Vec<Received>,
    /// What has arrived and is not taken.
    pub(crate) input: Vec<u8>,
    /// The frame length that the last `NeedMore` named.
    pub(crate) needs: Option<usize>,
    now: Instant,
}

impl ClientEnd {
    /// Its establishment is sent and not answered.
    pub(crate) fn establishing(cipher: &Arc<Cipher>, now: Instant) -> Self {
        let mut session = ClientSession::new(cipher.clone(), nonces([0x55; NONCE_LENGTH]), LIMIT);
        let Ok(()) = session.establish(&mut Known(&[7; ESTABLISHMENT_PLAINTEXT]), &mut Vec::new());
        Self { session, seen: Vec::new(), input: Vec::new(), needs: None, now }
    }

    /// Established, with nothing seen since, and with this many messages sent and not answered.
    pub(crate) fn with_unanswered(cipher: &Arc<Cipher>, messages: usize, now: Instant) -> Self {
        let mut client = Self::establishing(cipher, now);
        client.feed(&[ACCEPTED]);
        assert_eq!(client.seen, [Received::Established]);
        client.seen.clear();
        for _ in 0..messages {
            client.session.send(b"?", &mut Vec::new()).unwrap();
        }
        client
    }

    /// Lets `bytes` arrive and takes every event that they complete.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.feed_at(bytes, self.now);
    }

    /// As [`feed`](Self::feed), at another moment.
    pub(crate) fn feed_at(&mut self, bytes: &[u8], now: Instant) {
        self.input.extend_from_slice(bytes);
        while !self.ended() && self.take_one(now) {}
    }

    /// Lets `bytes` arrive in pieces of the given sizes, over and over.
    pub(crate) fn feed_in_pieces(&mut self, bytes: &[u8], sizes: &[usize]) {
        self.feed(&[]);
        for piece in pieces(bytes, sizes) {
            self.feed(piece);
        }
    }

    /// Whether the connection is to be closed.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.seen.last(), Some(Received::Fault(_)))
    }

    /// Asserts that nothing is taken for an answer any more, whatever arrives.
    pub(crate) fn assert_closed(&mut self) {
        for mut input in [Vec::new(), vec![ACCEPTED], EMPTY_RESPONSE.to_vec(), self.input.clone()] {
            assert_eq!(self.session.receive(&mut input, self.now), Err(ClientFault::Closed));
        }
        assert!(!self.session.is_established());
    }

    /// All that two ends must agree on when the same bytes arrived at both.
    pub(crate) fn outcome(self) -> (Vec<Received>, Vec<u8>, String) {
        (self.seen, self.input, format!("{:?}", self.session))
    }

    /// Gives whether there was an event.
    fn take_one(&mut self, now: Instant) -> bool {
        let before = self.input.clone();
        let unanswered = self.session.unanswered();
        let (taken, seen, answered) = match self.session.receive(&mut self.input, now) {
            Ok((taken, ClientEvent::NeedMore { frame_length })) => {
                assert_eq!((taken, &self.input), (0, &before), "NeedMore changes nothing");
                let largest = RESPONSE_HEADER + SEAL_OVERHEAD + LIMIT;
                assert!(
                    frame_length <= largest,
                    "{frame_length} bytes wanted, but no frame is over {largest}"
                );
                self.needs = Some(frame_length);
                return false;
            }
            Ok((taken, ClientEvent::Established)) => (taken, Received::Established, 0),
            Ok((taken, ClientEvent::Response(text))) => (taken, Received::Response(text.to_vec()), 1),
            Ok((taken, ClientEvent::Rejected(RejectionReason::NotGiven))) => (taken, Received::Rejected, 1),
            Ok((taken, ClientEvent::Unasked)) => (taken, Received::Unasked, 0),
            Ok((_, event)) => panic!("no classic session sees {event:?}"),
            Err(fault) => (0, Received::Fault(fault), 0),
        };
        assert_eq!(self.session.unanswered(), unanswered - answered, "{seen:?} answers {answered} messages");
        self.needs = None;
        self.seen.push(seen);
        assert_eq!(taken == 0, self.ended(), "every event but the last takes bytes");
        if !self.ended() {
            assert_eq!(self.input[taken..], before[taken..], "bytes behind the frame are left alone");
        }
        self.input.drain(..taken);
        true
    }
}

/// A random source that gives exactly these bytes.
pub(crate) struct Known<'a>(pub(crate) &'a [u8]);

impl TryRng for Known<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut word = [0; 4];
        self.try_fill_bytes(&mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut word = [0; 8];
        self.try_fill_bytes(&mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        let (given, rest) = self.0.split_at(bytes.len());
        bytes.copy_from_slice(given);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Known<'_> {}

/// The nonces from `start` on.
pub(crate) fn nonces(start: [u8; NONCE_LENGTH]) -> NonceSequence {
    let Ok(nonces) = NonceSequence::from_rng(&mut Known(&start));
    nonces
}

pub(crate) fn cipher() -> Arc<Cipher> {
    Arc::new(Cipher::new(&Key::from_bytes([0x42; 32])))
}

pub(crate) fn settings() -> SessionSettings {
    let mut settings = SessionSettings::default();
    settings.max_message_size = LIMIT;
    settings
}

/// A whole establishment that opens.
pub(crate) fn establishment(cipher: &Cipher) -> Vec<u8> {
    [&[0][..], &sealed(cipher, &[7; ESTABLISHMENT_PLAINTEXT])].concat()
}

/// A whole message that opens.
pub(crate) fn message(cipher: &Cipher, text: &[u8]) -> Vec<u8> {
    [&[1][..], &response(cipher, text)].concat()
}

/// A whole response that opens.
pub(crate) fn response(cipher: &Cipher, text: &[u8]) -> Vec<u8> {
    let sealed = sealed(cipher, text);
    [&(sealed.len() as u64).to_be_bytes()[..], &sealed].concat()
}

fn sealed(cipher: &Cipher, text: &[u8]) -> Vec<u8> {
    let mut sealed = [&[0; NONCE_LENGTH][..], text, &[0; TAG_LENGTH]].concat();
    cipher.seal(&mut nonces([0x99; NONCE_LENGTH]), &mut sealed).unwrap();
    sealed
}

fn pieces<'a>(mut bytes: &'a [u8], sizes: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    sizes.iter().cycle().map_while(move |size| {
        let (piece, rest) = bytes.split_at((*size).clamp(1, bytes.len().max(1)).min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}
