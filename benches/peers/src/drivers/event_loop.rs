//! The closed loop that drives any number of connections to one server: one thread, one `epoll`, the same code for
//! every protocol.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::connection::Connection;
use super::turn::{Driver, Meter, Plan, Slice, empty_histogram};
use crate::client::Connector;
use crate::error::Result;
use crate::machine::ProcessorClock;
use crate::requests::{Mark, Marker};

/// What is asked of a server.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Bytes of one message.
    pub(crate) message: usize,
    /// Requests that each connection keeps in flight.
    pub(crate) in_flight: usize,
    /// Some of the requests carry the mark over which a blocking handler blocks.
    pub(crate) marked: bool,
    /// How long a connection waits after a response before it sends the next request.
    pub(crate) pause: Duration,
}

/// Holds whatever one read brings in; the processor's second-level cache holds it as well.
const SCRATCH: usize = 128 * 1024;
/// More than any protocol here wraps around a message.
const OVERHEAD: usize = 1024;

/// The connections to one server.
pub(crate) struct EventLoop {
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

impl EventLoop {
    /// Connects one after the other. A server that stops accepting on the way leaves the rest without a connection.
    pub(crate) fn connect(connector: &Connector, load: Load) -> Result<EventLoop> {
        let mut connected = EventLoop {
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
            let (socket, session) = match connector.connect() {
                Ok(established) => established,
                Err(error) => {
                    connected.failure = Some(format!("connection {index} was not established: {error}"));
                    break;
                }
            };
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            let interest = Interest::READABLE | Interest::WRITABLE;
            connected.poll.registry().register(&mut socket, Token(index), interest)?;
            connected.connections.push(Some(Connection::new(socket, session, load.message + OVERHEAD)));
        }
        Ok(connected)
    }

    /// Lets every connection send one request and waits for the responses, unmeasured.
    pub(crate) fn exchange_once(&mut self, within: Duration) -> Result<()> {
        let now = Instant::now();
        self.fill(1, Mark::Ordinary, now);
        self.turn(now + within, Refill::No, &mut empty_histogram()?)?;
        if self.in_flight() > 0 || self.connections.iter().flatten().count() < self.load.connections {
            let failure = self.failure.as_deref().unwrap_or("no response in time");
            return Err(format!("not every connection was answered: {failure}").into());
        }
        Ok(())
    }

    /// Lets every connection send so many marked requests and waits for nothing.
    pub(crate) fn send_marked(&mut self, requests: usize) {
        self.fill(requests, Mark::Blocking, Instant::now());
    }

    /// Brings every connection to this number of requests in flight. The first one of a connection must not be
    /// marked: its response is compared with an unmarked request.
    fn fill(&mut self, in_flight: usize, mark: Mark, now: Instant) {
        for slot in &mut self.connections {
            let Some(connection) = slot else { continue };
            let missing = in_flight.saturating_sub(connection.in_flight());
            if missing > 0
                && let Err(error) = connection.request(&vec![mark; missing], now)
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

impl Driver for EventLoop {
    fn drive(&mut self, plan: Plan, server: ProcessorClock) -> Result<Slice> {
        for connection in self.connections.iter_mut().flatten() {
            connection.answered = false;
        }
        let mut ignored = empty_histogram()?;
        let mut latencies = empty_histogram()?;

        let start = Instant::now();
        self.pausing.clear();
        self.fill(self.load.in_flight, Mark::Ordinary, start);
        self.turn(start + plan.warm_up, Refill::Yes, &mut ignored)?;
        let meter = Meter::start(server)?;
        let requests = self.turn(meter.started() + plan.measured, Refill::Yes, &mut latencies)?;
        let used = meter.stop()?;
        self.turn(Instant::now() + plan.drain, Refill::No, &mut ignored)?;

        let answered = self.connections.iter().flatten().filter(|connection| connection.answered).count();
        let starved = self.load.connections - answered;
        Ok(Slice { used, requests, latencies, starved, failure: self.failure.clone() })
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
