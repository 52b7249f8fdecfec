//! The base line: no encryption, `std::net`, a thread a connection, buffered reads and writes.

use std::net::TcpListener;
use std::thread;

use super::frames;
use super::work::Work;
use crate::endpoint::Endpoint;
use crate::error::Result;

pub(super) fn serve(work: Work) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    Endpoint::from(listener.local_addr()?).announce()?;
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        // A connection that fails ends its own thread; the driver notices and reports it.
        thread::Builder::new().stack_size(frames::STACK).spawn(move || frames::serve(stream, work))?;
    }
}
