//! What a client has: a link, which may be replaced by a new one, and its buffers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use parking_lot::Mutex;

use super::link::{IdleLink, Link};
use super::settings::{LOG, Settings};
use super::target::Target;
use crate::read_buffer::ReadBuffer;

/// What a client reads at once.
const READ_BUFFER: usize = 16 << 10;

/// Buffers up to this size are kept for the next exchange.
const RETAINED: usize = 64 << 10;

/// Buffers up to this size are kept as well for [`REUSED`], so that large messages in a row do not allocate each time.
const RETAINED_IN_A_ROW: usize = 4 << 20;

/// For how long after large buffers were given back the next ones are kept.
const REUSED: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Connection {
    /// Only while an exchange goes on, if the client is kept alive: in between, it waits in `idle`.
    pub(super) link: Option<Link>,
    pub(super) settings: Settings,
    pub(super) input: ReadBuffer,
    pub(super) output: Vec<u8>,
    pub(super) target: Target,
    pub(super) closed_by_owner: bool,
    idle: Option<Arc<IdleLink>>,
    /// When large buffers were last given back.
    released: Option<Instant>,
}

impl Connection {
    pub(super) fn new(target: Target, settings: Settings) -> Self {
        Self {
            link: None,
            settings,
            input: ReadBuffer::with_size(READ_BUFFER),
            output: Vec::new(),
            target,
            closed_by_owner: false,
            idle: None,
            released: None,
        }
    }

    /// Lets the link be found while it is idle, at the place that is returned.
    pub(super) fn share_idle_link(&mut self) -> Arc<IdleLink> {
        let idle = Arc::new(Mutex::new(None));
        self.idle = Some(Arc::clone(&idle));
        self.park();
        idle
    }

    /// Takes the link from where it waited.
    pub(super) fn unpark(&mut self) {
        if self.link.is_none()
            && let Some(idle) = &self.idle
        {
            self.link = idle.lock().take();
        }
        // A fork of the process that connected has copies of the socket and of the nonces, which are not its own to use.
        if self.link.as_ref().is_some_and(|link| link.transport.is_inherited()) {
            self.link = None;
            debug!(target: LOG, "left the connection to the process of which this one is a fork");
        }
    }

    /// Leaves the link where it can be found, unless bytes that came behind the last answer are still to be looked at.
    pub(super) fn park(&mut self) {
        if let Some(idle) = &self.idle
            && self.input.is_empty()
        {
            *idle.lock() = self.link.take();
        }
    }

    /// Gives back large buffers, unless that was done just before: then messages as large come in a row.
    pub(super) fn release_buffers(&mut self) {
        if self.input.size().max(self.output.capacity()) <= RETAINED {
            return;
        }
        let are_in_a_row = self.released.is_some_and(|released| released.elapsed() < REUSED);
        let retained = if are_in_a_row { RETAINED_IN_A_ROW } else { RETAINED };
        if !are_in_a_row {
            self.released = Some(Instant::now());
        }
        if self.input.size() > retained && self.input.is_empty() {
            self.input = ReadBuffer::with_size(READ_BUFFER);
        }
        if self.output.capacity() > retained {
            self.output = Vec::new();
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.with_link(|_| ()).is_some()
    }

    pub(super) fn close(&mut self) {
        self.unpark();
        self.link = None;
        self.closed_by_owner = true;
    }

    pub(super) fn peer_addr(&self) -> Option<SocketAddr> {
        self.with_link(|link| link.transport.peer_addr().ok()).flatten()
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        self.with_link(|link| link.transport.local_addr().ok()).flatten()
    }

    /// Looks at the link, wherever it is.
    pub(super) fn with_link<T>(&self, look: impl FnOnce(&Link) -> T) -> Option<T> {
        match (&self.link, &self.idle) {
            (Some(link), _) => Some(look(link)),
            (None, Some(idle)) => idle.lock().as_ref().map(look),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Key, Server};

    #[test]
    fn large_buffers_are_given_back() {
        let key = Key::from_bytes([1; 32]);
        let server = Server::builder(key.clone()).bind("127.0.0.1:0").unwrap().spawn(<[u8]>::to_vec).unwrap();
        let mut client = Client::connect(server.local_addr(), &key).unwrap();
        let sizes = |client: &Client| (client.connection.input.size(), client.connection.output.capacity());
        let large = vec![7; 3 << 20];
        client.message(&large).unwrap();
        assert!(sizes(&client) <= (RETAINED, RETAINED), "{:?}", sizes(&client));
        // Some that come in a row are kept, but not by small ones behind them.
        client.message(&large).unwrap();
        client.message(&large).unwrap();
        std::thread::sleep(REUSED);
        client.message(b"small").unwrap();
        assert!(sizes(&client) <= (RETAINED, RETAINED), "{:?}", sizes(&client));
    }
}
