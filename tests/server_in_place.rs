//! Responses that are a part of their message are sealed and sent from where the message lies: nobody may notice.

mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, PING, Peer, Random, echo_server, establishment, eventually, key, server};
use falcotcp_sync::{Handler, Request, Response, ServerBuilder, ServerHandle};
use socket2::{Domain, Socket, Type};

/// Answers with the part of the message that its first eight bytes name: where it begins and where it ends.
struct Cut;

impl Handler for Cut {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let (start, end) = cut(request.message());
        response.extend_from_slice(&request.message()[start..end]);
        assert_ne!(end, request.message().len() - 1, "a panic that a test asked for");
    }
}

fn cut(message: &[u8]) -> (usize, usize) {
    let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().expect("4 bytes")) as usize;
    (number(0), number(4))
}

/// A message of `length` random bytes behind what it asks for.
fn message(random: &mut Random, length: usize, start: usize, end: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        [start, end].iter().flat_map(|&at| u32::try_from(at).expect("small").to_be_bytes()).collect();
    bytes.extend((0..length).map(|_| random.byte()));
    bytes
}

fn cutting_server(builder: ServerBuilder) -> ServerHandle {
    builder.bind("127.0.0.1:0").expect("binding").spawn(Cut).expect("spawning")
}

#[test]
fn parts_of_messages_of_all_sizes_come_back_in_order() {
    let server = cutting_server(server(2));
    let mut random = Random(7);
    let mut peer = Peer::establish(server.local_addr());
    let mut reader = peer.second_hand();
    let mut bytes_out = ESTABLISHED;
    for _ in 0..40 {
        let messages: Vec<_> = (0..=random.below(12))
            .map(|_| {
                let largest = [100, 5_000, 70_000, 300_000][random.below(4)];
                let length = random.below(largest);
                let end = match random.below(3) {
                    0 => 8 + length,
                    _ => random.below(length + 8),
                };
                let start = if random.below(2) == 0 { 0 } else { random.below(end + 1) };
                message(&mut random, length, start, end)
            })
            .collect();
        let expected: Vec<_> = messages.iter().map(|message| answer(message)).collect();
        bytes_out +=
            expected.iter().map(|text| text.as_ref().map_or(8, |text| on_the_wire(text.len()))).sum::<u64>();
        // In one piece, so that the messages come in together.
        let stream: Vec<u8> = messages.iter().flat_map(|message| peer.message(message)).collect();
        let sending = thread::spawn(move || {
            peer.send(&stream);
            peer
        });
        for expected in expected {
            assert!(
                reader.response() == expected,
                "another response than {:?} bytes",
                expected.map(|text| text.len())
            );
        }
        peer = sending.join().expect("sending");
    }
    eventually("every byte is counted", || server.stats().bytes_out == bytes_out);
}

/// What [`Cut`] answers; nothing where it panics.
fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let (start, end) = cut(message);
    (end != message.len() - 1).then(|| message[start..end].to_vec())
}

#[test]
fn a_panic_after_the_response_rejects_the_message() {
    let server = cutting_server(server(1));
    let mut peer = Peer::establish(server.local_addr());
    let mut random = Random(8);
    for length in [10, 10_000, 200_000] {
        let panics = message(&mut random, length, 0, length + 7);
        let works = message(&mut random, length, 3, length + 8);
        assert_eq!(peer.exchange(&panics), None);
        assert!(peer.exchange(&works).as_deref() == Some(&works[3..]));
    }
    assert_eq!(server.stats().panics, 3);
}

#[test]
fn a_peer_that_reads_late_gets_all_of_it() {
    let server = cutting_server(server(1));
    let mut peer = Peer::establish(server.local_addr());
    let mut reader = peer.second_hand();
    let mut random = Random(9);
    // More than the sockets' buffers hold in either direction.
    let messages: Vec<_> =
        (0..6).map(|number| message(&mut random, 4 << 20, number, (4 << 20) - number)).collect();
    let stream: Vec<u8> = messages.iter().flat_map(|message| peer.message(message)).collect();
    let sending = thread::spawn(move || peer.send(&stream));
    eventually("the first response is on its way", || server.stats().bytes_out > 1000);
    thread::sleep(Duration::from_millis(50));
    for message in &messages {
        assert!(reader.response() == answer(message));
    }
    sending.join().expect("sending");
    assert_eq!(server.stats().messages, 6);
}

#[test]
fn a_stop_waits_for_the_rest_of_a_response() {
    let server = echo_server(server(1));
    let mut peer = Peer::establish(server.local_addr());
    let message = vec![5; 12 << 20];
    let mut sender = peer.second_hand();
    let frame = sender.message(&message);
    let sending = thread::spawn(move || sender.send(&frame));
    eventually("the response is on its way", || server.stats().bytes_out > 1000);
    // Nothing of it has been read, and it is more than the sockets hold.
    server.stopper().stop_within(PATIENCE);
    assert!(peer.response().as_deref() == Some(&message[..]));
    assert_eq!(peer.rest(), b"");
    sending.join().expect("sending");
    let report = server.wait().expect("a report");
    assert_eq!((report.drained, report.cut), (1, 0));
}

#[test]
fn a_withdrawn_key_waits_for_the_rest_of_a_response() {
    let server = echo_server(server(1));
    let mut peer = Peer::establish(server.local_addr());
    let message = vec![6; 12 << 20];
    let mut sender = peer.second_hand();
    let stream = [sender.message(&message), sender.message(b"too late")].concat();
    let sending = thread::spawn(move || sender.send(&stream));
    eventually("the response is on its way", || server.stats().bytes_out > 1000);
    server.keys().withdraw("default");
    assert!(peer.response().as_deref() == Some(&message[..]));
    assert_eq!(peer.rest(), b"");
    sending.join().expect("sending");
    assert_eq!((server.stats().messages, server.stats().withdrawn), (1, 1));
}

#[test]
fn nothing_is_handled_while_the_rest_of_a_response_waits() {
    let server = echo_server(server(1));
    let addr = server.local_addr();
    // How much the sockets take of a response that nobody reads.
    let mut taken = ESTABLISHED;
    let hoarder = unread(addr, &[8 << 20]);
    eventually("the sockets are full", || {
        let before = std::mem::replace(&mut taken, server.stats().bytes_out);
        thread::sleep(Duration::from_millis(20));
        before > ESTABLISHED && before == server.stats().bytes_out
    });
    drop(hoarder);
    eventually("it is gone", || server.stats().open == 0);
    for beyond in 0..10 {
        let first = usize::try_from(taken).expect("some megabytes") + 8192 * beyond;
        let (before, handled_before) = (server.stats().bytes_out, server.stats().messages);
        let mut peer = unread(addr, &[first, 1]);
        let begun = Instant::now();
        while server.stats().messages < handled_before + 2 && begun.elapsed() < Duration::from_millis(60) {
            thread::sleep(Duration::from_millis(2));
        }
        let stats = server.stats();
        assert!(
            stats.messages < handled_before + 2
                || stats.bytes_out - before >= ESTABLISHED + on_the_wire(first),
            "{} of {first} bytes were out",
            stats.bytes_out - before
        );
        for length in [first, 1] {
            assert_eq!(peer.response().map(|text| text.len()), Some(length));
        }
        drop(peer);
        eventually("it is gone", || server.stats().open == 0);
    }
}

/// A peer with a small receive buffer that has sent messages of these lengths and read no response.
fn unread(addr: SocketAddr, lengths: &[usize]) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("setting its size");
    socket.connect(&addr.into()).expect("connecting");
    let mut peer = Peer::from(socket.into());
    peer.send(&establishment(&key()));
    assert_eq!(peer.receive(1), [0xFF]);
    let mut sender = peer.second_hand();
    let stream: Vec<u8> = lengths.iter().flat_map(|&length| sender.message(&vec![9; length])).collect();
    thread::spawn(move || sender.stream.write_all(&stream));
    peer
}

/// The server's bytes of an establishment.
const ESTABLISHED: u64 = 1;

/// The server's bytes of a response.
fn on_the_wire(length: usize) -> u64 {
    (8 + 12 + length + 16) as u64
}

#[test]
fn what_stands_between_large_messages_keeps_its_place() {
    let server = echo_server(server(1).max_message_size(300_000));
    let mut peer = Peer::establish(server.local_addr());
    let large = |fill: u8| vec![fill; 200_000 + usize::from(fill)];
    let mut damaged = peer.message(&large(9));
    damaged[100_000] ^= 1;
    let stream = [
        peer.message(&large(1)),
        PING.to_vec(),
        damaged,
        peer.message(&large(2)),
        vec![0x77],
        [&[1][..], &27_u64.to_be_bytes(), &[0; 27]].concat(),
        peer.message(b"small"),
        peer.message(&large(3)),
        peer.message(&large(4)),
        peer.message(&vec![5; 300_001]),
    ];
    let mut sender = peer.second_hand();
    let sending = thread::spawn(move || sender.stream.write_all(&stream.concat()));
    let responses: Vec<_> = (0..8).map(|_| peer.response()).collect();
    let expected = [
        Some(large(1)),
        None,
        Some(large(2)),
        None,
        Some(b"small".to_vec()),
        Some(large(3)),
        Some(large(4)),
        None,
    ];
    assert!(responses == expected);
    assert_eq!(peer.rest(), b"");
    let _ = sending.join().expect("sending");
    assert_eq!((server.stats().messages, server.stats().rejected, server.stats().pings), (5, 3, 1));
}

/// Changes, shortens or repeats a response that was the message.
struct Afterthought;

impl Handler for Afterthought {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let message = request.message();
        response.extend_from_slice(message);
        match message[0] {
            b'c' => response.as_mut_slice()[1] = b'!',
            b's' => response.truncate(3),
            b'r' => response.extend_from_slice(message),
            _ => {}
        }
    }
}

#[test]
fn whatever_the_handler_does_afterwards_is_sent() {
    let server = server(1).bind("127.0.0.1:0").expect("binding").spawn(Afterthought).expect("spawning");
    let mut peer = Peer::establish(server.local_addr());
    for first in *b"csr-" {
        let mut message = vec![first; 150_000];
        let response = peer.exchange(&message).expect("a response");
        match first {
            b'c' => message[1] = b'!',
            b's' => message.truncate(3),
            b'r' => message = [&message[..], &message].concat(),
            _ => {}
        }
        assert!(response == message, "{}", char::from(first));
    }
}

#[test]
fn it_is_an_interaction_like_any_other() {
    let lifetime = Duration::from_secs(1);
    let server = echo_server(server(1).lifetime(lifetime));
    let mut peer = Peer::establish(server.local_addr());
    let begun = Instant::now();
    while begun.elapsed() < lifetime * 3 / 2 {
        let message = vec![6; 100_000];
        assert!(peer.exchange(&message).as_deref() == Some(&message[..]));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.stats().expired, 0);
}
