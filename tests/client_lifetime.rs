//! A connection is renewed, or kept alive, early enough for what its own round trip takes.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, echo_server, key, server};
use falcotcp_sync::Client;

const LIFETIME: Duration = Duration::from_secs(2);
const ONE_WAY: Duration = Duration::from_millis(100);

/// A way to `server` on which every byte, and the end, arrives [`ONE_WAY`] later, in both directions.
fn slow_way_to(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a connection");
            let server = TcpStream::connect(server).expect("connecting");
            let back = (server.try_clone().expect("cloning"), client.try_clone().expect("cloning"));
            delay(client, server);
            delay(back.0, back.1);
        }
    });
    addr
}

fn delay(mut from: TcpStream, mut to: TcpStream) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count) = from.read(&mut bytes) {
            if sender.send((Instant::now() + ONE_WAY, bytes[..count].to_vec())).is_err() || count == 0 {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                let _ = to.shutdown(std::net::Shutdown::Both);
                return;
            }
        }
    });
}

#[test]
fn an_idle_connection_is_renewed_before_a_message_would_meet_its_end() {
    let server = echo_server(server(2).lifetime(LIFETIME));
    let addr = slow_way_to(server.local_addr());
    thread::scope(|scope| {
        for idle in [1700, 1800, 1850, 1900, 1940, 1980] {
            scope.spawn(move || {
                let mut client = Client::builder(key())
                    .lifetime(LIFETIME)
                    .reconnect(true)
                    .request_timeout(PATIENCE)
                    .connect(addr)
                    .expect("connecting");
                client.message(b"first").expect("an answer");
                thread::sleep(Duration::from_millis(idle));
                assert_eq!(client.message(b"second").expect("an answer"), b"second", "after {idle} ms");
            });
        }
    });
}

#[test]
fn a_ping_is_sent_early_enough_whatever_the_interval() {
    let server = echo_server(server(2).lifetime(LIFETIME));
    let addr = slow_way_to(server.local_addr());
    let mut client = Client::builder(key())
        .lifetime(LIFETIME)
        .keep_alive(true)
        .keep_alive_interval(LIFETIME.mul_f64(0.99))
        .request_timeout(PATIENCE)
        .connect(addr)
        .expect("connecting");
    thread::sleep(2 * LIFETIME);
    assert_eq!(client.message(b"alive").expect("an answer"), b"alive");
}

/// Which only a forward-secret session tells.
#[cfg(feature = "forward-secrecy")]
mod told_by_the_server {
    use falcotcp_sync::ServerHandle;

    use super::*;
    use crate::common::eventually;

    const SHORT: Duration = Duration::from_secs(1);

    /// Sleeps as many milliseconds as the message says, and echoes.
    fn sleepy(lifetime: Duration) -> ServerHandle {
        let handler = |message: &[u8]| {
            let time = std::str::from_utf8(message).ok().and_then(|text| text.parse().ok());
            thread::sleep(Duration::from_millis(time.unwrap_or(0)));
            message.to_vec()
        };
        server(2).lifetime(lifetime).bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning")
    }

    #[test]
    fn it_is_kept_alive_also_when_it_was_busy_at_first() {
        let server = sleepy(SHORT);
        let mut client =
            Client::builder(key()).keep_alive(true).connect(server.local_addr()).expect("connecting");
        client.message(b"400").expect("an answer");
        eventually("it is kept alive", || server.stats().pings >= 6);
        client.message(b"0").expect("an answer");
        assert_eq!((server.stats().expired, server.stats().accepted), (0, 1));
    }

    #[test]
    fn it_is_renewed_in_time_and_earlier_if_the_client_says_so() {
        let server = sleepy(SHORT);
        let builder = Client::builder(key()).reconnect(true).request_timeout(PATIENCE);
        let mut client = builder.connect(server.local_addr()).expect("connecting");
        eventually("its lifetime is over", || server.stats().expired == 1);
        client.message(b"0").expect("an answer");
        assert_eq!(server.stats().accepted, 2);

        let server = sleepy(PATIENCE);
        let mut client = builder.lifetime(SHORT).connect(server.local_addr()).expect("connecting");
        client.message(b"0").expect("an answer");
        thread::sleep(SHORT);
        client.message(b"0").expect("an answer");
        assert_eq!((server.stats().expired, server.stats().accepted), (0, 2));
    }
}
