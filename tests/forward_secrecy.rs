//! Both sessions under every policy: how they are established, what a replay gets, and how they end.

#![cfg(feature = "forward-secrecy")]

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arbtest::arbitrary::Unstructured;
use arbtest::arbtest;
use falcotcp_sync::protocol::ForwardSecrecy::{Off, Prefer, Require};
use falcotcp_sync::protocol::{
    Cipher, ClientEvent, ClientFault, ClientSession, ESTABLISHMENT_LENGTH, Expiry, ForwardSecrecy,
    NonceSequence, Refusal, RejectionReason, ResponseWriter, ServerEvent, ServerSession, SessionSettings,
};
use falcotcp_sync::{Key, Keyring};
use getrandom::SysRng;

const LIMIT: usize = 600;
const SECOND: Duration = Duration::from_secs(1);

/// How a client of one policy and a server of another get on.
#[test]
fn each_pair_of_policies() {
    for client in [Off, Prefer, Require] {
        for server in [Off, Prefer, Require] {
            let mut both = Both::establishing(client, server);
            let both_know = client != Off && server != Off;
            let outcome = both.establish();
            if server == Require && client == Off {
                assert_eq!(outcome, Err("refused by the server"));
                assert!(both.to_client.is_empty(), "in silence");
            } else if client == Require && server == Off {
                assert_eq!(outcome, Err("refused by the client"));
                assert!(both.client.send(b"secret", &mut both.to_server).is_err());
                assert!(both.to_server.is_empty(), "nothing is sent to it");
            } else {
                assert_eq!(outcome, Ok(()), "{client:?} {server:?}");
                assert_eq!(both.client.is_forward_secret(), both_know);
                assert_eq!(both.server.is_forward_secret(), both_know);
                assert_eq!(both.client.server_limits().is_some(), both_know);
                both.exchange(b"hello");
            }
        }
    }
}

#[test]
fn a_whole_session_is_the_same_in_any_pieces() {
    let property = |random: &mut Unstructured<'_>| {
        let mut messages = Vec::new();
        for _ in 0..random.int_in_range(1..=5)? {
            let size = random.int_in_range(0..=LIMIT.min(random.len()))?;
            messages.push(random.bytes(size.min(random.len()))?.to_vec());
        }
        let mut both = Both::establishing(Prefer, Require);
        let (mut server_input, mut client_input) = (Vec::new(), Vec::new());
        let (mut read, mut answers, mut is_over) = (Vec::new(), Vec::new(), false);
        while !is_over {
            for (from, input) in
                [(&mut both.to_server, &mut server_input), (&mut both.to_client, &mut client_input)]
            {
                let size = random.int_in_range(1..=200)?;
                input.extend(from.drain(..size.min(from.len())));
            }
            loop {
                let (taken, event) = both.server.receive(&mut server_input, &mut both.to_client, both.now);
                match event {
                    ServerEvent::NeedMore { .. } => break,
                    ServerEvent::Refused(Refusal::Closed) if answers.len() == messages.len() => break,
                    ServerEvent::OfferAnswered | ServerEvent::Ping => {}
                    ServerEvent::Message(text) => {
                        read.push(text.to_vec());
                        assert!(both.answer(&read[read.len() - 1]));
                    }
                    event => panic!("{event:?}"),
                }
                server_input.drain(..taken);
            }
            loop {
                let (taken, event) =
                    both.client.receive(&mut client_input, both.now).expect("a sound session");
                match event {
                    ClientEvent::NeedMore { .. } => break,
                    ClientEvent::Pong => {}
                    ClientEvent::Established => {
                        both.client.ping(&mut both.to_server);
                        for message in &messages {
                            both.client.send(message, &mut both.to_server).expect("within the limit");
                        }
                    }
                    ClientEvent::Response(text) => {
                        answers.push(text.to_vec());
                        if answers.len() == messages.len() {
                            both.server.goodbye(&mut both.to_client);
                        }
                    }
                    ClientEvent::Goodbye => {
                        is_over = true;
                        break;
                    }
                    event => panic!("{event:?}"),
                }
                client_input.drain(..taken);
            }
        }
        assert_eq!(read, messages);
        assert_eq!(answers, messages);
        Ok(())
    };
    arbtest(property).size_max(8 << 10).budget(SECOND).run();
}

#[test]
fn the_client_learns_what_the_server_says_of_itself() {
    let both = Both::established();
    let limits = both.client.server_limits().unwrap();
    assert_eq!((limits.lifetime, limits.max_message_size), (60 * SECOND, LIMIT as u64));
}

#[test]
fn a_client_sends_nothing_before_its_offer_is_answered() {
    let mut both = Both::establishing(Prefer, Prefer);
    let establishment = both.to_server.len();
    assert_eq!(establishment, ESTABLISHMENT_LENGTH);
    assert!(both.client.send(b"early", &mut both.to_server).is_err());
    both.client.ping(&mut both.to_server);
    both.client.establish(&mut SysRng, &mut both.to_server).unwrap();
    assert_eq!(both.to_server.len(), establishment);
}

#[test]
fn a_replayed_establishment_reaches_nothing_and_ends_in_silence() {
    let mut both = Both::establishing(Prefer, Prefer);
    let mut establishment = both.to_server.clone();
    both.establish().unwrap();
    let mut conversation = Vec::new();
    both.client.ping(&mut conversation);
    both.client.send(b"pay", &mut conversation).unwrap();

    let mut replay = Both::establishing(Prefer, Prefer);
    let event = replay.server.receive(&mut establishment, &mut replay.to_client, replay.now);
    assert_eq!(event, (ESTABLISHMENT_LENGTH, ServerEvent::OfferAnswered));
    assert!(!replay.server.is_established());
    replay.to_client.clear();
    for refusal in [Refusal::NotAuthentic, Refusal::Closed] {
        let event = replay.server.receive(&mut conversation, &mut replay.to_client, replay.now);
        assert_eq!(event, (0, ServerEvent::Refused(refusal)));
    }
    replay.server.goodbye(&mut replay.to_client);
    assert!(replay.to_client.is_empty());
}

/// Whatever its length: before the first frame has opened, nothing is said on a header alone.
#[test]
fn a_frame_over_the_limit_from_who_has_not_shown_the_keys_ends_in_silence() {
    let mut both = Both::establishing(Prefer, Prefer);
    both.take_establishment();
    both.to_client.clear();
    let mut header = [[1].as_slice(), &u64::MAX.to_be_bytes()].concat();
    let event = both.server.receive(&mut header, &mut both.to_client, both.now);
    assert_eq!(event, (0, ServerEvent::Refused(Refusal::NotAuthentic)));
    both.server.goodbye(&mut both.to_client);
    assert!(both.to_client.is_empty());
}

#[test]
fn the_time_for_establishments_runs_until_the_first_frame_opens() {
    let mut both = Both::establishing(Prefer, Prefer);
    let accepted = both.now;
    let ends_with = |both: &Both| (both.server.deadline().at - accepted, both.server.deadline().expiry);
    assert_eq!(ends_with(&both), (5 * SECOND, Expiry::Handshake));
    both.now += 2 * SECOND;
    both.take_establishment();
    both.server.output_waiting(both.now);
    assert_eq!(ends_with(&both), (5 * SECOND, Expiry::Handshake), "counted from accepting");
    both.server.output_sent(both.now);
    assert_eq!(ends_with(&both), (5 * SECOND, Expiry::Handshake));

    both.now += 2 * SECOND;
    both.prove().unwrap();
    assert_eq!(ends_with(&both), (64 * SECOND, Expiry::Lifetime));
}

#[test]
fn the_lifetime_restarts_with_a_ping_and_after_a_response() {
    let mut both = Both::established();
    let left = |both: &Both| both.server.deadline().at - both.now;
    both.now += SECOND;
    both.client.ping(&mut both.to_server);
    both.serve();
    assert_eq!(left(&both), 60 * SECOND);
    both.now += SECOND;
    both.client.send(b"hello", &mut both.to_server).unwrap();
    both.serve();
    both.server.output_waiting(both.now);
    assert_eq!((left(&both), both.server.deadline().expiry), (10 * SECOND, Expiry::Write));
    both.now += SECOND;
    both.server.output_sent(both.now);
    assert_eq!((left(&both), both.server.deadline().expiry), (60 * SECOND, Expiry::Lifetime));
}

#[test]
fn answers_that_come_later_keep_their_order_and_pongs_theirs() {
    let mut both = Both::established();
    both.client.send(b"one", &mut both.to_server).unwrap();
    both.client.ping(&mut both.to_server);
    both.client.send(b"two", &mut both.to_server).unwrap();
    assert_eq!(both.read(), [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!((both.server.unanswered(), both.to_client.len()), (3, 0), "the pong waits for its turn");

    both.answer(b"first");
    assert_eq!(both.server.unanswered(), 1);
    let response = both.server.begin_response(&mut both.to_client);
    both.server.reject(response, RejectionReason::HandlerFailed);
    assert_eq!(both.server.unanswered(), 0);
    assert_eq!(both.events(), ["Response first", "Pong", "Rejected HandlerFailed"]);
    assert_eq!((both.client.unanswered(), both.client.unanswered_pings()), (0, 0));
}

#[test]
fn an_answer_to_nothing_is_not_said() {
    let mut both = Both::established();
    assert!(!both.answer(b"unasked"));
    let mut response = both.server.begin_response(&mut both.to_client);
    response.extend_from_slice(b"unasked");
    both.server.reject(response, RejectionReason::NotGiven);
    assert!(both.to_client.is_empty());
}

#[test]
fn a_response_is_the_same_however_it_was_begun() {
    let mut both = Both::established();
    both.client.send(b"?", &mut both.to_server).unwrap();
    both.read();
    let mut response = ResponseWriter::begin(&mut both.to_client);
    write!(response, "written by {} calls", 2).unwrap();
    assert!(both.server.seal(response, &mut nonces()));
    assert_eq!(both.events(), ["Response written by 2 calls"]);

    let mut classic = Both::establishing(Off, Prefer);
    classic.establish().unwrap();
    classic.client.send(b"?", &mut classic.to_server).unwrap();
    classic.read();
    assert!(classic.answer(b"hello"));
    assert_eq!(classic.events(), ["Response hello"]);
}

#[test]
fn a_goodbye_tells_which_messages_were_not_processed() {
    let mut both = Both::established();
    for message in [b"1", b"2"] {
        both.client.send(message, &mut both.to_server).unwrap();
    }
    both.serve();
    both.client.send(b"3", &mut both.to_server).unwrap();
    both.read();
    both.to_server.clear();
    both.client.send(b"never read", &mut both.to_server).unwrap();
    both.server.goodbye(&mut both.to_client);
    let said = both.to_client.len();
    both.server.goodbye(&mut both.to_client);
    assert!(!both.answer(b"late"));
    let response = both.server.begin_response(&mut both.to_client);
    both.server.reject(response, RejectionReason::NotGiven);
    assert_eq!(both.to_client.len(), said, "it is said once, and nothing behind it");
    assert!(!both.server.is_established());

    let events = ["Response 1", "Response 2", "Rejected NotGiven", "Goodbye"];
    assert_eq!(both.events(), events);
    assert_eq!((both.client.unanswered(), both.client.is_established()), (1, false));
    assert!(both.client.send(b"", &mut both.to_server).is_err());
    let end = both.client.receive(&mut [], both.now);
    assert_eq!(end, Ok((0, ClientEvent::NeedMore { frame_length: 1 })));
    assert_eq!(
        both.client.receive(&mut [4], both.now),
        Err(ClientFault::Unasked),
        "nothing but the FIN follows"
    );
    assert_eq!(both.client.unanswered(), 1);
}

#[test]
fn a_classic_session_says_no_goodbye_and_goes_on() {
    let mut both = Both::establishing(Off, Prefer);
    both.establish().unwrap();
    both.server.goodbye(&mut both.to_client);
    assert!(both.to_client.is_empty() && both.server.is_established());
}

#[test]
fn a_frame_over_the_limit_is_answered_with_a_goodbye_after_the_open_answers() {
    let mut both = Both::established();
    both.client.send(b"?", &mut both.to_server).unwrap();
    both.read();
    for kind in [1, 2, 99] {
        let mut header = [[kind].as_slice(), &(LIMIT as u64 + 17).to_be_bytes()].concat();
        let event = both.server.receive(&mut header, &mut both.to_client, both.now);
        let expected = if kind == 1 {
            ServerEvent::TooLarge { length: LIMIT as u64 + 17 }
        } else {
            ServerEvent::Refused(Refusal::Closed)
        };
        assert_eq!(event, (0, expected));
    }
    both.answer(b"!");
    both.server.goodbye(&mut both.to_client);
    assert_eq!(both.events(), ["Response !", "Goodbye"]);
}

#[test]
fn both_ends_know_the_servers_limit() {
    let mut both = Both::established();
    assert!(both.client.send(&[0; LIMIT + 1], &mut both.to_server).is_err());
    assert!(both.to_server.is_empty());
    both.exchange(&[7; LIMIT]);
}

#[test]
fn after_a_bad_frame_what_opened_is_answered_and_nothing_else_is_said() {
    let mut both = Both::established();
    both.client.send(b"?", &mut both.to_server).unwrap();
    both.read();
    both.client.send(b"damaged", &mut both.to_server).unwrap();
    both.to_server[12] ^= 1;
    let event = both.server.receive(&mut both.to_server, &mut both.to_client, both.now);
    assert_eq!(event, (0, ServerEvent::Refused(Refusal::NotAuthentic)));
    assert!(!both.server.is_established());
    both.answer(b"!");
    both.server.goodbye(&mut both.to_client);
    assert_eq!(both.events(), ["Response !"]);
}

#[test]
fn a_response_over_the_clients_limit_ends_its_session() {
    let mut both = Both::established();
    both.client.send(b"?", &mut both.to_server).unwrap();
    both.read();
    both.answer(&[0; LIMIT + 1]);
    let fault = both.client.receive(&mut both.to_client, both.now);
    assert_eq!(fault, Err(ClientFault::TooLarge { size: LIMIT as u64 + 1 }));
    assert_eq!(both.client.receive(&mut both.to_client, both.now), Err(ClientFault::Closed));
    assert!(!both.client.is_forward_secret() && both.client.send(b"", &mut Vec::new()).is_err());
}

#[test]
fn an_exchange_is_over_with_its_last_answer() {
    let mut both = Both::established();
    both.client.begin_exchange(both.now + SECOND);
    both.client.send(b"?", &mut both.to_server).unwrap();
    both.client.ping(&mut both.to_server);
    both.serve();
    let response = 9 + 1 + 16;
    both.client.receive(&mut both.to_client[..response], both.now).unwrap();
    assert!(both.client.deadline().is_some(), "the pong is still to come");
    assert_eq!(
        both.client.receive(&mut both.to_client[response..][..5], both.now + SECOND),
        Err(ClientFault::TimedOut)
    );

    let mut both = Both::established();
    both.client.begin_exchange(both.now + SECOND);
    both.client.ping(&mut both.to_server);
    both.serve();
    assert_eq!(both.events(), ["Pong"]);
    assert_eq!(both.client.deadline(), None);
}

#[test]
fn an_offer_counts_only_in_the_first_establishment() {
    let mut both = Both::establishing(Off, Prefer);
    both.establish().unwrap();
    let mut offer = Both::establishing(Prefer, Prefer).to_server;
    let event = both.server.receive(&mut offer, &mut both.to_client, both.now);
    assert_eq!(event, (ESTABLISHMENT_LENGTH, ServerEvent::Established));
    assert_eq!((&both.to_client[..], both.server.is_forward_secret()), (&[0xFF][..], false));
}

#[test]
fn every_flipped_bit_of_an_establishment_is_refused() {
    let offer = Both::establishing(Prefer, Prefer).to_server;
    for bit in 0..8 * offer.len() {
        let mut both = Both::establishing(Prefer, Prefer);
        let mut flipped = offer.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let (taken, event) = both.server.receive(&mut flipped, &mut both.to_client, both.now);
        assert!(matches!(event, ServerEvent::Refused(_)) && taken == 0, "bit {bit}: {event:?}");
        assert!(both.to_client.is_empty());
    }
}

#[test]
fn an_answer_cut_short_is_waited_for() {
    let mut both = Both::establishing(Prefer, Prefer);
    both.take_establishment();
    for cut in 1..both.to_client.len() {
        let event = both.client.receive(&mut both.to_client[..cut], both.now);
        assert_eq!(event, Ok((0, ClientEvent::NeedMore { frame_length: 65 })));
    }
    assert_eq!(both.client.receive(&mut both.to_client, both.now), Ok((65, ClientEvent::Established)));
}

#[test]
fn the_key_that_opened_the_establishment_is_known_from_the_offer_on() {
    let mut both = Both::establishing(Prefer, Prefer);
    both.take_establishment();
    let key = Arc::clone(both.server.key().unwrap());
    assert!(both.keyring.withdraw("default"));
    assert!(key.is_withdrawn());
}

#[test]
fn each_key_of_a_server_makes_its_own_sessions() {
    for name in ["old", "new"] {
        let mut both = Both::establishing(Require, Require);
        let keyring = Keyring::new();
        keyring.add("old", &Key::from_bytes([0x41; 32])).unwrap();
        keyring.add("new", &Key::from_bytes([0x43; 32])).unwrap();
        let key = Key::from_bytes([if name == "old" { 0x41 } else { 0x43 }; 32]);
        both.client = ClientSession::with_policy(Arc::new(Cipher::new(&key)), nonces(), LIMIT, Require);
        both.to_server.clear();
        both.client.establish(&mut SysRng, &mut both.to_server).unwrap();
        both.server = ServerSession::new(Arc::default(), Arc::new(keyring), both.now);
        both.establish().unwrap();
        assert_eq!(both.server.key().unwrap().name(), name);
        both.exchange(b"hello");
    }
}

#[test]
fn no_session_shows_a_secret() {
    let key = Key::from_bytes([0x41; 32]);
    let (mut both, shown) =
        (Both::with_key(&key, Prefer, Prefer), |both: &Both| format!("{:?} {:?}", both.client, both.server));
    let mut all = shown(&both);
    both.establish().unwrap();
    both.exchange(b"the plaintext");
    all += &shown(&both);
    for secret in ["65, 65", "0x41", "4141", "the plaintext"] {
        assert!(!all.contains(secret), "{all}");
    }
    assert!(all.contains("Offer(..)") && all.contains("FrameCipher(..)"), "{all}");
}

/// A client and a server, and what is on its way between them.
struct Both {
    client: ClientSession,
    server: ServerSession,
    keyring: Arc<Keyring>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    now: Instant,
}

impl Both {
    /// The client has said its establishment.
    fn establishing(client: ForwardSecrecy, server: ForwardSecrecy) -> Self {
        Self::with_key(&Key::from_bytes([0x42; 32]), client, server)
    }

    fn with_key(key: &Key, client: ForwardSecrecy, server: ForwardSecrecy) -> Self {
        let now = Instant::now();
        let cipher = Arc::new(Cipher::new(key));
        let mut settings = SessionSettings::default();
        assert_eq!(settings.forward_secrecy, Prefer);
        settings.forward_secrecy = server;
        settings.max_message_size = LIMIT;
        let keyring = Arc::new(Keyring::from(Arc::clone(&cipher)));
        let mut client = ClientSession::with_policy(cipher, nonces(), LIMIT, client);
        let mut to_server = Vec::new();
        client.establish(&mut SysRng, &mut to_server).unwrap();
        let server = ServerSession::new(Arc::new(settings), Arc::clone(&keyring), now);
        Self { client, server, keyring, to_server, to_client: Vec::new(), now }
    }

    /// A forward-secret session with nothing on its way.
    fn established() -> Self {
        let mut both = Self::establishing(Prefer, Prefer);
        both.establish().unwrap();
        both
    }

    fn establish(&mut self) -> Result<(), &'static str> {
        if !self.take_establishment() {
            return Err("refused by the server");
        }
        self.prove()
    }

    fn take_establishment(&mut self) -> bool {
        let (taken, event) = self.server.receive(&mut self.to_server, &mut self.to_client, self.now);
        let is_accepted = matches!(event, ServerEvent::Established | ServerEvent::OfferAnswered);
        self.to_server.drain(..taken.min(ESTABLISHMENT_LENGTH));
        if !is_accepted {
            self.to_server.clear();
        }
        is_accepted
    }

    /// The client takes the answer and says its first ping, and the server shows that it has understood.
    fn prove(&mut self) -> Result<(), &'static str> {
        match self.client.receive(&mut self.to_client, self.now) {
            Ok((taken, ClientEvent::Established)) => _ = self.to_client.drain(..taken),
            Err(ClientFault::NotForwardSecret) => return Err("refused by the client"),
            other => panic!("{other:?}"),
        }
        if self.client.is_forward_secret() {
            assert!(!self.server.is_established());
            self.client.ping(&mut self.to_server);
            self.serve();
            assert_eq!(self.events(), ["Pong"]);
        }
        assert!(self.server.is_established() && self.client.is_established());
        Ok(())
    }

    /// The server reads all there is, and gives the messages.
    fn read(&mut self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        while !self.to_server.is_empty() {
            let (taken, event) = self.server.receive(&mut self.to_server, &mut self.to_client, self.now);
            match event {
                ServerEvent::Message(text) => messages.push(text.to_vec()),
                ServerEvent::Ping => {}
                event => panic!("{event:?}"),
            }
            self.to_server.drain(..taken);
        }
        messages
    }

    fn answer(&mut self, text: &[u8]) -> bool {
        let mut response = self.server.begin_response(&mut self.to_client);
        response.extend_from_slice(text);
        self.server.seal(response, &mut nonces())
    }

    /// The server reads and echoes all there is.
    fn serve(&mut self) {
        for message in self.read() {
            assert!(self.answer(&message));
        }
    }

    fn exchange(&mut self, message: &[u8]) {
        self.client.send(message, &mut self.to_server).unwrap();
        self.serve();
        let (_, event) = self.client.receive(&mut self.to_client, self.now).unwrap();
        assert!(matches!(event, ClientEvent::Response(text) if text == message));
        self.to_client.clear();
        assert_eq!(self.client.unanswered(), 0);
    }

    /// What the client makes of all that the server has said.
    fn events(&mut self) -> Vec<String> {
        let mut seen = Vec::new();
        while !self.to_client.is_empty() {
            let (taken, event) = self.client.receive(&mut self.to_client, self.now).unwrap();
            seen.push(match event {
                ClientEvent::Response(text) => format!("Response {}", String::from_utf8_lossy(text)),
                ClientEvent::Rejected(reason) => format!("Rejected {reason:?}"),
                event => format!("{event:?}"),
            });
            assert_ne!(taken, 0);
            self.to_client.drain(..taken);
        }
        seen
    }
}

fn nonces() -> NonceSequence {
    NonceSequence::new().unwrap()
}
