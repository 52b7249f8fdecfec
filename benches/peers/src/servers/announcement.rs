//! The line on standard output by which a server says where it listens.

use std::io::{self, Write};
use std::net::SocketAddr;

/// How it begins. A server may print others of its own.
pub(crate) const ANNOUNCEMENT: &str = "listening on ";

/// Prints the address and, for TLS, the certificate in hex.
pub(super) fn announce(address: SocketAddr, certificate: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{ANNOUNCEMENT}{address} {certificate}")?;
    output.flush()
}
