//! A listener that a service manager has opened, as systemd passes it: descriptor 3 and two variables.
//!
//! The service is a child process, this program again; Python plays the service manager.

#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Echo, Peer, server};
use listenfd::ListenFd;

const CHILD: &str = "FALCOTCP_TEST_ACTIVATED";

/// Binds, says where, and becomes the service with the listener as descriptor 3.
const MANAGER: &str = "
import os, socket, sys
listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.listen()
print('address', '127.0.0.1:%d' % listener.getsockname()[1], flush=True)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
";

/// The child's part; without the variable there is nothing to do.
#[test]
#[ignore = "the part of another test, in a process of its own"]
fn serve_the_passed_listener_as_a_child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let listener = ListenFd::from_env().take_tcp_listener(0).expect("a TCP socket").expect("one was passed");
    let server = server(2).listen(listener).expect("listening").spawn(Echo).expect("spawning");
    // Until the parent closes our standard input.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    server.shutdown(Duration::from_secs(5)).expect("a report");
}

#[test]
#[ignore = "needs python3"]
fn a_server_serves_the_listener_that_a_service_manager_passes() {
    common::end_if_hung(common::WHOLE_PROGRAM);
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new("python3")
        .args(["-c", MANAGER])
        .arg(program)
        .args(["--ignored", "--exact", "serve_the_passed_listener_as_a_child", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let mut lines = output.lines().map_while(Result::ok);
    let addr = lines.find_map(|line| line.strip_prefix("address ")?.parse().ok()).expect("an address");
    // The queue of the listener takes the connection before the service is up.
    Peer::establish(addr).assert_served();
    drop(child.stdin.take());
    // Read to its end, so that the child is never blocked on a full pipe.
    lines.for_each(drop);
    assert!(child.wait().expect("its end").success());
}
