//! Where a server listens: what it says to the process that started it, in one line on standard output, with the
//! address and, for TLS, the certificate in hex.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;

use crate::error::Result;
use crate::hex;

/// How the line begins; a server may print others of its own.
const ANNOUNCEMENT: &str = "listening on ";

/// Where a server listens, and what a TLS client trusts.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// In DER; empty where there is none.
    pub(crate) certificate: Vec<u8>,
}

impl Endpoint {
    pub(crate) fn announce(&self) -> io::Result<()> {
        let mut output = io::stdout().lock();
        writeln!(output, "{ANNOUNCEMENT}{} {}", self.address, hex::encode(&self.certificate))?;
        output.flush()
    }

    /// Skips what the server says besides.
    pub(crate) fn announced(output: &mut impl BufRead) -> Result<Endpoint> {
        for line in output.lines() {
            if let Some(announcement) = line?.strip_prefix(ANNOUNCEMENT) {
                let (address, certificate) = announcement.split_once(' ').ok_or("it named no address")?;
                return Ok(Endpoint { address: address.parse()?, certificate: hex::decode(certificate)? });
            }
        }
        Err("it ended".into())
    }
}

/// Of a server that has no certificate.
impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint { address, certificate: Vec::new() }
    }
}
