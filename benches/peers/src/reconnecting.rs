//! Clients that connect for each request: connect, send one message, read the response, close. Each blocks, in a
//! thread of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::client::Connector;
use crate::driver::{Load, OVERHEAD, Plan, Slice, empty_histogram};
use crate::error::Result;
use crate::machine::{self, ProcessorClock};
use crate::requests::Mark;

/// What the clients do with a request that was answered.
#[derive(Default)]
struct Phase {
    measuring: AtomicBool,
    over: AtomicBool,
}

/// One turn of as many clients as the load has connections. Each has a connector of its own, and with it its own TLS
/// sessions to resume. A client that fails is done with, and its requests do not count.
pub(crate) fn drive(
    connector: impl Fn() -> Result<Connector> + Sync,
    load: Load,
    plan: Plan,
    server: ProcessorClock,
) -> Result<Slice> {
    let phase = Phase::default();
    let client = || requests(&connector, load, &phase).map_err(|error| error.to_string());
    thread::scope(|scope| {
        let clients: Vec<_> = (0..load.connections).map(|_| scope.spawn(client)).collect();
        thread::sleep(plan.warm_up);
        let slice = measure(&phase, plan, server);
        phase.over.store(true, Ordering::Relaxed);

        let mut slice = slice?;
        for client in clients {
            match client.join().map_err(|_| "a client panicked")? {
                Ok(latencies) => {
                    slice.starved += usize::from(latencies.is_empty());
                    slice.latencies.add(&latencies)?;
                }
                Err(error) => _ = slice.failure.get_or_insert(error),
            }
        }
        slice.requests = slice.latencies.len();
        Ok(slice)
    })
}

/// A slice without requests: they are the clients' to count.
fn measure(phase: &Phase, plan: Plan, server: ProcessorClock) -> Result<Slice> {
    let driver = ProcessorClock::of_this_process();
    let busy_before = machine::busy_time()?;
    let (server_before, driver_before, measured_from) = (server.now()?, driver.now()?, Instant::now());
    phase.measuring.store(true, Ordering::Relaxed);
    thread::sleep(plan.measured);
    phase.measuring.store(false, Ordering::Relaxed);
    Ok(Slice {
        elapsed: measured_from.elapsed(),
        requests: 0,
        latencies: empty_histogram()?,
        server_time: server.now()? - server_before,
        driver_time: driver.now()? - driver_before,
        busy_time: machine::busy_time()?.saturating_sub(busy_before),
        starved: 0,
        failure: None,
    })
}

/// One client, with the latencies of what was answered while it was measured.
fn requests(connector: impl Fn() -> Result<Connector>, load: Load, phase: &Phase) -> Result<Histogram<u64>> {
    let connector = connector()?;
    let mut latencies = empty_histogram()?;
    let mut wire = Vec::new();
    let mut received = vec![0; load.message + OVERHEAD];
    while !phase.over.load(Ordering::Relaxed) {
        let started = Instant::now();
        request(&connector, &mut wire, &mut received)?;
        if phase.measuring.load(Ordering::Relaxed) {
            latencies.saturating_record(u64::try_from(started.elapsed().as_nanos())?);
        }
    }
    Ok(latencies)
}

/// From connecting to the response. The connection closes behind it.
fn request(connector: &Connector, wire: &mut Vec<u8>, buffer: &mut [u8]) -> Result<()> {
    let (mut socket, mut client) = connector.connect()?;
    wire.clear();
    client.send(&[Mark::Ordinary], wire)?;
    socket.write_all(wire)?;
    let mut filled = 0;
    loop {
        match socket.read(&mut buffer[filled..])? {
            0 => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
            length => filled += length,
        }
        let received = client.receive(&mut buffer[..filled])?;
        if received.responses > 0 {
            return Ok(());
        }
        buffer.copy_within(received.consumed..filled, 0);
        filled -= received.consumed;
    }
}
