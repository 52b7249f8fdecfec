//! A handler that asks services before it answers.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use falcotcp_sync::{Client, Error, ForwardSecrecy, Handler, Key, Request, Response};

use super::options::LIFETIME;
use crate::client::falco::SHARED_KEY;

/// Asks every service the message itself, and echoes it once all have answered.
pub(super) struct Asking {
    services: Vec<SocketAddr>,
    /// All at the same time, from threads of their own, or one after the other.
    at_once: bool,
    /// A client for each service; as many of these as handlers have run at the same time.
    idle: Mutex<Vec<Vec<Client>>>,
}

impl Asking {
    pub(super) fn new(services: Vec<SocketAddr>, at_once: bool) -> Asking {
        Asking { services, at_once, idle: Mutex::default() }
    }

    fn connect(&self) -> Result<Vec<Client>, Error> {
        let key = Key::from_bytes(SHARED_KEY);
        self.services
            .iter()
            .map(|service| {
                let builder = Client::builder(&key).lifetime(LIFETIME);
                builder.forward_secrecy(ForwardSecrecy::Off).connect(service)
            })
            .collect()
    }

    fn ask(&self, message: &[u8]) -> Result<(), Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut clients = match idle {
            Some(clients) => clients,
            None => self.connect()?,
        };
        if self.at_once {
            thread::scope(|scope| {
                let ask = |client| scope.spawn(|| Client::message(client, message));
                let asked: Vec<_> = clients.iter_mut().map(ask).collect();
                asked.into_iter().try_for_each(|one| one.join().unwrap_or(Err(Error::Closed)).map(drop))
            })?;
        } else {
            for client in &mut clients {
                client.message(message)?;
            }
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(clients);
        Ok(())
    }
}

impl Handler for Asking {
    /// Where a service failed, the response is not the echo that the driver expects, which ends the connection.
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        if self.ask(request.message()).is_ok() {
            response.extend_from_slice(request.message());
        }
    }
}
