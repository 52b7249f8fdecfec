//! What a client makes of everything that a server may do.

mod common;
#[path = "common/nobody.rs"]
mod nobody;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::protocol::{Cipher, NonceSequence, ResponseWriter};
use falcotcp_sync::{Client, ClientBuilder, Error, ForwardSecrecy, Key, Phase};
use nobody::nobody;

const SHORT: Duration = Duration::from_millis(200);

/// Longer than what a peer has sent takes to arrive, which a client does not tell.
const ARRIVES: Duration = Duration::from_millis(50);

/// A server of one connection that does what the script says, after it has accepted the establishment.
fn scripted(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> SocketAddr {
    raw(|stream| {
        let mut establishment = [0; 157];
        stream.read_exact(&mut establishment).expect("an establishment");
        stream.write_all(&[0xFF]).expect("accepting");
        script(stream);
    })
}

fn raw(script: impl FnOnce(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("setting a time-out");
        script(&mut stream);
    });
    addr
}

/// Reads one message of the tests, all of them of 4 bytes.
fn read_message(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 9 + 28 + 4]).expect("a message");
}

fn response(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut response = ResponseWriter::begin(&mut frame);
    response.extend_from_slice(text);
    let mut nonces = NonceSequence::new().expect("random bytes");
    response.seal(&Cipher::new(&key()), &mut nonces).expect("sealing");
    frame
}

fn wait_for_end(stream: &mut TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

fn impatient() -> ClientBuilder {
    Client::builder(key()).request_timeout(SHORT).connect_timeout(SHORT)
}

#[test]
fn messages_come_back_and_buffers_are_used_again() {
    let server = echo_server(server(2));
    let mut client = Client::connect(server.local_addr(), key()).expect("connecting");
    let mut response = Vec::new();
    for size in [0, 1, 100, 20_000, 70_000, 6 << 20, 5] {
        let message: Vec<u8> = (0..=255).cycle().take(size).collect();
        assert_eq!(client.message(&message).expect("an answer"), message);
        client.message_into(&message, &mut response).expect("an answer");
        assert_eq!(response, message);
        client.ping().expect("a ping");
    }
    eventually("pings are counted", || server.stats().pings == 7);
    assert_eq!(client.peer_addr(), Some(server.local_addr()));
    client.close();
    assert!(!client.is_open());
    assert!(matches!(client.message(b"closed"), Err(Error::Closed)));
    assert!(matches!(client.ping(), Err(Error::Closed)));
}

#[test]
fn another_key_is_refused() {
    let server = echo_server(server(2));
    let outcome = Client::connect(server.local_addr(), Key::from_bytes([1; 32]));
    assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
}

#[test]
fn any_other_answer_to_the_establishment_is_a_refusal() {
    for answer in [&[0][..], &[0xFE], b"HTTP/1.1 400", &[]] {
        let addr = raw(move |stream| {
            stream.read_exact(&mut [0; 157]).expect("an establishment");
            stream.write_all(answer).expect("answering");
        });
        let outcome = Client::connect(addr, key());
        assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
    }
}

#[test]
fn a_server_that_resets_instead_of_answering_refuses() {
    let addr = raw(|stream| {
        // Closing on unread bytes resets the connection.
        stream.read_exact(&mut [0; 1]).expect("the type");
    });
    let outcome = Client::connect(addr, key());
    assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
}

#[test]
fn nobody_listening_is_an_io_error_of_connecting() {
    let (_port, addr) = nobody();
    let outcome = Client::connect(addr, key());
    assert!(matches!(outcome, Err(Error::Io { phase: Phase::Connect, .. })), "{outcome:?}");
    let nowhere: &[SocketAddr] = &[];
    assert!(matches!(Client::connect(nowhere, key()), Err(Error::Io { phase: Phase::Connect, .. })));
}

#[test]
fn the_next_address_is_tried_when_one_does_not_accept() {
    let (_port, nobody) = nobody();
    let server = echo_server(server(1));
    let mut client = Client::connect(&[nobody, server.local_addr()][..], key()).expect("connecting");
    assert_eq!(client.message(b"second").expect("an answer"), b"second");
}

#[test]
fn an_establishment_that_nobody_answers_times_out_in_its_phase() {
    let addr = raw(wait_for_end);
    let begun = Instant::now();
    let outcome = impatient().connect(addr);
    assert!(
        matches!(outcome, Err(Error::TimedOut { phase: Phase::Establishment, limit, .. }) if limit == SHORT),
        "{outcome:?}"
    );
    assert!(begun.elapsed() >= SHORT);
}

#[test]
fn an_empty_response_is_a_rejection_and_the_client_stays_open() {
    let addr = scripted(|stream| {
        read_message(stream);
        stream.write_all(&[0; 8]).expect("answering");
        read_message(stream);
        stream.write_all(&response(b"good")).expect("answering");
        wait_for_end(stream);
    });
    let mut client = Client::connect(addr, key()).expect("connecting");
    let mut response = b"old".to_vec();
    assert!(matches!(client.message_into(b"evil", &mut response), Err(Error::Rejected)));
    assert!(response.is_empty());
    assert!(client.is_open());
    assert_eq!(client.message(b"good").expect("an answer"), b"good");
}

#[test]
fn a_handler_that_failed_is_told_where_the_session_can_and_is_a_rejection_in_any() {
    let fails = |message: &[u8]| message[0].to_string();
    let server = server(1).bind("127.0.0.1:0").expect("binding").spawn(fails).expect("spawning");
    let builder = || Client::builder(key()).request_timeout(PATIENCE);
    let classic = (builder().forward_secrecy(ForwardSecrecy::Off), Error::Rejected);
    #[cfg(feature = "forward-secrecy")]
    let (sessions, told) = ([classic, (builder(), Error::HandlerFailed)], 2);
    #[cfg(not(feature = "forward-secrecy"))]
    let (sessions, told) = ([classic], 1);
    for (builder, expected) in sessions {
        let is_expected = |error: &Error| error.to_string() == expected.to_string() && error.is_rejection();
        let mut client = builder.connect(server.local_addr()).expect("connecting");
        assert!(is_expected(&client.message(b"").expect_err("it fails")), "{expected}");
        assert_eq!(client.message(b"A").expect("it stays open"), b"65");
        let shared = builder.connect_shared(server.local_addr()).expect("connecting");
        assert!(is_expected(&shared.message(b"").expect_err("it fails")), "{expected}");
    }
    assert_eq!(server.stats().panics, 2 * told);
}

#[test]
fn a_response_that_does_not_open_closes_the_client() {
    for byte in [8, 20, 24, 39] {
        let addr = scripted(move |stream| {
            read_message(stream);
            let mut damaged = response(b"good");
            damaged[byte] ^= 1;
            stream.write_all(&damaged).expect("answering");
            wait_for_end(stream);
        });
        let mut client = Client::connect(addr, key()).expect("connecting");
        assert!(matches!(client.message(b"good"), Err(Error::NotAuthentic)));
        assert!(!client.is_open());
        assert!(matches!(client.message(b"good"), Err(Error::Closed)));
    }
}

#[test]
fn a_response_too_short_to_be_one_closes_the_client() {
    for length in 1..28u8 {
        let addr = scripted(move |stream| {
            read_message(stream);
            stream.write_all(&[0, 0, 0, 0, 0, 0, 0, length]).expect("answering");
            wait_for_end(stream);
        });
        let mut client = Client::connect(addr, key()).expect("connecting");
        assert!(matches!(client.message(b"good"), Err(Error::NotAuthentic)));
        assert!(!client.is_open());
    }
}

#[test]
fn a_response_over_the_limit_closes_the_client_with_size_and_limit() {
    for size in [1001, u64::MAX - 28] {
        let addr = scripted(move |stream| {
            read_message(stream);
            stream.write_all(&(size + 28).to_be_bytes()).expect("answering");
            wait_for_end(stream);
        });
        let mut client = Client::builder(key()).max_message_size(1000).connect(addr).expect("connecting");
        let outcome = client.message(b"good");
        assert!(
            matches!(outcome, Err(Error::TooLarge { phase: Phase::Receive, size: s, limit: 1000, .. }) if s == size),
            "{outcome:?}"
        );
        assert!(!client.is_open());
    }
}

#[test]
fn a_message_over_the_limit_is_not_sent_and_the_client_stays_open() {
    let server = echo_server(server(1));
    let mut client =
        Client::builder(key()).max_message_size(10).connect(server.local_addr()).expect("connecting");
    let outcome = client.message(&[0; 11]);
    assert!(
        matches!(outcome, Err(Error::TooLarge { phase: Phase::Send, size: 11, limit: 10, .. })),
        "{outcome:?}"
    );
    assert_eq!(client.message(&[0; 10]).expect("an answer"), [0; 10]);
    assert_eq!(server.stats().messages, 1);
}

#[cfg(feature = "forward-secrecy")]
#[test]
fn a_message_over_the_servers_limit_is_not_sent_in_a_forward_secret_session() {
    let server = echo_server(server(1).max_message_size(10));
    for limit in [None, Some(9), Some(11)] {
        let builder = Client::builder(key());
        let builder = limit.map_or(builder.clone(), |limit| builder.max_message_size(limit));
        let mut client = builder.connect(server.local_addr()).expect("connecting");
        assert!(client.is_forward_secret());
        let allowed = limit.unwrap_or(10).min(10);
        let outcome = client.message(&vec![0; allowed + 1]);
        assert!(
            matches!(outcome, Err(Error::TooLarge { phase: Phase::Send, limit, .. }) if limit == allowed as u64),
            "{outcome:?}"
        );
        assert_eq!(client.message(&vec![0; allowed]).expect("an answer"), vec![0; allowed]);
    }
    assert_eq!(server.stats().rejected, 0);
}

#[test]
fn a_message_over_the_servers_limit_is_rejected_in_a_classic_session_however_large_it_is() {
    let server = echo_server(server(1).max_message_size(10));
    for size in [11, 12 << 20] {
        let builder = Client::builder(key()).forward_secrecy(ForwardSecrecy::Off);
        let mut client = builder.connect(server.local_addr()).expect("connecting");
        assert!(matches!(client.message(&vec![0; size]), Err(Error::Rejected)));
        let next = client.message(b"after").expect_err("the server has closed");
        // A large message that was not all sent when its answer came has closed the client.
        let may_know = size > 11 && matches!(next, Error::Closed);
        assert!(may_know || matches!(next, Error::ClosedByServer { .. }), "{next:?}");
    }
}

#[test]
fn one_deadline_holds_for_a_response_that_dribbles_in() {
    let addr = scripted(|stream| {
        read_message(stream);
        for byte in response(&[0; 1000]) {
            thread::sleep(SHORT / 20);
            if stream.write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    let mut client = Client::builder(key()).request_timeout(SHORT).connect(addr).expect("connecting");
    let begun = Instant::now();
    let outcome = client.message(b"good");
    assert!(
        matches!(outcome, Err(Error::TimedOut { phase: Phase::Receive, limit, .. }) if limit == SHORT),
        "{outcome:?}"
    );
    // All of its bytes would take fifty times as long.
    assert!(begun.elapsed() >= SHORT && begun.elapsed() < 20 * SHORT, "{:?}", begun.elapsed());
    assert!(!client.is_open());
}

#[test]
fn a_server_that_does_not_read_times_out_in_the_phase_of_sending() {
    let addr = scripted(|_| thread::sleep(PATIENCE));
    let mut client = Client::builder(key()).request_timeout(SHORT).connect(addr).expect("connecting");
    let outcome = client.message(&vec![0; 16 << 20]);
    assert!(matches!(outcome, Err(Error::TimedOut { phase: Phase::Send, .. })), "{outcome:?}");
    assert!(!client.is_open());
}

#[test]
fn a_late_answer_is_never_taken_for_the_next_ones() {
    let ((told, is_late), (sent, is_sent)) = (channel(), channel());
    let addr = scripted(move |stream| {
        read_message(stream);
        is_late.recv().expect("the test tells");
        let _ = stream.write_all(&response(b"late"));
        sent.send(()).expect("the test waits");
        wait_for_end(stream);
    });
    let mut client = Client::builder(key()).request_timeout(SHORT).connect(addr).expect("connecting");
    assert!(matches!(client.message(b"slow"), Err(Error::TimedOut { .. })));
    told.send(()).expect("the server waits");
    is_sent.recv().expect("the server sends");
    assert!(matches!(client.message(b"next"), Err(Error::Closed)));
}

#[test]
fn what_arrives_unasked_is_never_taken_for_an_answer() {
    let unasked = [response(b"nobody asked"), vec![1], vec![0; 7], [&[0; 8][..], &[0]].concat()];
    for bytes in unasked {
        // Behind the acceptance, in one segment with it or not.
        let sent = bytes.clone();
        let addr = scripted(move |stream| {
            stream.write_all(&sent).expect("sending");
            wait_for_end(stream);
        });
        assert_unasked(addr, |_| {});
        // Behind an answer.
        let addr = scripted(move |stream| {
            read_message(stream);
            stream.write_all(&[response(b"good"), bytes].concat()).expect("sending");
            wait_for_end(stream);
        });
        assert_unasked(addr, |client| assert_eq!(client.message(b"good").expect("an answer"), b"good"));
    }
}

fn assert_unasked(addr: SocketAddr, first: impl FnOnce(&mut Client)) {
    let mut client = Client::connect(addr, key()).expect("connecting");
    first(&mut client);
    // Pings are not answered by this server, and fail as soon as the bytes are here.
    let begun = Instant::now();
    let error = loop {
        assert!(begun.elapsed() < PATIENCE);
        match client.ping() {
            Ok(()) => thread::sleep(Duration::from_millis(1)),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Unasked), "{error:?}");
    assert!(matches!(client.message(b"next"), Err(Error::Closed)));
}

#[test]
fn empty_responses_that_nobody_asked_for_are_passed_over() {
    let (sent, is_sent) = channel();
    let addr = scripted(move |stream| {
        stream.write_all(&[0; 24]).expect("sending");
        sent.send(()).expect("the test waits");
        read_message(stream);
        stream.write_all(&response(b"good")).expect("answering");
        wait_for_end(stream);
    });
    let mut client = Client::connect(addr, key()).expect("connecting");
    is_sent.recv().expect("the server sends");
    thread::sleep(ARRIVES);
    assert_eq!(client.message(b"good").expect("an answer"), b"good");
}

#[test]
fn a_flood_of_empty_responses_does_not_hold_up_the_client() {
    let (sent, is_sent) = channel();
    let addr = scripted(move |stream| {
        stream.write_all(&vec![0; 256 << 10]).expect("sending");
        sent.send(()).expect("the test waits");
        wait_for_end(stream);
    });
    let mut client = Client::connect(addr, key()).expect("connecting");
    is_sent.recv().expect("the server sends");
    thread::sleep(ARRIVES);
    assert!(matches!(client.message(b"good"), Err(Error::Unasked)));
}

#[test]
fn a_connection_that_the_server_closed_while_idle_says_that_nothing_was_sent() {
    let server = echo_server(server(1).lifetime(SHORT));
    let mut client = Client::connect(server.local_addr(), key()).expect("connecting");
    eventually("the lifetime is over", || server.stats().open == 0);
    let outcome = client.message(b"too late");
    assert!(matches!(outcome, Err(Error::ClosedByServer { phase: Phase::Idle, .. })), "{outcome:?}");
    assert!(!client.is_open());
}

#[test]
fn a_server_that_closes_instead_of_answering_is_told_apart() {
    for part in [0, 4, 20] {
        let addr = scripted(move |stream| {
            read_message(stream);
            stream.write_all(&response(b"good")[..part]).expect("answering");
            stream.shutdown(Shutdown::Both).expect("closing");
        });
        let mut client = Client::connect(addr, key()).expect("connecting");
        let outcome = client.message(b"good");
        assert!(matches!(outcome, Err(Error::ClosedByServer { phase: Phase::Receive, .. })), "{outcome:?}");
        assert!(!client.is_open());
    }
}

#[test]
fn a_response_may_come_byte_by_byte() {
    let addr = scripted(|stream| {
        stream.set_nodelay(true).expect("setting no-delay");
        read_message(stream);
        for byte in response(b"good") {
            stream.write_all(&[byte]).expect("answering");
        }
        wait_for_end(stream);
    });
    let mut client = Client::connect(addr, key()).expect("connecting");
    assert_eq!(client.message(b"good").expect("an answer"), b"good");
}

#[test]
fn pings_keep_a_connection_alive() {
    let lifetime = Duration::from_millis(1500);
    let server = echo_server(server(1).lifetime(lifetime));
    let mut client = Client::connect(server.local_addr(), key()).expect("connecting");
    let begun = Instant::now();
    while begun.elapsed() < 2 * lifetime {
        thread::sleep(lifetime / 5);
        client.ping().expect("a ping");
    }
    assert_eq!(client.message(b"alive").expect("an answer"), b"alive");
}

#[test]
fn settings_that_can_not_work_are_errors() {
    let addr = "127.0.0.1:1";
    for builder in [
        Client::builder(key()).connect_timeout(Duration::ZERO),
        Client::builder(key()).request_timeout(Duration::ZERO),
        Client::builder(key()).lifetime(Duration::ZERO),
        Client::builder(key()).keep_alive_interval(Duration::ZERO),
        Client::builder(key()).keep_alive_interval(Duration::from_micros(1)),
        Client::builder(key()).keep_alive_interval(Duration::from_secs(60)),
        Client::builder(key()).keep_alive_interval(SHORT).lifetime(SHORT),
        Client::builder(key()).keep_alive(true).lifetime(Duration::from_nanos(3)),
        Client::builder(key()).keep_alive(true).lifetime(Duration::from_millis(3)),
        Client::builder(key()).max_message_size(usize::MAX),
        Client::builder(key()).max_message_size(usize::MAX - 36),
    ] {
        let outcome = builder.connect(addr);
        assert!(matches!(outcome, Err(Error::InvalidSetting { .. })), "{builder:?}: {outcome:?}");
    }
    let server = echo_server(server(1));
    let mut client = Client::builder(key())
        .connect_timeout(Duration::MAX)
        .request_timeout(Duration::MAX)
        .max_message_size(usize::MAX - 37)
        .lifetime(Duration::MAX)
        .keep_alive(true)
        .connect(server.local_addr())
        .expect("connecting");
    assert_eq!(client.message(b"for ever").expect("an answer"), b"for ever");
}

#[test]
fn no_nonce_repeats_over_a_clients_frames() {
    let (frames, received) = channel();
    let addr = raw(move |stream| {
        let mut establishment = [0; 157];
        stream.read_exact(&mut establishment).expect("an establishment");
        frames.send(establishment[1..13].to_vec()).expect("the test waits");
        stream.write_all(&[0xFF]).expect("accepting");
        for _ in 0..100 {
            let mut message = [0; 41];
            stream.read_exact(&mut message).expect("a message");
            frames.send(message[9..21].to_vec()).expect("the test waits");
            stream.write_all(&response(b"good")).expect("answering");
        }
    });
    let mut client = Client::connect(addr, key()).expect("connecting");
    for _ in 0..100 {
        client.message(b"good").expect("an answer");
    }
    let nonces: std::collections::HashSet<_> = received.iter().collect();
    assert_eq!(nonces.len(), 101);
}
