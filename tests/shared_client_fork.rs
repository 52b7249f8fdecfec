//! A forked child has copies of its parent's shared clients, and neither uses nor ends their connections.
//!
//! A file of its own, since the processes that it forks have all that the other tests of a file have.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/fork.rs"]
mod fork;

use common::{PATIENCE, echo_server, key, server};
use falcotcp_sync::Client;
use fork::holds_in_a_fork;

/// One test, so that nothing else runs while it forks.
#[test]
fn a_forked_child_leaves_the_shared_client_of_its_parent_alone_and_makes_its_own() {
    let server = echo_server(server(2));
    let addr = server.local_addr();
    let client = Client::builder(key()).reconnect(true).connect_shared(addr).expect("connecting");
    assert_eq!(client.message(b"before").expect("a response"), b"before");

    assert!(holds_in_a_fork(|| {
        let is_unsent =
            |outcome: Result<Vec<u8>, falcotcp_sync::Error>| outcome.is_err_and(|error| !error.was_sent());
        is_unsent(client.message(b"child"))
            && is_unsent(client.start(b"child").and_then(falcotcp_sync::Call::wait))
            && client.ping().is_err()
            && !client.is_open()
    }));
    // Nor does it end the connection when it closes or drops its copy.
    assert!(holds_in_a_fork(|| {
        client.close();
        true
    }));
    let mut held = Some(client);
    assert!(holds_in_a_fork(|| {
        drop(held.take());
        true
    }));
    let client = held.expect("the child took its own copy");
    assert_eq!(client.message(b"parent").expect("the parent's own connection"), b"parent");
    assert_eq!((server.stats().accepted, server.stats().messages), (1, 2));

    assert!(holds_in_a_fork(|| {
        let own = Client::builder(key()).connect_shared(addr).expect("connecting");
        let (sender, receiver) = std::sync::mpsc::channel();
        own.start(b"callback").expect("room").then(move |result| drop(sender.send(result)));
        own.message(b"child").is_ok_and(|answer| answer == b"child")
            && receiver.recv_timeout(PATIENCE / 2).is_ok_and(|result| result.is_ok())
    }));
    assert_eq!(client.start(b"parent").expect("room").wait().expect("a response"), b"parent");
    assert_eq!(server.stats().accepted, 2);
}
