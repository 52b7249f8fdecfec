//! The client half of each protocol, as the driver uses it: bytes in, bytes out, no socket once it is established.
//!
//! Every one of them does the work that a real client must do and no more. The plain one frames. The encrypted ones
//! seal every request and open every response, all but the forward-secret one with the same implementation of AES-256-GCM
//! (AWS-LC), so that what the driver costs differs between them only by what the protocols ask for. All check every header, and the whole
//! content of the first response of each connection.

mod echo;
mod falco;
mod forward_secret;
mod plain;
mod protocol;
mod tls;

use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use crate::error::Result;
use crate::process::Endpoint;
use crate::requests::Requests;
use crate::servers::Kind;
pub(crate) use protocol::Client;

/// Other ways to do the client's half than the fair one.
#[derive(Clone, Copy, Default, clap::Args)]
pub(crate) struct ClientOptions {
    /// FalcoTCP clients seal each request once, send it over and over, and open only the first response of each
    /// connection. The protocol allows it, and it shows what the servers can do beside a client that costs nothing;
    /// but TLS has no such way, so ratios between the two are not fair then.
    #[arg(long)]
    pub(crate) replay: bool,
    /// TLS requests that leave in one write share a record, as behind a buffered writer, instead of being sealed
    /// each by itself like those of FalcoTCP.
    #[arg(long)]
    pub(crate) shared_records: bool,
}

/// How long a server may take to accept one connection.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections to one server.
pub(crate) struct Connector {
    endpoint: Endpoint,
    requests: Rc<Requests>,
    protocol: Protocol,
}

enum Protocol {
    Plain,
    Tls(tls::Connector),
    Falco(falco::Connector),
    ForwardSecret(forward_secret::Connector),
}

impl Connector {
    pub(crate) fn new(
        kind: Kind,
        options: ClientOptions,
        endpoint: &Endpoint,
        requests: Rc<Requests>,
    ) -> Result<Connector> {
        let protocol = match kind {
            Kind::Plain => Protocol::Plain,
            Kind::Rustls | Kind::TokioRustls => {
                Protocol::Tls(tls::Connector::new(&endpoint.certificate, options.shared_records)?)
            }
            Kind::Falcotcp | Kind::Ours => Protocol::Falco(falco::Connector::new(&requests, options.replay)?),
            Kind::OursForwardSecret => Protocol::ForwardSecret(forward_secret::Connector::new()),
        };
        Ok(Connector { endpoint: endpoint.clone(), requests, protocol })
    }

    /// A connection that is ready for requests; its socket still blocks.
    pub(crate) fn connect(&self) -> Result<(TcpStream, Box<dyn Client>)> {
        let mut socket = TcpStream::connect_timeout(&self.endpoint.address, ESTABLISH_TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ESTABLISH_TIMEOUT))?;
        socket.set_write_timeout(Some(ESTABLISH_TIMEOUT))?;
        let requests = Rc::clone(&self.requests);
        let client: Box<dyn Client> = match &self.protocol {
            Protocol::Plain => Box::new(plain::PlainClient::new(requests)),
            Protocol::Tls(connector) => Box::new(connector.establish(&mut socket, requests)?),
            Protocol::Falco(connector) => Box::new(connector.establish(&mut socket, requests)?),
            Protocol::ForwardSecret(connector) => Box::new(connector.establish(&mut socket, requests)?),
        };
        Ok((socket, client))
    }
}
