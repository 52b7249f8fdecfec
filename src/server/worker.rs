//! A worker's loop: take a ready connection, serve it for a turn, put it back; wait when there is none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use log::error;
use parking_lot::MutexGuard;

use super::buffers::{Input, Output};
use super::connection::{Connection, Verdict, Workspace};
use super::shared::{Shared, StopPhase};
use super::table::{Table, Ticket};
use super::worker_side::WorkerSide;
use crate::protocol::NonceSequence;

const LOG: &str = "falcotcp_sync::server";

/// Serves until the server stops. `nonces` is this worker's sealing state.
pub(super) fn run(shared: &Shared, index: usize, nonces: NonceSequence) {
    let side = &shared.workers[index];
    let mut work = Workspace {
        handler: &*shared.handler,
        side,
        ticks: &shared.ticks,
        nonces,
        input: Input::new(),
        output: Output::default(),
        withdrawals: shared.keyring.withdrawals(),
        now: Instant::now(),
    };
    // Handlers are caught where they are called. What else could panic is the application's logger, and that
    // costs one connection, not a worker with all of its own.
    while catch_unwind(AssertUnwindSafe(|| serve_until_stopped(shared, index, &mut work))).is_err() {
        work.input.clear();
        work.output.clear();
        side.end_serving();
        side.end_waiting();
        side.table.lock().reclaim();
        let _ = catch_unwind(|| error!(target: LOG, "a worker panicked and goes on"));
    }
}

fn serve_until_stopped(shared: &Shared, index: usize, work: &mut Workspace<'_>) {
    let side = &shared.workers[index];
    let mut table = side.table.lock();
    work.now = Instant::now();
    loop {
        let phase = shared.stop.phase();
        match phase {
            StopPhase::Running => {}
            StopPhase::Draining => table.begin_drain(),
            StopPhase::Finishing => return finish(shared, &mut table),
        }
        let withdrawals = shared.keyring.withdrawals();
        if withdrawals != work.withdrawals {
            work.withdrawals = withdrawals;
            shared.close_withdrawn(&mut table);
        }
        table.expire(work.now, |connection| shared.note_expired(connection));
        if let Some((ticket, connection)) = next(shared, index, &mut table) {
            let begun = work.now;
            serve(shared, index, &mut table, work, ticket, connection);
            if work.now == begun {
                // Nothing was written in that turn, and so nobody has looked at the clock.
                work.now = Instant::now();
            }
        } else {
            wait(shared, side, &mut table, work, phase);
        }
    }
}

/// The next connection to serve: a ready one of our own, or one that another worker could not get to.
fn next(shared: &Shared, index: usize, table: &mut Table) -> Option<(Ticket, Box<Connection>)> {
    let adopt = |table: &mut Table| {
        let mut connection = shared.overflow.1.try_recv().ok()?;
        connection.transfer(index);
        table.adopt(connection)
    };
    if table.is_poll_due() && (table.has_ready() || !shared.overflow.1.is_empty()) {
        table.wait(Some(Duration::ZERO));
        // Once a round, so that a worker whose own connections never pause takes its part of the others' as well.
        if let Some(adopted) = adopt(table) {
            return Some(adopted);
        }
    }
    table.check_out().or_else(|| adopt(table))
}

fn serve(
    shared: &Shared,
    index: usize,
    table: &mut MutexGuard<'_, Table>,
    work: &mut Workspace<'_>,
    ticket: Ticket,
    mut connection: Box<Connection>,
) {
    let side = &shared.workers[index];
    let phase_before = shared.stop.phase();
    if phase_before == StopPhase::Draining {
        connection.limit_to_arrived();
    }
    side.begin_serving();
    shared.rouse_watchdog(index);
    let verdict = MutexGuard::unlocked(table, || connection.serve(work));
    side.end_serving();
    let goes_to = table.take_served_goes_to();
    let again = verdict == Verdict::Again;
    let is_expired = again && connection.deadline().at <= work.now;
    let done = !again && connection.is_quiescent() && !connection.is_lingering();
    match shared.stop.phase() {
        _ if verdict == Verdict::Close => table.forget(ticket),
        // The others' deadlines are looked at while they wait; this one never does.
        _ if is_expired => {
            table.forget(ticket);
            shared.note_expired(&connection);
        }
        // What arrived before the stop may have arrived after this turn had read: one more turn.
        StopPhase::Draining if phase_before == StopPhase::Running => table.check_in(ticket, connection, true),
        StopPhase::Draining if done => {
            shared.counters.drained.add(1);
            if connection.say_farewell(work.now) {
                table.check_in(ticket, connection, true);
            } else {
                table.forget(ticket);
            }
        }
        StopPhase::Finishing => {
            table.forget(ticket);
            count_closed(shared, &connection, false);
        }
        StopPhase::Draining => {
            if !again && !connection.wants_to_write() {
                connection.end_after_frame();
            }
            table.check_in(ticket, connection, again);
        }
        StopPhase::Running => match goes_to {
            Some(other) => hand_over(shared, table, (ticket, connection), other, again),
            None => table.check_in(ticket, connection, again),
        },
    }
}

/// Gives a connection to another worker after its turn; `again` if it has more to do.
pub(super) fn hand_over(
    shared: &Shared,
    table: &mut Table,
    (ticket, connection): (Ticket, Box<Connection>),
    other: usize,
    again: bool,
) {
    if let Some((connection, is_pending)) = table.give_up_served(ticket, connection) {
        shared.give(other, connection, again || is_pending);
        shared.rouse_watchdog(other);
    }
}

/// Waits until a connection is ready. `phase` is what the server was last seen in.
fn wait(shared: &Shared, side: &WorkerSide, table: &mut Table, work: &mut Workspace<'_>, phase: StopPhase) {
    side.begin_waiting();
    // Whatever this worker was woken for since it looked: another look at its table may have taken the wake-up.
    let is_wanted = shared.stop.phase() != phase
        || shared.keyring.withdrawals() != work.withdrawals
        || !shared.overflow.1.is_empty()
        || !table.is_inbox_empty();
    let deadline = table.next_deadline();
    let timeout = if is_wanted {
        Some(Duration::ZERO)
    } else if shared.will_wake(side, deadline) {
        None
    } else {
        deadline.map(|at| at.saturating_duration_since(work.now))
    };
    table.wait(timeout);
    side.end_waiting();
    let begun = std::mem::replace(&mut work.now, Instant::now());
    side.note_wait(work.now.saturating_duration_since(begun));
}

/// Closes whatever is left when the time for draining is over.
pub(super) fn finish(shared: &Shared, table: &mut Table) {
    table.close_if(|_| true, |connection, is_ready| count_closed(shared, connection, is_ready));
    while let Some(dealt) = table.next_dealt() {
        count_closed(shared, &dealt.connection, dealt.is_ready);
    }
    while let Ok(connection) = shared.overflow.1.try_recv() {
        count_closed(shared, &connection, true);
    }
}

/// Counts a connection that is closed because the server ends. One that lingers has been counted, and one for which more
/// has arrived is not answered in full.
fn count_closed(shared: &Shared, connection: &Connection, has_more: bool) {
    match (connection.is_lingering(), connection.is_quiescent() && !has_more) {
        (true, _) => {}
        (false, true) => shared.counters.drained.add(1),
        (false, false) => shared.counters.cut.add(1),
    }
}
