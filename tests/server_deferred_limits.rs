//! Answers that come later: how many may wait, and how long.

mod common;
#[path = "common/deferred.rs"]
mod deferred;

use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Peer, Random, eventually, server};
use deferred::{Job, Todo, answer_to, jobs};
use falcotcp_sync::{Error, NotWanted, ServerHandle};

const MS: Duration = Duration::from_millis(1);

/// Lets a server of one worker take up what has arrived.
fn settle(server: &ServerHandle) {
    let mut other = Peer::establish(server.local_addr());
    (0..3).for_each(|_| other.assert_served());
}

/// Asserts that no message waits for being handled but was.
fn assert_nothing_to_do(server: &ServerHandle, todo: &Todo) {
    settle(server);
    assert!(todo.try_next().is_none(), "a message was handled");
}

#[test]
fn limits_that_allow_nothing_are_errors() {
    for (name, builder) in [
        ("max_deferred", server(1).max_deferred(0)),
        ("deferred_timeout", server(1).deferred_timeout(Duration::ZERO)),
    ] {
        let error = builder.bind("127.0.0.1:0").expect_err("an error");
        assert!(matches!(error, Error::InvalidSetting { setting, .. } if setting == name), "{error}");
    }
}

#[test]
fn no_more_messages_are_handled_than_may_wait() {
    for max in [1, 2, 7] {
        let (server, todo) = jobs(server(1).max_deferred(max));
        let mut peer = Peer::establish(server.local_addr());
        let messages: Vec<_> = (0..3 * max).map(|number| format!("later {number}")).collect();
        let frames: Vec<_> = messages.iter().map(|text| peer.message(text.as_bytes())).collect();
        peer.send(&frames.concat());
        let mut open = todo.take(max);
        assert_nothing_to_do(&server, &todo);
        // A finished one behind those that are awaited counts as well.
        if max > 1 {
            open.remove(1).answer();
            assert_nothing_to_do(&server, &todo);
        }
        open.remove(0).answer();
        open.push(todo.next());
        if max > 1 {
            open.push(todo.next());
        }
        assert_nothing_to_do(&server, &todo);
        thread::scope(|scope| {
            scope.spawn(|| {
                open.into_iter().for_each(Job::answer);
                todo.take(2 * max - 2.min(max)).into_iter().for_each(Job::answer);
            });
            for message in &messages {
                assert_eq!(peer.response(), Some(answer_to(message.as_bytes())));
            }
        });
        peer.assert_served();
    }
}
