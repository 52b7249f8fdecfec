//! Debian's `haproxy` before two servers, one of which stops and comes back under load.
//!
//! `cargo test --features proxy-protocol --test load_balancer -- --ignored`, where `haproxy` is installed.

#![cfg(feature = "proxy-protocol")]

mod common;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use common::{PATIENCE, eventually, key, server};
use falcotcp_sync::{Client, ClientBuilder, ForwardSecrecy, Handler, Request, Response, ServerHandle};
use parking_lot::Mutex;

/// How often each message was executed.
type Executed = Arc<Mutex<HashMap<Vec<u8>, u32>>>;

/// Answers with the peer's address as it sees it, and with the message.
struct Who(Executed);

impl Handler for Who {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        *self.0.lock().entry(request.message().to_vec()).or_default() += 1;
        write!(response, "{} ", request.peer()).expect("writing to memory");
        response.extend_from_slice(request.message());
    }
}

fn serve(addr: SocketAddr, executed: &Executed) -> ServerHandle {
    let mut bound = None;
    eventually("the port is free", || {
        bound = server(2).proxy_protocol_from([IpAddr::V4(Ipv4Addr::LOCALHOST)]).bind(addr).ok();
        bound.is_some()
    });
    bound.expect("bound").spawn(Who(Arc::clone(executed))).expect("spawning")
}

/// A running `haproxy`, stopped and cleaned up after.
struct Balancer {
    child: Child,
    config: std::path::PathBuf,
    addr: SocketAddr,
}

impl Balancer {
    fn start(servers: &[SocketAddr]) -> Self {
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let mut text = format!(
            "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 90s\n  timeout server 90s\n\
             listen falcotcp\n  bind {addr}\n  balance roundrobin\n  option redispatch\n"
        );
        for (number, server) in servers.iter().enumerate() {
            writeln!(text, "  server s{number} {server} send-proxy-v2 check inter 100ms fall 1 rise 1")
                .expect("text");
        }
        let config =
            std::env::temp_dir().join(format!("falcotcp-haproxy-{}-{}.cfg", std::process::id(), addr.port()));
        std::fs::write(&config, text).expect("writing the configuration");
        let child = Command::new("haproxy").arg("-db").arg("-f").arg(&config).stderr(Stdio::null()).spawn();
        let balancer = Self {
            child: child.expect("haproxy, which is to be installed (on Debian: apt-get install haproxy)"),
            config,
            addr,
        };
        eventually("haproxy listens", || TcpStream::connect(addr).is_ok());
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

#[test]
#[ignore = "needs haproxy"]
fn idempotent_clients_behind_a_balancer_lose_nothing_when_a_server_stops_and_comes_back() {
    replace_both_servers(ForwardSecrecy::Off);
}

#[cfg(feature = "forward-secrecy")]
#[test]
#[ignore = "needs haproxy"]
fn behind_a_balancer_no_message_is_lost_or_executed_twice_when_a_server_stops_and_comes_back() {
    let (executed, answered) = replace_both_servers(ForwardSecrecy::Require);
    let executed = executed.lock();
    assert!(executed.values().all(|count| *count == 1));
    assert_eq!(executed.len() as u64, answered);
}

/// Clients of each kind send while one server stops and comes back, and then the other one; gives what was executed, and
/// the number of answers. Only forward-secret sessions say what was not executed, so in classic ones the messages have to
/// be idempotent, and pipelines are left out.
fn replace_both_servers(policy: ForwardSecrecy) -> (Executed, u64) {
    let executed = Executed::default();
    let any = "127.0.0.1:0".parse().expect("an address");
    let (first, second) = (serve(any, &executed), serve(any, &executed));
    let addrs = [first.local_addr(), second.local_addr()];
    let balancer = Balancer::start(&addrs);
    let front = balancer.addr;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let kinds: &[Asking] = if policy == ForwardSecrecy::Off {
        &[by_client, by_client, by_client, by_shared_client]
    } else {
        &[by_client, by_client, by_client, by_shared_client, by_pipeline]
    };
    let clients: Vec<_> = (0..)
        .zip(kinds)
        .map(|(number, ask)| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let builder = Client::builder(key()).request_timeout(PATIENCE).reconnect(true);
            let builder = builder.forward_secrecy(policy);
            let load = Load { number, front, is_idempotent: policy == ForwardSecrecy::Off, stop, answered };
            thread::spawn(move || ask(&builder, &load))
        })
        .collect();
    let under_load = |what: &str| {
        let before = answered.load(SeqCst);
        eventually(what, || answered.load(SeqCst) > before + 200);
    };
    under_load("both serve");
    assert!(first.stats().messages > 0 && second.stats().messages > 0, "the load is not balanced");
    let report = first.shutdown(PATIENCE).expect("a report");
    assert_eq!(report.cut, 0);
    under_load("the second serves alone");
    let first = serve(addrs[0], &executed);
    under_load("the first is back");
    let report = second.shutdown(PATIENCE).expect("a report");
    assert_eq!(report.cut, 0);
    under_load("the first serves alone");
    assert!(first.stats().messages > 0);
    stop.store(true, SeqCst);
    for client in clients {
        client.join().expect("no request failed");
    }
    (executed, answered.load(SeqCst))
}

/// What one thread sends.
struct Load {
    number: u32,
    front: SocketAddr,
    is_idempotent: bool,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
}

type Asking = fn(&ClientBuilder, &Load);

impl Load {
    /// Messages that nobody else sends, until the test stops.
    fn messages(&self) -> impl Iterator<Item = String> {
        (0u64..).map(|number| format!("{}.{number}", self.number)).take_while(|_| !self.stop.load(SeqCst))
    }

    fn record(&self, message: &str, answer: &[u8]) {
        assert!(answer.ends_with(format!(" {message}").as_bytes()), "{message}");
        self.answered.fetch_add(1, SeqCst);
    }
}

fn by_client(builder: &ClientBuilder, load: &Load) {
    let mut client = builder.connect(load.front).expect("connecting");
    for message in load.messages() {
        let request = client.request(message.as_bytes());
        let request = if load.is_idempotent { request.idempotent() } else { request };
        let answer = request.send().expect("an answer");
        load.record(&message, &answer);
        let own = client.local_addr().expect("connected");
        assert!(answer.starts_with(own.to_string().as_bytes()), "the server sees the true peer");
    }
}

fn by_shared_client(builder: &ClientBuilder, load: &Load) {
    let client = builder.connect_shared(load.front).expect("connecting");
    let mut messages = load.messages();
    loop {
        let batch: Vec<_> = messages.by_ref().take(4).collect();
        let start = |message: &String| {
            let request = client.request(message.as_bytes());
            let request = if load.is_idempotent { request.idempotent() } else { request };
            request.start().expect("room")
        };
        let calls: Vec<_> = batch.iter().map(start).collect();
        for (message, call) in batch.iter().zip(calls) {
            load.record(message, &call.wait().expect("an answer"));
        }
        if batch.is_empty() {
            return;
        }
    }
}

fn by_pipeline(builder: &ClientBuilder, load: &Load) {
    let mut client = builder.connect(load.front).expect("connecting");
    let mut messages = load.messages();
    loop {
        let batch: Vec<_> = messages.by_ref().take(8).collect();
        for (message, answer) in batch.iter().zip(client.messages(&batch).expect("a connection")) {
            load.record(message, &answer.expect("an answer"));
        }
        if batch.is_empty() {
            return;
        }
    }
}
