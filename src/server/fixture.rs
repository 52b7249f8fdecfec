//! A server without threads, for the tests of what its threads do.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use mio::{Poll, Token, Waker};
use parking_lot::Mutex;

use super::connection::Connection;
use super::handler::ConnectionId;
use super::load::Lease;
use super::shared::Shared;
use super::worker_side::Dealt;
use crate::keyring::Keyring;
use crate::protocol::SessionSettings;

pub(super) struct Fixture {
    pub(super) shared: Shared,
    listener: TcpListener,
    /// The other ends of its connections.
    peers: Mutex<Vec<TcpStream>>,
    /// What the acceptor would wait with.
    _acceptor: Poll,
}

impl Fixture {
    pub(super) fn new(workers: usize) -> Self {
        let acceptor = Poll::new().expect("a poll");
        let waker = Waker::new(acceptor.registry(), Token(0)).expect("a waker");
        let echo = |message: &[u8]| message.to_vec();
        let shared = Shared::new(workers, Box::new(echo), Arc::new(Keyring::new()), waker).expect("workers");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binding");
        Self { shared, listener, peers: Mutex::default(), _acceptor: acceptor }
    }

    /// Deals a worker a connection whose peer sends nothing; it wants a turn if `is_ready`. They are numbered from 1.
    pub(super) fn deal(&self, worker: usize, is_ready: bool) {
        let mut peers = self.peers.lock();
        peers.push(TcpStream::connect(self.listener.local_addr().expect("an address")).expect("connecting"));
        let (stream, peer) = self.listener.accept().expect("accepting");
        stream.set_nonblocking(true).expect("a socket");
        let id = ConnectionId(peers.len() as u64);
        let session = (Arc::new(SessionSettings::default()), Arc::clone(&self.shared.keyring));
        let lease = Lease::new(&self.shared.loads, worker, true);
        let stream = mio::net::TcpStream::from_std(stream);
        let connection = Box::new(Connection::new(stream, peer, id, session, lease, Instant::now()));
        self.shared.workers[worker].deal(Dealt { connection, is_ready });
    }
}
