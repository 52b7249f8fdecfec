//! A message costs no allocation once the buffers have grown to the size of the usual messages.
//!
//! A file of its own, since it counts every allocation of the process.

#![allow(unsafe_code, reason = "a global allocator can't be written without")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use common::{echo_server, key, server};
use falcotcp_sync::Client;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, SeqCst);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test, since what runs beside it would be counted as well.
#[test]
fn the_steady_state_does_not_allocate() {
    messages_and_pings_allocate_nothing();
    a_pipeline_allocates_nothing_for_each_message();
}

fn messages_and_pings_allocate_nothing() {
    let server = echo_server(server(1));
    let mut client = Client::connect(server.local_addr(), key()).expect("connecting");
    let mut response = Vec::new();
    for size in [0, 64, 16 << 10, 60_000] {
        let message = vec![7; size];
        let mut exchange = |count: u32| {
            for _ in 0..count {
                client.message_into(&message, &mut response).expect("an answer");
                client.ping().expect("a ping");
            }
        };
        // The buffers of both ends grow to this size.
        exchange(20);
        let before = ALLOCATIONS.load(SeqCst);
        exchange(500);
        let allocated = ALLOCATIONS.load(SeqCst) - before;
        // What is left is a frame's beginning that is kept when the socket held only a part of it, a few times in a
        // large message's way through a loaded machine.
        let allowed = if size < 10_000 { 0 } else { 100 };
        assert!(allocated <= allowed, "{allocated} allocations in 500 exchanges of {size} bytes");
    }
}

fn a_pipeline_allocates_nothing_for_each_message() {
    let server = echo_server(server(1));
    let mut client = Client::connect(server.local_addr(), key()).expect("connecting");
    let mut run = |count| {
        client
            .pipeline(std::iter::repeat_n([7; 64], count), |result| {
                result.expect("an answer");
            })
            .expect("a connection in order");
    };
    run(5000);
    let before = ALLOCATIONS.load(SeqCst);
    run(5000);
    let allocated = ALLOCATIONS.load(SeqCst) - before;
    assert!(allocated <= 500, "{allocated} allocations for 5000 messages");
}
