//! Servers of forward-secret sessions that fall silent, or say goodbye while a message is on its way.

#![cfg(feature = "forward-secrecy")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::protocol::{Cipher, NonceSequence, ServerEvent, ServerSession, SessionSettings};
use falcotcp_sync::{Client, ClientBuilder, Error, Keyring, Phase};

const SHORT: Duration = Duration::from_millis(200);

/// So large that the sockets do not take all of it.
const LARGE: usize = 15 << 20;

/// Establishes one connection, answers its first ping, and does as the test says. Then nobody listens.
fn scripted(script: impl Fn(TcpStream, ServerSession) + Send + 'static) -> SocketAddr {
    late(Duration::ZERO, move |stream, session, _| script(stream, session))
}

/// The same with a pong that comes so late, and with what has been read behind the ping.
fn late(
    pong_after: Duration,
    script: impl Fn(TcpStream, ServerSession, Vec<u8>) + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("its address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        drop(listener);
        let keyring = Arc::new(Keyring::from(Arc::new(Cipher::new(&key()))));
        let mut session = ServerSession::new(Arc::new(SessionSettings::default()), keyring, Instant::now());
        let (mut input, mut output, mut is_proven) = (Vec::new(), Vec::new(), false);
        while !is_proven {
            let mut room = [0; 4096];
            let count = stream.read(&mut room).expect("an establishment and a ping");
            input.extend_from_slice(&room[..count]);
            // Not a second ping that came with it.
            while !is_proven {
                let (taken, event) = session.receive(&mut input, &mut output, Instant::now());
                is_proven |= matches!(event, ServerEvent::Ping);
                if taken == 0 {
                    break;
                }
                input.drain(..taken);
            }
            if is_proven {
                thread::sleep(pong_after);
            }
            stream.write_all(&output).expect("answering");
            output.clear();
        }
        script(stream, session, input);
    });
    addr
}

/// Reads what comes and says nothing.
fn silent() -> SocketAddr {
    scripted(|mut stream, _| _ = std::io::copy(&mut stream, &mut std::io::sink()))
}

/// Says goodbye when a part of a message has come, and resets the connection some time later.
fn leaving(reset_after: Duration) -> SocketAddr {
    scripted(move |mut stream, mut session| {
        stream.peek(&mut [0]).expect("a message");
        // Until the client has looked in vain for a while whether it can send more.
        thread::sleep(3 * SHORT);
        let mut goodbye = Vec::new();
        session.goodbye(&mut goodbye);
        stream.write_all(&goodbye).expect("the client is there");
        thread::sleep(reset_after);
    })
}

fn builder() -> ClientBuilder {
    Client::builder(key()).request_timeout(PATIENCE)
}

#[test]
fn a_ping_waits_for_its_pong() {
    let is_told = |outcome: Result<(), Error>| {
        matches!(outcome, Err(Error::TimedOut { phase: Phase::Receive, limit: SHORT, .. }))
    };
    let mut client = builder().request_timeout(SHORT).connect(silent()).expect("connecting");
    assert!(is_told(client.ping()) && !client.is_open());
    let shared = builder().request_timeout(SHORT).connect_shared(silent()).expect("connecting");
    assert!(is_told(shared.ping()));
}

#[test]
fn keep_alive_finds_a_dead_connection_by_a_pong_that_does_not_come() {
    let kept = builder().keep_alive(true).keep_alive_interval(SHORT / 10);
    let client = kept.connect(silent()).expect("connecting");
    let shared = kept.connect_shared(silent()).expect("connecting");
    eventually("both know", || !client.is_open() && !shared.is_open());
}

#[test]
fn a_goodbye_is_heard_also_when_the_message_no_longer_goes_out() {
    for reset_after in [Duration::ZERO, SHORT] {
        let addr = || leaving(reset_after);
        let message = vec![7; LARGE];
        let mut client = builder().connect(addr()).expect("connecting");
        let mut pipelining = builder().connect(addr()).expect("connecting");
        let shared = builder().connect_shared(addr()).expect("connecting");
        let mut pipeline = pipelining.pipelined();
        for error in [
            client.message(&message).expect_err("the server leaves"),
            pipeline
                .send(&message)
                .and_then(|()| pipeline.receive().map(drop))
                .expect_err("the server leaves"),
            shared.message(&message).expect_err("the server leaves"),
        ] {
            assert!(matches!(error, Error::ClosedByServer { phase: Phase::Idle, .. }), "{error:?}");
            assert!(!error.was_sent(), "{error}");
        }
    }
}

#[test]
fn and_then_the_message_goes_to_the_next_server() {
    let next = echo_server(server(2));
    for reset_after in [Duration::ZERO, SHORT] {
        let addrs = || [leaving(reset_after), next.local_addr()];
        let message = vec![7; LARGE];
        let mut client = builder().reconnect(true).connect(addrs()).expect("connecting");
        let shared = builder().reconnect(true).connect_shared(addrs()).expect("connecting");
        assert!(client.message(&message).expect("an answer") == message);
        assert!(shared.message(&message).expect("an answer") == message);
    }
}

#[test]
fn a_pong_that_comes_while_a_message_goes_out_does_not_hold_it_up() {
    // The client can send no more for a while, and looks for an answer.
    let addr = || late(3 * SHORT, answer_one_message);
    let message = vec![7; LARGE];
    let mut client = builder().connect(addr()).expect("connecting");
    assert_eq!(client.message(&message).expect("an answer"), b"got it");
    let shared = builder().connect_shared(addr()).expect("connecting");
    assert_eq!(shared.message(&message).expect("an answer"), b"got it");
    let mut client = builder().connect(addr()).expect("connecting");
    let mut pipeline = client.pipelined();
    pipeline.send(&message).expect("sent");
    assert_eq!(pipeline.receive().expect("in order"), Some(&b"got it"[..]));
}

fn answer_one_message(mut stream: TcpStream, mut session: ServerSession, mut input: Vec<u8>) {
    // The client looks again, and finds the pong.
    thread::sleep(2 * SHORT);
    let (mut room, mut output) = (vec![0; 1 << 20], Vec::new());
    loop {
        let (_, event) = session.receive(&mut input, &mut output, Instant::now());
        if matches!(event, ServerEvent::Message(_)) {
            break;
        }
        let count = stream.read(&mut room).expect("more of the message");
        assert_ne!(count, 0, "the client gave up");
        input.extend_from_slice(&room[..count]);
    }
    let mut response = session.begin_response(&mut output);
    response.extend_from_slice(b"got it");
    assert!(session.seal(response, &mut NonceSequence::new().expect("random bytes")));
    stream.write_all(&output).expect("the client is there");
    let _ = stream.read(&mut room);
}
