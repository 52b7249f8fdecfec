//! The closed loop that drives any number of connections to one server: one thread, one `epoll`, the same code for
//! every protocol.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::client::Connector;
use crate::connection::Connection;
use crate::error::Result;
use crate::machine::{self, ProcessorClock};
use crate::requests::{Mark, Marker};

/// What is asked of a server.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Bytes of one message.
    pub(crate) message: usize,
    /// Requests that each connection keeps in flight.
    pub(crate) in_flight: usize,
    /// Some of the requests carry the mark over which a sleeping handler sleeps.
    pub(crate) marked: bool,
    /// How long a connection waits after a response before it sends the next request.
    pub(crate) pause: Duration,
    /// Each request has a connection of its own, and the other fields are for as many clients.
    pub(crate) reconnects: bool,
}

/// How long one turn takes, in three parts.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// At most this long is waited for responses that are still due, so that the server is idle in others' turns.
    pub(crate) drain: Duration,
}

/// What one turn gave.
pub(crate) struct Slice {
    pub(crate) elapsed: Duration,
    pub(crate) requests: u64,
    /// In nanoseconds, of the requests without a mark.
    pub(crate) latencies: Histogram<u64>,
    pub(crate) server_time: Duration,
    pub(crate) driver_time: Duration,
    /// What the cores did altogether, other programs included.
    pub(crate) busy_time: Duration,
    /// Connections without a single response in the whole turn.
    pub(crate) starved: usize,
    /// Why the first connection was lost, if one was.
    pub(crate) failure: Option<String>,
}

/// Nanoseconds with an error of at most a hundredth, up to a minute.
pub(crate) fn empty_histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(60_000_000_000, 2)?)
}

/// Holds whatever one read brings in; the processor's second-level cache holds it as well.
const SCRATCH: usize = 128 * 1024;
/// More than any protocol here wraps around a message.
pub(crate) const OVERHEAD: usize = 1024;

/// The connections to one server.
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    connections: Vec<Option<Connection>>,
    load: Load,
    marker: Marker,
    /// Connections that wait before their next request, and until when.
    pausing: VecDeque<(Instant, usize)>,
    scratch: Vec<u8>,
    failure: Option<String>,
}

impl Fleet {
    /// Connects one after the other. A server that stops accepting on the way leaves the rest without a connection.
    pub(crate) fn connect(connector: &Connector, load: Load) -> Result<Fleet> {
        let mut fleet = Fleet {
            poll: Poll::new()?,
            events: Events::with_capacity(load.connections),
            connections: Vec::new(),
            load,
            marker: Marker::new(load.marked),
            pausing: VecDeque::new(),
            scratch: vec![0; SCRATCH],
            failure: None,
        };
        for index in 0..load.connections {
            let (socket, client) = match connector.connect() {
                Ok(connected) => connected,
                Err(error) => {
                    fleet.failure = Some(format!("connection {index} was not established: {error}"));
                    break;
                }
            };
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            let interest = Interest::READABLE | Interest::WRITABLE;
            fleet.poll.registry().register(&mut socket, Token(index), interest)?;
            fleet.connections.push(Some(Connection::new(socket, client, load.message + OVERHEAD)));
        }
        Ok(fleet)
    }

    /// One turn: warm up, measure, let the responses that are due come in.
    pub(crate) fn drive(&mut self, plan: Plan, server: ProcessorClock) -> Result<Slice> {
        let driver = ProcessorClock::of_this_process();
        for connection in self.connections.iter_mut().flatten() {
            connection.answered = false;
        }
        let mut ignored = empty_histogram()?;
        let mut latencies = empty_histogram()?;

        let start = Instant::now();
        self.pausing.clear();
        self.fill(self.load.in_flight, start);
        self.turn(start + plan.warm_up, Refill::Yes, &mut ignored)?;
        let busy_before = machine::busy_time()?;
        let (server_before, driver_before, measured_from) = (server.now()?, driver.now()?, Instant::now());
        let requests = self.turn(measured_from + plan.measured, Refill::Yes, &mut latencies)?;
        let elapsed = measured_from.elapsed();
        let (server_time, driver_time) = (server.now()? - server_before, driver.now()? - driver_before);
        let busy_time = machine::busy_time()?.saturating_sub(busy_before);
        self.turn(Instant::now() + plan.drain, Refill::No, &mut ignored)?;

        let answered = self.connections.iter().flatten().filter(|connection| connection.answered).count();
        let starved = self.load.connections - answered;
        let failure = self.failure.clone();
        Ok(Slice { elapsed, requests, latencies, server_time, driver_time, busy_time, starved, failure })
    }

    /// Lets every connection send one request and waits for the responses, unmeasured.
    pub(crate) fn greet(&mut self, within: Duration) -> Result<()> {
        let now = Instant::now();
        self.fill(1, now);
        self.turn(now + within, Refill::No, &mut empty_histogram()?)?;
        if self.in_flight() > 0 || self.connections.iter().flatten().count() < self.load.connections {
            let failure = self.failure.as_deref().unwrap_or("no response in time");
            return Err(format!("not every connection was answered: {failure}").into());
        }
        Ok(())
    }

    /// Brings every connection to this number of requests in flight, none of them marked: the first response is
    /// compared with an unmarked request.
    fn fill(&mut self, in_flight: usize, now: Instant) {
        for slot in &mut self.connections {
            let Some(connection) = slot else { continue };
            let missing = in_flight.saturating_sub(connection.in_flight());
            if missing > 0
                && let Err(error) = connection.request(&vec![Mark::Ordinary; missing], now)
            {
                lose(slot, &mut self.failure, &error);
            }
        }
    }

    /// Follows responses with new requests, or with none, until the deadline or until nothing is left to wait for.
    /// Says how many responses there were.
    fn turn(&mut self, deadline: Instant, refill: Refill, latencies: &mut Histogram<u64>) -> Result<u64> {
        let mut responses = 0;
        let mut in_flight = self.in_flight();
        let mut marks = Vec::new();
        let mut now = Instant::now();
        while now < deadline && (in_flight > 0 || (refill == Refill::Yes && !self.pausing.is_empty())) {
            let wake = self.pausing.front().map_or(deadline, |&(due, _)| due.min(deadline));
            match self.poll.poll(&mut self.events, Some(wake.saturating_duration_since(now))) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &self.events {
                let index = event.token().0;
                let slot = &mut self.connections[index];
                let Some(connection) = slot else { continue };
                let received = connection.flush().and_then(|()| connection.receive(&mut self.scratch));
                // One look at the clock serves for these responses and for the requests that follow them.
                now = Instant::now();
                let served = received.and_then(|received| {
                    connection.complete(received, now, latencies);
                    responses += received as u64;
                    in_flight -= received;
                    if refill == Refill::No || received == 0 {
                        return Ok(());
                    }
                    if self.load.pause > Duration::ZERO {
                        self.pausing.push_back((now + self.load.pause, index));
                        return Ok(());
                    }
                    in_flight += received;
                    marks.clear();
                    marks.extend((0..received).map(|_| self.marker.next()));
                    connection.request(&marks, now)
                });
                if let Err(error) = served {
                    lose(slot, &mut self.failure, &error);
                    in_flight = self.in_flight();
                }
            }
            now = Instant::now();
            if refill == Refill::Yes && !self.pausing.is_empty() {
                self.end_pauses(now);
                in_flight = self.in_flight();
            }
        }
        Ok(responses)
    }

    /// Sends on the connections whose pause is over. All pauses are equally long, so the first is the next to end.
    fn end_pauses(&mut self, now: Instant) {
        while let Some(&(due, index)) = self.pausing.front()
            && due <= now
        {
            self.pausing.pop_front();
            let slot = &mut self.connections[index];
            if let Some(connection) = slot
                && let Err(error) = connection.request(&[self.marker.next()], now)
            {
                lose(slot, &mut self.failure, &error);
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.connections.iter().flatten().map(|connection| connection.in_flight()).sum()
    }
}

/// A connection that failed is done with; the first reason is kept for the report.
fn lose(slot: &mut Option<Connection>, failure: &mut Option<String>, error: &io::Error) {
    *slot = None;
    failure.get_or_insert_with(|| format!("a connection was lost: {error}"));
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Refill {
    Yes,
    No,
}
