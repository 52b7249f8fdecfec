//! A server that has ended leaves nothing behind, whoever still holds a part of it.
//!
//! One test alone: it counts this process's descriptors.

#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};

use common::{PATIENCE, Peer, eventually, key, server};
use falcotcp_sync::{Handler, Reply, Request, Response, ServerHandle, ServerKeys, Stopper};

/// Holds what could keep its own server alive, and gives replies to the test.
struct Owner {
    /// Its own server's.
    own: Arc<OnceLock<(Stopper, ServerKeys)>>,
    replies: Arc<Mutex<Vec<Reply>>>,
    dropped: Arc<AtomicUsize>,
}

impl Handler for Owner {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let (stopper, keys) = self.own.get().expect("given after the start");
        match request.message() {
            b"stop" => stopper.stop(),
            b"later" => self.replies.lock().expect("no panic").push(response.defer()),
            _ => response.extend_from_slice(keys.names().join(" ").as_bytes()),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, SeqCst);
    }
}

/// A server whose handler holds what can stop it, and what is left of it in the test's hands.
struct Started {
    server: ServerHandle,
    replies: Arc<Mutex<Vec<Reply>>>,
    dropped: Arc<AtomicUsize>,
    peer: Peer,
}

fn start() -> Started {
    let own = Arc::new(OnceLock::new());
    let (replies, dropped) = (Arc::default(), Arc::default());
    let handler =
        Owner { own: Arc::clone(&own), replies: Arc::clone(&replies), dropped: Arc::clone(&dropped) };
    let server = server(2).bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning");
    own.set((server.stopper(), server.keys())).expect("set once");
    let mut peer = Peer::establish(server.local_addr());
    assert_eq!(peer.exchange(b"keys").as_deref(), Some(&b"default"[..]));
    Started { server, replies, dropped, peer }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("descriptors").count()
}

#[test]
fn whatever_is_still_held_the_handler_is_dropped_and_every_descriptor_given_back() {
    key();
    let before = descriptors();

    let bound = server(2).bind("127.0.0.1:0").expect("binding");
    assert!(descriptors() > before);
    drop(bound);
    assert_eq!(descriptors(), before, "a server that was bound only");

    let Started { server, replies, dropped, mut peer } = start();
    assert!(descriptors() > before + 4);
    server.shutdown(PATIENCE).expect("a report");
    peer.assert_closed_in_silence();
    drop(peer);
    assert_eq!((dropped.load(SeqCst), descriptors()), (1, before), "after a shutdown");
    drop(replies);

    let Started { server, replies, dropped, mut peer } = start();
    let (stopper, keys, monitor) = (server.stopper(), server.keys(), server.monitor());
    peer.send_message(b"stop");
    let report = server.wait().expect("a report");
    drop(peer);
    assert_eq!((dropped.load(SeqCst), descriptors()), (1, before), "stopped by its handler");
    assert_eq!((report.stats.messages, monitor.stats()), (2, report.stats));
    stopper.stop();
    assert!(keys.names().is_empty());
    drop(replies);

    // Nobody waits for this one.
    let Started { server, replies, dropped, mut peer } = start();
    peer.send_message(b"later");
    eventually("the reply is there", || !replies.lock().expect("no panic").is_empty());
    server.stopper().stop();
    peer.rest();
    drop(peer);
    eventually("the handler is dropped while the server's handle is held", || dropped.load(SeqCst) == 1);
    eventually("so are its descriptors, while a reply is held", || descriptors() == before);
    let reply = replies.lock().expect("no panic").pop().expect("a reply");
    assert!(reply.send(b"too late").is_err());
    server.wait().expect("a report");
    assert_eq!(descriptors(), before);
}
