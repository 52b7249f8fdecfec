//! Both sessions, exhaustively where that is possible: segmentation, damage, deadlines, nonces.

#[path = "common/sessions.rs"]
mod sessions;

/// However the bytes are cut, they mean the same: `protocol_random.rs` cuts at random.
mod segmentation {
    use std::time::Instant;

    use crate::sessions::{ClientEnd, Received, cipher};

    #[test]
    fn an_unasked_empty_response_is_passed_over_in_any_two_pieces() {
        for cut in 0..=8 {
            let mut client = ClientEnd::with_unanswered(&cipher(), 0, Instant::now());
            client.feed(&[0; 8][cut..]);
            client.feed(&[0; 8][..cut]);
            assert_eq!(client.seen, [Received::Unasked], "cut at {cut}");
        }
    }
}

/// A frame that is cut short is waited for, in its right length.
mod truncation {
    use std::time::Instant;

    use falcotcp_sync::protocol::{ACCEPTED, ClientFault, ClientSession, NONCE_LENGTH, Rejection};

    use crate::sessions::{
        ClientEnd, Known, LIMIT, Received, Served, ServerEnd, cipher, establishment, message, nonces,
        response, settings,
    };

    #[test]
    fn every_establishment_cut_short_is_waited_for_and_accepted_when_the_rest_comes() {
        let (cipher, now) = (cipher(), Instant::now());
        let frame = establishment(&cipher);
        assert_eq!(frame.len(), 157);
        for cut in 0..frame.len() {
            for start in [ServerEnd::accepted, ServerEnd::established] {
                let mut server = start(&cipher, now);
                server.feed(&frame[..cut]);
                assert_eq!(server.needs, Some(if cut == 0 { 1 } else { 157 }));
                assert!(server.seen.is_empty() && server.output.is_empty());
                server.feed(&frame[cut..]);
                assert_eq!(
                    (server.seen, server.output),
                    (vec![Served::Established], vec![ACCEPTED]),
                    "cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn every_message_cut_short_is_waited_for_and_given_when_the_rest_comes() {
        let (cipher, now) = (cipher(), Instant::now());
        for text in texts() {
            let frame = message(&cipher, &text);
            for cut in 0..frame.len() {
                let mut server = ServerEnd::established(&cipher, now);
                server.feed(&frame[..cut]);
                assert!(server.seen.is_empty() && server.output.is_empty());
                if cut >= 9 {
                    assert_eq!(server.needs, Some(frame.len()), "cut at {cut}");
                }
                server.feed(&frame[cut..]);
                assert_eq!(server.seen, [Served::Message(text.clone())], "cut at {cut}");
            }
        }
    }

    #[test]
    fn every_response_cut_short_is_waited_for_and_given_when_the_rest_comes() {
        let (cipher, now) = (cipher(), Instant::now());
        for text in texts() {
            let frame = response(&cipher, &text);
            for cut in 0..frame.len() {
                let mut client = ClientEnd::with_unanswered(&cipher, 1, now);
                client.feed(&frame[..cut]);
                let needed = if cut == 0 {
                    1
                } else if cut < 8 {
                    8
                } else {
                    frame.len()
                };
                assert_eq!((client.needs, client.session.unanswered()), (Some(needed), 1), "cut at {cut}");
                client.feed(&frame[cut..]);
                assert_eq!(client.seen, [Received::Response(text.clone())], "cut at {cut}");
            }
        }
    }

    #[test]
    fn the_frame_that_is_waited_for_is_longer_than_what_is_there() {
        let (cipher, now) = (cipher(), Instant::now());
        for frame in [establishment(&cipher), message(&cipher, b"some text"), message(&cipher, b"")] {
            for cut in 0..frame.len() {
                let mut server = ServerEnd::established(&cipher, now);
                server.feed(&frame[..cut]);
                assert!(server.needs > Some(cut), "{:?} bytes wanted where {cut} are", server.needs);
            }
        }
        for frame in [response(&cipher, b"some text"), response(&cipher, b""), vec![0; 8]] {
            for cut in 0..frame.len() {
                let mut client = ClientEnd::with_unanswered(&cipher, 1, now);
                client.feed(&frame[..cut]);
                assert!(client.needs > Some(cut), "{:?} bytes wanted where {cut} are", client.needs);
            }
        }
    }

    #[test]
    fn every_message_too_short_to_be_sealed_is_waited_for_and_rejected() {
        let (cipher, now) = (cipher(), Instant::now());
        for length in 0..28_u8 {
            let frame = [&[1, 0, 0, 0, 0, 0, 0, 0, length][..], &[0x5A; 28][..length.into()]].concat();
            let mut server = ServerEnd::established(&cipher, now);
            server.feed(&frame[..frame.len() - 1]);
            assert!(server.seen.is_empty());
            server.feed(&frame[frame.len() - 1..]);
            server.feed(&message(&cipher, b"next"));
            let rejected = Served::Rejected(Rejection::TooShort);
            assert_eq!(server.seen, [rejected, Served::Message(b"next".to_vec())], "length {length}");
        }
    }

    #[test]
    fn the_limit_is_the_largest_plaintext_that_is_taken() {
        let (cipher, now) = (cipher(), Instant::now());
        for (length, is_taken) in [(LIMIT, true), (LIMIT + 1, false)] {
            let text = vec![3; length];
            let mut server = ServerEnd::established(&cipher, now);
            server.feed(&message(&cipher, &text));
            assert_eq!(server.seen[0] == Served::Message(text.clone()), is_taken, "{:?}", server.seen);
            let mut client = ClientEnd::with_unanswered(&cipher, 1, now);
            client.feed(&response(&cipher, &text));
            assert_eq!(client.seen[0] == Received::Response(text), is_taken, "{:?}", client.seen);
        }
    }

    #[test]
    fn no_length_overflows_under_a_limit_without_end() {
        let (cipher, now) = (cipher(), Instant::now());
        for length in (0..=64).map(|below| u64::MAX - below) {
            let mut settings = settings();
            settings.max_message_size = usize::MAX;
            let mut server = ServerEnd::with_settings(&cipher, settings, now);
            server.feed(&establishment(&cipher));
            server.feed(&[&[1][..], &length.to_be_bytes()].concat());
            let is_taken = usize::try_from(length).is_ok_and(|length| length.checked_add(9).is_some());
            assert_eq!(server.seen.last() == Some(&Served::TooLarge(length)), !is_taken, "length {length}");

            let mut client = ClientSession::new(cipher.clone(), nonces([0; NONCE_LENGTH]), usize::MAX);
            let Ok(()) = client.establish(&mut Known(&[0; 128]), &mut Vec::new());
            client.send(b"?", &mut Vec::new()).unwrap();
            client.receive(&mut [ACCEPTED], now).unwrap();
            let is_taken = usize::try_from(length).is_ok_and(|length| length.checked_add(8).is_some());
            let too_large = Err(ClientFault::TooLarge { size: length - 28 });
            assert_eq!(
                client.receive(&mut length.to_be_bytes(), now) == too_large,
                !is_taken,
                "length {length}"
            );
        }
    }

    fn texts() -> [Vec<u8>; 4] {
        [0, 1, 16, 300].map(|length| (0..=255).cycle().take(length).collect())
    }
}

/// Each single bit, and exactly what comes of it.
mod bit_flips {
    use std::time::Instant;

    use falcotcp_sync::protocol::{ACCEPTED, ClientFault, EMPTY_RESPONSE, Refusal, Rejection};

    use crate::sessions::{
        ClientEnd, LIMIT, Received, Served, ServerEnd, cipher, establishment, message, response,
    };

    /// 28 + 4 is a power of two: one flip of its length makes it zero.
    const TEXTS: [&[u8]; 4] = [b"", b"four", b"thirteen here", &[0x77; 90]];

    const LARGEST: u64 = LIMIT as u64 + 28;

    #[test]
    fn a_first_establishment_is_refused_in_silence() {
        let (cipher, now) = (cipher(), Instant::now());
        for (at, frame) in flips(&establishment(&cipher)) {
            let mut server = ServerEnd::accepted(&cipher, now);
            server.feed(&frame);
            let refusal = if at == 0 { Refusal::NotAnEstablishment } else { Refusal::NotAuthentic };
            assert_eq!(server.seen, [Served::Refused(refusal)], "byte {at}");
            assert!(server.output.is_empty());
            server.assert_closed();
        }
    }

    #[test]
    fn a_further_establishment_is_refused_in_silence_unless_its_type_is_another() {
        let (cipher, now) = (cipher(), Instant::now());
        let good = establishment(&cipher);
        for (at, frame) in flips(&good) {
            let mut server = ServerEnd::established(&cipher, now);
            server.feed(&frame);
            let announced = u64::from_be_bytes(good[1..9].try_into().unwrap());
            let expected = match (at, frame[0]) {
                (0, 1) => Served::TooLarge(announced),
                (0, 2) => Served::Ping,
                (0, kind) => Served::Skipped(kind),
                _ => Served::Refused(Refusal::NotAuthentic),
            };
            assert_eq!(server.seen[0], expected, "byte {at}");
            if at > 0 {
                assert!(server.output.is_empty());
                server.assert_closed();
            }
        }
    }

    #[test]
    fn a_message_of_another_type_is_not_a_message() {
        let (cipher, now) = (cipher(), Instant::now());
        for text in TEXTS {
            for (_, frame) in flips(&message(&cipher, text)).filter(|(at, _)| *at == 0) {
                let mut server = ServerEnd::established(&cipher, now);
                server.feed(&frame);
                // Its length begins with zero, and so with the type of an establishment.
                let skipped = if frame[0] == 0 { vec![] } else { vec![Served::Skipped(frame[0])] };
                assert_eq!((&server.seen, server.needs), (&skipped, Some(157)));
                server.feed(&[0; 157]);
                assert_eq!(server.seen.last(), Some(&Served::Refused(Refusal::NotAuthentic)));
                assert!(server.output.is_empty());
                server.assert_closed();
            }
        }
    }

    #[test]
    fn a_message_of_another_length_is_too_large_or_waited_for_or_rejected() {
        let (cipher, now) = (cipher(), Instant::now());
        for text in TEXTS {
            for (_, frame) in flips(&message(&cipher, text)).filter(|(at, _)| (1..9).contains(at)) {
                let length = u64::from_be_bytes(frame[1..9].try_into().unwrap());
                let mut server = ServerEnd::established(&cipher, now);
                server.feed(&frame);
                if length > LARGEST {
                    assert_eq!(server.seen, [Served::TooLarge(length)]);
                    assert_eq!(server.output, EMPTY_RESPONSE);
                    server.assert_closed();
                    continue;
                }
                let whole = 9 + usize::try_from(length).unwrap();
                if whole > frame.len() {
                    assert_eq!((&server.seen[..], server.needs), (&[][..], Some(whole)));
                    server.feed(&vec![0; whole - frame.len()]);
                    assert_rejected_and_answers_the_next(server, Rejection::NotAuthentic);
                } else {
                    let why = if length < 28 { Rejection::TooShort } else { Rejection::NotAuthentic };
                    let mut server = ServerEnd::established(&cipher, now);
                    server.feed(&frame[..whole]);
                    assert_rejected_and_answers_the_next(server, why);
                }
            }
        }
    }

    #[test]
    fn a_message_with_other_sealed_bytes_is_rejected_and_the_next_one_answered() {
        let (cipher, now) = (cipher(), Instant::now());
        for text in TEXTS {
            for (_, frame) in flips(&message(&cipher, text)).filter(|(at, _)| *at >= 9) {
                let mut server = ServerEnd::established(&cipher, now);
                server.feed(&frame);
                assert_rejected_and_answers_the_next(server, Rejection::NotAuthentic);
            }
        }
    }

    #[test]
    fn a_response_of_another_length_is_too_large_or_waited_for_or_not_authentic() {
        let (cipher, now) = (cipher(), Instant::now());
        for text in TEXTS {
            for (_, frame) in flips(&response(&cipher, text)).filter(|(at, _)| *at < 8) {
                let length = u64::from_be_bytes(frame[..8].try_into().unwrap());
                let mut client = ClientEnd::with_unanswered(&cipher, 1, now);
                client.feed(&frame);
                let fault = if length == 0 {
                    assert_eq!(client.seen[0], Received::Rejected);
                    ClientFault::Unasked
                } else if length > LARGEST {
                    ClientFault::TooLarge { size: length - 28 }
                } else {
                    if let Some(missing) = usize::try_from(length).unwrap().checked_sub(frame.len() - 8)
                        && missing > 0
                    {
                        assert_eq!((&client.seen[..], client.needs), (&[][..], Some(frame.len() + missing)));
                        client.feed(&vec![0; missing]);
                    }
                    ClientFault::NotAuthentic
                };
                assert_eq!(client.seen.last(), Some(&Received::Fault(fault)), "length {length}");
                client.assert_closed();
            }
        }
    }

    #[test]
    fn a_response_with_other_sealed_bytes_is_not_authentic() {
        let (cipher, now) = (cipher(), Instant::now());
        for text in TEXTS {
            for (at, frame) in flips(&response(&cipher, text)).filter(|(at, _)| *at >= 8) {
                let mut client = ClientEnd::with_unanswered(&cipher, 1, now);
                client.feed(&frame);
                assert_eq!(client.seen, [Received::Fault(ClientFault::NotAuthentic)], "byte {at}");
                client.assert_closed();
            }
        }
    }

    #[test]
    fn an_empty_response_with_a_length_is_not_an_empty_response() {
        let (cipher, now) = (cipher(), Instant::now());
        for (_, frame) in flips(&EMPTY_RESPONSE) {
            let length = u64::from_be_bytes(frame.as_slice().try_into().unwrap());
            let mut client = ClientEnd::with_unanswered(&cipher, 1, now);
            client.feed(&frame);
            match length {
                ..28 => assert_eq!(client.seen, [Received::Fault(ClientFault::NotAuthentic)]),
                28..=LARGEST => assert_eq!(client.needs, Some(8 + usize::try_from(length).unwrap())),
                _ => assert_eq!(client.seen, [Received::Fault(ClientFault::TooLarge { size: length - 28 })]),
            }
        }
    }

    #[test]
    fn an_acceptance_is_a_refusal() {
        let (cipher, now) = (cipher(), Instant::now());
        for (_, frame) in flips(&[ACCEPTED]) {
            let mut client = ClientEnd::establishing(&cipher, now);
            client.feed(&frame);
            assert_eq!(client.seen, [Received::Fault(ClientFault::Refused)]);
            client.assert_closed();
        }
    }

    #[test]
    fn a_first_byte_that_begins_no_establishment_is_refused_at_once() {
        let (cipher, now) = (cipher(), Instant::now());
        for first in 1..=255 {
            let mut server = ServerEnd::accepted(&cipher, now);
            server.feed(&[first]);
            assert_eq!(server.seen, [Served::Refused(Refusal::NotAnEstablishment)], "type {first}");
            assert!(server.output.is_empty());
            server.assert_closed();
        }
    }

    #[test]
    fn every_unregistered_type_is_one_byte_that_is_skipped() {
        let (cipher, now) = (cipher(), Instant::now());
        for kind in 3..=255 {
            let mut server = ServerEnd::established(&cipher, now);
            server.feed(&[kind, 2]);
            assert_eq!(server.seen, [Served::Skipped(kind), Served::Ping]);
            assert!(server.output.is_empty());
        }
    }

    fn assert_rejected_and_answers_the_next(mut server: ServerEnd, why: Rejection) {
        assert_eq!(server.seen, [Served::Rejected(why)]);
        assert_eq!(server.output, EMPTY_RESPONSE);
        let cipher = cipher();
        server.feed(&message(&cipher, b"next"));
        assert_eq!(server.seen[1..], [Served::Message(b"next".to_vec())]);
        let mut client = ClientEnd::with_unanswered(&cipher, 2, Instant::now());
        client.feed(&server.output);
        assert_eq!(client.seen, [Received::Rejected, Received::Response(b"next".to_vec())]);
    }

    /// `frame` with each of its bits flipped in turn, and the byte that the bit is in.
    fn flips(frame: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
        (0..frame.len() * 8).map(|bit| {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            (bit / 8, flipped)
        })
    }
}

/// When a server's connection is over.
mod server_deadlines {
    use std::time::{Duration, Instant};

    use falcotcp_sync::protocol::{Deadline, Expiry, ServerEvent, ServerSession, SessionSettings};

    use crate::sessions::{ServerEnd, cipher, establishment, message, settings};

    #[test]
    fn the_establishment_has_its_time_from_the_accept_whatever_dribbles_in() {
        let connection = Connection::accepted();
        let mut session = connection.session;
        let due = Deadline { at: connection.start + settings().handshake_timeout, expiry: Expiry::Handshake };
        assert_eq!(session.deadline(), due);
        let frame = establishment(&cipher());
        for length in 0..frame.len() {
            let now = connection.start + Duration::from_millis(length as u64);
            let mut arrived = frame[..length].to_vec();
            let outcome = session.receive(&mut arrived, &mut Vec::new(), now);
            assert!(matches!(outcome, (0, ServerEvent::NeedMore { .. })));
            assert_eq!(session.deadline(), due);
        }
    }

    #[test]
    fn an_establishment_begins_the_lifetime() {
        let mut connection = Connection::accepted();
        connection.receive(3, &establishment(&cipher()));
        connection.assert_lives_from(3);
    }

    #[test]
    fn a_further_establishment_begins_it_again() {
        let mut connection = Connection::established();
        connection.receive(20, &establishment(&cipher()));
        connection.assert_lives_from(20);
    }

    #[test]
    fn a_ping_begins_it_again() {
        let mut connection = Connection::established();
        connection.receive(20, &[2]);
        connection.assert_lives_from(20);
    }

    #[test]
    fn a_message_begins_it_again_when_its_response_is_sent() {
        let mut connection = Connection::established();
        connection.receive(20, &message(&cipher(), b"text"));
        connection.assert_lives_from(0);
        connection.session.output_sent(connection.after(50));
        connection.assert_lives_from(50);
        connection.session.output_sent(connection.after(55));
        connection.assert_lives_from(50);
    }

    #[test]
    fn nothing_else_that_arrives_begins_it_again() {
        let good = message(&cipher(), b"text");
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let too_short = vec![1, 0, 0, 0, 0, 0, 0, 0, 3, 9, 9, 9];
        let too_large = vec![1, 0xFF, 0, 0, 0, 0, 0, 0, 0];
        let unfinished_establishment = establishment(&cipher())[..156].to_vec();
        let mut damaged_establishment = establishment(&cipher());
        damaged_establishment[156] ^= 1;
        for bytes in [
            Vec::new(),
            vec![3],
            vec![255],
            good[..1].to_vec(),
            good[..good.len() - 1].to_vec(),
            damaged,
            too_short,
            too_large,
            unfinished_establishment,
            damaged_establishment,
        ] {
            let mut connection = Connection::established();
            connection.receive(20, &bytes);
            connection.session.output_waiting(connection.after(20));
            connection.session.output_sent(connection.after(21));
            connection.assert_lives_from(0);
        }
    }

    #[test]
    fn output_that_waits_has_its_time_from_the_last_progress() {
        let mut connection = Connection::established();
        connection.receive(20, &message(&cipher(), b"text"));
        for progress in [20, 25, 200] {
            connection.session.output_waiting(connection.after(progress));
            let at = connection.after(progress) + settings().write_timeout;
            assert_eq!(connection.session.deadline(), Deadline { at, expiry: Expiry::Write });
        }
        connection.session.output_sent(connection.after(201));
        connection.assert_lives_from(201);
    }

    #[test]
    fn output_that_waits_is_given_no_time_by_what_arrives() {
        let mut connection = Connection::established();
        connection.session.output_waiting(connection.after(1));
        let due = connection.session.deadline();
        for bytes in [vec![2], message(&cipher(), b"text"), establishment(&cipher())] {
            connection.receive(5, &bytes);
            assert_eq!(connection.session.deadline(), due);
        }
    }

    #[test]
    fn durations_without_end_are_some_decades() {
        let mut settings = SessionSettings::default();
        settings.handshake_timeout = Duration::MAX;
        settings.lifetime = Duration::MAX;
        settings.write_timeout = Duration::MAX;
        settings.max_message_size = usize::MAX;
        let now = Instant::now();
        let decade = now + Duration::from_secs(10 * 365 * 86_400);
        let mut server = ServerEnd::with_settings(&cipher(), settings, now);
        assert!(server.session.deadline().at > decade);
        server.feed(&establishment(&cipher()));
        assert!(server.session.deadline().at > decade);
        server.session.output_waiting(now);
        assert!(server.session.deadline().at > decade);
        assert_eq!(server.session.deadline().expiry, Expiry::Write);
    }

    struct Connection {
        session: ServerSession,
        start: Instant,
    }

    impl Connection {
        fn accepted() -> Self {
            let start = Instant::now();
            Self { session: ServerEnd::accepted(&cipher(), start).session, start }
        }

        fn established() -> Self {
            let start = Instant::now();
            Self { session: ServerEnd::established(&cipher(), start).session, start }
        }

        fn after(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn receive(&mut self, seconds: u64, bytes: &[u8]) {
            let now = self.after(seconds);
            self.session.receive(&mut bytes.to_vec(), &mut Vec::new(), now);
        }

        fn assert_lives_from(&self, seconds: u64) {
            let at = self.after(seconds) + settings().lifetime;
            assert_eq!(self.session.deadline(), Deadline { at, expiry: Expiry::Lifetime });
        }
    }
}

/// When a client's exchange is over, and what it never takes for an answer.
mod client_exchanges {
    use std::time::{Duration, Instant};

    use falcotcp_sync::protocol::{ACCEPTED, ClientFault, EMPTY_RESPONSE};

    use crate::sessions::{ClientEnd, Received, cipher, response};

    #[test]
    fn the_deadline_is_there_until_the_last_response_is() {
        let due = Instant::now() + Duration::from_secs(1);
        let mut client = ClientEnd::with_unanswered(&cipher(), 3, Instant::now());
        assert_eq!(client.session.deadline(), None);
        client.session.begin_exchange(due);
        for frame in [response(&cipher(), b"first"), EMPTY_RESPONSE.to_vec()] {
            client.feed(&frame);
            assert_eq!(client.session.deadline(), Some(due));
        }
        client.feed(&response(&cipher(), b"last"));
        assert_eq!((client.session.deadline(), client.session.unanswered()), (None, 0));
    }

    #[test]
    fn the_deadline_of_an_establishment_is_gone_when_it_is_accepted() {
        let due = Instant::now() + Duration::from_secs(1);
        let mut client = ClientEnd::establishing(&cipher(), Instant::now());
        client.session.begin_exchange(due);
        client.feed(&[]);
        assert_eq!(client.session.deadline(), Some(due));
        client.feed(&[ACCEPTED]);
        assert_eq!(client.session.deadline(), None);
    }

    #[test]
    fn the_deadline_of_a_message_sent_with_the_establishment_outlives_the_acceptance() {
        let due = Instant::now() + Duration::from_secs(1);
        let mut client = ClientEnd::establishing(&cipher(), Instant::now());
        client.session.send(b"early", &mut Vec::new()).unwrap();
        client.session.begin_exchange(due);
        client.feed(&[ACCEPTED]);
        assert_eq!(client.session.deadline(), Some(due));
        client.feed(&response(&cipher(), b"early"));
        assert_eq!(client.session.deadline(), None);
    }

    #[test]
    fn an_exchange_that_is_incomplete_at_its_deadline_has_timed_out() {
        let start = Instant::now();
        let in_time = start + Duration::from_secs(1);
        let due = in_time + Duration::from_nanos(1);
        let frame = response(&cipher(), b"text");
        for cut in 0..frame.len() {
            let mut client = ClientEnd::with_unanswered(&cipher(), 1, start);
            client.session.begin_exchange(due);
            client.feed_at(&frame[..cut], in_time);
            assert_eq!(client.seen, [], "in time with {cut} bytes");
            client.feed_at(&[], due);
            assert_eq!(client.seen, [Received::Fault(ClientFault::TimedOut)], "late with {cut} bytes");
            client.assert_closed();
        }
    }

    #[test]
    fn an_establishment_without_answer_has_timed_out() {
        let due = Instant::now();
        let mut client = ClientEnd::establishing(&cipher(), due);
        client.session.begin_exchange(due);
        client.feed(&[]);
        assert_eq!(client.seen, [Received::Fault(ClientFault::TimedOut)]);
        client.assert_closed();
    }

    #[test]
    fn what_has_arrived_whole_is_given_though_the_deadline_is_over() {
        let start = Instant::now();
        let late = start + Duration::from_secs(2);
        let mut client = ClientEnd::with_unanswered(&cipher(), 3, start);
        client.session.begin_exchange(start + Duration::from_secs(1));
        client.feed_at(&[response(&cipher(), b"text"), EMPTY_RESPONSE.to_vec(), vec![0]].concat(), late);
        let timed_out = Received::Fault(ClientFault::TimedOut);
        assert_eq!(client.seen, [Received::Response(b"text".to_vec()), Received::Rejected, timed_out]);
        client.assert_closed();
    }

    #[test]
    fn an_idle_client_never_times_out() {
        let start = Instant::now();
        let mut client = ClientEnd::with_unanswered(&cipher(), 1, start);
        client.session.begin_exchange(start);
        client.feed(&response(&cipher(), b"text"));
        client.feed_at(&[], start + Duration::from_secs(3600));
        assert_eq!(client.seen, [Received::Response(b"text".to_vec())]);
    }

    #[test]
    fn bytes_that_answer_nothing_end_the_session() {
        let now = Instant::now();
        for (bytes, answered) in [
            (vec![1], 0),
            (vec![0xFF], 0),
            (vec![0, 0, 0, 0, 0, 0, 0, 1], 0),
            (response(&cipher(), b"late"), 0),
            ([response(&cipher(), b"asked"), response(&cipher(), b"late")].concat(), 1),
        ] {
            let mut client = ClientEnd::with_unanswered(&cipher(), answered, now);
            client.feed(&bytes);
            assert_eq!(client.seen.len(), answered + 1);
            assert_eq!(client.seen[answered], Received::Fault(ClientFault::Unasked));
            client.assert_closed();
        }
    }

    #[test]
    fn empty_responses_that_answer_nothing_are_passed_over() {
        let mut client = ClientEnd::with_unanswered(&cipher(), 0, Instant::now());
        client.feed(&EMPTY_RESPONSE.repeat(3));
        assert_eq!(client.seen, [Received::Unasked, Received::Unasked, Received::Unasked]);
        client.session.send(b"next", &mut Vec::new()).unwrap();
        client.feed(&response(&cipher(), b"next"));
        assert_eq!(client.seen[3..], [Received::Response(b"next".to_vec())]);
    }

    #[test]
    fn a_closed_session_takes_nothing() {
        let mut client = ClientEnd::with_unanswered(&cipher(), 1, Instant::now());
        client.session.close();
        client.feed(&response(&cipher(), b"late"));
        assert_eq!(client.seen, [Received::Fault(ClientFault::Closed)]);
        client.assert_closed();
    }
}

/// No two frames of one sequence, nor of two, have one nonce.
mod nonce_order {
    use std::collections::HashSet;
    use std::time::Instant;

    use falcotcp_sync::protocol::{ClientSession, NONCE_LENGTH, NonceSequence};

    use crate::sessions::{Known, LIMIT, ServerEnd, cipher, message, nonces};

    const MODULUS: u128 = 1 << 96;

    #[test]
    fn the_frames_of_a_session_count_up_from_its_start() {
        for start in [0, 0xFE, 0xFFFF_FFFF, u128::from(u64::MAX), MODULUS - 1, MODULUS - 2] {
            let expected: Vec<_> = (0..4).map(|frame| (start + frame) % MODULUS).collect();
            assert_eq!(nonces_of_frames(nonces(big_endian(start))), expected, "from {start:#x}");
        }
    }

    #[test]
    fn sequences_of_the_operating_system_begin_apart() {
        let starts: HashSet<_> =
            (0..1000).map(|_| nonces_of_frames(NonceSequence::new().unwrap())[0]).collect();
        assert_eq!(starts.len(), 1000);
    }

    #[test]
    fn a_frame_is_sealed_under_its_nonce_whatever_stood_in_its_place() {
        let cipher = cipher();
        let [mut one, mut other] = [[0; 40], [0xFF; 40]];
        for sealed in [&mut one, &mut other] {
            sealed[12..24].copy_from_slice(b"twelve bytes");
            cipher.seal(&mut nonces([4; NONCE_LENGTH]), sealed).unwrap();
        }
        assert_eq!(one, other);
        assert_eq!(one[..NONCE_LENGTH], [4; NONCE_LENGTH]);
    }

    #[test]
    fn receiving_uses_no_nonce() {
        let mut server = ServerEnd::established(&cipher(), Instant::now());
        server.feed(&[2, 3, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        server.feed(&message(&cipher(), b""));
        // Behind the empty response and a length: the first nonce of the echo.
        assert_eq!(server.output[16..28], [0xAA; NONCE_LENGTH]);
    }

    /// An establishment and three messages.
    fn nonces_of_frames(nonces: NonceSequence) -> Vec<u128> {
        let mut session = ClientSession::new(cipher(), nonces, LIMIT);
        let mut output = Vec::new();
        let Ok(()) = session.establish(&mut Known(&[0; 128]), &mut output);
        let mut at = vec![1];
        for message in [&b""[..], b"text", &[1; LIMIT]] {
            at.push(output.len() + 9);
            session.send(message, &mut output).unwrap();
        }
        at.into_iter().map(|at| number(&output[at..at + NONCE_LENGTH])).collect()
    }

    fn big_endian(number: u128) -> [u8; NONCE_LENGTH] {
        number.to_be_bytes()[4..].try_into().unwrap()
    }

    fn number(nonce: &[u8]) -> u128 {
        nonce.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
    }
}
