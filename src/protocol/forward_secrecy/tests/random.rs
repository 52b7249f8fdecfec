//! Both ends after the handshake, with keys that are replaced every few frames.

use std::time::Duration;

use arbtest::arbitrary::{self, Unstructured};
use arbtest::arbtest;

use super::fixture::{LIMIT, ends};
use crate::protocol::forward_secrecy::handshake::SessionKeys;
use crate::protocol::forward_secrecy::{ClientFrames, FRAME_HEADER, ServerFrames};
use crate::protocol::{ClientEvent, ClientFault, Refusal, RejectionReason, ServerEvent};

/// How long each property is tried with ever new sessions.
const TIME: Duration = Duration::from_secs(1);

/// Bytes of chance for the longest of them.
const LONGEST: u32 = 16 << 10;

/// However often keys are replaced, and whatever comes late: each message has its answer, and each ping its pong.
#[test]
fn both_ends_agree() {
    let property = |random: &mut Unstructured<'_>| {
        let mut both = Both::new(random.int_in_range(1..=99)?);
        while !random.is_empty() {
            both.take(&step(random)?);
        }
        both.finish();
        Ok(())
    };
    arbtest(property).size_max(LONGEST).budget(TIME).run();
}

/// The bytes mean the same, however they are cut.
#[test]
fn any_segmentation_gives_the_same_events() {
    let property = |random: &mut Unstructured<'_>| {
        let rekey_blocks = random.int_in_range(1..=99)?;
        let sizes = (0..=random.int_in_range(0..=8)?)
            .map(|_| random.int_in_range(1..=400))
            .collect::<Result<Vec<usize>, _>>()?;
        let damage: Option<usize> = random.arbitrary()?;
        let mut steps = Vec::new();
        while !random.is_empty() {
            steps.push(step(random)?);
        }
        let mut both = Both::new(rekey_blocks);
        for step in &steps {
            both.take(step);
        }
        both.finish();
        for (is_to_server, mut bytes) in [(true, both.to_server), (false, both.to_client)] {
            if let Some(at) = damage.and_then(|at| at.checked_rem(bytes.len())) {
                bytes[at] ^= 0x10;
            }
            let events = |sizes: &[usize]| {
                let (client, server) = ends(&keys(), rekey_blocks);
                if is_to_server {
                    events_of_server(server, &bytes, sizes)
                } else {
                    events_of_client(client, &steps, &bytes, sizes)
                }
            };
            assert_eq!(events(&[usize::MAX]), events(&sizes));
        }
        Ok(())
    };
    arbtest(property).size_max(LONGEST).budget(TIME).run();
}

#[test]
fn every_flipped_bit_of_each_kind_of_frame_ends_the_session() {
    let steps = [Step::Message(b"some text".to_vec()), Step::Ping, Step::Unregistered(b"more".to_vec())];
    for step in steps {
        let mut frame = Vec::new();
        say(&mut ends(&keys(), 1000).0, &step, &mut frame);
        for bit in 0..8 * frame.len() {
            // A longer length waits for more, so that there is enough of it.
            let mut input = [&frame[..], &[0; 2 * LIMIT]].concat();
            input[bit / 8] ^= 1 << (bit % 8);
            let (_, mut server) = ends(&keys(), 1000);
            let mut output = Vec::new();
            let event = server.receive(&mut input, &mut output);
            assert_eq!(event, (0, ServerEvent::Refused(Refusal::NotAuthentic)), "{step:?}, bit {bit}");
            let event = server.receive(&mut input, &mut output);
            assert_eq!(event, (0, ServerEvent::Refused(Refusal::Closed)));
            server.goodbye(&mut output);
            assert!(output.is_empty());
        }
    }
    for kind in 1..=5 {
        let (mut client, mut server) = ends(&keys(), 1000);
        let mut frame = Vec::new();
        answer_as(kind, &mut client, &mut server, &mut frame);
        for bit in 0..8 * frame.len() {
            let mut input = [&frame[..], &[0; 2 * LIMIT]].concat();
            input[bit / 8] ^= 1 << (bit % 8);
            let (mut client, mut server) = ends(&keys(), 1000);
            answer_as(kind, &mut client, &mut server, &mut Vec::new());
            let fault = client.receive(&mut input).unwrap_err();
            assert!(
                matches!(fault, ClientFault::NotAuthentic | ClientFault::TooLarge { .. }),
                "{kind}, bit {bit}: {fault:?}"
            );
        }
        let (mut client, mut server) = ends(&keys(), 1000);
        answer_as(kind, &mut client, &mut server, &mut Vec::new());
        assert!(client.receive(&mut frame).is_ok(), "unharmed it is taken");
    }
}

#[test]
fn every_frame_cut_short_is_waited_for() {
    for step in [Step::Message(b"some text".to_vec()), Step::Ping, Step::Unregistered(Vec::new())] {
        let mut frame = Vec::new();
        say(&mut ends(&keys(), 1000).0, &step, &mut frame);
        for cut in 0..frame.len() {
            let (_, mut server) = ends(&keys(), 1000);
            let frame_length = if cut < FRAME_HEADER { FRAME_HEADER } else { frame.len() };
            let mut output = Vec::new();
            let event = server.receive(&mut frame[..cut], &mut output);
            assert_eq!(event, (0, ServerEvent::NeedMore { frame_length }));
            assert_eq!(server.receive(&mut frame.clone(), &mut output).0, frame.len());
        }
    }
    for kind in 1..=5 {
        let (mut client, mut server) = ends(&keys(), 1000);
        let mut frame = Vec::new();
        answer_as(kind, &mut client, &mut server, &mut frame);
        for cut in 0..frame.len() {
            let frame_length = if cut < FRAME_HEADER { FRAME_HEADER } else { frame.len() };
            assert_eq!(client.receive(&mut frame[..cut]), Ok((0, ClientEvent::NeedMore { frame_length })));
        }
        let length = frame.len();
        assert_eq!(client.receive(&mut frame).unwrap().0, length);
    }
}

#[test]
fn neither_end_shows_a_key() {
    let (client, server) = ends(&keys(), 7);
    let shown = format!("{client:?} {server:?}");
    assert!(shown.contains("FrameCipher(..)"));
    for key in ["65", "66", "0x41", "0x42", "4141", "4242"] {
        assert!(!shown.contains(key), "{shown}");
    }
}

/// What a client does, or a server for it.
#[derive(Debug, Clone)]
enum Step {
    Message(Vec<u8>),
    Ping,
    Unregistered(Vec<u8>),
    /// The server answers the oldest message that it has read.
    Respond,
    Reject,
}

fn step(random: &mut Unstructured<'_>) -> arbitrary::Result<Step> {
    Ok(match random.int_in_range(0..=9)? {
        0..3 => Step::Message(text(random, LIMIT)?),
        3..5 => Step::Ping,
        5 => Step::Unregistered(text(random, 40)?),
        6..9 => Step::Respond,
        _ => Step::Reject,
    })
}

fn text(random: &mut Unstructured<'_>, longest: usize) -> arbitrary::Result<Vec<u8>> {
    let size = random.int_in_range(0..=longest.min(random.len()))?;
    Ok(random.bytes(size.min(random.len()))?.to_vec())
}

/// A connection without a socket: what is said arrives at once, and is kept.
struct Both {
    client: ClientFrames,
    server: ServerFrames,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    /// Of the bytes for the client.
    taken: usize,
    /// Messages that the server has read and not answered.
    open: Vec<Vec<u8>>,
    pings: usize,
    pongs: usize,
}

impl Both {
    fn new(rekey_blocks: u64) -> Self {
        let (client, server) = ends(&keys(), rekey_blocks);
        let (to_server, to_client, open) = (Vec::new(), Vec::new(), Vec::new());
        Self { client, server, to_server, to_client, taken: 0, open, pings: 0, pongs: 0 }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Respond | Step::Reject if self.open.is_empty() => {
                assert!(!self.server.reject(RejectionReason::NotGiven, &mut self.to_client));
            }
            Step::Respond => {
                let text = self.open.remove(0);
                let start = self.to_client.len();
                self.to_client.extend_from_slice(&[0; FRAME_HEADER]);
                self.to_client.extend_from_slice(&text);
                assert!(self.server.respond(&mut self.to_client, start));
                self.take_answer(&ClientEvent::Response(&mut text.clone()));
            }
            Step::Reject => {
                self.open.remove(0);
                assert!(self.server.reject(RejectionReason::HandlerFailed, &mut self.to_client));
                self.take_answer(&ClientEvent::Rejected(RejectionReason::HandlerFailed));
            }
            step => {
                let mut frame = Vec::new();
                say(&mut self.client, step, &mut frame);
                self.to_server.extend_from_slice(&frame);
                let length = frame.len();
                let (taken, event) = self.server.receive(&mut frame, &mut self.to_client);
                assert_eq!(taken, length);
                match (step, event) {
                    (Step::Message(text), ServerEvent::Message(message)) => {
                        assert_eq!(message, text);
                        self.open.push(text.clone());
                    }
                    (Step::Ping, ServerEvent::Ping) => self.pings += 1,
                    (_, event) => assert_eq!(event, ServerEvent::Skipped(77)),
                }
            }
        }
        self.take_pongs();
        assert_eq!(self.server.unanswered(), self.open.len() + self.pings - self.pongs);
        assert_eq!(self.client.unanswered(), self.open.len());
        assert!(self.pings == self.pongs || !self.open.is_empty(), "only a message before it delays a pong");
    }

    fn finish(&mut self) {
        let rejected = self.open.len();
        self.server.goodbye(&mut self.to_client);
        if self.to_server.is_empty() {
            assert!(self.to_client.is_empty(), "no goodbye to who has not shown the keys");
            return;
        }
        for _ in 0..rejected {
            self.take_answer(&ClientEvent::Rejected(RejectionReason::NotGiven));
            self.take_pongs();
        }
        self.take_answer(&ClientEvent::Goodbye);
        assert_eq!(self.taken, self.to_client.len());
        assert!(
            self.client.ping(&mut Vec::new()).is_err() && self.client.send(b"", &mut Vec::new()).is_err()
        );
        assert_eq!(self.client.receive(&mut [1]), Err(ClientFault::Unasked));
    }

    fn take_answer(&mut self, expected: &ClientEvent<'_>) {
        let mut input = self.to_client[self.taken..].to_vec();
        let (taken, event) = self.client.receive(&mut input).unwrap();
        assert_eq!(event, *expected);
        self.taken += taken;
    }

    fn take_pongs(&mut self) {
        while self.taken < self.to_client.len() {
            let is_goodbye = self.to_client[self.taken] == 3;
            if is_goodbye || self.to_client[self.taken] == 2 {
                return;
            }
            self.take_answer(&ClientEvent::Pong);
            self.pongs += 1;
        }
    }
}

fn keys() -> SessionKeys {
    SessionKeys { client_to_server: [0x41; 32].into(), server_to_client: [0x42; 32].into() }
}

/// Appends what the client says; steps of the server are none.
fn say(client: &mut ClientFrames, step: &Step, output: &mut Vec<u8>) {
    match step {
        Step::Message(text) => client.send(text, output).unwrap(),
        Step::Ping => client.ping(output).unwrap(),
        Step::Unregistered(text) => client.append_unregistered(77, text, output).unwrap(),
        Step::Respond | Step::Reject => {}
    }
}

/// Lets the client say what a frame of this type answers, and the server answer it.
fn answer_as(kind: u8, client: &mut ClientFrames, server: &mut ServerFrames, output: &mut Vec<u8>) {
    let mut said = Vec::new();
    match kind {
        1 | 2 => client.send(b"?", &mut said).unwrap(),
        4 => client.ping(&mut said).unwrap(),
        _ => client.append_unregistered(77, b"", &mut said).unwrap(),
    }
    server.receive(&mut said, output);
    match kind {
        1 => {
            output.extend_from_slice(&[0; FRAME_HEADER]);
            output.extend_from_slice(b"a response");
            assert!(server.respond(output, 0));
        }
        2 => assert!(server.reject(RejectionReason::Overloaded, output)),
        3 => server.goodbye(output),
        4 => {}
        kind => server.append_unregistered(kind, b"later", output),
    }
}

fn events_of_server(mut server: ServerFrames, bytes: &[u8], sizes: &[usize]) -> Vec<String> {
    events(bytes, sizes, |input| match server.receive(input, &mut Vec::new()) {
        (_, ServerEvent::NeedMore { .. }) => None,
        (taken, event) => Some((taken, format!("{event:?}"))),
    })
}

/// Of a client that has said all this.
fn events_of_client(mut client: ClientFrames, steps: &[Step], bytes: &[u8], sizes: &[usize]) -> Vec<String> {
    for step in steps {
        say(&mut client, step, &mut Vec::new());
    }
    events(bytes, sizes, |input| match client.receive(input) {
        Ok((_, ClientEvent::NeedMore { .. })) => None,
        Ok((taken, event)) => Some((taken, format!("{event:?}"))),
        Err(fault) => Some((0, format!("{fault:?}"))),
    })
}

/// What is seen of bytes that come in pieces of these sizes. `next` gives an event and what it took, the last one nothing; `None`
/// for too few bytes.
fn events(
    bytes: &[u8],
    sizes: &[usize],
    mut next: impl FnMut(&mut [u8]) -> Option<(usize, String)>,
) -> Vec<String> {
    let (mut input, mut seen, mut rest) = (Vec::new(), Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        let (piece, left) = rest.split_at((*size).min(rest.len()));
        rest = left;
        input.extend_from_slice(piece);
        while !input.is_empty()
            && let Some((taken, event)) = next(&mut input)
        {
            seen.push(event);
            if taken == 0 {
                return seen;
            }
            input.drain(..taken);
        }
        if rest.is_empty() {
            break;
        }
    }
    seen
}
