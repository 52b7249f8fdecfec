//! TLS the plain way: rustls over `std::net`, a thread a connection.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use rustls::{ServerConnection, StreamOwned};

use super::work::Work;
use super::{frames, tls};
use crate::endpoint::Endpoint;
use crate::error::Result;

pub(super) fn serve(work: Work) -> Result<()> {
    let identity = tls::Identity::generate()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Endpoint { address: listener.local_addr()?, certificate: identity.certificate }.announce()?;
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let session = ServerConnection::new(Arc::clone(&identity.config))?;
        let stream = StreamOwned::new(session, stream);
        // A connection that fails ends its own thread; the driver notices and reports it.
        thread::Builder::new().stack_size(frames::STACK).spawn(move || frames::serve(stream, work))?;
    }
}
