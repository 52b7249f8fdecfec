//! What a connection in the middle of a frame takes, as the guide's chapter on limits says. A file of its own, since it
//! measures the whole process.

#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{Peer, echo_server, eventually, resident_bytes, server};

const FAR: Duration = Duration::from_secs(600);

const CONNECTIONS: usize = 300;

/// Bytes that the process takes for each of some connections that have `length` bytes of an unfinished frame at the server.
fn bytes_each(length: usize) -> usize {
    let server = echo_server(server(2).lifetime(FAR).handshake_timeout(FAR));
    let mut peers: Vec<_> = (0..CONNECTIONS).map(|_| Peer::establish(server.local_addr())).collect();
    // What the workers and this test need once.
    let frame = peers[0].message(&vec![7; 2 * length]);
    let (before, read) = (resident_bytes(), server.stats().bytes_in);
    for peer in &mut peers {
        peer.send(&frame[..length]);
    }
    let sent = (CONNECTIONS * length) as u64;
    eventually("all of it has been read", || server.stats().bytes_in == read + sent);
    resident_bytes().saturating_sub(before) / CONNECTIONS
}

#[test]
fn a_connection_in_the_middle_of_a_frame_takes_what_the_guide_says() {
    const KIB: usize = 1 << 10;
    // First, so that nothing of the others is used again.
    let copied = bytes_each(7 * KIB);
    assert!(copied < 10 * KIB, "{copied} bytes for a copy of 7 KiB");
    let handed_over = bytes_each(9 * KIB);
    assert!(handed_over < 100 * KIB, "{handed_over} bytes for a buffer of 64 KiB");
    let grown = bytes_each(200 * KIB);
    assert!(grown < 2 * 200 * KIB + 100 * KIB, "{grown} bytes for 200 KiB that have arrived");
}
