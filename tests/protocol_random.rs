//! Whatever arrives: no panic, no event without progress, nothing said that was not paid for in bytes, and the
//! same however it is cut. The promises of single events are checked in `common/sessions.rs`.

#[path = "common/sessions.rs"]
mod sessions;

use std::collections::HashSet;
use std::mem::{Discriminant, discriminant};
use std::thread;
use std::time::Instant;

use falcotcp_sync::protocol::ClientFault;
use sessions::{ClientEnd, LIMIT, Received, ServerEnd, cipher, establishment, message, response};

const CASES: u64 = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };

#[test]
fn a_server_survives_any_bytes() {
    let (cipher, now) = (cipher(), Instant::now());
    let mut frames = vec![establishment(&cipher), vec![2], vec![3], vec![1, 0, 0, 0, 0, 0, 0, 0, 2, 7, 7]];
    frames.extend([0, 5, 100, LIMIT].map(|length| message(&cipher, &vec![0x33; length])));
    let mut kinds = HashSet::new();
    for case in (0..CASES).map(Case) {
        let mut random = case.random();
        let start = if random.below(4) == 0 { ServerEnd::accepted } else { ServerEnd::established };
        let bytes = random.stream(&frames);
        let (mut whole, mut cut) = (start(&cipher, now), start(&cipher, now));
        whole.feed(&bytes);
        cut.feed_in_pieces(&bytes, &random.sizes());

        assert_eq!(whole.taken + whole.input.len(), bytes.len());
        assert!(whole.output.len() <= whole.taken + 8, "{} bytes for {}", whole.output.len(), whole.taken);
        assert!(whole.output.capacity() <= 2 * whole.taken + 64);
        if whole.ended() {
            whole.assert_closed();
            cut.assert_closed();
        }
        kinds.extend(whole.seen.iter().map(discriminant));
        assert_eq!(whole.outcome(), cut.outcome());
    }
    assert_eq!(kinds.len(), 7, "every event comes up");
}

#[test]
fn a_client_survives_any_bytes() {
    let (cipher, now) = (cipher(), Instant::now());
    let mut frames = vec![vec![0xFF], vec![0; 8], vec![0; 8]];
    frames.extend([0, 5, 100, LIMIT].map(|length| response(&cipher, &vec![0x33; length])));
    let (mut kinds, mut faults) = (HashSet::new(), HashSet::new());
    for case in (0..CASES).map(Case) {
        let mut random = case.random();
        let messages = random.below(6);
        let start = || match messages {
            5 => ClientEnd::establishing(&cipher, now),
            messages => ClientEnd::with_unanswered(&cipher, messages, now),
        };
        let bytes = random.stream(&frames);
        let (mut whole, mut cut) = (start(), start());
        whole.feed(&bytes);
        cut.feed_in_pieces(&bytes, &random.sizes());

        if whole.ended() {
            whole.assert_closed();
            cut.assert_closed();
        }
        kinds.extend(whole.seen.iter().map(discriminant));
        faults.extend(whole.seen.iter().filter_map(fault));
        assert_eq!(whole.outcome(), cut.outcome());
    }
    assert_eq!(
        (kinds.len(), faults.len()),
        (5, 4),
        "every event comes up, and every fault but those of time"
    );
}

fn fault(seen: &Received) -> Option<Discriminant<ClientFault>> {
    match seen {
        Received::Fault(fault) => Some(discriminant(fault)),
        _ => None,
    }
}

/// Names itself when it fails.
struct Case(u64);

impl Case {
    fn random(&self) -> Random {
        Random(self.0)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("this was case {}", self.0);
        }
    }
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Anything at all, or bytes that headers are made of, or whole frames that mostly come to harm.
    fn stream(&mut self, frames: &[Vec<u8>]) -> Vec<u8> {
        match self.below(4) {
            0 => (0..self.below(300)).map(|_| self.byte()).collect(),
            1 => (0..self.below(300)).map(|_| [0, 0, 0, 0, 1, 2, 28, 0xFF][self.below(8)]).collect(),
            _ => {
                let picked: Vec<_> =
                    (0..self.below(6)).map(|_| frames[self.below(frames.len())].as_slice()).collect();
                let mut stream = picked.concat();
                for _ in 0..self.below(4) {
                    self.harm(&mut stream);
                }
                stream
            }
        }
    }

    fn harm(&mut self, stream: &mut Vec<u8>) {
        if stream.is_empty() {
            return;
        }
        let at = self.below(stream.len());
        let end = at + self.below(stream.len() - at + 1).min(20);
        match self.below(6) {
            0 => stream[at] ^= 1 << self.below(8),
            1 => stream[at] = self.byte(),
            2 => stream.truncate(at),
            3 => _ = stream.drain(at..end),
            4 => stream.splice(at..at, stream[at..end].to_vec()).for_each(drop),
            _ => {
                let length = match self.below(4) {
                    0 => self.next(),
                    1 => u64::MAX - self.next() % 64,
                    _ => self.next() % (LIMIT as u64 + 40),
                };
                stream.splice(at..end, length.to_be_bytes()).for_each(drop);
            }
        }
    }

    fn sizes(&mut self) -> Vec<usize> {
        let largest = [3, 30, 300][self.below(3)];
        (0..=self.below(5)).map(|_| 1 + self.below(largest)).collect()
    }
}
