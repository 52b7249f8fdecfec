//! What bounds a client, where no other test would notice that it is gone.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, Peer, key, server};
use falcotcp_sync::{Client, Error};

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
    let mut client = Client::builder(&key()).request_timeout(SHORT).connect(server).expect("connecting");
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
    let mut client = Client::builder(&key())
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
