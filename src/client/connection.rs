//! What a client has: a link, which may be replaced by a new one, and its buffers.

use std::net::SocketAddr;
use std::sync::Arc;

use log::debug;
use parking_lot::Mutex;

use super::link::{IdleLink, Link};
use super::settings::{LOG, Settings};
use super::target::Target;
use crate::read_buffer::ReadBuffer;

/// What a client reads at once.
const READ_BUFFER: usize = 16 << 10;

/// Larger buffers are given back after each exchange: such messages take so long that allocating anew does not show.
const RETAINED: usize = 256 << 10;

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
        self.reclaim();
        // A fork of the process that connected has copies of the socket and of the nonces, which are not its own to use.
        if self.link.as_ref().is_some_and(|link| link.transport.is_inherited()) {
            self.link = None;
            debug!(target: LOG, "left the connection to the process of which this one is a fork");
        }
    }

    /// Takes the link from where it waited, in the midst of an exchange: nothing may be sent before it was unparked.
    pub(super) fn reclaim(&mut self) {
        if self.link.is_none()
            && let Some(idle) = &self.idle
        {
            self.link = idle.lock().take();
        }
    }

    /// Leaves the link where it can be found.
    pub(super) fn park(&mut self) {
        if let Some(idle) = &self.idle {
            *idle.lock() = self.link.take();
        }
    }

    /// An idle client keeps no large buffers.
    pub(super) fn release_buffers(&mut self) {
        // What is left in it of a link that has ended is of no use.
        if self.input.size() > RETAINED && (self.input.is_empty() || self.link.is_none()) {
            self.input = ReadBuffer::with_size(READ_BUFFER);
        }
        if self.output.capacity() > RETAINED {
            self.output = Vec::new();
        }
        if let Some(link) = &mut self.link
            && link.unsent.is_empty()
            && link.unsent.bytes.capacity() > RETAINED
        {
            link.unsent.bytes = Vec::new();
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
        self.with_link(|link| link.addr)
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
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::{Client, Key, Server};

    fn assert_small(client: &Client) {
        let (input, output) = (client.connection.input.size(), client.connection.output.capacity());
        assert!(input <= RETAINED && output <= RETAINED, "{input} and {output} bytes");
    }

    #[test]
    fn large_buffers_are_given_back() {
        let key = Key::from_bytes([1; 32]);
        let server = Server::builder(key.clone()).bind("127.0.0.1:0").unwrap().spawn(<[u8]>::to_vec).unwrap();
        let mut client = Client::connect(server.local_addr(), &key).unwrap();
        for _ in 0..3 {
            client.message(&vec![7; 3 << 20]).unwrap();
            assert_small(&client);
        }
    }

    #[test]
    fn so_is_what_holds_half_a_response() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 157]).unwrap();
            stream.write_all(&[0xFF]).unwrap();
            stream.read_exact(&mut [0; 9 + 28 + 4]).unwrap();
            stream.write_all(&(4u64 << 20).to_be_bytes()).unwrap();
            stream.write_all(&vec![7; 2 << 20]).unwrap();
        });
        let mut client = Client::connect(addr, Key::from_bytes([1; 32])).unwrap();
        client.message(b"good").unwrap_err();
        assert_small(&client);
        server.join().unwrap();
    }
}
