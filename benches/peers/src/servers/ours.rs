//! The library of this repository, as a user would start it.

use falcotcp_sync::{Handler, Key, Request, Response, Server};

use super::options::{LIFETIME, Options};
use super::work::Work;
use crate::client::falco::SHARED_KEY;
use crate::endpoint::Endpoint;
use crate::error::Result;

/// Written out as a handler of its own: it answers without allocating.
pub(super) struct Echo(pub(super) Work);

impl Handler for Echo {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        self.0.run(request.message());
        response.extend_from_slice(request.message());
    }
}

pub(super) fn serve(options: &Options, handler: impl Handler) -> Result<()> {
    // The driver's forward-secret clients show only with their first messages that they are no strangers.
    let mut builder =
        Server::builder(Key::from_bytes(SHARED_KEY)).lifetime(LIFETIME).max_unestablished(65_536);
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    let server = builder.bind("127.0.0.1:0")?;
    Endpoint::from(server.local_addr()).announce()?;
    server.spawn(handler)?.wait()?;
    Ok(())
}
