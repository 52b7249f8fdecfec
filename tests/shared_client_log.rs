//! A log back end may send its lines through a shared client, also the lines about that client, and may panic.
//!
//! A file of its own, since a program has one logger.

mod common;

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use common::{PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::{Client, SharedClient};
use log::{LevelFilter, Log, Metadata, Record};

/// Sends each line of the client's: waits for its answer where that is possible.
struct Sending {
    client: Mutex<Option<SharedClient>>,
    lines: AtomicUsize,
    panics: AtomicBool,
}

thread_local! {
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

impl Log for Sending {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target() != "falcotcp_sync::client" || IS_LOGGING.replace(true) {
            return;
        }
        if self.panics.load(SeqCst) {
            IS_LOGGING.set(false);
            self.lines.fetch_add(1, SeqCst);
            panic!("on purpose");
        }
        let client = self.client.lock().expect("no panic here").clone();
        if let Some(client) = client {
            let line = record.args().to_string();
            let _ = client.message(line.as_bytes());
            let _ = client.start(line.as_bytes()).map(drop);
        }
        IS_LOGGING.set(false);
        self.lines.fetch_add(1, SeqCst);
    }

    fn flush(&self) {}
}

static LOGGER: Sending =
    Sending { client: Mutex::new(None), lines: AtomicUsize::new(0), panics: AtomicBool::new(false) };

#[test]
fn no_lock_is_held_while_a_line_is_logged() {
    log::set_logger(&LOGGER).expect("the only logger");
    log::set_max_level(LevelFilter::Trace);
    for panics in [false, true] {
        LOGGER.panics.store(panics, SeqCst);
        let first = echo_server(server(1));
        let addr = first.local_addr();
        let client = Client::builder(key())
            .reconnect(true)
            .request_timeout(PATIENCE)
            .connect_shared(addr)
            .expect("connecting");
        *LOGGER.client.lock().expect("no panic here") = Some(client.clone());
        assert_eq!(client.message(b"one").expect("a response"), b"one");
        let before = LOGGER.lines.load(SeqCst);
        drop(first);
        // Its thread tries to connect, and logs that nobody listens.
        let call = client.start(b"two").expect("room");
        eventually("a line is logged", || LOGGER.lines.load(SeqCst) > before);
        let second = server(1).bind(addr).expect("binding again").spawn(common::Echo).expect("spawning");
        assert_eq!(call.wait().expect("a response"), b"two");
        assert_eq!(client.message(b"three").expect("a response"), b"three");
        *LOGGER.client.lock().expect("no panic here") = None;
        drop(second);
    }
}
