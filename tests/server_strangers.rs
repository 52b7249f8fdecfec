//! Strangers, who hold no key, take no place of those who do, and fill no log.

mod common;
#[path = "common/hold.rs"]
mod hold;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use common::{Peer, echo_server, establishment, eventually, key, server};
use falcotcp_sync::{Client, Error, Key};
use hold::Hold;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The lines at level `warn` and above, and who wrote them.
static LINES: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

struct Capture;

impl Log for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = (thread::current().id(), record.args().to_string());
            LINES.lock().expect("no panic while logging").push(line);
        }
    }

    fn flush(&self) {}
}

/// Longer than the test takes, so that nothing but another connection closes a silent one.
const LONG: Duration = Duration::from_secs(600);

#[test]
fn the_oldest_stranger_makes_room_for_the_next_and_no_other() {
    let server = echo_server(server(2).max_unestablished(3).handshake_timeout(LONG));
    let mut established: Vec<_> = (0..5).map(|_| Peer::establish(server.local_addr())).collect();
    let mut silent: Vec<_> = (0..3)
        .map(|number| {
            let peer = Peer::connect(server.local_addr());
            eventually("it is accepted", || server.stats().accepted == 6 + number);
            peer
        })
        .collect();
    assert_eq!(server.stats().unestablished, 3);
    for peer in &mut silent {
        peer.assert_open();
    }
    let mut next = Peer::connect(server.local_addr());
    silent.remove(0).assert_closed_in_silence();
    for peer in silent.iter_mut().chain([&mut next]) {
        peer.assert_open();
    }
    for peer in &mut established {
        peer.assert_served();
    }
    let stats = server.stats();
    assert_eq!((stats.evicted, stats.unestablished, stats.open), (1, 3, 8));
    // Whoever establishes is no stranger any more.
    next.send(&establishment(&key()));
    assert_eq!(next.receive(1), [0xFF]);
    let mut last = Peer::connect(server.local_addr());
    for peer in silent.iter_mut().chain([&mut next, &mut last]) {
        peer.assert_open();
    }
}

#[test]
fn one_whose_worker_is_at_a_long_handler_makes_room_as_well() {
    let hold = Hold::default();
    let server = hold.spawn(server(2).max_unestablished(2).handshake_timeout(LONG));
    let mut waiting = Peer::establish(server.local_addr());
    hold.hold(&mut waiting);
    // Some of them at the worker that is held.
    let silent: Vec<_> = (0..12).map(|_| Peer::connect(server.local_addr())).collect();
    eventually("the oldest ones made room", || server.stats().evicted == 10);
    eventually("their sockets are closed", || server.stats().open == 3);
    drop(silent);
    hold.release(&mut waiting);
}

/// So many sockets that say nothing, or too little, or nonsense, are opened anew as soon as they are closed.
fn attack(addr: SocketAddr, sockets: usize, is_over: &AtomicBool) {
    let begin = |number: usize| {
        let mut peer = Peer::from(TcpStream::connect(addr).expect("connecting"));
        let stranger = establishment(&Key::from_bytes([number.to_le_bytes()[0]; 32]));
        let _ = std::io::Write::write_all(
            &mut peer.stream,
            match number % 8 {
                0 => &stranger,
                1 => b"GET / HTTP/1.1\r\n\r\n",
                2 => &stranger[..100],
                _ => &[],
            },
        );
        peer.stream.set_nonblocking(true).expect("a socket");
        peer
    };
    let mut open: VecDeque<_> = (0..sockets).map(begin).collect();
    for number in 0.. {
        if is_over.load(Relaxed) {
            return;
        }
        let Some(peer) = open.pop_front() else { return };
        let is_closed = !matches!(peer.stream.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock);
        open.push_back(if is_closed { begin(number) } else { peer });
        // Seldom enough that a client is not the oldest one before it has shown that it is none of them.
        thread::sleep(Duration::from_millis(3));
    }
}

#[test]
fn strangers_who_open_more_than_there_is_keep_no_client_out() {
    let server = echo_server(server(2).max_connections(20).max_unestablished(50));
    let addr = server.local_addr();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| attack(addr, 120, &is_over));
        eventually("the attack goes on", || server.stats().evicted > 50);
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(Client::connect(addr, key()).expect("connecting"));
            assert_eq!(clients.last_mut().expect("a client").message(b"hello").expect("an answer"), b"hello");
        }
        let further = Client::connect(addr, key());
        assert!(matches!(further, Err(Error::Refused { .. })), "{further:?}");
        for client in &mut clients {
            assert_eq!(client.message(b"still").expect("an answer"), b"still");
        }
        is_over.store(true, Relaxed);
    });
    let stats = server.stats();
    assert_eq!((stats.established_forward_secret, stats.refused), (20, 1));
}

#[test]
fn a_peers_address_has_so_many_places_and_gets_them_back() {
    let server = echo_server(server(2).max_connections_per_peer(2));
    let connect = || Client::connect(server.local_addr(), key());
    let mut clients: Vec<_> = (0..2).map(|_| connect().expect("a place")).collect();
    for client in &mut clients {
        client.message(b"proven").expect("an answer");
    }
    assert!(matches!(connect(), Err(Error::Refused { .. })));
    let begun = Instant::now();
    clients.pop();
    while connect().is_err() {
        assert!(begun.elapsed() < common::PATIENCE, "the place is not given back");
    }
    assert!(server.stats().refused >= 1);
}

#[test]
fn a_flood_is_one_line_of_each_kind_and_a_number() {
    log::set_logger(&Capture).expect("the only logger");
    log::set_max_level(LevelFilter::Warn);
    let most = 77;
    let server = echo_server(server(2).max_unestablished(most).max_connections(1).handshake_timeout(LONG));
    let addr = server.local_addr();
    for _ in 0..100 {
        let mut stranger = Peer::connect(addr);
        stranger.send(&[0x77]);
        stranger.assert_closed_in_silence();
    }
    let _established = Peer::establish(addr);
    for _ in 0..50 {
        let mut client = Peer::connect(addr);
        client.send(&establishment(&key()));
        client.assert_closed_in_silence();
    }
    let silent: Vec<_> = (0..most + 25).map(|_| Peer::connect(addr)).collect();
    eventually("the oldest ones made room", || server.stats().evicted == 25);
    eventually("their sockets are closed", || server.stats().open == most + 1);
    drop(silent);
    server.shutdown(common::PATIENCE).expect("a report");
    let lines = LINES.lock().expect("no panic while logging");
    // Other tests of this file have servers and lines as well; a server has one thread that writes numbers.
    let is_ours = |thread: ThreadId| {
        [
            "99 further connections were closed: what they sent did not open",
            "49 further connections were refused: there was no place for them",
            "24 further connections that were not established made room for others",
        ]
        .iter()
        .all(|further| lines.iter().filter(|(by, line)| *by == thread && line == further).count() == 1)
    };
    assert!(lines.iter().any(|(thread, _)| is_ours(*thread)), "{lines:#?}");
    assert!(lines.len() < 30, "{lines:#?}");
}

#[test]
fn a_stranger_that_has_sent_something_is_looked_at_before_it_makes_room() {
    let hold = Hold::default();
    let server = hold.spawn(server(1).max_unestablished(1).handshake_timeout(LONG));
    let mut waiting = Peer::establish(server.local_addr());
    let mut client = Peer::connect(server.local_addr());
    // While the only worker is held, the client's establishment arrives, and then the next stranger.
    hold.hold(&mut waiting);
    client.send(&establishment(&key()));
    let next = Peer::connect(server.local_addr());
    eventually("the next is there", || server.stats().accepted == 3);
    hold.release(&mut waiting);
    assert_eq!(client.receive(1), [0xFF]);
    client.assert_served();
    assert_eq!(server.stats().evicted, 0);
    drop(next);
}
