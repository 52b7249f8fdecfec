//! Clients that connect, send one message, wait for its response, and close.

use std::io::{Read, Write};

use super::threads::Exchange;
use crate::client::Connector;
use crate::error::Result;
use crate::requests::Mark;

/// Holds one response with all that comes before it, a TLS session's ticket included.
const BUFFER: usize = 16 * 1024;

/// One such client. A TLS connection is closed without `close_notify`, which saves it a write.
pub(crate) fn connect_for_each(connector: Connector) -> Exchange {
    let mut connected_before = false;
    let mut buffer = vec![0; BUFFER];
    Box::new(move || {
        connect_for_one(&connector, connected_before, &mut buffer).map_err(|error| error.to_string())?;
        connected_before = true;
        Ok(())
    })
}

fn connect_for_one(connector: &Connector, connected_before: bool, buffer: &mut [u8]) -> Result<()> {
    let (mut socket, mut session) = connector.connect()?;
    if connected_before && !session.is_resumed() {
        return Err("a TLS session was not resumed".into());
    }
    let mut wire = Vec::new();
    session.send(&[Mark::Ordinary], &mut wire)?;
    socket.write_all(&wire)?;
    let mut filled = 0;
    loop {
        let length = socket.read(&mut buffer[filled..])?;
        if length == 0 {
            return Err("the server closed the connection".into());
        }
        filled += length;
        let received = session.receive(&mut buffer[..filled])?;
        if received.responses > 0 {
            return Ok(());
        }
        buffer.copy_within(received.consumed..filled, 0);
        filled -= received.consumed;
    }
}
