//! Every vector of `tests/forward-secrecy-vectors.json`, byte for byte. Each is given to the smallest part that it
//! says something about: ciphers, one end of a session after the handshake, or a whole session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tinyjson::{InnerAsRef, JsonValue};

use super::fixture::{Known, ends};
use crate::protocol::forward_secrecy::frame::{from_client, from_server};
use crate::protocol::forward_secrecy::frame_cipher::FrameCipher;
use crate::protocol::forward_secrecy::handshake::{ANSWER_LENGTH, Offer, ReceivedOffer, SessionKeys};
use crate::protocol::forward_secrecy::noise::Secret;
use crate::protocol::forward_secrecy::{ClientFrames, FRAME_HEADER, ServerFrames};
use crate::protocol::{
    ClientEvent, ClientFault, ClientSession, ESTABLISHMENT_LENGTH, ForwardSecrecy, NonceSequence, Refusal,
    RejectionReason, ServerEvent, ServerLimits, ServerSession, SessionSettings,
};
use crate::{Key, Keyring};

#[test]
fn each_handshake_is_the_same_from_both_ends() {
    for session in sessions() {
        let mut plaintext = [0; 128];
        let mut offer = session.offer(&mut plaintext);
        assert_eq!(plaintext[..], session.bytes("message_1"), "{}", session.name());
        assert_eq!(session.establishment(), session.bytes("establishment"));

        let received = ReceivedOffer::find(session.cipher().preshared(), &mut plaintext).unwrap();
        let mut rng = Known(session.bytes("server_ephemeral_private"));
        let (answer, keys) = received.answer(&mut rng, session.limits()).unwrap();
        assert_eq!(answer[..], session.bytes("answer"));
        session.assert_keys(&keys);

        let (keys, limits) = offer.finish(&answer).unwrap();
        assert_eq!(limits, session.limits());
        session.assert_keys(&keys);
    }
}

#[test]
fn each_frame_is_sealed_and_opened_under_the_keys_that_follow_each_other() {
    for session in sessions() {
        for direction in [CLIENT, SERVER] {
            let mut keys = vec![session.keys_of(direction)];
            let [mut sealing, mut opening] =
                [(); 2].map(|()| FrameCipher::with_rekey_blocks(&keys[0], session.number("rekey_blocks")));
            for (counter, frame) in
                session.frames().filter(|frame| frame.direction() == direction).enumerate()
            {
                let (bytes, mut text) = (frame.bytes("frame"), frame.bytes("text"));
                if **keys.last().unwrap() != *frame.secret("key") {
                    keys.push(frame.secret("key"));
                }
                assert_eq!(frame.number("counter"), counter as u64);
                let (header, sealed) = bytes.split_at(FRAME_HEADER);
                let tag = sealing.seal(header, &mut text).unwrap();
                assert_eq!([&text[..], &tag].concat(), sealed);
                opening.open(header, &mut text, &tag).unwrap();
                assert_eq!(text, frame.bytes("text"));
                for cipher in [&sealing, &opening] {
                    assert_eq!(cipher.blocks(), frame.number("blocks_after"));
                    assert_eq!(cipher.blocks() == 0, frame.boolean("rekeyed_after"));
                }
            }
            assert_eq!(keys.len() > 1, session.name() == "rekeyed", "each key is there");
        }
    }
}

#[test]
fn each_end_says_and_understands_its_frames() {
    for session in sessions() {
        let mut play = Play::new(&session);
        for frame in session.frames() {
            play.deliver(&frame);
        }
        assert!(!play.client.is_open(), "each session ends with a goodbye");
        // The server of this crate answers each ping that it has read; the vector's leaves one unanswered.
        if session.name() != "goodbye at once" {
            assert_eq!(play.said_by_server, play.expected_of_server);
        }
    }
}

#[test]
fn each_negative_frame_ends_the_session_in_silence() {
    let mut seen = 0;
    for vector in negative().filter(|vector| vector.0.contains_key("bytes")) {
        let session = vector.session();
        let mut play = Play::new(&session);
        let delivered = usize::try_from(vector.number("delivered")).unwrap();
        let is_next = |frame: &Vector| frame.direction() == vector.direction();
        let mut counted = 0;
        for frame in session.frames() {
            if is_next(&frame) && counted == delivered {
                break;
            }
            counted += usize::from(is_next(&frame));
            play.deliver(&frame);
        }
        let mut bytes = vector.bytes("bytes");
        let opens = match vector.text("expected") {
            "the frame opens; the session is over: no byte is sent, the connection closes" => true,
            "the session is over: nothing of these bytes is delivered, no byte is sent, the connection closes" => {
                false
            }
            unknown => panic!("{unknown}"),
        };
        if vector.direction() == CLIENT {
            let expected = if opens { Refusal::Malformed } else { Refusal::NotAuthentic };
            let mut output = Vec::new();
            for refusal in [expected, Refusal::Closed] {
                let event = play.server.receive(&mut bytes, &mut output);
                assert_eq!(event, (0, ServerEvent::Refused(refusal)), "{}", vector.name());
            }
            while play.server.reject(RejectionReason::NotGiven, &mut output) {}
            output.clear();
            play.server.goodbye(&mut output);
            assert!(output.is_empty());
        } else {
            let fault = play.client.receive(&mut bytes).unwrap_err();
            let expected: &[_] = if opens {
                &[ClientFault::Malformed, ClientFault::Unasked]
            } else {
                &[ClientFault::NotAuthentic]
            };
            assert!(expected.contains(&fault), "{}: {fault:?}", vector.name());
        }
        seen += 1;
    }
    assert_eq!(seen, 49);
}

#[test]
fn each_negative_answer_is_refused() {
    let mut seen = 0;
    for vector in negative().filter(|vector| vector.0.contains_key("answer")) {
        assert_eq!(vector.text("expected"), "refused: the client sends nothing and closes");
        let session = vector.session();
        let answer: [u8; ANSWER_LENGTH] = vector.bytes("answer").try_into().unwrap();
        assert!(session.offer(&mut [0; 128]).finish(&answer).is_none());

        for policy in [ForwardSecrecy::Prefer, ForwardSecrecy::Require] {
            let mut client = ClientSession::with_policy(session.cipher(), session.nonces(), 600, policy);
            let Ok(()) = client.establish(&mut session.client_rng(), &mut Vec::new());
            let now = Instant::now();
            assert_eq!(
                client.receive(&mut answer.clone(), now),
                Err(ClientFault::Refused),
                "{}",
                vector.name()
            );
            let mut output = Vec::new();
            assert!(client.send(b"", &mut output).is_err());
            client.ping(&mut output);
            assert!(output.is_empty());
        }
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[test]
fn each_establishment_is_answered_as_the_policy_says() {
    let mut seen = 0;
    for vector in negative().filter(|vector| vector.0.contains_key("establishment")) {
        let policies = [
            ("off", ForwardSecrecy::Off),
            ("prefer", ForwardSecrecy::Prefer),
            ("require", ForwardSecrecy::Require),
        ];
        for (name, policy) in policies {
            let settings = SessionSettings { forward_secrecy: policy, ..SessionSettings::default() };
            let keyring = Keyring::from(vector.session().cipher());
            let now = Instant::now();
            let mut server = ServerSession::new(Arc::new(settings), Arc::new(keyring), now);
            let mut output = Vec::new();
            let mut establishment = vector.bytes("establishment");
            let (taken, event) = server.receive(&mut establishment, &mut output, now);
            match vector.object("expected").text(name) {
                "ff" => {
                    assert_eq!((taken, event), (ESTABLISHMENT_LENGTH, ServerEvent::Established));
                    assert_eq!((&output[..], server.is_forward_secret()), (&[0xFF][..], false));
                }
                "fe" => {
                    assert_eq!((taken, event), (ESTABLISHMENT_LENGTH, ServerEvent::OfferAnswered));
                    assert_eq!((output[0], output.len(), server.is_forward_secret()), (0xFE, 65, true));
                }
                "closed in silence" => {
                    assert!(matches!(event, ServerEvent::Refused(_)), "{}: {event:?}", vector.name());
                    assert!(output.is_empty());
                }
                unknown => panic!("{unknown}"),
            }
        }
        seen += 1;
    }
    assert_eq!(seen, 20);
}

const CLIENT: &str = "client to server";
const SERVER: &str = "server to client";

/// Both ends of a vector's session: what each says is compared, and given to the other.
struct Play {
    client: ClientFrames,
    server: ServerFrames,
    said_by_server: Vec<u8>,
    expected_of_server: Vec<u8>,
}

impl Play {
    fn new(session: &Vector) -> Self {
        let (client, server) = ends(&session.keys(), session.number("rekey_blocks"));
        Self { client, server, said_by_server: Vec::new(), expected_of_server: Vec::new() }
    }

    fn deliver(&mut self, frame: &Vector) {
        let kind = u8::try_from(frame.number("type")).unwrap();
        let (text, mut bytes) = (frame.bytes("text"), frame.bytes("frame"));
        if frame.direction() == CLIENT {
            let mut said = Vec::new();
            match kind {
                from_client::MESSAGE => self.client.send(&text, &mut said).unwrap(),
                from_client::PING => self.client.ping(&mut said).unwrap(),
                kind => self.client.append_unregistered(kind, &text, &mut said).unwrap(),
            }
            assert_eq!(said, bytes);
            let (taken, event) = self.server.receive(&mut said, &mut self.said_by_server);
            assert_eq!(taken, bytes.len());
            match (kind, event) {
                (from_client::MESSAGE, ServerEvent::Message(message)) => assert_eq!(message, text),
                (from_client::PING, ServerEvent::Ping) => {}
                (kind, event) => assert_eq!(event, ServerEvent::Skipped(kind)),
            }
            return;
        }
        self.expected_of_server.extend_from_slice(&bytes);
        let output = &mut self.said_by_server;
        match kind {
            from_server::RESPONSE => {
                let start = output.len();
                output.extend_from_slice(&[0; FRAME_HEADER]);
                output.extend_from_slice(&text);
                assert!(self.server.respond(output, start));
            }
            from_server::REJECTION => {
                assert!(self.server.reject(RejectionReason::from_byte(text[0]), output));
            }
            from_server::GOODBYE => self.server.goodbye(output),
            from_server::PONG => {}
            kind => self.server.append_unregistered(kind, &text, output),
        }
        let length = bytes.len();
        let (taken, event) = self.client.receive(&mut bytes).unwrap();
        assert_eq!(taken, length);
        match (kind, event) {
            (from_server::RESPONSE, ClientEvent::Response(response)) => assert_eq!(response, text),
            (from_server::REJECTION, ClientEvent::Rejected(reason)) => assert_eq!([reason.to_byte()], *text),
            (from_server::GOODBYE, ClientEvent::Goodbye) | (from_server::PONG, ClientEvent::Pong) => {}
            (kind, event) => assert_eq!(event, ClientEvent::Skipped(kind)),
        }
    }
}

/// An object of the file.
struct Vector(HashMap<String, JsonValue>);

impl Vector {
    fn name(&self) -> &str {
        self.text("name")
    }

    fn direction(&self) -> &str {
        self.text("direction")
    }

    fn text(&self, field: &str) -> &str {
        self.field::<String>(field)
    }

    /// Exact up to 2^53, and for `u64::MAX`, at which casts end.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "lengths, times and counts")]
    fn number(&self, field: &str) -> u64 {
        *self.field::<f64>(field) as u64
    }

    fn boolean(&self, field: &str) -> bool {
        *self.field(field)
    }

    fn object(&self, field: &str) -> Vector {
        Vector(self.field::<HashMap<_, _>>(field).clone())
    }

    fn list(&self, field: &str) -> impl Iterator<Item = Vector> + use<> {
        let objects = self.field::<Vec<JsonValue>>(field).clone();
        objects.into_iter().map(|object| Vector(object.try_into().unwrap()))
    }

    fn field<T: InnerAsRef>(&self, field: &str) -> &T {
        self.0.get(field).and_then(JsonValue::get).unwrap_or_else(|| panic!("{field} in {:?}", self.0))
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        let hex = self.text(field);
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn secret(&self, field: &str) -> Secret {
        let bytes: [u8; 32] = self.bytes(field).try_into().unwrap();
        bytes.into()
    }

    /// Of a negative vector: the session that it was made from.
    fn session(&self) -> Vector {
        sessions().find(|session| session.name() == self.text("session")).unwrap()
    }

    /// Of a session, as all that follow.
    fn frames(&self) -> impl Iterator<Item = Vector> {
        self.list("frames")
    }

    fn cipher(&self) -> Arc<crate::protocol::Cipher> {
        Arc::new(crate::protocol::Cipher::new(&Key::from_hex(self.text("key")).unwrap()))
    }

    fn nonces(&self) -> NonceSequence {
        let Ok(nonces) = NonceSequence::from_rng(&mut Known(self.bytes("establishment_nonce")));
        nonces
    }

    fn client_rng(&self) -> Known {
        Known([self.bytes("client_ephemeral_private"), self.bytes("message_1_payload")].concat())
    }

    fn offer(&self, plaintext: &mut [u8; 128]) -> Offer {
        let Ok(offer) = Offer::new(self.cipher().preshared(), &mut self.client_rng(), plaintext);
        offer
    }

    fn establishment(&self) -> Vec<u8> {
        let policy = ForwardSecrecy::Prefer;
        let mut client = ClientSession::with_policy(self.cipher(), self.nonces(), 600, policy);
        let mut output = Vec::new();
        let Ok(()) = client.establish(&mut self.client_rng(), &mut output);
        output
    }

    fn limits(&self) -> ServerLimits {
        ServerLimits {
            lifetime: Duration::from_millis(self.number("lifetime_ms")),
            max_message_size: self.number("max_message_size"),
        }
    }

    fn keys(&self) -> SessionKeys {
        SessionKeys {
            client_to_server: self.secret("client_to_server_key"),
            server_to_client: self.secret("server_to_client_key"),
        }
    }

    fn keys_of(&self, direction: &str) -> Secret {
        let keys = self.keys();
        if direction == CLIENT { keys.client_to_server } else { keys.server_to_client }
    }

    fn assert_keys(&self, keys: &SessionKeys) {
        assert_eq!(*keys.client_to_server, *self.secret("client_to_server_key"));
        assert_eq!(*keys.server_to_client, *self.secret("server_to_client_key"));
    }
}

fn sessions() -> impl Iterator<Item = Vector> {
    file().list("sessions")
}

fn negative() -> impl Iterator<Item = Vector> {
    file().list("negative")
}

fn file() -> Vector {
    let file: JsonValue = include_str!("../../../../tests/forward-secrecy-vectors.json").parse().unwrap();
    Vector(file.try_into().unwrap())
}
