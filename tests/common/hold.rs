//! Holds a thread of a server (a handler, a logger) until the test lets it go on.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, Peer, eventually};
use falcotcp_sync::{ServerBuilder, ServerHandle};

#[derive(Clone, Default)]
pub struct Hold {
    is_entered: Arc<AtomicBool>,
    is_open: Arc<AtomicBool>,
}

impl Hold {
    /// What the thread that is held calls.
    pub fn pass(&self) {
        self.is_entered.store(true, SeqCst);
        let begun = Instant::now();
        // A test that has failed never opens it.
        while !self.is_open.load(SeqCst) && begun.elapsed() < 2 * PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn await_entered(&self) {
        eventually("a thread is held", || self.is_entered.load(SeqCst));
    }

    pub fn open(&self) {
        self.is_open.store(true, SeqCst);
    }

    /// Spawns an echo server that is held in the handler of `wait`.
    pub fn spawn(&self, builder: ServerBuilder) -> ServerHandle {
        let own = self.clone();
        let handler = move |message: &[u8]| {
            if message == b"wait" {
                own.pass();
            }
            message.to_vec()
        };
        builder.bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning")
    }

    /// Waits until a worker is in the handler of `peer`'s message.
    pub fn hold(&self, peer: &mut Peer) {
        peer.send_message(b"wait");
        self.await_entered();
    }

    /// Opens it, and takes the answer to the message that was held.
    pub fn release(&self, peer: &mut Peer) {
        self.open();
        assert_eq!(peer.response().as_deref(), Some(&b"wait"[..]));
    }
}
