//! What a peer can send for nothing, without end: it fills no log, gets no longer life, and holds up no other peer.
//!
//! A file of its own, since a program has one logger.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, PING, Peer, echo_server, eventually, server};
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Collecting(Mutex<Vec<String>>);

impl Log for Collecting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) && record.target().starts_with("falcotcp_sync::server") {
            self.0.lock().expect("no panic").push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

static LINES: Collecting = Collecting(Mutex::new(Vec::new()));

/// What is logged of this peer.
fn lines_of(peer: &Peer) -> Vec<String> {
    let start = format!("{}:", peer.stream.local_addr().expect("an address"));
    let lines = LINES.0.lock().expect("no panic");
    lines.iter().filter_map(|line| line.strip_prefix(&start)).map(|line| line.trim().to_owned()).collect()
}

fn collect_lines() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&LINES).expect("the only logger");
        log::set_max_level(LevelFilter::Warn);
    });
}

/// A frame that is too short to be a message.
const TOO_SHORT: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0, 0];

/// A frame that does not open.
fn damaged() -> Vec<u8> {
    [&[1, 0, 0, 0, 0, 0, 0, 0, 28][..], &[9; 28]].concat()
}

/// What costs a peer nothing: pings, bytes of no type, and frames of two kinds that are rejected.
fn floods() -> [Vec<u8>; 4] {
    [PING.repeat(100_000), vec![9; 100_000], TOO_SHORT.repeat(10_000), damaged().repeat(3000)]
}

/// Reads and forgets what the server answers, so that it is no peer that does not read.
fn read_away(peer: &Peer) -> thread::JoinHandle<()> {
    let mut stream = peer.stream.try_clone().expect("cloning");
    thread::spawn(move || drop(std::io::copy(&mut stream, &mut std::io::sink())))
}

#[test]
fn a_flood_of_frames_that_are_too_short_is_two_lines() {
    collect_lines();
    let server = echo_server(server(1));
    let mut peer = Peer::establish(server.local_addr());
    let reader = read_away(&peer);
    let count = 10_000;
    for _ in 0..count / 100 {
        peer.send(&TOO_SHORT.repeat(100));
    }
    peer.half_close();
    reader.join().expect("no panic");
    eventually("the end is logged", || lines_of(&peer).len() >= 2);
    let stats = server.stats();
    assert_eq!(stats.rejected, count);
    server.shutdown(Duration::ZERO).expect("a report");
    let lines = lines_of(&peer);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("a message was rejected: it is too short"), "{lines:?}");
    assert!(lines[1].starts_with("9999 further messages were rejected: it is too short"), "{lines:?}");
}

#[test]
fn beside_any_flood_another_peer_of_the_only_worker_is_answered() {
    for flood in floods() {
        let server = echo_server(server(1));
        let mut rude = Peer::establish(server.local_addr());
        let reader = read_away(&rude);
        let mut peer = Peer::establish(server.local_addr());
        let (is_over, begun) = (AtomicBool::new(false), Instant::now());
        thread::scope(|scope| {
            scope.spawn(|| {
                // Not for ever when the other peer is not answered.
                while !is_over.load(SeqCst) && begun.elapsed() < PATIENCE * 2 {
                    rude.send(&flood);
                }
                rude.half_close();
            });
            eventually("the flood is there", || server.stats().bytes_in > 2 * flood.len() as u64);
            for _ in 0..20 {
                thread::sleep(Duration::from_millis(5));
                let begun = Instant::now();
                peer.assert_served();
                assert!(begun.elapsed() < Duration::from_secs(2), "after {:?}", begun.elapsed());
            }
            is_over.store(true, SeqCst);
        });
        reader.join().expect("no panic");
    }
}

#[test]
fn only_pings_extend_the_life_of_a_peer_that_floods() {
    let lifetime = Duration::from_millis(500);
    let server = echo_server(server(2).lifetime(lifetime));
    let addr = server.local_addr();
    thread::scope(|scope| {
        for (index, flood) in floods().into_iter().enumerate() {
            scope.spawn(move || {
                let mut peer = Peer::establish(addr);
                let reader = read_away(&peer);
                let begun = Instant::now();
                let end = if index == 0 { lifetime * 3 } else { PATIENCE };
                while begun.elapsed() < end && peer.stream.write_all(&flood).is_ok() {}
                let lived = begun.elapsed();
                if index == 0 {
                    assert!(lived >= end, "the pings count, but it was closed after {lived:?}");
                } else {
                    assert!(lived > lifetime / 2 && lived < PATIENCE / 6, "flood {index}: {lived:?}");
                }
                drop(peer.stream.shutdown(std::net::Shutdown::Both));
                reader.join().expect("no panic");
            });
        }
    });
    assert_eq!(server.stats().expired, 3);
}
