//! A forked child has copies of its parent's clients, and neither uses nor ends their connections.
//!
//! A file of its own, since the processes that it forks have all that the other tests of a file have.

#![cfg(target_os = "linux")]

mod common;
#[path = "common/fork.rs"]
mod fork;

use std::time::{Duration, Instant};

use common::{PATIENCE, echo_server, key, server};
use falcotcp_sync::{Client, Error};
use fork::holds_in_a_fork;

const INTERVAL: Duration = Duration::from_millis(300);

/// Whether `condition` comes to hold while the child has patience left.
fn wait_for(condition: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !condition() && begun.elapsed() < PATIENCE / 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    condition()
}

/// One test, so that nothing else runs while it forks.
#[test]
fn a_forked_child_leaves_the_connections_of_its_parent_alone() {
    let server = echo_server(server(2));
    let addr = server.local_addr();
    let mut kept_alive = Client::builder(key())
        .keep_alive(true)
        .keep_alive_interval(INTERVAL)
        .connect(addr)
        .expect("connecting");
    let mut plain = Client::connect(addr, key()).expect("connecting");
    let mut reconnecting =
        Client::builder(key()).reconnect(true).request_timeout(PATIENCE).connect(addr).expect("connecting");
    assert_eq!(server.stats().accepted, 3);

    assert!(holds_in_a_fork(|| {
        let closed = plain.message(b"child");
        matches!(closed, Err(Error::Closed))
    }));
    assert!(holds_in_a_fork(|| matches!(plain.ping(), Err(Error::Closed)) && !plain.is_open()));
    assert_eq!(server.stats().messages, 0);
    assert_eq!(plain.message(b"parent").expect("the parent's own connection"), b"parent");

    assert!(holds_in_a_fork(|| reconnecting.message(b"child").is_ok_and(|answer| answer == b"child")));
    assert_eq!(server.stats().accepted, 4);
    assert_eq!(reconnecting.message(b"parent").expect("the parent's own connection"), b"parent");
    assert_eq!(server.stats().accepted, 4);

    // One that the child inherits, and connects anew, is kept alive there.
    let brief = echo_server(common::server(1).lifetime(5 * INTERVAL));
    let mut inherited = Client::builder(key())
        .keep_alive(true)
        .keep_alive_interval(INTERVAL)
        .reconnect(true)
        .connect(brief.local_addr())
        .expect("connecting");
    // The thread that pings looks at it at once. A fork at that moment would leave the child with what is locked then.
    std::thread::sleep(INTERVAL / 4);
    assert!(holds_in_a_fork(|| {
        inherited.message(b"child").expect("a new connection");
        let renewed = inherited.local_addr();
        std::thread::sleep(7 * INTERVAL);
        inherited.message(b"alive").is_ok() && inherited.local_addr() == renewed
    }));

    // And so is one that the child makes.
    let children = echo_server(common::server(1));
    let children_addr = children.local_addr();
    let (receiver, sender) = std::io::pipe().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The child waits for a byte until the server has seen its pings.
            let has_pinged = wait_for(|| children.stats().pings >= 2);
            std::io::Write::write_all(&mut &sender, &[1]).expect("the pipe");
            assert!(has_pinged);
        });
        assert!(holds_in_a_fork(|| {
            let _client = Client::builder(key())
                .keep_alive(true)
                .keep_alive_interval(INTERVAL)
                .connect(children_addr)
                .expect("connecting");
            std::io::Read::read_exact(&mut &receiver, &mut [0]).is_ok()
        }));
    });
    assert_eq!(kept_alive.message(b"parent").expect("the parent's own connection"), b"parent");

    // A child that still holds a copy does not keep a connection open that the parent ends.
    let open = server.stats().open;
    std::thread::scope(|scope| {
        let server = &server;
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(plain);
            let has_ended = wait_for(|| server.stats().open < open);
            std::io::Write::write_all(&mut &sender, &[1]).expect("the pipe");
            assert!(has_ended);
        });
        assert!(holds_in_a_fork(|| std::io::Read::read_exact(&mut &receiver, &mut [0]).is_ok()));
    });
}
