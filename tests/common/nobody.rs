//! An address where nobody listens.

#![allow(unreachable_pub, reason = "it is part of several programs")]

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// Such an address, and the socket that keeps others from listening there.
pub fn nobody() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("binding");
    let addr = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    (socket, addr)
}
