//! What idle forward-secret sessions cost. A file of its own, since it measures the whole process.

#![cfg(feature = "forward-secrecy")]
#![allow(unsafe_code, reason = "a global allocator can't be written without")]

mod common;
#[path = "common/forward_secret.rs"]
mod forward_secret;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{PATIENCE, eventually, server};
use forward_secret::Said::Pong;
use forward_secret::{MESSAGE, PING, Peer, job, response, serve};

struct Counting;

/// Bytes that are allocated now.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const PEERS: usize = 200;
const MOST: usize = 3 << 10;

#[test]
fn an_idle_session_takes_little_memory() {
    let (server, _, replies) = serve(server(2).lifetime(2 * PATIENCE));
    let addr = server.local_addr();
    // The workers' buffers are there after these.
    let mut peers = Vec::with_capacity(PEERS + 8);
    peers.extend((0..8).map(|_| Peer::establish(addr)));
    peers.iter_mut().for_each(Peer::assert_served);
    let before = ALLOCATED.load(SeqCst);
    peers.extend((0..PEERS).map(|_| Peer::establish(addr)));
    peers.iter_mut().for_each(Peer::assert_served);
    let each = || ALLOCATED.load(SeqCst).saturating_sub(before) / PEERS;
    println!("{} bytes each", each());
    assert!(each() <= MOST, "{} bytes each", each());

    // And when many answers have waited.
    for peer in &mut peers {
        peer.send(MESSAGE, b"later");
        for _ in 0..100 {
            peer.send(PING, b"");
            peer.send(MESSAGE, b"");
        }
        job(&replies).send(b"").expect("a wanted answer");
        assert_eq!(peer.next(), response(b""));
        for _ in 0..100 {
            assert_eq!((peer.next(), peer.next()), (Pong, response(b"")));
        }
    }
    println!("{} bytes each", each());
    eventually("nothing of that is kept", || each() <= MOST);
}
