//! One blocking socket whose time-outs follow from one deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use log::debug;
use socket2::{SockRef, TcpKeepalive};

/// When the operating system begins to probe whether an idle server's machine is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// A set time-out that is longer than the time left by no more than this is left as it is, to save a system call.
const TOLERANCE: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Transport {
    stream: TcpStream,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl Transport {
    /// Connects to `addr` before the deadline.
    pub(super) fn connect(addr: &SocketAddr, deadline: Instant) -> io::Result<Self> {
        Self::new(TcpStream::connect_timeout(addr, time_left(deadline)?)?)
    }

    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
        if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&keepalive) {
            debug!(target: super::LOG, "TCP keep-alive could not be set: {error}");
        }
        Ok(Self { stream, read_timeout: None, write_timeout: None })
    }

    /// Sends all of `bytes` before the deadline.
    pub(super) fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            if let Some(timeout) = changed(self.write_timeout, deadline)? {
                self.stream.set_write_timeout(Some(timeout))?;
                self.write_timeout = Some(timeout);
            }
            match self.stream.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(normalized(error)),
            }
        }
        Ok(())
    }

    /// Sends as much of `bytes` as the socket takes without waiting, which may be nothing.
    pub(super) fn send_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.without_waiting(|mut stream| stream.write(bytes)).map(Option::unwrap_or_default)
    }

    /// Reads what has arrived, or waits for it until the deadline; 0 bytes are the end of the stream.
    pub(super) fn receive(&mut self, room: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            if let Some(timeout) = changed(self.read_timeout, deadline)? {
                self.stream.set_read_timeout(Some(timeout))?;
                self.read_timeout = Some(timeout);
            }
            match self.stream.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => return outcome.map_err(normalized),
            }
        }
    }

    /// Reads what has arrived already, without waiting; `None` when that is nothing.
    pub(super) fn receive_now(&mut self, room: &mut [u8]) -> io::Result<Option<usize>> {
        self.without_waiting(|mut stream| stream.read(room))
    }

    /// Does `operation` if that is possible at once.
    fn without_waiting(
        &self,
        operation: impl FnOnce(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        self.stream.set_nonblocking(true)?;
        let outcome = operation(&self.stream);
        self.stream.set_nonblocking(false)?;
        match outcome {
            Ok(count) => Ok(Some(count)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        // Also ends it for whoever inherited the descriptor. It fails only if the peer was first.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// The time-out to set, unless `current` already ends with the deadline.
fn changed(current: Option<Duration>, deadline: Instant) -> io::Result<Option<Duration>> {
    let left = time_left(deadline)?;
    let fits = current.is_some_and(|current| current >= left && current <= left + TOLERANCE);
    Ok((!fits).then_some(left))
}

fn time_left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A time-out of the socket is `WouldBlock` on some systems and `TimedOut` on others.
fn normalized(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}
