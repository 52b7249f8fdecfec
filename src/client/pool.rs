//! Clients for many threads, through `r2d2`.

use std::time::Duration;

use super::builder::ClientBuilder;
use super::handle::Client;
use crate::{Addresses, Error};

/// A client that was used so recently is taken to be in order without a look at its socket.
const JUST_USED: Duration = Duration::from_millis(500);

/// Makes and checks clients for an [`r2d2::Pool`] (feature `r2d2`). They share what they learn about addresses that fail.
///
/// Checking costs no round trip: nothing for a client that was just used, and otherwise a look at what the socket holds
/// and a ping, both without waiting.
///
/// Choose `max_size` by Little's law: the requests per second at the peak times the seconds that one takes, and
/// half as many again. More connections than the server has workers and processors for do not make it faster. Set
/// `min_idle` to what the quiet hours need, and `idle_timeout` below the server's lifetime, or
/// [`keep_alive`](ClientBuilder::keep_alive), so that idle clients are not found closed.
///
/// ```
/// # use falcotcp_sync::{Client, ClientManager, Key, Server};
/// # let key = Key::generate()?;
/// # let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_vec())?;
/// # let addr = server.local_addr();
/// let manager = ClientManager::new(Client::builder(&key), addr)?;
/// let pool = r2d2::Pool::builder().max_size(8).build(manager)?;
/// std::thread::scope(|scope| {
///     for _ in 0..20 {
///         scope.spawn(|| pool.get().unwrap().message(b"hello").unwrap());
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientManager {
    builder: ClientBuilder,
    addrs: Addresses,
}

impl ClientManager {
    /// Connects each client as `builder` says, to the first of `addr`'s addresses that accepts. A name is resolved here, so that
    /// a wrong one is known at once, and anew for each client.
    ///
    /// # Errors
    /// [`Error::Io`] in [`Phase::Connect`](crate::Phase::Connect) when the address does not resolve.
    pub fn new(builder: ClientBuilder, addr: impl Into<Addresses>) -> Result<Self, Error> {
        let addrs = addr.into();
        addrs.resolve()?;
        Ok(Self { builder, addrs })
    }
}

impl r2d2::ManageConnection for ClientManager {
    type Connection = Client;
    type Error = Error;

    fn connect(&self) -> Result<Client, Error> {
        self.builder.connect(&self.addrs)
    }

    fn is_valid(&self, client: &mut Client) -> Result<(), Error> {
        let connection = &mut client.connection;
        let was_just_used = connection.with_link(|link| link.last_used.elapsed() < JUST_USED);
        if was_just_used == Some(true) { Ok(()) } else { connection.check_idle() }
    }

    fn has_broken(&self, client: &mut Client) -> bool {
        !client.is_open()
    }
}
