//! Debian's `haproxy` before two servers, one of which stops and comes back under load.
//!
//! Runs where `haproxy` is installed and says so where it is not; with `FALCOTCP_INTEROP=required` that is a failure.

#![cfg(feature = "proxy-protocol")]

mod common;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use common::{PATIENCE, eventually, key, server};
use falcotcp_sync::{Client, Handler, Request, Response, ServerHandle};

/// Answers with the peer's address as it sees it, and with the message.
struct Who;

impl Handler for Who {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        write!(response, "{} ", request.peer()).expect("writing to memory");
        response.extend_from_slice(request.message());
    }
}

fn serve(addr: SocketAddr) -> ServerHandle {
    let mut bound = None;
    eventually("the port is free", || {
        bound = server(2).proxy_protocol_from([IpAddr::V4(Ipv4Addr::LOCALHOST)]).bind(addr).ok();
        bound.is_some()
    });
    bound.expect("bound").spawn(Who).expect("spawning")
}

/// A running `haproxy`, stopped and cleaned up after.
struct Balancer {
    child: Child,
    config: std::path::PathBuf,
    addr: SocketAddr,
}

impl Balancer {
    fn start(servers: &[SocketAddr]) -> Option<Self> {
        if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_err() {
            let required = std::env::var("FALCOTCP_INTEROP").is_ok_and(|value| value == "required");
            assert!(!required, "haproxy is not installed, and FALCOTCP_INTEROP requires it");
            eprintln!("SKIPPED: haproxy is not installed (on Debian: apt-get install haproxy)");
            return None;
        }
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let mut text = format!(
            "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 90s\n  timeout server 90s\n\
             listen falcotcp\n  bind {addr}\n  balance roundrobin\n  option redispatch\n"
        );
        for (number, server) in servers.iter().enumerate() {
            writeln!(text, "  server s{number} {server} send-proxy-v2 check inter 100ms fall 1 rise 1")
                .expect("text");
        }
        let config = std::env::temp_dir().join(format!("falcotcp-haproxy-{}.cfg", std::process::id()));
        std::fs::write(&config, text).expect("writing the configuration");
        let child = Command::new("haproxy").arg("-db").arg("-f").arg(&config).stderr(Stdio::null()).spawn();
        let balancer = Self { child: child.expect("haproxy starts"), config, addr };
        eventually("haproxy listens", || TcpStream::connect(addr).is_ok());
        Some(balancer)
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
fn clients_behind_a_balancer_lose_nothing_when_a_server_stops_and_comes_back() {
    let any = "127.0.0.1:0".parse().expect("an address");
    let (first, second) = (serve(any), serve(any));
    let addrs = [first.local_addr(), second.local_addr()];
    let Some(balancer) = Balancer::start(&addrs) else { return };
    let front = balancer.addr;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let builder = Client::builder(&key()).request_timeout(PATIENCE).reconnect(true);
                let mut client = builder.connect(front).expect("connecting");
                for number in 0u64.. {
                    if stop.load(SeqCst) {
                        return;
                    }
                    let message = number.to_string();
                    let answer = client.message_idempotent(message.as_bytes()).expect("an answer");
                    let own = client.local_addr().expect("connected");
                    assert_eq!(answer, format!("{own} {message}").into_bytes());
                    answered.fetch_add(1, SeqCst);
                }
            })
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
    let first = serve(addrs[0]);
    under_load("the first is back");
    let report = second.shutdown(PATIENCE).expect("a report");
    assert_eq!(report.cut, 0);
    under_load("the first serves alone");
    assert!(first.stats().messages > 0);
    stop.store(true, SeqCst);
    for client in clients {
        client.join().expect("no request failed");
    }
}
