//! The library of this repository, as a user would start it.

use std::time::Duration;

use falcotcp_sync::{Handler, Key, Request, Response, Server};

use super::announcement::announce;
use super::options::Options;
use super::work::Work;
use crate::crypto::SHARED_KEY;
use crate::error::Result;

/// Connections stay idle while the other contenders have their turn; they are not to run out meanwhile.
const LIFETIME: Duration = Duration::from_secs(600);

/// Written out as a handler of its own: it answers without allocating.
struct Echo(Work);

impl Handler for Echo {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        self.0.run(request.message());
        response.extend_from_slice(request.message());
    }
}

pub(super) fn serve(options: Options) -> Result<()> {
    let mut builder = Server::builder(Key::from_bytes(SHARED_KEY)).lifetime(LIFETIME);
    if let Some(workers) = options.workers {
        builder = builder.workers(workers);
    }
    let server = builder.bind("127.0.0.1:0")?;
    announce(server.local_addr(), "")?;
    server.spawn(Echo(options.work))?.wait()?;
    Ok(())
}
