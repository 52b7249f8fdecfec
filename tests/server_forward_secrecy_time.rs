//! How long a forward-secret session lives, before its client has shown the keys and after.

#![cfg(feature = "forward-secrecy")]

mod common;
#[path = "common/forward_secret.rs"]
mod forward_secret;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, eventually, server};
use forward_secret::Said::{Cut, End, Goodbye, Pong};
use forward_secret::{ANSWER, MESSAGE, Offer, PING, Peer, header, response, serve, set_up};

const SHORT: Duration = Duration::from_millis(300);

/// A time that is not over although a loaded machine pauses a thread for most of a second.
const LONG: Duration = Duration::from_millis(1500);

/// A connection is not over before its deadline; what the clocks of both ends may differ by.
const EARLY: Duration = Duration::from_millis(5);

/// Says `bytes` every few milliseconds until the server has closed, as far as they go.
fn dribble(peer: &Peer, pieces: Vec<Vec<u8>>) -> thread::JoinHandle<()> {
    let mut stream = peer.stream.try_clone().expect("cloning");
    thread::spawn(move || {
        for piece in pieces {
            thread::sleep(SHORT / 20);
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
    })
}

#[test]
fn the_time_for_establishments_counts_from_accepting_until_the_first_frame() {
    const TIME: Duration = Duration::from_secs(4);
    const LATE: Duration = Duration::from_millis(2800);
    let (server, _, _) = serve(server(2).handshake_timeout(TIME).lifetime(2 * PATIENCE));
    let begun = Instant::now();
    let stream = TcpStream::connect(server.local_addr()).expect("connecting");
    thread::sleep(LATE);
    // Late, and neither this nor the bytes of a frame that never opens give it more time.
    let mut peer = Peer::on(stream, [0x5A; 32]);
    let frame = peer.frame(MESSAGE, &[0; 10_000]);
    let dribbling = dribble(&peer, frame.chunks(1).map(<[u8]>::to_vec).collect());
    let rest = peer.rest();
    let lived = begun.elapsed();
    assert!(rest == [End] || rest == [Cut], "in silence: {rest:?}");
    assert!(lived + EARLY >= TIME && lived < TIME + Duration::from_secs(2), "{lived:?}");
    dribbling.join().expect("the dribbler");
    eventually("it is counted", || server.stats().expired == 1);
    assert_eq!(server.stats().established_forward_secret, 0);
}

#[test]
fn an_establishment_that_is_played_again_reaches_nothing() {
    let (server, _, _) = serve(server(2).handshake_timeout(LONG));
    let mut stream = TcpStream::connect(server.local_addr()).expect("connecting");
    set_up(&stream);
    let offer = Offer::new([0x5A; 32]);
    let establishment = offer.establishment.clone();
    stream.write_all(&establishment).expect("sending");
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer).expect("an answer");
    let mut peer = offer.answered(&answer, stream);
    let frames = [peer.frame(PING, b""), peer.frame(MESSAGE, b"pay")].concat();
    peer.send_raw(&frames);
    assert_eq!((peer.next(), peer.next()), (Pong, response(b"pay")));

    for behind in [&frames[..], &[]] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(server.local_addr()).expect("connecting");
        set_up(&stream);
        stream.write_all(&establishment).expect("sending");
        let mut other = [0; ANSWER];
        stream.read_exact(&mut other).expect("an answer");
        assert_ne!(other, answer);
        stream.write_all(behind).expect("sending");
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "in silence");
        assert!(!behind.is_empty() || begun.elapsed() + EARLY >= LONG);
    }
    let stats = server.stats();
    assert_eq!((stats.messages, stats.established_forward_secret), (1, 1));
}

#[test]
fn the_lifetime_starts_with_the_first_frame() {
    let (server, _, _) = serve(server(2).lifetime(SHORT));
    let mut peer = Peer::unproven(server.local_addr());
    assert_eq!(peer.lifetime, SHORT);
    assert!(peer.is_open_for(2 * SHORT), "its time is that for establishments");
    let shown = Instant::now();
    peer.send(PING, b"");
    assert_eq!(peer.rest(), [Pong, Goodbye(0), End]);
    assert!(shown.elapsed() + EARLY >= SHORT);
}

/// Any frame that opens and is well-formed shows the keys, also one of a type that nothing is known of.
#[test]
fn the_first_frame_may_be_any() {
    for (kind, text, said) in [
        (PING, &b""[..], vec![Pong, Goodbye(0), End]),
        (MESSAGE, b"one", vec![response(b"one"), Goodbye(1), End]),
        (0, b"", vec![Goodbye(0), End]),
        (77, b"some text", vec![Goodbye(0), End]),
    ] {
        let (server, _, _) = serve(server(1).handshake_timeout(2 * PATIENCE).lifetime(SHORT));
        let mut peer = Peer::unproven(server.local_addr());
        peer.send(kind, text);
        assert_eq!(peer.rest(), said);
        assert_eq!(server.stats().established_forward_secret, 1);
    }
}

#[test]
fn messages_and_pings_extend_the_lifetime() {
    let (server, _, _) = serve(server(2).lifetime(LONG));
    let addr = server.local_addr();
    let lives = [PING, MESSAGE].map(|kind| {
        thread::spawn(move || {
            let mut peer = Peer::establish(addr);
            let mut last = Instant::now();
            for _ in 0..4 {
                assert!(peer.is_open_for(LONG / 3));
                last = Instant::now();
                peer.send(kind, b"");
                assert_eq!(peer.next(), if kind == PING { Pong } else { response(b"") });
            }
            assert_eq!(peer.rest(), [Goodbye(if kind == PING { 0 } else { 4 }), End]);
            assert!(last.elapsed() + EARLY >= LONG);
        })
    });
    for life in lives {
        life.join().expect("a connection that lives as long as it should");
    }
}

#[test]
fn nothing_else_extends_the_lifetime() {
    let (server, _, _) = serve(server(2).lifetime(SHORT));
    for kind in [0, 3, 77] {
        let mut peer = Peer::establish(server.local_addr());
        let ignored = (0..2000).map(|_| peer.frame(kind, b"some text")).collect();
        assert_expires_although(peer, ignored);
    }
    let mut peer = Peer::establish(server.local_addr());
    let frame = peer.frame(MESSAGE, &[0; 2000]);
    assert_expires_although(peer, frame.chunks(1).map(<[u8]>::to_vec).collect());
}

/// The pieces are sent for far longer than it lives.
fn assert_expires_although(mut peer: Peer, pieces: Vec<Vec<u8>>) {
    let begun = Instant::now();
    let dribbling = dribble(&peer, pieces);
    assert_eq!(peer.rest(), [Goodbye(0), End]);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let _ = peer.stream.shutdown(std::net::Shutdown::Both);
    dribbling.join().expect("the dribbler");
}

#[test]
fn an_offer_that_a_busy_server_answers_late_can_still_be_followed() {
    let (server, gate, _) = serve(server(1).handshake_timeout(LONG));
    let mut busy = Peer::establish(server.local_addr());
    busy.send(MESSAGE, b"wait");
    gate.entered();
    let mut stream = TcpStream::connect(server.local_addr()).expect("connecting");
    set_up(&stream);
    let offer = Offer::new([0x5A; 32]);
    stream.write_all(&offer.establishment).expect("sending");
    thread::sleep(LONG + SHORT);
    gate.open();
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer).expect("an answer, since the offer came in time");
    let mut peer = offer.answered(&answer, stream).proven();
    peer.assert_served();

    // And a client that does not follow is given no more than that once again.
    let late = Peer::unproven(server.local_addr()).rest();
    assert_eq!(late, [End]);
}

#[cfg(target_os = "linux")]
mod stopped {
    use std::net::{SocketAddr, TcpListener};
    use std::process::{Child, Command};

    use super::*;

    /// How long the server's connections live; long enough for all to be said before its process stands still.
    const TIME: Duration = Duration::from_secs(3);

    /// Where the process that is stopped says where it serves.
    const PARENT: &str = "FALCOTCP_TEST_PARENT";

    /// What the other process runs; nothing in this one.
    #[test]
    #[ignore = "the part of another test, in a process of its own"]
    fn the_server_that_is_stopped() {
        let Ok(parent) = std::env::var(PARENT) else { return };
        let mut parent = TcpStream::connect(parent).expect("its parent");
        let (server, _, _) = serve(server(2).lifetime(TIME).handshake_timeout(TIME));
        parent.write_all(server.local_addr().to_string().as_bytes()).expect("telling where");
        parent.write_all(b"\n").expect("telling where");
        parent.set_read_timeout(Some(2 * PATIENCE)).expect("setting a time-out");
        // Not once, since that can be interrupted when the process goes on.
        let _ = parent.read_to_end(&mut Vec::new());
    }

    struct Stopped {
        child: Child,
        _parent: TcpStream,
    }

    impl Stopped {
        fn start() -> (Self, SocketAddr) {
            let listener = TcpListener::bind("127.0.0.1:0").expect("binding");
            let child = Command::new(std::env::current_exe().expect("this program"))
                .args(["--ignored", "--exact", "stopped::the_server_that_is_stopped"])
                .env(PARENT, listener.local_addr().expect("an address").to_string())
                .spawn()
                .expect("starting it");
            let (mut parent, _) = listener.accept().expect("the child");
            set_up(&parent);
            let mut line = Vec::new();
            let mut byte = [0];
            while byte != *b"\n" {
                line.extend_from_slice(&byte);
                parent.read_exact(&mut byte).expect("where it serves");
            }
            let addr = String::from_utf8_lossy(&line[1..]).parse().expect("an address");
            (Self { child, _parent: parent }, addr)
        }

        fn signal(&self, signal: &str) {
            let kill = format!("kill {signal} {}", self.child.id());
            assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        }

        fn stop(&self) {
            self.signal("-STOP");
            let tasks = format!("/proc/{}/task", self.child.id());
            eventually("each of its threads has stopped", || {
                let threads = std::fs::read_dir(&tasks).expect("its threads");
                threads.flatten().all(|thread| {
                    let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                    stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
                })
            });
        }
    }

    impl Drop for Stopped {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn what_had_arrived_when_its_process_stood_still_is_in_time() {
        let (stopped, addr) = Stopped::start();
        let [mut speaks, mut is_silent] = [(); 2].map(|()| Peer::establish(addr));
        let mut shows = Peer::unproven(addr);
        stopped.stop();
        speaks.send(MESSAGE, b"in time");
        is_silent.send_raw(&header(MESSAGE, 100));
        let first = [shows.frame(PING, b""), shows.frame(MESSAGE, b"in time")].concat();
        shows.send_raw(&first);
        let mut stream = TcpStream::connect(addr).expect("the system accepts");
        set_up(&stream);
        let offer = Offer::new([0x5A; 32]);
        stream.write_all(&offer.establishment).expect("sending");
        thread::sleep(TIME + SHORT);
        stopped.signal("-CONT");
        assert_eq!(speaks.next(), response(b"in time"));
        assert_eq!((shows.next(), shows.next()), (Pong, response(b"in time")));
        let mut answer = [0; ANSWER];
        stream.read_exact(&mut answer).expect("an answer to the offer");
        offer.answered(&answer, stream).proven().assert_served();
        assert_eq!(is_silent.rest(), [Goodbye(0), End]);
    }
}
