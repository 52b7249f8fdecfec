//! The client half of each protocol, as the driver uses it: bytes in, bytes out, no socket once it is established.
//!
//! Every one of them does the work that a real client must do and no more. The plain one frames. The encrypted ones
//! seal every request and open every response with the same implementation of AES-256-GCM (AWS-LC), so that what the driver costs differs between them only by what the protocols ask for. All check
//! every header, and the whole content of the first response of each connection.

mod echo;
pub(crate) mod falco;
mod forward_secret;
mod noise;
mod plain;
pub(crate) mod session;
pub(crate) mod tls;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::error::Result;
use crate::kind::Kind;
use crate::requests::Requests;
use session::Session;

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
    requests: Arc<Requests>,
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
        requests: Arc<Requests>,
    ) -> Result<Connector> {
        let protocol = match kind {
            Kind::Plain => Protocol::Plain,
            Kind::Rustls | Kind::TokioRustls => {
                Protocol::Tls(tls::Connector::new(&endpoint.certificate, options.shared_records)?)
            }
            Kind::OursForwardSecret => {
                let establishing = falco::Connector::new(&requests, false)?;
                Protocol::ForwardSecret(forward_secret::Connector::new(establishing))
            }
            Kind::Falcotcp
            | Kind::Ours
            | Kind::HandOver
            | Kind::Defer
            | Kind::AskInTurn
            | Kind::AskAtOnce
            | Kind::FanIn => Protocol::Falco(falco::Connector::new(&requests, options.replay)?),
        };
        Ok(Connector { endpoint: endpoint.clone(), requests, protocol })
    }

    /// A connection that is ready for requests; its socket still blocks.
    pub(crate) fn connect(&self) -> Result<(TcpStream, Box<dyn Session>)> {
        let mut socket = TcpStream::connect_timeout(&self.endpoint.address, ESTABLISH_TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ESTABLISH_TIMEOUT))?;
        socket.set_write_timeout(Some(ESTABLISH_TIMEOUT))?;
        let requests = Arc::clone(&self.requests);
        let session: Box<dyn Session> = match &self.protocol {
            Protocol::Plain => Box::new(plain::PlainSession::new(requests)),
            Protocol::Tls(connector) => Box::new(connector.establish(&mut socket, requests)?),
            Protocol::Falco(connector) => Box::new(connector.establish(&mut socket, requests)?),
            Protocol::ForwardSecret(connector) => Box::new(connector.establish(&mut socket, requests)?),
        };
        Ok((socket, session))
    }
}
