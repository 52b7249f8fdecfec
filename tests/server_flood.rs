//! What a peer can send without end costs others nothing: not their turns, not the log, not the peer's own deadline.

mod common;
#[path = "common/hold.rs"]
mod hold;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, PING, Peer, echo_server, establishment, eventually, key, server};
use hold::Hold;
use log::{LevelFilter, Log, Metadata, Record};

const SHORT: Duration = Duration::from_millis(300);

/// A message without room for nonce and tag, which needs no key.
const TOO_SHORT: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0, 0];

/// A message with room for them, and not authentic.
fn not_authentic() -> Vec<u8> {
    [&[1, 0, 0, 0, 0, 0, 0, 0, 28][..], &[0; 28]].concat()
}

struct Capture(Mutex<Vec<String>>);

static CAPTURE: Capture = Capture(Mutex::new(Vec::new()));

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("falcotcp") {
            self.0.lock().expect("no panic while logging").push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// How many lines about this peer hold `words`.
fn lines(peer: &Peer, words: &str) -> usize {
    let peer = format!("{}: ", peer.stream.local_addr().expect("an address"));
    let lines = CAPTURE.0.lock().expect("no panic while logging");
    lines.iter().filter(|text| text.starts_with(&peer) && text.contains(words)).count()
}

#[test]
fn each_cause_is_logged_once_a_connection_and_counted_at_its_end() {
    const COUNT: usize = 20_000;
    log::set_logger(&CAPTURE).expect("the only logger");
    log::set_max_level(LevelFilter::Trace);
    let server = echo_server(server(2));
    for (frame, words) in
        [(TOO_SHORT, "rejected"), (&not_authentic(), "rejected"), (&[0x77], "skipped a byte")]
    {
        let mut peer = Peer::establish(server.local_addr());
        let mut sender = peer.second_hand();
        let flood = frame.repeat(COUNT);
        let sending = thread::spawn(move || {
            sender.send(&flood);
            sender.send_message(b"behind it");
        });
        let answers = if frame == [0x77] { 0 } else { COUNT };
        assert!((0..answers).all(|_| peer.response().is_none()));
        assert_eq!(peer.response().as_deref(), Some(&b"behind it"[..]));
        sending.join().expect("the sender");
        assert_eq!(lines(&peer, words), 1);
        assert_eq!(lines(&peer, "further"), 0);
        peer.half_close();
        peer.assert_closed_in_silence();
        eventually("the others are counted", || lines(&peer, &format!("{} further", COUNT - 1)) == 1);
        assert_eq!(lines(&peer, "further"), 1);
    }
    // One cause does not hide another.
    let mut peer = Peer::establish(server.local_addr());
    for frame in [TOO_SHORT, &not_authentic()] {
        peer.send(&frame.repeat(2));
        assert_eq!([peer.response(), peer.response()], [None, None]);
    }
    assert_eq!(lines(&peer, "rejected"), 2);
}

#[test]
fn every_frame_counts_towards_the_turn_whatever_its_type() {
    for filler in [PING.to_vec(), vec![0x77], TOO_SHORT.to_vec(), not_authentic(), establishment(&key())] {
        let (hold, order) = (Hold::default(), Arc::new(Mutex::new(Vec::<u8>::new())));
        let (own, firsts) = (hold.clone(), Arc::clone(&order));
        let server = server(1)
            .bind("127.0.0.1:0")
            .expect("binding")
            .spawn(move |message: &[u8]| {
                firsts.lock().expect("no panic in here").extend(message.first());
                if message == b"wait" {
                    own.pass();
                }
                message.to_vec()
            })
            .expect("spawning");
        let [mut waiting, mut many, mut one] = [(); 3].map(|()| Peer::establish(server.local_addr()));
        hold.hold(&mut waiting);
        // One message in 64 frames, all of which the sockets between take at once.
        let stream: Vec<u8> =
            (0..40).flat_map(|_| [many.message(b"m"), filler.repeat(63)].concat()).take(200_000).collect();
        many.send(&stream);
        one.send_message(b"o");
        hold.open();
        assert_eq!(one.response().as_deref(), Some(&b"o"[..]));
        let order = order.lock().expect("no panic in the handler");
        let before = order.iter().position(|first| *first == b'o').expect("it was handled") - 1;
        assert!(before <= 6, "{before} messages of another, each among 63 frames of type {}", filler[0]);
    }
}

#[test]
fn floods_do_not_starve_another_connection_of_the_same_worker() {
    let server = echo_server(server(1));
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = [PING.to_vec(), vec![0x77], TOO_SHORT.to_vec(), not_authentic()]
        .into_iter()
        .map(|frame| {
            let mut peer = Peer::establish(server.local_addr());
            let mut sender = peer.second_hand();
            let (stopped, flood) = (Arc::clone(&stop), frame.repeat(100_000 / frame.len()));
            let sending = thread::spawn(move || {
                while !stopped.load(SeqCst) && sender.stream.write_all(&flood).is_ok() {}
                let _ = sender.stream.shutdown(std::net::Shutdown::Both);
            });
            (sending, thread::spawn(move || drop(peer.rest())))
        })
        .collect();
    let mut peer = Peer::establish(server.local_addr());
    let begun = Instant::now();
    for _ in 0..100 {
        peer.assert_served();
    }
    assert!(begun.elapsed() < PATIENCE, "a hundred exchanges took {:?}", begun.elapsed());
    stop.store(true, SeqCst);
    for (sending, reading) in floods {
        sending.join().expect("a sender");
        reading.join().expect("a reader");
    }
}

#[test]
fn rejected_frames_without_end_do_not_extend_the_lifetime() {
    let server = echo_server(server(1).lifetime(SHORT));
    for frame in [TOO_SHORT.to_vec(), not_authentic()] {
        let begun = Instant::now();
        let mut peer = Peer::establish(server.local_addr());
        let mut sender = peer.second_hand();
        let flood = frame.repeat(1000);
        let sending = thread::spawn(move || while sender.stream.write_all(&flood).is_ok() {});
        assert!(peer.rest().iter().all(|byte| *byte == 0), "empty responses and nothing else");
        assert!(begun.elapsed() < PATIENCE / 2, "closed after {:?}", begun.elapsed());
        sending.join().expect("the sender");
    }
    eventually("both have expired", || server.stats().expired == 2 && server.stats().open == 0);
}

#[test]
fn who_floods_behind_a_message_that_is_too_large_is_closed_all_the_same() {
    let server = echo_server(server(1).max_message_size(1000));
    let mut peer = Peer::establish(server.local_addr());
    let mut sender = peer.second_hand();
    peer.send(&[1, 0, 0, 0, 0, 0, 1, 0, 0]);
    let sending = thread::spawn(move || while sender.stream.write_all(&vec![7; 1 << 20]).is_ok() {});
    assert_eq!(peer.rest(), [0; 8]);
    eventually("it is closed", || server.stats().open == 0);
    assert_eq!((server.stats().rejected, server.stats().expired), (1, 0));
    sending.join().expect("the sender");
}
