//! Several servers on one port, as when a new version starts before the old one stops.

#![cfg(unix)]

mod common;

use common::{Echo, Peer, server};

#[test]
fn servers_that_all_say_so_share_a_port() {
    let first =
        server(1).reuse_port(true).bind("127.0.0.1:0").expect("binding").spawn(Echo).expect("spawning");
    let addr = first.local_addr();
    assert!(server(1).bind(addr).is_err(), "one that does not say so gets no share");
    let second = server(1).reuse_port(true).bind(addr).expect("binding").spawn(Echo).expect("spawning");
    for _ in 0..50 {
        Peer::establish(addr).assert_served();
    }
    assert!(first.stats().messages > 0 && second.stats().messages > 0, "the system spreads the connections");
    drop(first);
    for _ in 0..10 {
        Peer::establish(addr).assert_served();
    }
}
