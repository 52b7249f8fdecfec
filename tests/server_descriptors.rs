//! A server that runs out of descriptors goes on serving, and accepts again when there are some.
//!
//! The server is a child process: this program again, under a low limit.

#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{Peer, echo_server, establishment, eventually, key, server};

const CHILD: &str = "FALCOTCP_TEST_SERVER";

const DESCRIPTORS: usize = 40;

/// The child's part; without the variable there is nothing to do.
#[test]
#[ignore = "the part of another test, in a process of its own"]
fn serve_under_a_low_limit_as_a_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    // Longer than the tests take, so that no deadline makes room.
    let server = echo_server(server(2).handshake_timeout(Duration::from_secs(600)));
    println!("\naddress {}", server.local_addr());
    // Until the parent closes our standard input.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let report = server.shutdown(Duration::ZERO).expect("a report");
    println!("\nstopped {}", report.drained + report.cut);
}

/// Another child's part: more workers than there are descriptors for.
#[test]
#[ignore = "the part of another test, in a process of its own"]
fn spawn_too_many_workers_as_a_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let outcome = server(60).bind("127.0.0.1:0").expect("binding").spawn(common::Echo);
    println!("\nfailed {}", outcome.expect_err("too few descriptors"));
}

#[test]
fn workers_that_need_more_descriptors_than_there_are_are_an_error_that_says_so() {
    let program = std::env::current_exe().expect("this program");
    let run = format!(
        "ulimit -n {DESCRIPTORS}; exec \"$0\" --ignored --exact spawn_too_many_workers_as_a_child --nocapture"
    );
    let output =
        Command::new("sh").arg("-c").arg(run).arg(program).env(CHILD, "1").output().expect("a child process");
    let error = line_after("failed ", &mut &output.stdout[..]);
    assert!(error.contains("60 workers need 123 descriptors"), "{error}");
    assert!(error.contains(&format!("of the {DESCRIPTORS} that")), "{error}");
}

struct ChildServer {
    child: Child,
    output: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl ChildServer {
    fn start() -> Self {
        common::end_if_hung(common::WHOLE_PROGRAM);
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "ulimit -n {DESCRIPTORS}; exec \"$0\" --ignored --exact serve_under_a_low_limit_as_a_child --nocapture"
            ))
            .arg(program)
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let addr = line_after("address ", &mut output).parse().expect("an address");
        Self { child, output, addr }
    }

    fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("its descriptors").count()
    }

    /// Clock ticks (of 10 ms) of processor time that it has used.
    fn ticks(&self) -> u64 {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("its accounting");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
        fields[11].parse::<u64>().expect("user time") + fields[12].parse::<u64>().expect("system time")
    }

    fn stop(mut self) {
        drop(self.child.stdin.take());
        line_after("stopped ", &mut self.output);
        assert!(self.child.wait().expect("its end").success());
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn line_after(start: &str, output: &mut impl BufRead) -> String {
    let mut lines = output.lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix(start).map(str::to_owned)).expect("the child's line")
}

#[test]
fn a_server_without_descriptors_serves_on_waits_idly_and_recovers() {
    let server = ChildServer::start();
    let mut earlier = Peer::establish(server.addr);
    // Far more than there are descriptors: the operating system queues what is not accepted.
    let mut crowd = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        let mut peer = Peer::connect(server.addr);
        peer.send(&establishment(&key()));
        // Until then it could be taken for a stranger, which makes room.
        if crowd.len() < DESCRIPTORS / 2 {
            assert_eq!(peer.receive(1), [0xFF]);
        }
        crowd.push(peer);
    }
    eventually("all descriptors are used", || server.open_descriptors() >= DESCRIPTORS);
    let before = server.ticks();
    for _ in 0..50 {
        earlier.assert_served();
        std::thread::sleep(Duration::from_millis(10));
    }
    let used = server.ticks() - before;
    assert!(used < 25, "{used} clock ticks in half a second: it spins");
    // Those who leave make room for those who wait.
    let waiting = crowd.split_off(DESCRIPTORS);
    drop(crowd);
    for mut peer in waiting {
        assert_eq!(peer.receive(1), [0xFF]);
        peer.assert_served();
    }
    earlier.assert_served();
    let mut late = Peer::establish(server.addr);
    late.assert_served();
    drop((earlier, late));
    eventually("descriptors are given back", || server.open_descriptors() < DESCRIPTORS - 20);
    server.stop();
}

#[test]
fn strangers_that_use_up_the_descriptors_make_room_for_clients() {
    let server = ChildServer::start();
    let mut earlier = Peer::establish(server.addr);
    let mut silent: Vec<Peer> = (0..3 * DESCRIPTORS).map(|_| Peer::connect(server.addr)).collect();
    // The oldest makes room once all descriptors are used.
    silent.remove(0).assert_closed_in_silence();
    let mut clients: Vec<Peer> = (0..DESCRIPTORS / 4).map(|_| Peer::establish(server.addr)).collect();
    for client in clients.iter_mut().chain([&mut earlier]) {
        client.assert_served();
    }
    drop(silent);
    server.stop();
}
