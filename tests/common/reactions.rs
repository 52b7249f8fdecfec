//! A logger that does at each line what the tests of a file want, beside each other.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::cell::Cell;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once, RwLock};

use log::{LevelFilter, Log, Metadata, Record};

use crate::common::Peer;

/// What a test does at lines, beside the other tests.
type Reaction = Arc<dyn Fn(&str) + Send + Sync>;

struct Reactions(RwLock<Vec<Reaction>>);

static REACTIONS: Reactions = Reactions(RwLock::new(Vec::new()));

thread_local! {
    /// Lines that are written on the way of writing one would have no end.
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

impl Log for Reactions {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("falcotcp") && !IS_LOGGING.replace(true) {
            let reactions = self.0.read().expect("nobody panics with it").clone();
            let line = record.args().to_string();
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
                for reaction in &reactions {
                    reaction(&line);
                }
            }));
            IS_LOGGING.set(false);
            outcome.unwrap_or_else(|payload| panic::resume_unwind(payload));
        }
    }

    fn flush(&self) {}
}

pub fn at_each_line(reaction: impl Fn(&str) + Send + Sync + 'static) {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        log::set_logger(&REACTIONS).expect("the only logger");
        log::set_max_level(LevelFilter::Trace);
    });
    REACTIONS.0.write().expect("nobody panics with it").push(Arc::new(reaction));
}

/// Peers about which lines are written.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<Vec<SocketAddr>>>);

impl Watched {
    pub fn add(&self, peer: &Peer) {
        self.0.lock().expect("nobody panics with it").push(peer.stream.local_addr().expect("an address"));
    }

    /// Whether a line is about one of them.
    pub fn is_in(&self, line: &str) -> bool {
        let peers = self.0.lock().expect("nobody panics with it");
        peers.iter().any(|peer| line.starts_with(&format!("{peer}: ")))
    }
}

/// A message without room for nonce and tag.
pub const TOO_SHORT: &[u8] = &[1, 0, 0, 0, 0, 0, 0, 0, 0];
