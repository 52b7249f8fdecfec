//! A listening socket with the options that a server needs.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

/// Listens on the first of `addr`'s addresses that can be bound.
pub(in crate::server) fn bind(
    addr: impl ToSocketAddrs,
    backlog: u32,
    reuse_port: bool,
) -> io::Result<TcpListener> {
    let addrs = addr.to_socket_addrs().map_err(|error| {
        // What was asked for can't be told: it is only known to resolve itself.
        io::Error::new(error.kind(), format!("the address does not resolve: {error}"))
    })?;
    let mut kind = io::ErrorKind::InvalidInput;
    let mut failures = Vec::new();
    for addr in addrs {
        match listen(addr, backlog, reuse_port) {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                kind = error.kind();
                failures.push(format!("{addr}: {error}"));
            }
        }
    }
    if failures.is_empty() {
        failures.push("the address resolves to no socket address".to_owned());
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
