//! Testing a handler without a server.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Token;
use parking_lot::{Condvar, Mutex};

use super::connection::deferred::{Answer, Outbox, Owner, Place};
use super::connection::{Deferral, DeferralLimits};
use super::connection_info::{ConnectionId, ConnectionInfo};
use super::handler::{Handler, Outcome, PeerSocket, Request, Response};
use super::shared::WorkerCounters;
use crate::protocol::ResponseWriter;

/// A request that no client sent, for the tests of a [`Handler`]: no socket, no key, no threads.
///
/// ```
/// use falcotcp_sync::{Handler, Request, Response, TestAnswer, TestRequest};
///
/// struct Readers;
///
/// impl Handler for Readers {
///     fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
///         match request.key_name() {
///             "readers" => response.extend_from_slice(b"welcome"),
///             _ => response.reject(),
///         }
///     }
/// }
///
/// let answer = TestRequest::new("read").key_name("readers").send_to(&Readers);
/// assert_eq!(answer, TestAnswer::Response(b"welcome".to_vec()));
/// assert_eq!(TestRequest::new("read").send_to(&Readers), TestAnswer::Rejected);
/// ```
#[derive(Debug, Clone)]
#[must_use = "a request does nothing until it is sent to a handler"]
pub struct TestRequest {
    message: Vec<u8>,
    key_name: String,
    peer: SocketAddr,
    connection: ConnectionId,
    is_forward_secret: bool,
    waited: Duration,
    is_peer_gone: bool,
}

/// What a handler made of a [`TestRequest`].
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TestAnswer {
    /// It answered with this.
    Response(Vec<u8>),
    /// It rejected the message.
    Rejected,
    /// The answer comes later.
    Deferred(TestReply),
    /// The connection is closed behind this.
    Closing(Box<TestAnswer>),
}

/// An answer that comes later, as the client waits for it. Dropping it is a client that has gone: the
/// [`Reply`](crate::Reply) is not wanted any more.
pub struct TestReply {
    outbox: Arc<Outbox>,
    arrival: Arc<Arrival>,
}

impl TestRequest {
    /// A request with this message, from 127.0.0.1, under the key `default`, in a forward-secret session.
    pub fn new(message: impl Into<Vec<u8>>) -> Self {
        Self {
            message: message.into(),
            key_name: "default".to_owned(),
            peer: (Ipv4Addr::LOCALHOST, 50_000).into(),
            connection: ConnectionId(1),
            is_forward_secret: true,
            waited: Duration::ZERO,
            is_peer_gone: false,
        }
    }

    /// The name of the key that its connection lives under.
    pub fn key_name(mut self, name: impl Into<String>) -> Self {
        self.key_name = name.into();
        self
    }

    /// The address that its connection comes from.
    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.peer = peer;
        self
    }

    /// The number of its connection.
    pub fn connection_id(mut self, id: u64) -> Self {
        self.connection = ConnectionId(id);
        self
    }

    /// Whether its session is forward-secret.
    pub fn forward_secret(mut self, is_forward_secret: bool) -> Self {
        self.is_forward_secret = is_forward_secret;
        self
    }

    /// How long it has waited.
    pub fn waited(mut self, waited: Duration) -> Self {
        self.waited = waited;
        self
    }

    /// Whether its peer has gone meanwhile.
    pub fn peer_gone(mut self, is_peer_gone: bool) -> Self {
        self.is_peer_gone = is_peer_gone;
        self
    }

    /// Its connection, for [`Handler::established`] and with [`id`](ConnectionInfo::id) for [`Handler::ended`].
    pub fn connection(&self) -> ConnectionInfo<'_> {
        let Self { connection, peer, ref key_name, is_forward_secret, .. } = *self;
        ConnectionInfo { id: connection, peer, key_name, is_forward_secret }
    }

    /// Lets `handler` answer it. Other than in a server, a panic is passed on.
    pub fn send_to<H: Handler + ?Sized>(&self, handler: &H) -> TestAnswer {
        let arrival = Arc::new(Arrival::default());
        let deferral =
            Deferral { owner: arrival.clone(), limits: DeferralLimits::default(), awaited: Arc::default() };
        let (mut output, mut outbox, counters) = (Vec::new(), None, WorkerCounters::default());
        let mut writer = ResponseWriter::begin(&mut output);
        let place = Place {
            outbox: &mut outbox,
            deferral: &deferral,
            token: Token(0),
            key: None,
            counters: &counters,
        };
        let mut response = Response::new(writer.reborrow(), place);
        handler.handle(self.request(), &mut response);
        let Outcome { deferred, is_rejected, is_closing, .. } = response.into_outcome();
        let answer = match outbox {
            Some(outbox) if deferred.is_some() => TestAnswer::Deferred(TestReply { outbox, arrival }),
            _ if is_rejected => TestAnswer::Rejected,
            _ => TestAnswer::Response(writer.as_slice().to_vec()),
        };
        if is_closing { TestAnswer::Closing(Box::new(answer)) } else { answer }
    }

    /// The request itself, for functions of your own that take one.
    pub fn request(&self) -> Request<'_> {
        Request {
            message: &self.message,
            key_name: &self.key_name,
            peer: self.peer,
            connection: self.connection,
            is_forward_secret: self.is_forward_secret,
            waited: self.waited,
            socket: PeerSocket { stream: None, is_closed: self.is_peer_gone },
        }
    }
}

impl TestReply {
    /// Waits for the answer: [`TestAnswer::Response`], or [`TestAnswer::Rejected`] when the reply was dropped.
    ///
    /// # Errors
    /// The reply itself when there is no answer after `timeout`.
    pub fn wait(self, timeout: Duration) -> Result<TestAnswer, Self> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.outbox.take(Instant::now(), true) {
                Some(Answer::Response(text)) => return Ok(TestAnswer::Response(text)),
                Some(_) => return Ok(TestAnswer::Rejected),
                None if !self.arrival.wait_until(deadline) => return Err(self),
                None => {}
            }
        }
    }
}

impl Drop for TestReply {
    fn drop(&mut self) {
        self.outbox.close();
    }
}

impl fmt::Debug for TestReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestReply(..)")
    }
}

/// Two that wait are the same if they are one.
impl PartialEq for TestReply {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outbox, &other.outbox)
    }
}

impl Eq for TestReply {}

/// Says that an answer is there.
#[derive(Default)]
struct Arrival {
    has_arrived: Mutex<bool>,
    changed: Condvar,
}

impl Arrival {
    /// Whether an answer arrived by then.
    fn wait_until(&self, deadline: Instant) -> bool {
        let mut has_arrived = self.has_arrived.lock();
        while !*has_arrived && !self.changed.wait_until(&mut has_arrived, deadline).timed_out() {}
        std::mem::take(&mut *has_arrived)
    }
}

impl Owner for Arrival {
    fn notify(&self, _: Token) {
        *self.has_arrived.lock() = true;
        self.changed.notify_all();
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::{EndReason, Reply};

    const LONG: Duration = Duration::from_secs(30);

    /// Does what its message says.
    #[derive(Default)]
    struct Told(Mutex<Vec<Reply>>);

    impl Handler for Told {
        fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
            response.extend_from_slice(request.key_name().as_bytes());
            for step in request.message() {
                match step {
                    b'r' => response.reject(),
                    b'd' => self.0.lock().push(response.defer()),
                    b'c' => response.close(),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn every_kind_of_answer_is_seen() {
        let told = Told::default();
        let send = |message: &str| TestRequest::new(message).key_name("k").send_to(&told);
        let response = TestAnswer::Response(b"k".to_vec());
        assert_eq!(send("-"), response);
        assert_eq!(send("r"), TestAnswer::Rejected);
        assert_eq!(send("c"), TestAnswer::Closing(Box::new(response)));
        assert_eq!(send("dr"), TestAnswer::Rejected, "what was deferred is not wanted any more");
        let TestAnswer::Closing(deferred) = send("rdc") else { panic!("it closes") };
        let TestAnswer::Deferred(later) = *deferred else { panic!("it is deferred: {deferred:?}") };
        let later = later.wait(Duration::ZERO).expect_err("there is no answer");
        let reply = told.0.lock().pop().expect("a reply");
        let answering = thread::spawn(move || reply.send("later"));
        assert_eq!(later.wait(LONG).expect("an answer"), TestAnswer::Response(b"later".to_vec()));
        answering.join().expect("no panic").expect("it is wanted");
        assert!(!told.0.lock().pop().expect("that of the one before").is_wanted());
        let TestAnswer::Deferred(dropped) = send("d") else { panic!("it is deferred") };
        told.0.lock().clear();
        assert_eq!(dropped.wait(LONG).expect("an answer"), TestAnswer::Rejected);
        let TestAnswer::Deferred(gone) = send("d") else { panic!("it is deferred") };
        let reply = told.0.lock().pop().expect("a reply");
        assert!(reply.is_wanted());
        drop(gone);
        assert!(!reply.is_wanted());
    }

    #[test]
    fn shared_and_boxed_handlers_are_handlers() {
        fn answer<H: Handler>(handler: H) -> TestAnswer {
            let request = TestRequest::new("hello").connection_id(7).forward_secret(false);
            assert_eq!(request.connection().id().get(), 7);
            handler.established(request.connection());
            handler.ended(request.connection().id(), EndReason::Peer);
            let answer = request.send_to(&handler);
            drop(handler);
            answer
        }
        let handlers: [Box<dyn Handler>; 2] =
            [Box::new(|message: &[u8]| message.to_vec()), Box::new(Arc::new(Told::default()))];
        let answers = handlers.map(answer);
        assert_eq!(answers, ["hello", "default"].map(|text| TestAnswer::Response(text.into())));
        let dynamic: Arc<dyn Handler> = Arc::new(Told::default());
        assert_eq!(answer(dynamic), TestAnswer::Response(b"default".to_vec()));
    }
}
