//! The socket of a shared client: never blocking, written and read without a lock, waited for by a caller or by the background
//! thread.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;

use super::driver::Registration;
use crate::client::link::Link;

/// A link, and where readiness for it is told.
pub(super) struct Socket {
    pub(super) link: Link,
    pub(super) endpoint: Arc<Endpoint>,
    /// The same socket as the background thread sees it.
    driver_stream: TcpStream,
    is_watched: bool,
}

/// What callers read from and write to, without the client's lock.
pub(super) struct Endpoint {
    stream: TcpStream,
    /// Where a caller waits, one at a time.
    poll: Mutex<(Poll, Events)>,
}

impl Socket {
    pub(super) fn new(link: Link) -> io::Result<Self> {
        let mut stream = TcpStream::from_std(link.transport.share_nonblocking()?);
        let driver_stream = TcpStream::from_std(link.transport.share_nonblocking()?);
        let poll = Poll::new()?;
        poll.registry().register(&mut stream, Token(0), Interest::READABLE)?;
        let endpoint = Arc::new(Endpoint { stream, poll: Mutex::new((poll, Events::with_capacity(4))) });
        Ok(Self { link, endpoint, driver_stream, is_watched: false })
    }

    /// Lets the background thread be told of readiness, or not any more. What is ready at the moment is told as well.
    pub(super) fn watch(&mut self, is_wanted: bool, registration: &Registration) -> io::Result<()> {
        if is_wanted != self.is_watched {
            let Registration { registry, token, .. } = registration;
            if is_wanted {
                let interest = Interest::READABLE | Interest::WRITABLE;
                registry.register(&mut self.driver_stream, *token, interest)?;
            } else {
                registry.deregister(&mut self.driver_stream)?;
            }
            self.is_watched = is_wanted;
        }
        Ok(())
    }
}

impl Endpoint {
    /// Writes what the socket takes at once.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match (&self.stream).write(&bytes[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Reads what has arrived; `None` when that is nothing.
    pub(super) fn read(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match (&self.stream).read(room) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until more may have arrived since nothing was left to read, or the time is over.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<()> {
        let (poll, events) = &mut *self.poll.lock();
        match poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            outcome => outcome,
        }
    }
}
