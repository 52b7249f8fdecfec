//! A client whose process stood still for longer than its time-outs takes the answers that came meanwhile.

#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, eventually, key};
use falcotcp_sync::Client;
use falcotcp_sync::protocol::{Cipher, NonceSequence, ResponseWriter};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Where the process that is stopped finds its server.
const SERVER: &str = "FALCOTCP_TEST_SERVER";

/// What the other process runs; nothing in this one.
#[test]
#[ignore = "the part of another test, in a process of its own"]
fn the_client_that_is_stopped() {
    let Ok(addr) = std::env::var(SERVER) else { return };
    let addr: SocketAddr = addr.parse().expect("an address");
    let mut client = Client::builder(key())
        .connect_timeout(TIMEOUT)
        .request_timeout(TIMEOUT)
        .connect(addr)
        .expect("the acceptance came in time");
    assert_eq!(client.message(b"good").expect("the answer came in time"), vec![7; 50_000]);
}

#[test]
fn answers_that_came_while_the_process_was_stopped_are_taken() {
    // It also bounds the wait for a child that does not come.
    key();
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "the_client_that_is_stopped"])
        .env(SERVER, listener.local_addr().expect("an address").to_string())
        .spawn()
        .expect("starting it");
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("setting a time-out");
    let pid = child.id().to_string();
    stream.read_exact(&mut [0; 157]).expect("an establishment");
    answer_while_stopped(&pid, &mut stream, &[0xFF]);
    stream.read_exact(&mut [0; 9 + 28 + 4]).expect("a message");
    // So large that it takes several reads, and small enough for all of it to lie in the socket.
    answer_while_stopped(&pid, &mut stream, &response(&vec![7; 50_000]));
    assert!(has_succeeded(&mut child));
}

fn answer_while_stopped(pid: &str, stream: &mut TcpStream, answer: &[u8]) {
    // It may just be on its way from sending to waiting.
    thread::sleep(TIMEOUT / 20);
    signal("-STOP", pid);
    eventually("each of its threads has stopped", || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in brackets.
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
        })
    });
    stream.write_all(answer).expect("answering");
    thread::sleep(TIMEOUT + TIMEOUT / 10);
    signal("-CONT", pid);
}

fn signal(name: &str, pid: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill {name} {pid}")]).status().expect("a shell");
    assert!(status.success());
}

fn has_succeeded(child: &mut Child) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("waiting") {
            return status.success();
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("ending it");
    false
}

fn response(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut response = ResponseWriter::begin(&mut frame);
    response.extend_from_slice(text);
    let mut nonces = NonceSequence::new().expect("random bytes");
    response.seal(&Cipher::new(&key()), &mut nonces).expect("sealing");
    frame
}
