//! A server without threads, for the tests of what its threads do.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Poll, Token};
use parking_lot::Mutex;

use super::{Delivery, Pool, Remote};
use crate::keyring::Keyring;
use crate::protocol::SessionSettings;
use crate::server::connection::{Connection, DeferralLimits};
use crate::server::handler::Handler;
use crate::server::shared::{AdmissionLimits, LoadGuard, Waker};

pub(in crate::server) struct Fixture {
    pub(in crate::server) pool: Pool,
    listener: TcpListener,
    /// The other ends of its connections.
    peers: Mutex<Vec<TcpStream>>,
    /// What the acceptor would wait with.
    _acceptor: Poll,
}

impl Fixture {
    pub(in crate::server) fn new(workers: usize) -> Self {
        Self::with_handler(workers, Arc::new(|message: &[u8]| message.to_vec()))
    }

    pub(in crate::server) fn with_handler(workers: usize, handler: Arc<dyn Handler>) -> Self {
        let acceptor = Poll::new().expect("a poll");
        let waker = Waker::new(mio::Waker::new(acceptor.registry(), Token(0)).expect("a waker"));
        let admission = AdmissionLimits::default();
        let pool = Pool::new(
            workers,
            (handler, None),
            admission,
            DeferralLimits::default(),
            Arc::new(Keyring::new()),
            waker,
        )
        .expect("workers");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binding");
        Self { pool, listener, peers: Mutex::default(), _acceptor: acceptor }
    }
}

impl Fixture {
    /// Lets a worker's table admit a connection whose peer has sent a byte, which its next look finds.
    pub(in crate::server) fn admit_readable(&self, worker: usize) {
        let number = self.connect(&[0]);
        self.admit(worker, number, true);
    }

    /// Lets it admit a stranger that has said nothing, as the one with this number.
    pub(in crate::server) fn admit_stranger(&self, worker: usize, number: u64) {
        self.connect(&[]);
        self.admit(worker, number, false);
    }

    /// How many peers there are then.
    fn connect(&self, said: &[u8]) -> u64 {
        let mut peers = self.peers.lock();
        let mut peer =
            TcpStream::connect(self.listener.local_addr().expect("an address")).expect("connecting");
        peer.write_all(said).expect("sent");
        peers.push(peer);
        peers.len() as u64
    }

    fn admit(&self, worker: usize, number: u64, is_established: bool) {
        let (stream, peer) = self.listener.accept().expect("accepting");
        stream.set_nonblocking(true).expect("a socket");
        let session = (Arc::new(SessionSettings::default()), Arc::clone(&self.pool.keyring));
        let (mut load, _) = LoadGuard::new(&self.pool.counters.loads, number, worker);
        if is_established {
            load.establish(peer.ip()).expect("a place");
        }
        let stream = mio::net::TcpStream::from_std(stream);
        let connection = Connection::new(stream, peer, session, load, Instant::now());
        let Remote { table, mailbox, .. } = &self.pool.workers[worker];
        mailbox.deliver(Delivery::Connection(Box::new(connection)));
        table.lock().wait(Some(Duration::ZERO), Instant::now()).expect("a look");
    }
}
