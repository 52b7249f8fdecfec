//! Nothing in an idle server wakes up by itself. A file of its own, since it looks at the threads of the whole process.

#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{PATIENCE, Peer, echo_server, eventually, server};

#[test]
fn no_thread_of_an_idle_server_wakes_up_once_its_work_is_done() {
    let server = echo_server(server(2).lifetime(2 * PATIENCE).handshake_timeout(2 * PATIENCE));
    let mut peers: Vec<_> = (0..10).map(|_| Peer::establish(server.local_addr())).collect();
    for peer in &mut peers {
        peer.assert_served();
    }
    eventually("all its threads sleep for a while", || {
        let before = waits();
        std::thread::sleep(Duration::from_millis(100));
        waits() == before
    });
}

/// How often this process's server threads have gone to sleep.
fn waits() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let name = std::fs::read_to_string(path.join("comm")).ok()?;
            let status = std::fs::read_to_string(path.join("status")).ok()?;
            let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            name.starts_with("falcotcp-").then(|| waits.trim().parse::<u64>().ok()).flatten()
        })
        .sum::<u64>()
}
