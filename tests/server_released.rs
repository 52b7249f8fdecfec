//! Nothing stays of a server that has ended, whoever still holds what: its handler is dropped, its descriptors are closed.

#![cfg(target_os = "linux")]

mod common;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use common::{PATIENCE, Peer, eventually, key, server};
use falcotcp_sync::{Error, Handler, Key, Request, Response, Server, ServerHandle, ServerKeys, Stopper};

/// The process's open descriptors, with none but the test's own while this is held.
struct Descriptors {
    before: usize,
    _alone: MutexGuard<'static, ()>,
}

impl Descriptors {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Self { before: Self::count(), _alone: alone }
    }

    fn count() -> usize {
        std::fs::read_dir("/proc/self/fd").expect("descriptors").count()
    }

    fn assert_all_closed(&self) {
        assert_eq!(Self::count(), self.before);
    }
}

/// A handler that holds what it can get of its own server, and tells when it is dropped.
struct Owner {
    own: Arc<OnceLock<(Stopper, ServerKeys)>>,
    dropped: Arc<AtomicBool>,
}

impl Handler for Owner {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let (stopper, keys) = self.own.get().expect("set before any message");
        match request.message() {
            b"stop" => stopper.stop(),
            text => assert!(!text.is_empty() && keys.connections(request.key_name()).is_some()),
        }
        response.extend_from_slice(request.message());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.dropped.store(true, SeqCst);
    }
}

fn spawn(bound: Server) -> (ServerHandle, Arc<AtomicBool>) {
    let (own, dropped) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
    let handler = Owner { own: Arc::clone(&own), dropped: Arc::clone(&dropped) };
    let server = bound.spawn(handler).expect("spawning");
    own.set((server.stopper(), server.keys())).expect("set once");
    (server, dropped)
}

fn bind() -> Server {
    server(4).bind("127.0.0.1:0").expect("binding")
}

fn is_gone(addr: SocketAddr) -> bool {
    TcpStream::connect(addr).is_err()
}

#[test]
fn a_handler_that_holds_its_server_is_dropped_with_it() {
    let descriptors = Descriptors::new();
    for is_served in [false, true] {
        let (server, dropped) = spawn(bind());
        let (addr, stopper, keys) = (server.local_addr(), server.stopper(), server.keys());
        if is_served {
            Peer::establish(addr).assert_served();
        }
        assert!(!dropped.load(SeqCst));
        server.shutdown(PATIENCE).expect("a report");
        assert!(dropped.load(SeqCst));
        assert!(is_gone(addr));
        descriptors.assert_all_closed();
        // What others hold of it has nothing to say any more.
        stopper.stop_within(Duration::ZERO);
        assert!(
            !keys.withdraw("default") && keys.names().is_empty() && keys.connections("default").is_none()
        );
        assert!(matches!(keys.add("new", key()), Err(Error::Stopped)));
    }
}

#[test]
fn a_server_that_was_stopped_by_its_handler_is_gone_although_its_handle_is_held() {
    let descriptors = Descriptors::new();
    let (server, dropped) = spawn(bind());
    let mut peer = Peer::establish(server.local_addr());
    let mut idle = Peer::establish(server.local_addr());
    peer.send_message(b"stop");
    assert_eq!(peer.response().as_deref(), Some(&b"stop"[..]));
    peer.assert_closed_in_silence();
    idle.assert_closed_in_silence();
    drop((peer, idle));
    eventually("the handler is dropped", || dropped.load(SeqCst));
    assert!(is_gone(server.local_addr()));
    eventually("all descriptors are closed", || Descriptors::count() == descriptors.before);
    assert_eq!((server.stats().messages, server.stats().open), (1, 0));
    assert!(server.keys().names().is_empty());
    assert_eq!(server.wait().expect("a report").cut, 0);
}

#[test]
fn a_server_that_never_served_leaves_nothing() {
    let descriptors = Descriptors::new();
    let builder = server(4);
    drop(builder.clone());
    descriptors.assert_all_closed();
    let bound = builder.bind("127.0.0.1:0").expect("binding");
    let addr = bound.local_addr();
    drop(bound);
    assert!(is_gone(addr));
    descriptors.assert_all_closed();
}

#[test]
fn a_server_that_could_not_be_spawned_leaves_nothing() {
    let descriptors = Descriptors::new();
    let taken = server(4).accept_key("default", Key::from_bytes([1; 32]));
    // The name may be found to be taken in either step.
    if let Ok(bound) = taken.bind("127.0.0.1:0") {
        let dropped = Arc::new(AtomicBool::new(false));
        let handler = Owner { own: Arc::default(), dropped: Arc::clone(&dropped) };
        assert!(bound.spawn(handler).is_err());
        assert!(dropped.load(SeqCst));
    }
    descriptors.assert_all_closed();
}

struct PanicsWhenDropped;

impl Handler for PanicsWhenDropped {
    fn handle(&self, _: Request<'_>, _: &mut Response<'_>) {}
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("in the drop of a handler");
    }
}

#[test]
fn a_handler_that_panics_when_it_is_dropped_costs_no_report() {
    let descriptors = Descriptors::new();
    let server = bind().spawn(PanicsWhenDropped).expect("spawning");
    let idle = Peer::establish(server.local_addr());
    let report = server.shutdown(PATIENCE).expect("a report");
    assert_eq!((report.drained, report.cut), (1, 0));
    drop(idle);
    descriptors.assert_all_closed();
}
