//! A server with more to do than it can: what has waited too long is answered without its handler.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Peer, eventually, server};
use falcotcp_sync::{ForwardSecrecy, Handler, Request, Response, ServerBuilder, ServerHandle};

const LIMIT: Duration = Duration::from_millis(200);

/// A few of these fill what a server reads at once, and each takes its handler a while.
const LARGE: usize = 16 << 10;

/// Waits in its handler for as long as the test wants, for each message `hold`, and keeps what it saw of the others.
#[derive(Clone)]
struct Held {
    release: Arc<Mutex<mpsc::Receiver<()>>>,
    waits: Arc<Mutex<Vec<Duration>>>,
    gone: Arc<Mutex<Vec<bool>>>,
}

impl Handler for Held {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        if request.message() == b"hold" {
            let _ = self.release.lock().expect("no panic").recv();
            self.gone.lock().expect("no panic").push(request.is_peer_gone());
        } else {
            if request.message().len() == LARGE {
                thread::sleep(LIMIT / 40);
            }
            self.waits.lock().expect("no panic").push(request.waited());
        }
        response.extend_from_slice(request.message());
    }
}

fn held(builder: ServerBuilder) -> (ServerHandle, Held, mpsc::Sender<()>) {
    let (sender, release) = mpsc::channel();
    let held = Held { release: Arc::new(Mutex::new(release)), waits: Arc::default(), gone: Arc::default() };
    let server = builder.bind("127.0.0.1:0").expect("binding").spawn(held.clone()).expect("spawning");
    (server, held, sender)
}

/// Lets the limit pass, and says that it has.
fn wait_longer_than_the_limit() {
    let begun = Instant::now();
    while begun.elapsed() <= LIMIT + LIMIT / 2 {
        thread::sleep(LIMIT / 4);
    }
}

#[test]
fn a_message_that_waited_too_long_is_rejected_and_the_next_one_answered() {
    let (server, held, release) = held(server(1).shed_after(LIMIT));
    let mut holder = Peer::establish(server.local_addr());
    let mut other = Peer::establish(server.local_addr());
    holder.send_message(b"hold");
    eventually("it is held", || server.stats().messages == 1);
    assert_eq!(server.stats().workers_busy, 1);
    other.send_message(b"too late");
    eventually("it is seen", || server.stats().waiting == 1);
    wait_longer_than_the_limit();
    assert!(server.stats().oldest_wait.expect("it waits") > LIMIT);
    release.send(()).expect("it is held");
    assert_eq!(holder.response().as_deref(), Some(&b"hold"[..]), "it had not waited");
    assert_eq!(other.response(), None);
    other.assert_served();
    let stats = server.stats();
    assert_eq!((stats.shed, stats.messages, stats.rejected), (1, 2, 0));
    assert!(held.waits.lock().expect("no panic").iter().all(|wait| *wait < LIMIT));
    eventually("nobody waits", || {
        let stats = server.stats();
        (stats.workers_busy, stats.waiting, stats.oldest_wait) == (0, 0, None)
    });
}

#[test]
fn messages_behind_a_long_handler_of_their_own_connection_have_waited_as_well() {
    let (server, _, release) = held(server(1).shed_after(LIMIT));
    let mut peer = Peer::establish(server.local_addr());
    let frames = [peer.message(b"hold"), peer.message(b"too late"), peer.message(b"too late")].concat();
    peer.send(&frames);
    eventually("it is held", || server.stats().messages == 1);
    wait_longer_than_the_limit();
    release.send(()).expect("it is held");
    assert_eq!(peer.response().as_deref(), Some(&b"hold"[..]));
    assert_eq!([peer.response(), peer.response()], [None, None]);
    peer.assert_served();
    assert_eq!(server.stats().shed, 2);
}

#[test]
fn a_peer_that_always_has_more_to_say_is_not_taken_for_one_that_waits() {
    let limit = 5 * LIMIT;
    let (server, held, _release) = held(server(1).shed_after(limit));
    let mut peer = Peer::establish(server.local_addr());
    let mut sender = peer.second_hand();
    let sending = thread::spawn(move || {
        let begun = Instant::now();
        let mut count = 0;
        while begun.elapsed() < 2 * limit {
            sender.send_message(&[7; LARGE]);
            count += 1;
        }
        sender.send_message(b"the last");
        count
    });
    let mut answers = 0;
    while peer.response().expect("none is shed") != b"the last" {
        answers += 1;
    }
    assert_eq!(answers, sending.join().expect("the sender"));
    assert_eq!(server.stats().shed, 0);
    assert_eq!(held.waits.lock().expect("no panic").len(), answers + 1);
}

#[test]
fn what_has_arrived_when_the_server_stops_is_answered_however_long_it_waited() {
    let (server, _, release) = held(server(1).shed_after(LIMIT));
    let mut holder = Peer::establish(server.local_addr());
    let mut other = Peer::establish(server.local_addr());
    holder.send_message(b"hold");
    eventually("it is held", || server.stats().messages == 1);
    other.send_message(b"in time");
    wait_longer_than_the_limit();
    server.stopper().stop_within(PATIENCE);
    release.send(()).expect("it is held");
    assert_eq!(other.response().as_deref(), Some(&b"in time"[..]));
    assert_eq!(server.wait().expect("a report").cut, 0);
}

#[test]
fn a_handler_can_see_whether_its_peer_is_gone() {
    let (server, held, release) = held(server(1));
    let mut peer = Peer::establish(server.local_addr());
    for leave in [false, true] {
        peer.send_message(b"hold");
        eventually("it is held", || server.stats().messages == 1 + u64::from(leave));
        if leave {
            peer.half_close();
            // The FIN is on its way through the loopback interface, and has arrived when an answer to it would have.
            thread::sleep(LIMIT / 4);
        }
        release.send(()).expect("it is held");
        assert_eq!(peer.response().as_deref(), Some(&b"hold"[..]));
    }
    assert_eq!(*held.gone.lock().expect("no panic"), [false, true]);
}

#[cfg(feature = "forward-secrecy")]
#[test]
fn a_forward_secret_client_hears_that_it_may_send_again() {
    use common::key;
    use falcotcp_sync::{Client, Error};

    let (server, _, release) = held(server(1).shed_after(LIMIT).forward_secrecy(ForwardSecrecy::Require));
    let builder = Client::builder(key()).reconnect(true);
    let mut holder = builder.connect(server.local_addr()).expect("connecting");
    let mut other = builder.connect(server.local_addr()).expect("connecting");
    let shared = builder.connect_shared(server.local_addr()).expect("connecting");
    let mut pipelining = builder.connect(server.local_addr()).expect("connecting");
    thread::scope(|scope| {
        scope.spawn(move || holder.message(b"hold").expect("an answer"));
        eventually("it is held", || server.stats().messages == 1);
        let waiting = scope.spawn(move || {
            let outcome = other.message(b"too late");
            (outcome, other)
        });
        let pipelined = scope.spawn(move || {
            let mut outcomes = Vec::new();
            let pipeline = pipelining.pipeline([b"too late"], |outcome| {
                outcomes.push(outcome.map(<[u8]>::to_vec).map_err(|error| error.to_string()));
            });
            pipeline.expect("all goes on");
            outcomes
        });
        let call = shared.start(b"too late").expect("room");
        eventually("they are seen", || server.stats().waiting == 3);
        wait_longer_than_the_limit();
        release.send(()).expect("it is held");
        let (outcome, mut other) = waiting.join().expect("no panic");
        let error = outcome.expect_err("it waited too long");
        assert!(matches!(error, Error::Overloaded), "{error}");
        assert!(!error.was_sent());
        assert!(other.is_open());
        assert_eq!(other.message(b"again").expect("an answer"), b"again");
        assert!(matches!(call.wait(), Err(Error::Overloaded)));
        assert_eq!(shared.message(b"again").expect("an answer"), b"again");
        let pipelined = pipelined.join().expect("no panic");
        assert_eq!(pipelined, [Err(Error::Overloaded.to_string())]);
    });
    assert_eq!(server.stats().shed, 3);
}

/// Two workers, handlers of a fifth of what the clients wait for, and far more clients than can be answered.
#[test]
fn with_a_limit_the_handlers_work_for_those_who_still_wait() {
    const HANDLER: Duration = Duration::from_millis(40);
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let builder = server(2).shed_after(Duration::from_millis(150)).forward_secrecy(ForwardSecrecy::Off);
    let server = builder
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            count.fetch_add(1, SeqCst);
            thread::sleep(HANDLER);
            message.to_vec()
        })
        .expect("spawning");
    let mut peers: Vec<_> = (0..40).map(|_| Peer::establish(server.local_addr())).collect();
    for peer in &mut peers {
        peer.send_message(b"work");
    }
    let answers = peers.iter_mut().filter_map(Peer::response).count();
    assert_eq!(answers, handled.load(SeqCst));
    assert!((2..20).contains(&answers), "{answers} of 40 were handled");
    assert_eq!(server.stats().shed, 40 - answers as u64);
}
