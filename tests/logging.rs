//! What an operator reads: one line for each thing that went wrong, with the peer's address, and no secret.

mod common;

use std::sync::Mutex;

use common::{Peer, echo_server, establishment, eventually, server};
use falcotcp_sync::Key;
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Capture(Mutex<Vec<(Level, String, String)>>);

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("falcotcp") {
            let line = (record.level(), record.target().to_owned(), record.args().to_string());
            self.0.lock().expect("no panic while logging").push(line);
        }
    }

    fn flush(&self) {}
}

static CAPTURE: Capture = Capture(Mutex::new(Vec::new()));

#[test]
fn what_goes_wrong_is_logged_once_with_the_peer_and_without_secrets() {
    log::set_logger(&CAPTURE).expect("the only logger");
    log::set_max_level(LevelFilter::Trace);

    let server = server(1)
        .max_message_size(1000)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(|message: &[u8]| {
            assert_ne!(message, b"panic");
            message.to_vec()
        })
        .expect("spawning");
    let addr = server.local_addr();

    // A probe, as of Kubernetes, is worth no line that an operator reads.
    let probe = Peer::connect(addr).stream.local_addr().expect("an address").to_string();
    eventually("the probe is over", || server.stats().accepted == 1 && server.stats().open == 0);
    assert!(!lines().iter().any(|(level, _, text)| *level < Level::Debug && text.contains(&probe)));

    let mut stranger = Peer::connect(addr);
    stranger.send(&establishment(&Key::from_bytes([1; 32])));
    stranger.assert_closed_in_silence();
    assert_logged(Level::Warn, "falcotcp_sync::server::connection", &stranger, "refused");

    let mut peer = Peer::establish(addr);
    assert_logged(Level::Debug, "falcotcp_sync::server::connection", &peer, "established");
    peer.send(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 9]);
    assert_eq!(peer.response(), None);
    assert_logged(Level::Warn, "falcotcp_sync::server::connection", &peer, "rejected: it is too short");
    let mut damaged = peer.message(b"the plaintext that nobody should see");
    damaged[9] ^= 1;
    peer.send(&damaged);
    assert_eq!(peer.response(), None);
    assert_logged(Level::Warn, "falcotcp_sync::server::connection", &peer, "rejected: it does not open");
    assert_eq!(peer.exchange(b"panic"), None);
    assert_logged(Level::Error, "falcotcp_sync::server::connection", &peer, "the handler panicked");
    peer.send_message(&[b'x'; 1001]);
    assert_eq!(peer.rest(), [0; 8]);
    assert_logged(Level::Warn, "falcotcp_sync::server::connection", &peer, "1001 bytes is over the limit");

    // Messages are not worth a line to anybody who did not ask for each step.
    let before = count_above_trace();
    let mut peer = Peer::establish(addr);
    let established = count_above_trace();
    assert_eq!(established, before + 1);
    for _ in 0..100 {
        assert!(peer.exchange(b"the plaintext that nobody should see").is_some());
    }
    assert_eq!(count_above_trace(), established);

    drop(peer);
    drop(server);
    drop(echo_server(common::server(1)));
    eventually("both stops are logged", || {
        lines().iter().filter(|(level, _, text)| *level == Level::Info && text.starts_with("stopped")).count()
            == 2
    });
    let key_text = "5a5a5a5a";
    for (_, _, text) in lines() {
        assert!(!text.contains("plaintext that") && !text.to_lowercase().contains(key_text), "{text}");
    }
}

/// Asserts that exactly one line of this peer says `what`.
fn assert_logged(level: Level, target: &str, peer: &Peer, what: &str) {
    let peer = peer.stream.local_addr().expect("an address").to_string();
    let found = || {
        let lines = lines();
        lines
            .into_iter()
            .filter(|(_, _, text)| text.contains(&peer) && text.contains(what))
            .collect::<Vec<_>>()
    };
    eventually(what, || !found().is_empty());
    let found = found();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].0, found[0].1.as_str()), (level, target));
}

fn lines() -> Vec<(Level, String, String)> {
    CAPTURE.0.lock().expect("no panic while logging").clone()
}

fn count_above_trace() -> usize {
    lines().iter().filter(|(level, ..)| *level < Level::Trace).count()
}
