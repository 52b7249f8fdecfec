//! The published Python package `falcotcp` 0.1.1: its client against our server, and our client against its server.
//!
//! `cargo test --test interop_python -- --ignored`, with `FALCOTCP_PYTHON` as the interpreter that has the package (default:
//! `python3`). The package reads with single `recv` calls, so messages are small here.

mod common;

use std::env;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use falcotcp_sync::{Client, ClientBuilder, Error, ForwardSecrecy, Key, Server, ServerBuilder, ServerHandle};

const KEY: [u8; 32] = *b"shared by both ends of the tests";
const ANOTHER_KEY: [u8; 32] = *b"held by one end only, by mistake";

/// The policies that also take classic sessions.
const CLASSIC_TOO: &[ForwardSecrecy] = &[
    ForwardSecrecy::Off,
    #[cfg(feature = "forward-secrecy")]
    ForwardSecrecy::Prefer,
];

const SIZES: [usize; 10] = [0, 1, 11, 12, 16, 28, 255, 256, 500, 1_000];

/// What anything here may take on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn the_python_client_is_answered_for_messages_of_several_sizes() {
    let python = Python::find();
    let server = reversing_server();
    let mut client = python.client(&server, &KEY).expect("established");
    for size in SIZES {
        let message = message_of(size);
        assert_eq!(client.message(&message).expect("a response"), reversed(&message), "{size} bytes");
    }
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn the_python_clients_pings_between_messages_are_counted_and_not_answered() {
    let python = Python::find();
    let server = reversing_server();
    let mut client = python.client(&server, &KEY).expect("established");
    client.ping();
    for _ in 0..5 {
        client.ping();
        client.ping();
        assert_eq!(client.message(b"between pings").expect("a response"), reversed(b"between pings"));
    }
    wait_until("11 pings are counted", || server.stats().pings == 11);
    wait_until("5 messages are counted", || server.stats().messages == 5);
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn several_python_clients_at_once_each_get_their_own_answers() {
    let python = Python::find();
    let server = reversing_server();
    let mut clients: Vec<_> = (0..4).map(|_| python.client(&server, &KEY).expect("established")).collect();
    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            let message = format!("client {number}, round {round}").into_bytes();
            assert_eq!(client.message(&message).expect("a response"), reversed(&message));
        }
    }
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn a_python_client_with_another_key_is_refused_and_the_next_one_served() {
    let python = Python::find();
    let server = reversing_server();
    let refused = python.client(&server, &ANOTHER_KEY).err();
    assert_eq!(refused.as_deref(), Some("error AuthenticationError"));

    let mut client = python.client(&server, &KEY).expect("established");
    assert_eq!(client.message(b"served").expect("a response"), b"devres");
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn a_python_client_stays_in_step_after_a_message_whose_handler_panicked() {
    let python = Python::find();
    let server = server(|message: &[u8]| {
        assert_ne!(message, b"fail", "asked to fail");
        reversed(message)
    });
    let mut client = python.client(&server, &KEY).expect("established");
    let failed = client.message(b"fail").expect_err("the empty response");
    assert!(failed.starts_with("error "), "{failed}");
    assert_eq!(client.message(b"served").expect("a response"), b"devres");
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn our_client_is_answered_by_the_python_server_for_messages_of_several_sizes() {
    let python = Python::find();
    let server = python.server();
    let mut client = server.connect(&KEY).expect("established");
    for size in SIZES {
        let message = message_of(size);
        assert_eq!(client.message(&message).expect("a response"), reversed(&message), "{size} bytes");
    }
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn our_clients_pings_between_messages_leave_the_python_server_in_step() {
    let python = Python::find();
    let server = python.server();
    let mut client = server.connect(&KEY).expect("established");
    client.ping().expect("a ping before any message");
    for _ in 0..5 {
        client.ping().expect("a ping");
        client.ping().expect("another right after it");
        assert_eq!(client.message(b"between pings").expect("a response"), reversed(b"between pings"));
    }
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn our_client_with_another_key_is_refused_by_the_python_server() {
    let python = Python::find();
    let server = python.server();
    let refused = server.connect(&ANOTHER_KEY);
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn a_python_handlers_failure_is_a_rejected_message_after_which_our_client_goes_on() {
    let python = Python::find();
    let server = python.server();
    let mut client = server.connect(&KEY).expect("established");
    let failed = client.message(b"fail");
    assert!(matches!(failed, Err(Error::Rejected)), "{failed:?}");
    assert_eq!(client.message(b"served").expect("a response"), b"devres");
}

#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn classic_sessions_work_both_ways_where_no_end_requires_another() {
    let python = Python::find();
    let published = python.server();
    for policy in CLASSIC_TOO {
        let server = builder().forward_secrecy(*policy).bind("127.0.0.1:0").expect("a free port");
        let server = server.spawn(reversed).expect("threads");
        let mut theirs = python.client(&server, &KEY).expect("established");
        assert_eq!(theirs.message(b"served").expect("a response"), b"devres");
        assert_eq!(server.stats().established_classic, 1);

        let ours = our_builder(&KEY).forward_secrecy(*policy);
        // It reads one message at a time with a bare `recv`.
        let shared = ours.clone().max_in_flight(1).connect_shared(published.addr).expect("established");
        let calls = thread::scope(|scope| {
            let call = || scope.spawn(|| shared.message(b"served").expect("a response"));
            [call(), call()].map(|call| call.join().expect("no panic"))
        });
        assert_eq!(calls, [b"devres", b"devres"]);
        drop(shared);
        let mut ours = ours.connect(published.addr).expect("established");
        assert!(!ours.is_forward_secret());
        assert_eq!(ours.message(b"served").expect("a response"), b"devres");
    }
}

#[cfg(feature = "forward-secrecy")]
#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn ends_that_require_forward_secrecy_refuse_the_package_and_say_why() {
    let python = Python::find();
    let server = builder().forward_secrecy(ForwardSecrecy::Require).bind("127.0.0.1:0").expect("a free port");
    let server = server.spawn(reversed).expect("threads");
    assert_eq!(python.client(&server, &KEY).err().as_deref(), Some("error AuthenticationError"));
    let refused = our_builder(&KEY).forward_secrecy(ForwardSecrecy::Require).connect(python.server().addr);
    assert!(matches!(refused, Err(Error::NotForwardSecret { .. })), "{refused:?}");
}

/// The package's server sends an empty response to a connection that has been silent for 5 s.
///
/// The one thread that serves goes over its connections in turn, and waits for each. So when the busy client has
/// had two answers, the silent one has been waited for in between or before, and sent its empty response.
#[test]
#[ignore = "needs the Python package falcotcp 0.1.1"]
fn our_client_left_idle_by_the_python_server_still_gets_its_own_answers() {
    let python = Python::find();
    let server = python.server();
    let mut idle = server.connect(&KEY).expect("established");
    let mut busy = server.connect(&KEY).expect("established");
    for _ in 0..2 {
        assert_eq!(busy.message(b"busy").expect("a response"), b"ysub");
    }
    server.wait_for_line("the time-out", |line| line.contains("An exception was raised: timed out"));
    // A closed connection is not waited for. It is the idle one's turn now, for 5 s; before they are over, but not before
    // every system's loopback has delivered what was sent, it says something again.
    drop(busy);
    thread::sleep(Duration::from_millis(500));

    assert_eq!(idle.message(b"first").expect("a response"), b"tsrif");
    idle.ping().expect("a ping");
    assert_eq!(idle.message(b"second").expect("a response"), b"dnoces");
}

/// An interpreter that has the package.
struct Python {
    interpreter: String,
}

impl Python {
    fn find() -> Self {
        common::end_if_hung(common::WHOLE_PROGRAM);
        let interpreter = env::var("FALCOTCP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let problem = match Command::new(&interpreter).args(["-c", "import falcotcp_py"]).output() {
            Ok(output) if output.status.success() => return Self { interpreter },
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
            Err(error) => error.to_string(),
        };
        let problem = problem.lines().last().unwrap_or("it could not import falcotcp_py");
        panic!(
            "the Python package falcotcp 0.1.1 is not usable from {interpreter} ({problem}). To install it: \
             python3 -m venv VENV && VENV/bin/pip install falcotcp==0.1.1, then set FALCOTCP_PYTHON=VENV/bin/python"
        );
    }

    fn client(&self, server: &ServerHandle, key: &[u8; 32]) -> Result<PythonClient, String> {
        let port = server.local_addr().port().to_string();
        let (script, input, output) = self.run("client.py", &[&port, &hex(key)]);
        let mut client = PythonClient { input, output: BufReader::new(output), _script: script };
        match client.answer() {
            answer if answer == "connected" => Ok(client),
            answer => Err(answer),
        }
    }

    fn server(&self) -> PythonServer {
        let (script, input, output) = self.run("server.py", &[&hex(&KEY)]);
        let (sender, lines) = mpsc::channel();
        // It must be read to its end: a server that can't print stops serving.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                println!("server.py: {line}");
                let _ = sender.send(line);
            }
        });
        let mut server = PythonServer { addr: SocketAddr::from(([127, 0, 0, 1], 0)), lines, script, input };
        let announcement = server.wait_for_line("its port", |line| line.starts_with("listening on "));
        let port = announcement.rsplit(' ').next().and_then(|port| port.parse().ok());
        server.addr.set_port(port.expect("a port"));
        server
    }

    fn run(&self, script: &str, arguments: &[&str]) -> (Script, ChildStdin, ChildStdout) {
        let mut child = Command::new(&self.interpreter)
            .arg("-u")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/").to_owned() + script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter ran a moment ago");
        let pipes = child.stdin.take().zip(child.stdout.take());
        let script = Script(child);
        let (input, output) = pipes.expect("both were asked for");
        (script, input, output)
    }
}

/// A running script, which ends with its owner, also when that panics.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The package's client. It gives up by itself after 10 s, so that every command has an answer.
struct PythonClient {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _script: Script,
}

impl PythonClient {
    /// The response, or the line that says what was raised.
    fn message(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        let answer = self.command(&format!("message {}", hex(message)));
        match answer.split_once(' ') {
            Some(("response", response)) => Ok(bytes(response)),
            None if answer == "response" => Ok(Vec::new()),
            _ => Err(answer),
        }
    }

    fn ping(&mut self) {
        assert_eq!(self.command("ping"), "pinged");
    }

    fn command(&mut self, command: &str) -> String {
        writeln!(self.input, "{command}").expect("client.py reads");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("client.py writes");
        line.trim_end().to_owned()
    }
}

/// The package's server, in a process of its own since it can't be stopped.
struct PythonServer {
    addr: SocketAddr,
    lines: Receiver<String>,
    #[expect(dead_code, reason = "dropped with the server")]
    script: Script,
    #[expect(dead_code, reason = "its end is the script's end")]
    input: ChildStdin,
}

impl PythonServer {
    fn connect(&self, key: &[u8; 32]) -> Result<Client, Error> {
        our_builder(key).connect(self.addr)
    }

    /// Passes over what the server prints until `found` holds.
    fn wait_for_line(&self, what: &str, found: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("server.py did not print {what}: {error}"));
            if found(&line) {
                return line;
            }
        }
    }
}

fn our_builder(key: &[u8; 32]) -> ClientBuilder {
    Client::builder(Key::from_bytes(*key)).connect_timeout(PATIENCE).request_timeout(PATIENCE)
}

fn builder() -> ServerBuilder {
    Server::builder(Key::from_bytes(KEY)).workers(2)
}

fn server<R: AsRef<[u8]>>(handler: impl Fn(&[u8]) -> R + Send + Sync + 'static) -> ServerHandle {
    let server = builder().bind("127.0.0.1:0").expect("a free port");
    server.spawn(handler).expect("threads")
}

fn reversing_server() -> ServerHandle {
    server(reversed)
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes in which a shift or a cut shows.
fn message_of(size: usize) -> Vec<u8> {
    (0_u8..=250).cycle().take(size).collect()
}

fn reversed(message: &[u8]) -> Vec<u8> {
    message.iter().rev().copied().collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16).expect("a hex digit")).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).expect("two digits")).collect()
}
