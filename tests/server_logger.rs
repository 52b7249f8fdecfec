//! A log back end may send the server's own lines to that server, and may panic at any of them.
//!
//! A file of its own, since a program has one logger; its tests take turns.

mod common;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::time::Duration;

use common::{Echo, PATIENCE, Peer, echo_server, establishment, eventually, key, server};
use falcotcp_sync::{Client, Key, ServerHandle};
use log::{LevelFilter, Log, Metadata, Record};

/// What the logger does with a line of the server's.
enum Logs {
    Nothing,
    /// Sends it.
    Through(Box<Client>),
    /// Panics if it contains this.
    PanicsAt(&'static str),
}

struct Logger {
    logs: Mutex<Logs>,
    /// Lines that were sent and answered, or panicked at.
    done: AtomicUsize,
    failed: AtomicUsize,
}

thread_local! {
    static IS_LOGGING: Cell<bool> = const { Cell::new(false) };
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if !record.target().starts_with("falcotcp_sync::server") || IS_LOGGING.replace(true) {
            return;
        }
        let line = record.args().to_string();
        // Lines of other threads meanwhile are lost: to wait for this one's would be a deadlock of the logger's own.
        let panics = match self.logs.try_lock().as_deref_mut() {
            Ok(Logs::Through(client)) => {
                let outcome = client.message(line.as_bytes());
                let count = if outcome.is_ok() { &self.done } else { &self.failed };
                count.fetch_add(1, SeqCst);
                false
            }
            Ok(Logs::PanicsAt(what)) => line.contains(*what),
            _ => false,
        };
        IS_LOGGING.set(false);
        if panics {
            self.done.fetch_add(1, SeqCst);
            panic!("the logger panics at: {line}");
        }
    }

    fn flush(&self) {}
}

static LOGGER: Logger =
    Logger { logs: Mutex::new(Logs::Nothing), done: AtomicUsize::new(0), failed: AtomicUsize::new(0) };

/// A test's turn with the logger.
struct Turn {
    logger: &'static Logger,
    _turn: MutexGuard<'static, ()>,
}

impl Turn {
    fn begin() -> Self {
        static TURNS: Mutex<()> = Mutex::new(());
        static SET: Once = Once::new();
        let turn = TURNS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        SET.call_once(|| {
            log::set_logger(&LOGGER).expect("the only logger");
            log::set_max_level(LevelFilter::Debug);
        });
        LOGGER.done.store(0, SeqCst);
        LOGGER.failed.store(0, SeqCst);
        Self { logger: &LOGGER, _turn: turn }
    }

    fn logs(&self, logs: Logs) {
        *self.logger.logs.lock().expect("no panic under it") = logs;
    }

    fn done(&self) -> usize {
        self.logger.done.load(SeqCst)
    }

    fn failed(&self) -> usize {
        self.logger.failed.load(SeqCst)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.logs(Logs::Nothing);
    }
}

const HANDSHAKE: Duration = Duration::from_millis(300);

const MOST: usize = 12;

fn server_with_two_keys(workers: usize) -> ServerHandle {
    let builder = server(workers).accept_key("other", other_key()).max_unestablished(MOST);
    echo_server(builder.handshake_timeout(HANDSHAKE))
}

fn other_key() -> Key {
    Key::from_bytes([2; 32])
}

/// A peer whose connection lives under the other key.
fn other_peer(server: &ServerHandle) -> Peer {
    let mut peer = Peer::connect(server.local_addr());
    peer.send(&establishment(&other_key()));
    assert_eq!(peer.receive(1), [0xFF]);
    peer
}

fn assert_all_closed(peers: &mut [Peer]) {
    for peer in peers {
        peer.assert_closed_in_silence();
    }
}

/// What is worth a line: peers that are established, refused, silent until their deadline or too many, and a key that is
/// withdrawn.
fn make_lines(server: &ServerHandle) {
    let mut peers: Vec<_> = (0..4).map(|_| other_peer(server)).collect();
    let mut strangers: Vec<_> = (0..2).map(|_| Peer::connect(server.local_addr())).collect();
    for peer in &mut strangers {
        peer.send(&establishment(&Key::from_bytes([3; 32])));
    }
    assert_all_closed(&mut strangers);
    assert!(server.keys().withdraw("other"));
    assert_all_closed(&mut peers);
    server.keys().add("other", other_key()).expect("a name that is free");
    let mut silent: Vec<_> = (0..=MOST).map(|_| Peer::connect(server.local_addr())).collect();
    assert_all_closed(&mut silent);
}

fn log_through_itself(turn: &Turn, server: &ServerHandle, timeout: Duration) {
    let client = Client::builder(key()).connect_timeout(PATIENCE).request_timeout(timeout);
    let mut client = client.connect(server.local_addr()).expect("connecting");
    // A line about its own establishment would wait for itself.
    client.request(b"").timeout(PATIENCE).send().expect("an answer");
    turn.logs(Logs::Through(Box::new(client)));
    make_lines(server);
    eventually("the deadlines are looked at", || server.stats().open <= 1);
}

#[test]
fn lines_through_the_server_itself_are_answered_while_another_worker_is_there() {
    let turn = Turn::begin();
    let server = server_with_two_keys(2);
    for _ in 0..3 {
        log_through_itself(&turn, &server, PATIENCE);
        turn.logs(Logs::Nothing);
        eventually("the logger's client is gone", || server.stats().open == 0);
    }
    assert!(turn.done() >= 3 * 4, "{} lines", turn.done());
    assert_eq!(turn.failed(), 0);
    assert_eq!(server.stats().withdrawn, 3 * 4);
}

#[test]
fn lines_through_the_only_worker_itself_cost_their_time_out_and_nothing_else() {
    let turn = Turn::begin();
    let server = server_with_two_keys(1);
    for _ in 0..3 {
        log_through_itself(&turn, &server, Duration::from_millis(100));
        turn.logs(Logs::Nothing);
    }
    assert_eq!(server.stats().withdrawn, 3 * 4);
    Peer::establish(server.local_addr()).assert_served();
    log_through_itself(&turn, &server, Duration::from_millis(100));
    server.shutdown(PATIENCE).expect("a report");
}

#[test]
fn a_panic_at_a_withdrawn_key_closes_every_connection_under_it_all_the_same() {
    let turn = Turn::begin();
    let server = server_with_two_keys(2);
    let mut others: Vec<_> = (0..4).map(|_| Peer::establish(server.local_addr())).collect();
    let mut peers: Vec<_> = (0..6).map(|_| other_peer(&server)).collect();
    turn.logs(Logs::PanicsAt("its key was withdrawn"));
    // It may be this thread that logs.
    let _ = catch_unwind(AssertUnwindSafe(|| server.keys().withdraw("other")));
    assert_all_closed(&mut peers);
    eventually("all are counted", || server.stats().withdrawn == 6);
    assert!(turn.done() > 0);
    others.iter_mut().for_each(Peer::assert_served);
    let stats = server.stats();
    assert_eq!((stats.open, stats.workers.len()), (4, 2));
    assert!(stats.workers.iter().all(|worker| worker.messages > 0), "{stats:?}");
}

#[test]
fn a_panic_about_a_worker_in_a_handler_does_not_spare_the_other_workers_connections() {
    let turn = Turn::begin();
    let (blocks, is_released) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_in, may_return) = (Arc::clone(&blocks), Arc::clone(&is_released));
    let handler = move |message: &[u8]| {
        if message == b"block" {
            is_in.store(true, SeqCst);
            eventually("the handler may return", || may_return.load(SeqCst));
        }
        message.to_vec()
    };
    // No deadline of an establishment wakes the other worker in its place.
    let builder = server(2).accept_key("other", other_key()).handshake_timeout(PATIENCE * 2);
    let server = builder.bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning");
    // The first of all is the first worker's.
    let mut blocked = Peer::establish(server.local_addr());
    let mut peers: Vec<_> = (0..6).map(|_| other_peer(&server)).collect();
    eventually("all are their worker's", || server.keys().connections("other") == Some(6));
    blocked.send_message(b"block");
    eventually("it blocks", || blocks.load(SeqCst));
    turn.logs(Logs::PanicsAt("its key was withdrawn"));
    // It is this thread that logs, unless the watchdog is at the table just then.
    let _ = catch_unwind(AssertUnwindSafe(|| server.keys().withdraw("other")));
    assert_all_closed(&mut peers);
    assert!(turn.done() > 0);
    is_released.store(true, SeqCst);
    assert_eq!(blocked.response().as_deref(), Some(&b"block"[..]));
    assert_eq!(server.stats().withdrawn, 6);
}

#[test]
fn a_panic_at_the_line_about_the_start_leaves_no_server_behind() {
    let turn = Turn::begin();
    let bound = server(2).bind("127.0.0.1:0").expect("binding");
    let addr = bound.local_addr();
    turn.logs(Logs::PanicsAt("serving on"));
    assert!(catch_unwind(AssertUnwindSafe(|| bound.spawn(Echo))).is_err());
    turn.logs(Logs::Nothing);
    let server = server(1).bind(addr).expect("the port is free").spawn(Echo).expect("spawning");
    Peer::establish(addr).assert_served();
    drop(server);
}
