//! A snapshot of a server's counters.

use std::time::Duration;

use super::shared::Counters;

/// What a server has done since it was started, read with [`ServerHandle::stats`](crate::ServerHandle::stats).
///
/// The counters are read one after the other while the server runs, so they may be a moment apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are open now, established or not.
    pub open: usize,
    /// Those of them that are not established: strangers, and peers that have not shown yet that they are none.
    pub unestablished: usize,
    /// Connections that were accepted, also those that were refused afterwards.
    pub accepted: u64,
    /// Connections of peers with a key that were closed because `max_connections` were established, or
    /// `max_connections_per_peer` from their address. Those without a key are [`unauthenticated`](Self::unauthenticated).
    pub refused: u64,
    /// Connections that were closed before they were established, to make room: for others beyond `max_unestablished`, or
    /// for want of descriptors.
    pub evicted: u64,
    /// Connections that were closed in silence: their establishment did not open or offered no session that was required, or
    /// a frame of a forward-secret session did not open.
    pub unauthenticated: u64,
    /// Connections that were established as classic sessions.
    pub established_classic: u64,
    /// Connections that were established as forward-secret sessions.
    pub established_forward_secret: u64,
    /// Connections that were closed because a deadline ran out: establishment, lifetime or write.
    pub expired: u64,
    /// Connections that were cut by a stop before they had finished.
    pub cut: u64,
    /// Moves of connections to another worker, since their own had been at one turn for more than 10 ms, in a handler as a
    /// rule. Quick moves, which an operating system that runs something else for a while causes as well, are not counted.
    pub redealt: u64,
    /// Connections that were closed because their key was withdrawn.
    pub withdrawn: u64,
    /// Messages that opened and were handed to the handler.
    pub messages: u64,
    /// Messages that were rejected before they reached the handler: damaged, or too large. Those that the handler rejects are in
    /// `messages` alone.
    pub rejected: u64,
    /// Messages that had waited longer than [`shed_after`](crate::ServerBuilder::shed_after), and were answered without their
    /// handler.
    pub shed: u64,
    /// Pings.
    pub pings: u64,
    /// Panics of the handler, also where it is told that a connection begins or ends.
    pub panics: u64,
    /// Answers that are outstanding now, of those that come later ([`Response::defer`](crate::Response::defer)).
    pub deferred_now: usize,
    /// Messages whose answer was to come later.
    pub deferred: u64,
    /// Bytes read from sockets.
    pub bytes_in: u64,
    /// Bytes written to sockets.
    pub bytes_out: u64,
    /// Workers that are at a turn now, in a handler or around it. All of them most of the time: the server is saturated.
    pub workers_busy: usize,
    /// Connections that have something to do now and wait for a worker.
    pub waiting: usize,
    /// How long the next one of them has waited, of the worker where that is longest; `None` while none waits. While a
    /// worker is in its handler this is known from when the server looks at its sockets, each millisecond.
    pub oldest_wait: Option<Duration>,
    /// The workers, in their order.
    pub workers: Vec<WorkerStats>,
}

/// The part of one worker in [`Stats`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Connections that it owns now.
    pub connections: usize,
    /// Messages that it handed to the handler.
    pub messages: u64,
}

impl Stats {
    pub(super) fn snapshot(counters: &Counters) -> Self {
        let Counters { loads, awaited, begun, server, workers } = counters;
        let mut stats = Self {
            open: loads.open(),
            unestablished: loads.admission.unestablished(),
            deferred_now: awaited.get(),
            accepted: server.accepted.get(),
            refused: server.refused.get(),
            evicted: server.evicted.get(),
            expired: server.expired.get(),
            cut: server.cut.get(),
            redealt: server.redealt.get(),
            withdrawn: server.withdrawn.get(),
            panics: server.panics.get(),
            ..Self::default()
        };
        for (index, worker) in workers.iter().enumerate() {
            let messages = worker.messages.get();
            stats.unauthenticated += worker.unauthenticated.get();
            stats.established_classic += worker.classic.get();
            stats.established_forward_secret += worker.forward_secret.get();
            stats.messages += messages;
            stats.rejected += worker.rejected.get();
            stats.shed += worker.shed.get();
            stats.pings += worker.pings.get();
            stats.panics += worker.panics.get();
            stats.deferred += worker.deferred.get();
            stats.bytes_in += worker.bytes_in.get();
            stats.bytes_out += worker.bytes_out.get();
            let (waiting, oldest_wait) = worker.waiting.get(*begun);
            stats.workers_busy += usize::from(worker.is_busy.get());
            stats.waiting += waiting;
            stats.oldest_wait = stats.oldest_wait.max(oldest_wait);
            stats.workers.push(WorkerStats { connections: loads.of(index), messages });
        }
        stats
    }
}
