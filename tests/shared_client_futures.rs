//! Calls of a shared client as futures, in a small executor.

mod common;
#[path = "common/hold.rs"]
mod hold;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use common::{PATIENCE, echo_server, eventually, key, server};
use falcotcp_sync::{Client, Error, SharedClient};
use hold::Hold;

fn shared(server: &falcotcp_sync::ServerHandle) -> SharedClient {
    Client::builder(key()).connect_shared(server.local_addr()).expect("connecting")
}

#[test]
fn a_call_is_awaited_in_a_small_executor() {
    let server = echo_server(server(1));
    let client = shared(&server);
    assert_eq!(pollster::block_on(client.call(b"one")).expect("an answer"), b"one");
    let call = client.start(b"two").expect("room");
    assert_eq!(pollster::block_on(call).expect("an answer"), b"two");
    eventually("the other is done", || client.start(b"three").expect("room").wait().is_ok());
}

#[test]
fn a_call_that_was_polled_may_be_waited_for() {
    let hold = Hold::default();
    let server = hold.spawn(server(1));
    let client = shared(&server);
    let mut call = client.request(b"wait").timeout(4 * PATIENCE).start().expect("room");
    let mut context = Context::from_waker(Waker::noop());
    assert!(std::pin::Pin::new(&mut call).poll(&mut context).is_pending());
    hold.await_entered();
    let (sender, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(call.wait()));
    hold.open();
    assert_eq!(told.recv_timeout(PATIENCE).expect("it is told at once").expect("an answer"), b"wait");
}

/// Counts how often it is woken.
#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn futures_wait_for_room_in_turn_and_one_that_is_dropped_leaves_its_room_to_the_next() {
    let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
    let released = parking_lot::Mutex::new(released);
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            if message == b"wait" {
                let _ = released.lock().recv_timeout(PATIENCE);
            }
            message.to_vec()
        })
        .expect("spawning");
    let client =
        Client::builder(key()).max_in_flight(1).connect_shared(server.local_addr()).expect("connecting");
    let blocking = client.start(b"wait").expect("room");
    let counts: [Arc<Counted>; 3] = Default::default();
    let wakers = counts.clone().map(Waker::from);
    let mut futures = [client.call(b"0"), client.call(b"1"), client.call(b"2")].map(Box::pin);
    for (future, waker) in futures.iter_mut().zip(&wakers) {
        assert!(future.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    release.send(()).expect("the handler");
    blocking.wait().expect("an answer");
    eventually("the first one is woken", || counts[0].0.load(SeqCst) > 0);
    assert_eq!(counts[2].0.load(SeqCst), 0, "not all at once");
    let [first, mut second, mut third] = futures;
    drop(first);
    eventually("the second one is woken instead", || counts[1].0.load(SeqCst) > 0);
    let answer = |future: &mut std::pin::Pin<Box<falcotcp_sync::Calling>>, waker: &Waker| {
        let mut result = None;
        eventually("it is answered", || match future.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(answer) => {
                result = Some(answer);
                true
            }
            Poll::Pending => false,
        });
        result.expect("a result").expect("an answer")
    };
    assert_eq!(answer(&mut second, &wakers[1]), b"1");
    assert_eq!(answer(&mut third, &wakers[2]), b"2");
}

#[test]
fn a_future_has_a_time_out_although_nobody_waits_for_it() {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let never = parking_lot::Mutex::new(never);
    let server = server(1)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(move |message: &[u8]| {
            let _ = never.lock().recv_timeout(Duration::from_secs(2));
            message.to_vec()
        })
        .expect("spawning");
    let client = Client::builder(key())
        .request_timeout(Duration::from_millis(200))
        .stall_timeout(PATIENCE)
        .connect_shared(server.local_addr())
        .expect("connecting");
    let mut future = pin!(client.call(b"never answered in time"));
    let begun = Instant::now();
    let outcome = pollster::block_on(&mut future);
    assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}
