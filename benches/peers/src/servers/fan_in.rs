//! A handler that asks services through shared clients, all at once, and holds no thread until they answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use falcotcp_sync::{Client, Error, ForwardSecrecy, Handler, Key, Reply, Request, Response, SharedClient};

use super::options::LIFETIME;
use crate::client::falco::SHARED_KEY;

/// Asks every service the message itself, and echoes it once all have answered.
pub(super) struct FanIn {
    services: Vec<SharedClient>,
}

impl FanIn {
    pub(super) fn connect(services: &[SocketAddr]) -> Result<FanIn, Error> {
        let key = Key::from_bytes(SHARED_KEY);
        let builder = Client::builder(&key).lifetime(LIFETIME).forward_secrecy(ForwardSecrecy::Off);
        let services =
            services.iter().map(|service| builder.connect_shared(service)).collect::<Result<_, _>>()?;
        Ok(FanIn { services })
    }
}

impl Handler for FanIn {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let asked = Arc::new(Asked {
            message: request.message().to_vec(),
            reply: response.defer(),
            failed: AtomicBool::new(false),
        });
        for service in &self.services {
            let asked = Arc::clone(&asked);
            match service.try_start(request.message()) {
                Ok(call) => call.then(move |answer| asked.end_one(answer.is_ok())),
                Err(_) => asked.end_one(false),
            }
        }
        asked.end_one(true);
    }
}

/// A request whose services have not all answered: each call holds it, and the handler while it starts them.
struct Asked {
    message: Vec<u8>,
    reply: Reply,
    failed: AtomicBool,
}

impl Asked {
    /// The last one to end answers. Where a service failed it rejects, which ends the connection.
    fn end_one(self: Arc<Self>, well: bool) {
        if !well {
            self.failed.store(true, Ordering::Relaxed);
        }
        if let Some(Asked { message, reply, failed }) = Arc::into_inner(self)
            && !failed.into_inner()
        {
            // Who asked may be gone; then nobody waits for the answer.
            let _ = reply.send(message);
        }
    }
}
