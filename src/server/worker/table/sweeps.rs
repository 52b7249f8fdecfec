//! What is done with many connections of a table at once, beside their turns: deadlines, strangers, the drain, the end.

use std::time::Instant;

use super::{State, Table};
use crate::server::connection::{Connection, Ended};
use crate::server::shared::End;

impl Table {
    /// Takes out the connections whose deadline was over at `now`, a moment that has passed.
    ///
    /// The sockets are asked first. What has arrived by its deadline is in time, however late this process gets to it (it
    /// may have been stopped meanwhile), so a connection with anything to read is not taken out but ready.
    pub(in crate::server) fn take_expired(&mut self, now: Instant) -> Vec<Ended> {
        let mut expired = Vec::new();
        if self.timers.next().is_none_or(|at| at > now) || self.look_at_all(now).is_err() {
            return expired;
        }
        while let Some((at, index)) = self.timers.pop_due(now) {
            let slot = &mut self.slots[index];
            if slot.timer != Some(at) {
                continue;
            }
            slot.timer = None;
            match &mut slot.connection {
                Some(connection) if slot.state == State::Idle && connection.is_over(now) => {
                    let can_write = !connection.wants_to_write();
                    if can_write && connection.say_goodbye(End::Expired, &self.counters.server) {
                        self.arm(index);
                        continue;
                    }
                    expired.extend(self.take_ended(index).map(|connection| (connection, End::Expired)));
                }
                Some(connection) if connection.deadline().is_none_or(|at| at > now) => self.arm(index),
                // An answer that comes later is overdue, which ends nothing.
                Some(_) if slot.state == State::Idle => self.make_ready(index, now),
                // In its turn or about to have it: the deadline is looked at when it is put back.
                _ => {}
            }
        }
        expired
    }

    /// Takes out the strangers up to this number, which make room for others. Those that have sent something are served
    /// first: it may be their establishment.
    pub(in crate::server) fn take_strangers(&mut self, newest: u64, now: Instant) -> Vec<Ended> {
        let (mut taken, mut kept) = (Vec::new(), Vec::new());
        let oldest = self.strangers.front().map(|(id, _)| id.get());
        if oldest.is_none_or(|oldest| oldest > newest) || self.look_at_all(now).is_err() {
            return taken;
        }
        while let Some((id, index)) = self.strangers.pop_front() {
            let slot = &mut self.slots[index];
            if id.get() > newest {
                kept.push((id, index));
                break;
            }
            match slot.state {
                State::Idle if slot.holds_stranger(id) => {
                    taken.extend(self.take_ended(index).map(|connection| (connection, End::Evicted)));
                }
                State::Ready if slot.holds_stranger(id) => kept.push((id, index)),
                State::Out { .. } => kept.push((id, index)),
                _ => {}
            }
        }
        for entry in kept.into_iter().rev() {
            self.strangers.push_front(entry);
        }
        taken
    }

    /// Gives every connection one more turn, in which what has arrived is answered. Once.
    pub(in crate::server) fn begin_drain(&mut self) {
        if !std::mem::replace(&mut self.is_draining, true) {
            for index in 0..self.slots.len() {
                self.make_ready(index, self.now);
            }
        }
    }

    /// Ends those for which `is_over` holds and that are not out for their turn: by a goodbye, or by taking them out.
    pub(in crate::server) fn end_if(
        &mut self,
        is_over: impl Fn(&Connection) -> bool,
        end: End,
    ) -> Vec<Ended> {
        let mut ended = Vec::new();
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let Some(connection) = slot.connection.as_mut().filter(|connection| is_over(connection)) else {
                continue;
            };
            if connection.say_goodbye(end, &self.counters.server) {
                self.arm(index);
            } else {
                ended.extend(self.take_ended(index).map(|connection| (connection, end)));
            }
        }
        self.forget_vacated();
        ended
    }

    /// Takes out every connection that is not out for its turn, each with whether it was ready for one.
    pub(in crate::server) fn take_all(&mut self) -> Vec<(Box<Connection>, bool)> {
        let mut taken = Vec::new();
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let is_ready = slot.state == State::Ready;
            if let Some(connection) = slot.connection.take() {
                self.vacate(index);
                taken.push((connection, is_ready));
            }
        }
        self.forget_vacated();
        taken
    }

    /// Those that were taken out wait for no turn.
    fn forget_vacated(&mut self) {
        let slots = &self.slots;
        self.ready.retain(|index| slots[index].state == State::Ready);
    }

    /// Frees the slots of connections that were lost in their turn.
    pub(in crate::server) fn reclaim(&mut self) {
        for index in 0..self.slots.len() {
            if matches!(self.slots[index].state, State::Out { .. }) {
                self.vacate(index);
            }
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::time::Instant;

    use crate::server::worker::fixture::Fixture;

    #[test]
    fn a_stranger_that_came_from_another_worker_makes_room_by_its_age() {
        let fixture = Fixture::new(1);
        for number in [1, 5, 3] {
            fixture.admit_stranger(0, number);
        }
        let taken =
            |newest| fixture.pool.workers[0].table.lock().take_strangers(newest, Instant::now()).len();
        assert_eq!(taken(1), 1);
        assert_eq!(taken(4), 1, "the third one is older than that which is there longer");
        assert_eq!(taken(4), 0);
    }
}
