//! Whatever becomes of connections, a handler is told of each that begins and ends, once, with its messages in between.

mod common;
#[cfg(feature = "forward-secrecy")]
#[path = "common/forward_secret.rs"]
mod forward_secret;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{PING, Peer, Random, establishment, server};
use falcotcp_sync::{
    ConnectionId, ConnectionInfo, EndReason, Handler, Key, Reply, Request, Response, ServerKeys,
};

const OTHER: [u8; 32] = [9; 32];

/// What a connection is at, as its handler was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Established,
    InHandler,
    Ended,
}

#[derive(Default)]
struct Order {
    stages: Mutex<HashMap<ConnectionId, Stage>>,
    faults: Mutex<Vec<String>>,
    replies: Mutex<Vec<Reply>>,
}

impl Order {
    fn step(&self, connection: ConnectionId, from: Option<Stage>, to: Stage) {
        let before = self.stages.lock().expect("no panic").insert(connection, to);
        if before != from {
            self.faults.lock().expect("no panic").push(format!("{connection:?}: {before:?}, then {to:?}"));
        }
    }
}

impl Handler for Order {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let connection = request.connection_id();
        self.step(connection, Some(Stage::Established), Stage::InHandler);
        match request.message() {
            b"slow" => thread::sleep(Duration::from_millis(15)),
            b"reject" => response.reject(),
            b"close" => response.close(),
            b"later" => self.replies.lock().expect("no panic").push(response.defer()),
            _ => response.extend_from_slice(request.message()),
        }
        self.step(connection, Some(Stage::InHandler), Stage::Established);
        assert_ne!(request.message(), b"panic");
    }

    fn established(&self, connection: ConnectionInfo<'_>) {
        self.step(connection.id(), None, Stage::Established);
        assert_ne!(connection.id().get() % 7, 0, "as the test wants");
    }

    fn ended(&self, connection: ConnectionId, _: EndReason) {
        self.step(connection, Some(Stage::Established), Stage::Ended);
        assert_ne!(connection.get() % 5, 0, "as the test wants");
    }
}

/// Connects and does something rude, again and again.
fn visit(addr: SocketAddr, mut random: Random, until: Instant) {
    while Instant::now() < until {
        let mut peer = Peer::connect(addr);
        let key = if random.below(4) == 0 { Key::from_bytes(OTHER) } else { common::key() };
        let mut frames = establishment(&key);
        for _ in 0..random.below(5) {
            let frame = match random.below(9) {
                0 => PING.to_vec(),
                1 => peer.message(&[7; 101]),
                2 => vec![1, 0, 0],
                3 => establishment(&common::key()),
                word => peer.message([&b"slow"[..], b"reject", b"close", b"later", b"panic"][word - 4]),
            };
            frames.extend(frame);
        }
        peer.send(&frames[..frames.len() - random.below(3)]);
        #[cfg(feature = "forward-secrecy")]
        if random.below(3) == 0 {
            // It may be refused, and its first message may be cut.
            let mut peer = forward_secret::Peer::unproven(addr);
            let frame = peer.frame(forward_secret::MESSAGE, b"close");
            peer.send_raw(&frame[..frame.len() - random.below(2)]);
        }
        match random.below(3) {
            0 => peer.half_close(),
            1 => _ = peer.is_open_for(Duration::from_millis(10)),
            _ => {}
        }
    }
}

/// Withdraws a key under which connections live, and accepts it again.
fn change_keys(keys: &ServerKeys, until: Instant) {
    while Instant::now() < until {
        keys.withdraw("other");
        keys.add("other", Key::from_bytes(OTHER)).expect("the name is free");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_connection_begins_once_and_ends_once() {
    let order = Arc::new(Order::default());
    let builder = server(3)
        .accept_key("other", Key::from_bytes(OTHER))
        .max_message_size(100)
        .lifetime(Duration::from_millis(300))
        .deferred_timeout(Duration::from_millis(200));
    let server = builder.bind("127.0.0.1:0").expect("binding").spawn(Arc::clone(&order)).expect("spawning");
    let (addr, until) = (server.local_addr(), Instant::now() + Duration::from_secs(1));
    thread::scope(|scope| {
        for seed in 1..=4 {
            scope.spawn(move || visit(addr, Random(seed), until));
        }
        let (keys, order) = (server.keys(), Arc::clone(&order));
        scope.spawn(move || change_keys(&keys, until));
        scope.spawn(move || {
            while Instant::now() < until {
                let replies = std::mem::take(&mut *order.replies.lock().expect("no panic"));
                thread::sleep(Duration::from_millis(3));
                for reply in replies {
                    let _ = reply.send(b"later");
                }
            }
        });
    });
    // Some are open when it stops, idle, in a message or with an answer to come.
    let mut last: Vec<_> = (0..12).map(|_| Peer::establish(addr)).collect();
    for (peer, message) in last.iter_mut().zip([&b"slow"[..], b"slow", b"later", b"close"]) {
        peer.send_message(message);
    }
    last[5].send(&[1, 0]);
    server.shutdown(Duration::from_millis(20)).expect("a report");
    let faults = order.faults.lock().expect("no panic");
    assert!(faults.is_empty(), "{} of them, as {}", faults.len(), faults[0]);
    let stages = order.stages.lock().expect("no panic");
    let open: Vec<_> = stages.iter().filter(|(_, stage)| **stage != Stage::Ended).collect();
    assert!(open.is_empty() && stages.len() > 20, "of {}: {open:?}", stages.len());
}
