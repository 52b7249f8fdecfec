//! An idle server costs nothing. A file of its own, since it measures the whole process.

#![cfg(target_os = "linux")]

mod common;

use std::time::Duration;

use common::{PATIENCE, Peer, echo_server, server};

#[test]
fn an_idle_server_and_its_idle_connections_use_no_processor_time() {
    let server = echo_server(server(2).lifetime(PATIENCE));
    let mut peers: Vec<_> = (0..50).map(|_| Peer::establish(server.local_addr())).collect();
    peers[0].assert_served();
    // Any polling loop would take most of this; the threads' own start is over by now.
    std::thread::sleep(Duration::from_millis(50));
    let before = worker_ticks();
    std::thread::sleep(Duration::from_millis(500));
    let used = worker_ticks() - before;
    assert!(used <= 5, "{used} clock ticks of processor time in half a second");
}

/// Clock ticks (of 10 ms) that this process's server threads have used.
fn worker_ticks() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    stats
        .filter(|stat| stat.contains("(falcotcp-"))
        .filter_map(|stat| {
            let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
            // utime and stime.
            Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
        })
        .sum()
}
