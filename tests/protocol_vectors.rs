//! Every vector of `protocol-vectors.json`, byte for byte, in both directions.

#[path = "common/sessions.rs"]
mod sessions;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use falcotcp_sync::Key;
use falcotcp_sync::protocol::{
    ACCEPTED, Cipher, ClientSession, MESSAGE_HEADER, NONCE_LENGTH, RESPONSE_HEADER, Refusal, Rejection,
    ResponseWriter,
};
use sessions::{ClientEnd, Known, LIMIT, Received, Served, ServerEnd, nonces};
use tinyjson::JsonValue;

#[test]
fn every_name_is_known_here_and_there_once() {
    let vectors = vectors();
    let names: BTreeSet<_> = vectors.iter().map(|vector| &vector.name).collect();
    assert_eq!((vectors.len(), names.len()), (16, 16));
    for vector in &vectors {
        match vector.direction {
            Direction::ClientToServer => _ = vector.served(),
            Direction::ServerToClient => _ = vector.received(),
        }
    }
}

#[test]
fn sealing_a_plaintext_under_its_nonce_gives_the_frame() {
    let mut sealed = 0;
    for vector in vectors() {
        let (Some(nonce), Some(text)) = (vector.nonce, &vector.plaintext) else { continue };
        let mut frame = Vec::new();
        let mut client = ClientSession::new(vector.cipher(), nonces(nonce), LIMIT);
        match (vector.direction, vector.is_establishment()) {
            (Direction::ClientToServer, true) => {
                let Ok(()) = client.establish(&mut Known(text), &mut frame);
            }
            (Direction::ClientToServer, false) => client.send(text, &mut frame).unwrap(),
            (Direction::ServerToClient, _) => {
                let mut response = ResponseWriter::begin(&mut frame);
                response.extend_from_slice(text);
                response.seal(&vector.cipher(), &mut nonces(nonce)).unwrap();
            }
        }
        assert_eq!(frame, vector.frame, "{}", vector.name);
        sealed += 1;
    }
    assert_eq!(sealed, 10);
}

#[test]
fn opening_a_frame_gives_the_plaintext() {
    let mut opened = 0;
    for mut vector in vectors() {
        let header = match (vector.direction, vector.is_establishment()) {
            (Direction::ClientToServer, true) => 1,
            (Direction::ClientToServer, false) => MESSAGE_HEADER,
            (Direction::ServerToClient, _) => RESPONSE_HEADER,
        };
        let cipher = vector.cipher();
        let Some(text) = &vector.plaintext else { continue };
        assert_eq!(cipher.open(&mut vector.frame[header..]).unwrap(), text, "{}", vector.name);
        opened += 1;
    }
    assert_eq!(opened, 10);
}

#[test]
fn the_server_session_does_with_each_frame_what_it_says() {
    let now = Instant::now();
    let vectors = vectors();
    let cipher = served_key(&vectors);
    for vector in vectors.iter().filter(|vector| vector.direction == Direction::ClientToServer) {
        let mut connections = vec![ServerEnd::established(&cipher, now)];
        if vector.is_establishment() {
            connections.push(ServerEnd::accepted(&cipher, now));
        }
        for mut server in connections {
            server.feed(&vector.frame);
            assert_eq!(server.seen, [vector.served()], "{}", vector.name);
            match &vector.answer {
                Some(answer) => assert_eq!(&server.output, answer, "{}", vector.name),
                None => assert_eq!(server.output.len() + 1, vector.frame.len(), "an echo of {}", vector.name),
            }
        }
    }
}

#[test]
fn the_client_session_makes_of_each_frame_what_it_says() {
    let now = Instant::now();
    let vectors = vectors();
    let cipher = served_key(&vectors);
    for vector in vectors.iter().filter(|vector| vector.direction == Direction::ServerToClient) {
        let mut client = ClientEnd::with_unanswered(&cipher, 1, now);
        client.feed(&vector.frame);
        assert_eq!(client.seen, [vector.received()], "{}", vector.name);
        assert!(client.input.is_empty(), "{}", vector.name);
    }
}

#[test]
fn the_answer_to_an_accepted_establishment_establishes_the_client() {
    let accepted = vectors().into_iter().find(|vector| vector.name == "handshake accepted").unwrap();
    assert_eq!(accepted.answer.as_deref(), Some(&[ACCEPTED][..]));
    let mut client = ClientEnd::establishing(&accepted.cipher(), Instant::now());
    client.feed(accepted.answer.as_deref().unwrap());
    assert_eq!(client.seen, [Received::Established]);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ClientToServer,
    ServerToClient,
}

struct Vector {
    name: String,
    direction: Direction,
    key: Key,
    nonce: Option<[u8; NONCE_LENGTH]>,
    plaintext: Option<Vec<u8>>,
    frame: Vec<u8>,
    /// What the server session says by itself; a message that opens has its handler's response instead.
    answer: Option<Vec<u8>>,
}

impl Vector {
    fn served(&self) -> Served {
        match self.name.as_str() {
            "handshake accepted" => Served::Established,
            "handshake under another key: closed in silence"
            | "handshake with one tag bit flipped: closed in silence" => {
                Served::Refused(Refusal::NotAuthentic)
            }
            "empty message" | "short message" | "one block" | "300 bytes" => {
                Served::Message(self.plaintext.clone().unwrap())
            }
            "damaged message" => Served::Rejected(Rejection::NotAuthentic),
            "message too short for a nonce and a tag" => Served::Rejected(Rejection::TooShort),
            "ping" => Served::Ping,
            "unregistered type 0x03: that one byte is skipped" => Served::Skipped(3),
            unknown => panic!("nothing is known of a vector {unknown:?} to the server"),
        }
    }

    fn received(&self) -> Received {
        match self.name.as_str() {
            "empty message reply" | "short message reply" | "one block reply" | "300 bytes reply" => {
                Received::Response(self.plaintext.clone().unwrap())
            }
            "empty response: the message was not processed" => Received::Rejected,
            unknown => panic!("nothing is known of a vector {unknown:?} to the client"),
        }
    }

    fn is_establishment(&self) -> bool {
        self.name.starts_with("handshake")
    }

    fn cipher(&self) -> Arc<Cipher> {
        Arc::new(Cipher::new(&self.key))
    }
}

/// The key of the server that the frames are meant for.
fn served_key(vectors: &[Vector]) -> Arc<Cipher> {
    vectors.iter().find(|vector| vector.name == "handshake accepted").unwrap().cipher()
}

fn vectors() -> Vec<Vector> {
    let vectors: JsonValue = include_str!("protocol-vectors.json").parse().unwrap();
    let vectors: Vec<JsonValue> = vectors.try_into().unwrap();
    vectors.into_iter().map(|fields| vector(fields.try_into().unwrap())).collect()
}

fn vector(mut fields: HashMap<String, JsonValue>) -> Vector {
    let mut text = |name| match fields.remove(name) {
        Some(JsonValue::String(text)) => Some(text),
        None => None,
        Some(other) => panic!("{name} is {other:?}"),
    };
    let vector = Vector {
        name: text("name").unwrap(),
        direction: match text("direction").unwrap().as_str() {
            "client to server" => Direction::ClientToServer,
            "server to client" => Direction::ServerToClient,
            unknown => panic!("direction {unknown:?}"),
        },
        key: Key::from_hex(&text("key").unwrap()).unwrap(),
        nonce: text("nonce").map(|hex| bytes(&hex).try_into().unwrap()),
        plaintext: text("plaintext").map(|hex| bytes(&hex)),
        frame: bytes(&text("frame").unwrap()),
        answer: text("answer").map(|hex| bytes(&hex)),
    };
    assert!(fields.is_empty(), "{}: fields that nothing tests: {fields:?}", vector.name);
    vector
}

fn bytes(hex: &str) -> Vec<u8> {
    assert_eq!(hex.len() % 2, 0);
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
