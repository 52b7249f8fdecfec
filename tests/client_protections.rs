//! What bounds a client, where no other test would notice that it is gone.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Peer, key, server};
use falcotcp_sync::protocol::{Cipher, NonceSequence, ResponseWriter};
use falcotcp_sync::{Client, Error, ForwardSecrecy};

const SHORT: Duration = Duration::from_millis(200);

/// A server that accepts the establishment of one connection; whether it reads on is its only choice.
fn mute(reads: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        stream.read_exact(&mut [0; 157]).expect("an establishment");
        stream.write_all(&[0xFF]).expect("accepting");
        if reads {
            drop(Peer::from(stream).rest());
        } else {
            thread::sleep(2 * PATIENCE);
        }
    });
    addr
}

/// Messages that a pipeline takes from its iterator although none is answered.
fn taken_without_answers(server: SocketAddr, size: usize) -> usize {
    let message = vec![7; size];
    let mut taken = 0;
    let messages = std::iter::repeat_n(&message, 100_000).inspect(|_| taken += 1);
    let mut client = Client::builder(key()).request_timeout(SHORT).connect(server).expect("connecting");
    let outcome = client.pipeline(messages, |_| panic!("no answer was given"));
    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
    taken
}

#[test]
fn a_pipeline_has_no_more_than_1024_messages_in_flight() {
    let taken = taken_without_answers(mute(true), 1);
    assert!(taken <= 1024, "{taken} messages");
}

#[test]
fn a_pipeline_does_not_collect_messages_that_can_not_be_sent() {
    // 1024 of them would be a gigabyte; what the sockets take is far less, and in hand there is one.
    let taken = taken_without_answers(mute(false), 1 << 20);
    assert!(taken < 100, "{taken} messages of 1 MiB");
}

#[test]
fn a_pipeline_reads_while_a_message_of_its_own_is_half_sent() {
    const LARGE: usize = 32 << 20;
    let server = server(1)
        .max_message_size(LARGE)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(|message: &[u8]| if message.len() < LARGE { vec![7; 1 << 20] } else { vec![] })
        .expect("spawning");
    let mut messages = vec![vec![1]; 40];
    // The server does not read it to the end before its responses to the others are taken.
    messages.push(vec![2; LARGE]);
    let mut client = Client::builder(key())
        .max_message_size(LARGE)
        .request_timeout(PATIENCE)
        .connect(server.local_addr())
        .expect("connecting");
    let mut lengths = Vec::new();
    client
        .pipeline(&messages, |result| lengths.push(result.map_or(0, <[u8]>::len)))
        .expect("a connection in order");
    assert_eq!(lengths.len(), 41);
    assert_eq!(lengths.iter().sum::<usize>(), 40 << 20);
}

/// A server that accepts establishments and does with each connection what `script` says for its number.
fn scripted(script: impl Fn(usize, &mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("setting a time-out");
            stream.read_exact(&mut [0; 157]).expect("an establishment");
            script(number, &mut stream);
        }
    });
    addr
}

fn read_message(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 9 + 28 + 4]).expect("a message of 4 bytes");
}

fn reconnecting(addr: SocketAddr) -> Client {
    Client::builder(key()).reconnect(true).request_timeout(PATIENCE).connect(addr).expect("connecting")
}

#[test]
fn an_answer_behind_the_first_acceptance_answers_nothing() {
    let addr = scripted(|_, stream| {
        stream.write_all(&[&[0xFF][..], &response(b"old")].concat()).expect("accepting");
        let _ = stream.read(&mut [0]);
    });
    let mut client = Client::connect(addr, key()).expect("connecting");
    assert!(matches!(client.message(b"good"), Err(Error::Unasked)));
}

#[test]
fn an_answer_behind_the_acceptance_of_a_new_connection_answers_nothing() {
    let addr = scripted(|number, stream| {
        let old = response(b"old");
        let behind = if number == 0 { &[] } else { &old[..] };
        stream.write_all(&[&[0xFF], behind].concat()).expect("accepting");
        if number == 0 {
            read_message(stream);
            stream.write_all(&response(b"good")).expect("answering");
        } else {
            let _ = stream.read(&mut [0]);
        }
    });
    let mut client = reconnecting(addr);
    assert_eq!(client.message(b"good").expect("an answer"), b"good");
    let begun = Instant::now();
    let outcome = loop {
        // Until the end of the first connection has arrived.
        match client.message(b"good") {
            Err(Error::ClosedByServer { .. }) if begun.elapsed() < PATIENCE => {}
            outcome => break outcome,
        }
    };
    assert!(matches!(outcome, Err(Error::Unasked)), "{outcome:?}");
}

#[test]
fn what_is_left_of_an_answer_is_not_read_on_a_new_connection() {
    let addr = scripted(|number, stream| {
        stream.write_all(&[0xFF]).expect("accepting");
        read_message(stream);
        let answer = response(b"good");
        let part = if number == 0 { answer.len() / 2 } else { answer.len() };
        stream.write_all(&answer[..part]).expect("answering");
    });
    let mut client = reconnecting(addr);
    let outcome = client.message(b"good");
    assert!(matches!(outcome, Err(Error::ClosedByServer { .. })), "{outcome:?}");
    assert_eq!(client.message(b"good").expect("an answer"), b"good");
}

#[test]
fn a_rejection_that_comes_while_the_message_is_still_being_sent_is_told() {
    // The server reads no further and keeps the connection, or closes it with bytes unread, which resets it.
    for keeps in [true, false] {
        let (is_told, told) = mpsc::channel();
        let told = Mutex::new(told);
        let addr = scripted(move |_, stream| {
            stream.write_all(&[0xFF]).expect("accepting");
            stream.read_exact(&mut [0; 1000]).expect("the beginning of a message");
            // The sockets take no more by then: the client's next write fails before it has sent anything.
            thread::sleep(2 * SHORT);
            stream.write_all(&[0; 8]).expect("answering");
            if keeps {
                told.lock().expect("one connection").recv().expect("the test sends");
            }
        });
        let mut client = Client::builder(key()).request_timeout(PATIENCE).connect(addr).expect("connecting");
        let begun = Instant::now();
        let outcome = client.message(&vec![0; 16 << 20]);
        assert!(matches!(outcome, Err(Error::Rejected)), "{outcome:?}");
        assert!(begun.elapsed() < PATIENCE / 2, "only when the time was over");
        // What comes next would be taken for the rest of the message.
        assert!(!client.is_open());
        let _ = is_told.send(());
    }
}

#[test]
fn any_other_answer_to_a_half_sent_message_is_none() {
    let (is_told, told) = mpsc::channel();
    let told = Mutex::new(told);
    let addr = scripted(move |_, stream| {
        stream.write_all(&[0xFF]).expect("accepting");
        stream.read_exact(&mut [0; 1000]).expect("the beginning of a message");
        stream.write_all(&response(b"old")).expect("answering");
        told.lock().expect("one connection").recv().expect("the test sends");
    });
    let mut client = Client::builder(key()).request_timeout(PATIENCE).connect(addr).expect("connecting");
    let outcome = client.message(&vec![0; 16 << 20]);
    assert!(matches!(outcome, Err(Error::Unasked)), "{outcome:?}");
    is_told.send(()).expect("the server waits");
}

#[test]
fn a_message_over_the_servers_limit_is_rejected_on_a_slow_way_as_well() {
    let server = common::echo_server(server(1).max_message_size(1 << 20));
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    let to = server.local_addr();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a connection");
        let mut server = TcpStream::connect(to).expect("connecting");
        let (mut back, mut client_again) =
            (server.try_clone().expect("cloning"), client.try_clone().expect("cloning"));
        thread::spawn(move || std::io::copy(&mut back, &mut client_again));
        // 24 Mbit/s.
        let mut bytes = [0; 6 << 10];
        while let Ok(count @ 1..) = client.read(&mut bytes) {
            if server.write_all(&bytes[..count]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    });
    let mut client = Client::builder(key())
        .request_timeout(PATIENCE)
        .forward_secrecy(ForwardSecrecy::Off)
        .connect(addr)
        .expect("connecting");
    let outcome = client.message(&vec![0; 8 << 20]);
    assert!(matches!(outcome, Err(Error::Rejected)), "{outcome:?}");
}

fn response(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut response = ResponseWriter::begin(&mut frame);
    response.extend_from_slice(text);
    let mut nonces = NonceSequence::new().expect("random bytes");
    response.seal(&Cipher::new(&key()), &mut nonces).expect("sealing");
    frame
}
