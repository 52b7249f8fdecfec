//! Responses that are a part of their message are sealed and sent from where the message lies: nobody may notice.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{Peer, Random, echo_server, eventually, server};
use falcotcp_sync::{Handler, Request, Response, ServerBuilder, ServerHandle};

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
fn a_peer_that_never_reads_is_closed_at_its_deadline() {
    let server = cutting_server(server(1).write_timeout(Duration::from_millis(200)));
    let peer = Peer::establish(server.local_addr());
    let mut sender = peer.second_hand();
    let mut random = Random(10);
    let endless = message(&mut random, 4 << 20, 0, 4 << 20);
    let sending = thread::spawn(move || {
        let frame = sender.message(&endless);
        // The server stops reading, and in the end it closes.
        while std::io::Write::write_all(&mut sender.stream, &frame).is_ok() {}
    });
    eventually("it is closed", || server.stats().open == 0);
    sending.join().expect("sending");
    drop(peer);
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
    let stopping = thread::spawn(move || server.shutdown(Duration::from_secs(20)));
    thread::sleep(Duration::from_millis(20));
    assert!(peer.response().as_deref() == Some(&message[..]));
    sending.join().expect("sending");
    drop(peer);
    let report = stopping.join().expect("a stop").expect("a report");
    assert_eq!((report.drained, report.cut), (1, 0));
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
