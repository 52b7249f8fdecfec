//! The published server of this protocol, `falcotcp` 0.1.4, with its default runtime (threads).

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::options::Options;
use crate::client::falco::SHARED_KEY;
use crate::endpoint::Endpoint;
use crate::error::Result;

/// Two things about it shape this: it does not say which port it was given, nor when it listens, so a free
/// one is looked up first and tried until it answers; and it prints a line of its own, for which the parent keeps the
/// other end of the pipe open.
pub(super) fn serve(options: &Options) -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    thread::spawn(move || announce_once_it_accepts(address));
    let workers = match options.workers {
        Some(workers) => workers,
        None => thread::available_parallelism()?.get(),
    };
    let work = options.work;
    let handler = move |message: Vec<u8>| {
        work.run(&message);
        message
    };
    falcotcp::Server::new(address.to_string(), SHARED_KEY, Box::new(handler), workers)?;
    Ok(())
}

fn announce_once_it_accepts(address: SocketAddr) -> io::Result<()> {
    while TcpStream::connect(address).is_err() {
        thread::sleep(Duration::from_millis(1));
    }
    Endpoint::from(address).announce()
}
