//! A log back end may send its lines through a client of this crate, also the lines about that client.
//!
//! A file of its own, since a program has one logger.

mod common;

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use common::{echo_server, eventually, key, server};
use falcotcp_sync::Client;
use log::{LevelFilter, Log, Metadata, Record};

/// Sends each line of the client's through `client`; panics with `PanicsAgain` when that is wanted.
struct Sending {
    client: Mutex<Option<Client>>,
    has_sent: AtomicBool,
    panics: AtomicBool,
}

struct PanicsAgain;

impl Drop for PanicsAgain {
    fn drop(&mut self) {
        std::panic::panic_any("the payload of a panic panics as well");
    }
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
        if self.panics.swap(false, SeqCst) {
            IS_LOGGING.set(false);
            std::panic::panic_any(PanicsAgain);
        }
        if let Some(client) = self.client.lock().expect("no panic here").as_mut() {
            let _ = client.message(record.args().to_string().as_bytes());
        }
        IS_LOGGING.set(false);
        self.has_sent.store(true, SeqCst);
    }

    fn flush(&self) {}
}

static LOGGER: Sending =
    Sending { client: Mutex::new(None), has_sent: AtomicBool::new(false), panics: AtomicBool::new(false) };

fn kept_alive(server: &falcotcp_sync::ServerHandle) -> Client {
    Client::builder(key())
        .keep_alive(true)
        // A forward-secret session's pong is to come within it, on a machine that is busy too.
        .keep_alive_interval(Duration::from_millis(250))
        .connect(server.local_addr())
        .expect("connecting")
}

#[test]
fn the_thread_that_pings_outlives_what_loggers_do() {
    log::set_logger(&LOGGER).expect("the only logger");
    log::set_max_level(LevelFilter::Debug);

    let ending = echo_server(server(1));
    *LOGGER.client.lock().expect("no panic here") = Some(kept_alive(&ending));
    // The thread finds the logger's own client closed, and says so through it.
    drop(ending);
    eventually("the line is sent", || LOGGER.has_sent.load(SeqCst));
    *LOGGER.client.lock().expect("no panic here") = None;

    let ending = echo_server(server(1));
    let _closed = kept_alive(&ending);
    LOGGER.panics.store(true, SeqCst);
    drop(ending);
    eventually("the logger panics", || !LOGGER.panics.load(SeqCst));

    let living = echo_server(server(1));
    let mut client = kept_alive(&living);
    let before = living.stats().pings;
    eventually("the thread goes on", || living.stats().pings > before + 3);
    client.message(b"hello").expect("an answer");
}
