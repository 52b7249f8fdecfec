//! A listening socket with the options that a server needs.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Addresses;

/// Listens on the first of the addresses that can be bound.
pub(in crate::server) fn bind(addrs: &Addresses, backlog: u32, reuse_port: bool) -> io::Result<TcpListener> {
    let mut kind = io::ErrorKind::InvalidInput;
    let mut failures = Vec::new();
    for addr in addrs.resolve()? {
        match listen(addr, backlog, reuse_port) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                kind = error.kind();
                failures.push(format!("{addr}: {error}"));
            }
        }
    }
    Err(io::Error::new(kind, failures.join("; ")))
}

fn listen(addr: SocketAddr, backlog: u32, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restarted server gets its port although old connections linger in TIME_WAIT. On Windows
    // the option would let a second server take a port that is in use.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    if reuse_port {
        set_reuse_port(&socket)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin"))))]
fn set_reuse_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(not(all(unix, not(any(target_os = "solaris", target_os = "illumos", target_os = "cygwin")))))]
fn set_reuse_port(_socket: &Socket) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no SO_REUSEPORT"))
}
