//! One blocking socket whose time-outs follow from one deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// When the operating system begins to probe whether an idle server's machine is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// A set time-out that is longer than the time left by no more than this is left as it is, to save a system call.
const TOLERANCE: Duration = Duration::from_millis(2);

/// How long one write waits at most, so that its caller can look at what arrives meanwhile.
const LONGEST_WRITE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Transport {
    stream: TcpStream,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// The process that connected it. A forked child holds a copy, which is not its own to use or to shut down.
    process: u32,
}

impl Transport {
    /// Connects to `addr` before the deadline.
    pub(super) fn connect(addr: &SocketAddr, deadline: Instant) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(*addr), Type::STREAM, Some(Protocol::TCP))?;
        Self::connect_through(socket, addr, deadline)
    }

    fn connect_through(socket: Socket, addr: &SocketAddr, deadline: Instant) -> io::Result<Self> {
        let left = time_left(deadline).ok_or(ErrorKind::TimedOut)?;
        if let Err(error) = socket.connect_timeout(&(*addr).into(), left) {
            if !is_timeout(&error) {
                return Err(error);
            }
            // A process that was stopped meanwhile may find the connection there, or refused, although its time is over.
            socket.take_error()?.map_or(Ok(()), Err)?;
            socket.peer_addr().map_err(|_| error)?;
        }
        let stream = TcpStream::from(socket);
        if stream.local_addr()? == stream.peer_addr()? {
            // Connecting to an unused port from that same port succeeds (RFC 9293, 3.5: both ends open at once). The
            // reset keeps the port free for the server.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Err(io::Error::new(ErrorKind::ConnectionRefused, "nobody listens: connected to itself"));
        }
        stream.set_nodelay(true)?;
        // Without it a vanished server is noticed by the next exchange's deadline.
        let _ = socket2::SockRef::from(&stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER));
        Ok(Self { stream, read_timeout: None, write_timeout: None, process: process::id() })
    }

    /// Sends all of `bytes` before the deadline.
    pub(super) fn send(&mut self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[self.send_some(bytes, deadline)?..];
        }
        Ok(())
    }

    /// Sends what the socket takes, after a short wait at most: 0 bytes when it took none in that time. After the
    /// deadline that is what it takes at once, or the time-out.
    pub(super) fn send_some(&mut self, bytes: &[u8], deadline: Instant) -> io::Result<usize> {
        let Some(left) = time_left(deadline) else {
            return match self.send_now(bytes)? {
                0 => Err(ErrorKind::TimedOut.into()),
                sent => Ok(sent),
            };
        };
        if let Some(timeout) = changed(self.write_timeout, left.min(LONGEST_WRITE)) {
            self.stream.set_write_timeout(Some(timeout))?;
            self.write_timeout = Some(timeout);
        }
        match self.stream.write(bytes) {
            Ok(0) => Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted || is_timeout(&error) => Ok(0),
            outcome => outcome,
        }
    }

    /// Sends as much of `bytes` as the socket takes without waiting, which may be nothing.
    pub(super) fn send_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.without_waiting(|mut stream| stream.write(bytes)).map(Option::unwrap_or_default)
    }

    /// Reads what has arrived, or waits for it until the deadline; 0 bytes are the end of the stream. What is there
    /// already is given after the deadline as well: the process may have been stopped while it came.
    pub(super) fn receive(&mut self, room: &mut [u8], deadline: Instant) -> io::Result<usize> {
        loop {
            let Some(left) = time_left(deadline) else {
                return self.receive_now(room)?.ok_or_else(|| ErrorKind::TimedOut.into());
            };
            if let Some(timeout) = changed(self.read_timeout, left) {
                self.stream.set_read_timeout(Some(timeout))?;
                self.read_timeout = Some(timeout);
            }
            match self.stream.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted || is_timeout(&error) => {}
                outcome => return outcome,
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
        mut operation: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<Option<usize>> {
        self.stream.set_nonblocking(true)?;
        let outcome = loop {
            match operation(&self.stream) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.stream.set_nonblocking(false)?;
        match outcome {
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether it was connected by another process than this one, of which this one is a fork.
    pub(super) fn is_inherited(&self) -> bool {
        self.process != process::id()
    }

    /// The same socket in another's hands, and never blocking from now on.
    pub(super) fn share_nonblocking(&self) -> io::Result<TcpStream> {
        self.stream.set_nonblocking(true)?;
        self.stream.try_clone()
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        if !self.is_inherited() {
            // Also ends it for forked children that hold a copy. It fails only if the peer was first.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// The time-out to set for `left`, unless `current` is as good.
fn changed(current: Option<Duration>, left: Duration) -> Option<Duration> {
    let fits = current.is_some_and(|current| current >= left && current <= left + TOLERANCE);
    (!fits).then_some(left)
}

/// `None` when the deadline is over.
fn time_left(deadline: Instant) -> Option<Duration> {
    Some(deadline.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

/// Whether it is a time-out that was set here: `WouldBlock` on Unix, `TimedOut` on Windows and for connecting. With a
/// number of the operating system's, Unix means by the latter that TCP gave the connection up.
fn is_timeout(error: &io::Error) -> bool {
    match error.kind() {
        ErrorKind::WouldBlock => true,
        ErrorKind::TimedOut => cfg!(windows) || error.raw_os_error().is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn pair() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        let transport = Transport::connect(&listener.local_addr().unwrap(), deadline).unwrap();
        let (peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        (transport, peer)
    }

    #[test]
    fn what_is_possible_at_once_is_done_after_the_deadline() {
        let (mut transport, mut peer) = pair();
        let over = Instant::now();
        transport.send(b"late", over).unwrap();
        let mut room = [0; 4];
        peer.read_exact(&mut room).unwrap();
        assert_eq!(transport.receive(&mut room, over).unwrap_err().kind(), ErrorKind::TimedOut);
        peer.write_all(b"here").unwrap();
        // Until it has arrived, which on one machine is at once.
        while transport.stream.peek(&mut [0; 4]).unwrap() < 4 {}
        assert_eq!(transport.receive(&mut room, over).unwrap(), 4);
        assert_eq!(&room, b"here");
        let full = transport.send(&vec![0; 64 << 20], over);
        assert_eq!(full.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_deadline_ends_waiting_for_bytes() {
        let (mut transport, _peer) = pair();
        let begun = Instant::now();
        let error = transport.receive(&mut [0], begun + SHORT).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::TimedOut, None));
        assert!(begun.elapsed() >= SHORT);
    }

    #[test]
    fn dropping_it_ends_the_connection_for_all_copies() {
        let (transport, mut peer) = pair();
        let _copy = transport.stream.try_clone().unwrap();
        drop(transport);
        assert_eq!(peer.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_copy_in_a_forked_child_leaves_the_connection_alone() {
        let (mut transport, mut peer) = pair();
        let mut original = transport.stream.try_clone().unwrap();
        transport.process = transport.process.wrapping_add(1);
        assert!(transport.is_inherited());
        drop(transport);
        original.write_all(&[7]).unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_connection_to_itself_is_refused_and_leaves_the_port_free() {
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&addr.into()).unwrap();
        let error =
            Transport::connect_through(socket, &addr, Instant::now() + Duration::from_secs(30)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        // Without SO_REUSEADDR, which would overlook a TIME_WAIT.
        let server = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        server.bind(&addr.into()).unwrap();
    }
}
