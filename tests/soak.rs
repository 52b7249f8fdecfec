//! Mixed load and faults against one server for as long as wanted, and a look at what is left afterwards.
//!
//! `cargo test --release --test soak -- --ignored`, for `FALCOTCP_SOAK_SECONDS` seconds (default: 60).

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, PING, Peer, Random, establishment, eventually, key, resident_bytes, server};
use falcotcp_sync::{Client, Error, Handler, Request, Response, Stats};

/// Fast, slow, busy or panicking, by the message's first byte.
struct Moody;

impl Handler for Moody {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        match request.message().first() {
            Some(0..8) => thread::sleep(Duration::from_millis(10)),
            Some(8..16) => {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(300) {
                    std::hint::spin_loop();
                }
            }
            // Without the hook's message, which would fill the screen.
            Some(16) => std::panic::resume_unwind(Box::new("as asked")),
            _ => {}
        }
        response.extend_from_slice(request.message());
    }
}

#[test]
#[ignore = "runs for a minute or as long as FALCOTCP_SOAK_SECONDS says"]
fn mixed_load_and_faults_leave_nothing_stuck_and_nothing_behind() {
    let seconds =
        std::env::var("FALCOTCP_SOAK_SECONDS").map_or(60, |text| text.parse().expect("a number of seconds"));
    common::end_if_hung(common::WHOLE_PROGRAM + Duration::from_secs(seconds));
    let deadline = Duration::from_secs(2);
    let server = server(4)
        .handshake_timeout(deadline)
        .write_timeout(deadline)
        .max_message_size(1 << 20)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(Moody)
        .expect("spawning");
    let addr = server.local_addr();
    let before = Footprint::now();
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let run = |job: Box<dyn Fn(&mut Random) + Send>, seed| {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut random = Random(seed);
            while !stop.load(SeqCst) {
                job(&mut random);
            }
        })
    };
    let mut threads = Vec::new();
    for seed in 0..8 {
        let answered = Arc::clone(&answered);
        threads.push(run(
            Box::new(move |random| {
                answered.fetch_add(honest(addr, random), SeqCst);
            }),
            seed,
        ));
    }
    for seed in 8..12 {
        threads.push(run(Box::new(move |random| hostile(addr, random)), seed));
    }
    let begun = Instant::now();
    let mut last = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        thread::sleep(Duration::from_secs(1).min(Duration::from_secs(seconds)));
        let now = answered.load(SeqCst);
        assert!(now > last || begun.elapsed() < Duration::from_secs(5), "nobody was answered for a second");
        last = now;
    }
    stop.store(true, SeqCst);
    for thread in threads {
        thread.join().expect("no exchange was stuck or wrong");
    }
    eventually("every connection is closed", || server.stats().open == 0);
    let stats = server.stats();
    println!("{} exchanges, {stats:?}", answered.load(SeqCst));
    before.assert_not_grown(&stats);
    assert_eq!(server.shutdown(PATIENCE).expect("a report").cut, 0);
}

/// A client as it should be: every answer is its own.
fn honest(addr: std::net::SocketAddr, random: &mut Random) -> u64 {
    let mut client = Client::builder(key()).request_timeout(PATIENCE).connect(addr).expect("connecting");
    let mut response = Vec::new();
    let mut answered = 0;
    for _ in 0..random.below(300) {
        let size = if random.below(50) == 0 { random.below(1 << 20) } else { random.below(500) };
        let mut message = vec![0; size];
        for byte in &mut message {
            *byte = random.byte();
        }
        match client.message_into(&message, &mut response) {
            Ok(()) => assert_eq!(response, message),
            Err(Error::HandlerFailed) => assert_eq!(message.first(), Some(&16)),
            Err(error) => panic!("{error}"),
        }
        answered += 1;
        if random.below(20) == 0 {
            client.ping().expect("a ping");
        }
    }
    answered
}

/// A peer that leaves at the wrong moment, or never says anything useful.
fn hostile(addr: std::net::SocketAddr, random: &mut Random) {
    let mut peer = Peer::connect(addr);
    let establishment = establishment(&key());
    if random.below(4) == 0 {
        peer.send(&establishment[..random.below(157)]);
        if random.below(2) == 0 {
            drop(peer.rest());
        }
        return;
    }
    peer.send(&establishment);
    assert_eq!(peer.receive(1), [0xFF]);
    for _ in 0..random.below(10) {
        let mut message = peer.message(&vec![200; random.below(50_000)]);
        match random.below(5) {
            0 => peer.send(PING),
            1 => {
                let last = message.len() - 1;
                message[last] ^= 1;
                peer.send(&message);
                assert_eq!(peer.response(), None);
            }
            // Leaves with the message half sent, or with its answer unread.
            2 => return peer.send(&message[..message.len() / 2]),
            3 => return peer.send(&message),
            _ => {
                peer.send(&message);
                assert!(peer.response().is_some());
            }
        }
    }
}

struct Footprint {
    descriptors: usize,
    threads: usize,
    resident: usize,
}

impl Footprint {
    fn now() -> Self {
        let count = |path| std::fs::read_dir(path).map_or(0, Iterator::count);
        Self {
            descriptors: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            resident: resident_bytes(),
        }
    }

    fn assert_not_grown(&self, stats: &Stats) {
        let now = Self::now();
        assert!(
            now.descriptors <= self.descriptors,
            "{} descriptors, {} before",
            now.descriptors,
            self.descriptors
        );
        // One that was joined may be there for a moment.
        eventually("there are no more threads than before", || Self::now().threads <= self.threads);
        let grown = now.resident.saturating_sub(self.resident) >> 20;
        println!("{grown} MiB more than before");
        assert!(grown < 64, "{grown} MiB more than before: {stats:?}");
    }
}
