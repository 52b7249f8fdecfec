//! A server whose process stood still for longer than its deadlines answers what came meanwhile.
//!
//! The server is a child process: this program again, which is stopped and goes on.

#![allow(
    clippy::needless_for_each,
    clippy::unused_self,
    clippy::large_stack_arrays,
    clippy::large_stack_frames,
    reason = "a test reads best as one line a step"
)]
#![cfg(target_os = "linux")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, PING, Peer, echo_server, establishment, eventually, key, server};
use falcotcp_sync::protocol::{SEAL_OVERHEAD, message_header};

/// The child's lifetime and handshake time-out, in milliseconds.
const CHILD: &str = "FALCOTCP_TEST_SERVER";

/// More than two looks at the sockets give.
const CROWD: usize = 2200;

/// The child's part; without the variable there is nothing to do.
#[test]
#[ignore = "the part of another test, in a process of its own"]
fn serve_as_a_child() {
    let Ok(limits) = std::env::var(CHILD) else { return };
    let (lifetime, handshake) = limits.split_once(' ').expect("two limits");
    let limit = |text: &str| Duration::from_millis(text.parse().expect("milliseconds"));
    let server = server(1).lifetime(limit(lifetime)).handshake_timeout(limit(handshake));
    let server = echo_server(server.max_unestablished(CROWD));
    println!("\naddress {}", server.local_addr());
    // Until the parent closes our standard input.
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let (what, count) = line.split_once(' ').expect("two words");
        let count: u64 = count.parse().expect("a number");
        match what {
            "accepted" => eventually("they are accepted", || server.stats().accepted >= count),
            "pings" => eventually("the pings are taken", || server.stats().pings >= count),
            _ => server.stopper().stop_within(Duration::from_millis(count)),
        }
        println!("\ndone {what}");
    }
}

struct ChildServer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    addr: SocketAddr,
}

impl ChildServer {
    fn start([lifetime, handshake]: [Duration; 2]) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--ignored", "--exact", "serve_as_a_child", "--nocapture"])
            .env(CHILD, format!("{} {}", lifetime.as_millis(), handshake.as_millis()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child process");
        let input = child.stdin.take().expect("its input");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let addr = line_after("address ", &mut output).parse().expect("an address");
        Self { child, input, output, addr }
    }

    /// Waits until the child has done what `line` says.
    fn ask(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("asking");
        line_after("done ", &mut self.output);
    }

    fn stop(&self) {
        self.signal("-STOP");
        let pid = self.child.id();
        eventually("each of its threads has stopped", || {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
            threads.flatten().all(|thread| {
                let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                // The state stands behind the name, which is in brackets.
                stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
            })
        });
    }

    fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
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

/// Prepares peers of a server with these limits, stops it before the shorter one is over, lets them `send`, and lets the
/// server go on long after it. On a machine that is too slow for that, again with a longer one.
fn while_stopped(
    limits: impl Fn(Duration) -> [Duration; 2],
    prepare: impl Fn(&mut ChildServer, Duration) -> Vec<Peer>,
    send: impl Fn(&mut Peer),
    check: impl Fn(&mut ChildServer, &mut [Peer]),
) {
    key();
    for limit in [1, 2, 4, 8].map(Duration::from_secs) {
        let mut server = ChildServer::start(limits(limit));
        let begun = Instant::now();
        let mut peers = prepare(&mut server, limit);
        server.stop();
        if begun.elapsed() < limit / 2 {
            peers.iter_mut().for_each(&send);
            thread::sleep(limit * 3 / 2);
            server.go_on();
            return check(&mut server, &mut peers);
        }
    }
    panic!("this machine is too slow");
}

fn connected(server: &mut ChildServer, count: usize) -> Vec<Peer> {
    let peers = (0..count).map(|_| Peer::connect(server.addr)).collect();
    server.ask(&format!("accepted {count}"));
    peers
}

fn established(server: &mut ChildServer, count: usize) -> Vec<Peer> {
    let mut peers = connected(server, count);
    for peer in &mut peers {
        peer.send(&establishment(&key()));
    }
    assert_accepted(&mut peers);
    peers
}

fn assert_accepted(peers: &mut [Peer]) {
    for peer in peers {
        assert_eq!(peer.receive(1), [0xFF]);
    }
}

fn crowd() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    let files: usize = files.split_whitespace().nth(3).expect("the soft one").parse().unwrap_or(usize::MAX);
    // Several tests have one at the same time.
    CROWD.min(files.saturating_sub(100) / 5)
}

fn short_lifetime(limit: Duration) -> [Duration; 2] {
    [limit, PATIENCE]
}

fn assert_answered(peers: &mut [Peer], text: &[u8]) {
    // Not by an assertion of each: that prints 600 KiB.
    let answered = peers.iter_mut().filter_map(Peer::response).filter(|response| response == text).count();
    assert_eq!(answered, peers.len());
}

#[test]
fn messages_that_came_while_the_process_was_stopped_are_answered() {
    while_stopped(
        short_lifetime,
        |server, _| established(server, crowd()),
        |peer| peer.send_message(b"hello"),
        |_, peers| assert_answered(peers, b"hello"),
    );
}

#[test]
fn a_message_behind_more_than_one_turn_takes_is_answered() {
    while_stopped(
        short_lifetime,
        |server, _| established(server, 10),
        |peer| {
            peer.send(&[9; 1000]);
            peer.send_message(b"hello");
        },
        |_, peers| assert_answered(peers, b"hello"),
    );
}

#[test]
fn pings_that_came_while_the_process_was_stopped_count() {
    while_stopped(
        short_lifetime,
        |server, _| established(server, crowd()),
        |peer| peer.send(PING),
        |server, peers| {
            server.ask(&format!("pings {}", peers.len()));
            // With the new lifetime that it gave: the last of all that were looked at.
            peers.last_mut().expect("a peer").assert_served();
        },
    );
}

#[test]
fn establishments_that_came_while_the_process_was_stopped_are_accepted() {
    while_stopped(
        |limit| [PATIENCE, limit],
        |server, _| connected(server, crowd()),
        |peer| peer.send(&establishment(&key())),
        |_, peers| assert_accepted(peers),
    );
}

#[test]
fn a_large_message_that_came_while_the_process_was_stopped_is_answered() {
    let large = vec![7; 600 << 10];
    while_stopped(
        short_lifetime,
        |server, _| {
            let mut peers = established(server, 1);
            // The receiving system's buffer grows with what is read from it.
            for _ in 0..10 {
                assert!(peers[0].exchange(&vec![0; 1 << 20]).is_some());
            }
            peers
        },
        |peer| {
            peer.send_message(&large);
            eventually("all of it has arrived", || bytes_on_the_way(peer) == 0);
        },
        |_, peers| assert_answered(peers, &large),
    );
}

/// What the system has not delivered of what this peer sent.
fn bytes_on_the_way(peer: &Peer) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the system's connections");
    let port = |addr: std::io::Result<SocketAddr>| format!(":{:04X}", addr.expect("an address").port());
    let (from, to) = (port(peer.stream.local_addr()), port(peer.stream.peer_addr()));
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1].ends_with(&from) && row[2].ends_with(&to)).expect("the connection");
    u64::from_str_radix(&row[4][..8], 16).expect("a number")
}

#[test]
fn time_in_which_the_process_was_stopped_does_not_count_as_a_drain() {
    let header = message_header(5 + SEAL_OVERHEAD);
    while_stopped(
        |_| [PATIENCE; 2],
        |server, drain| {
            let mut peers = established(server, crowd());
            // A message that has begun is waited for.
            for peer in &mut peers {
                peer.send(&header);
            }
            server.ask(&format!("drain {}", drain.as_millis()));
            peers
        },
        |peer| {
            let frame = peer.message(b"hello");
            peer.send(&frame[header.len()..]);
        },
        |_, peers| assert_answered(peers, b"hello"),
    );
}

#[test]
fn a_peer_that_always_has_more_to_read_is_closed_at_its_lifetime() {
    let lifetime = Duration::from_millis(300);
    let server = echo_server(server(1).lifetime(lifetime));
    let addr = server.local_addr();
    // A frame that never ends, slow and fast, and more of what counts for nothing than one turn takes.
    let endless: &[u8] = &[1, 0, 0, 0, 0, 0, 0xF0, 0, 0];
    let nothing = vec![9; 64 << 10];
    let ways: [(_, &[u8], _); 3] = [(endless, &[0], 5), (endless, &[0], 0), (&[], &nothing, 0)];
    thread::scope(|scope| {
        for (start, piece, pause) in ways {
            scope.spawn(move || {
                let mut peer = Peer::establish(addr);
                peer.send(start);
                let begun = Instant::now();
                while peer.stream.write_all(piece).is_ok() && begun.elapsed() < PATIENCE {
                    thread::sleep(Duration::from_millis(pause));
                }
                assert!(begun.elapsed() > lifetime / 2, "closed too early");
                assert!(begun.elapsed() < PATIENCE / 6, "closed after {:?}", begun.elapsed());
            });
        }
    });
    assert_eq!(server.stats().expired, 3);
}
