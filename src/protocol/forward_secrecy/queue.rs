//! What a client waits for, in order; both ends keep count of it.

use std::collections::VecDeque;

/// Runs for which memory is kept while nothing is awaited, which is most of a session's time.
const RETAINED: usize = 4;

/// A client's messages and pings without answers. Runs of the same kind are counted, so that thousands in flight take
/// a few words, and nothing is allocated for each.
#[derive(Debug, Default)]
pub(super) struct Queue {
    runs: VecDeque<(Awaited, usize)>,
    messages: usize,
    pings: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    Message,
    Ping,
}

impl Queue {
    #[inline]
    pub(super) fn push(&mut self, awaited: Awaited) {
        *self.count(awaited) += 1;
        match self.runs.back_mut() {
            Some((last, run)) if *last == awaited => *run += 1,
            _ => self.runs.push_back((awaited, 1)),
        }
    }

    /// Takes the next one if it is `awaited`, and says whether it was.
    #[inline]
    pub(super) fn pop(&mut self, awaited: Awaited) -> bool {
        let Some((first, run)) = self.runs.front_mut() else { return false };
        if *first != awaited {
            return false;
        }
        *run -= 1;
        if *run == 0 {
            self.runs.pop_front();
            if self.runs.is_empty() {
                self.runs.shrink_to(RETAINED);
            }
        }
        *self.count(awaited) -= 1;
        true
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    pub(super) fn pings(&self) -> usize {
        self.pings
    }

    fn count(&mut self, awaited: Awaited) -> &mut usize {
        match awaited {
            Awaited::Message => &mut self.messages,
            Awaited::Ping => &mut self.pings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Awaited::{Message, Ping};
    use super::*;

    #[test]
    fn only_the_next_one_is_taken() {
        let mut queue = Queue::default();
        for awaited in [Message, Message, Ping, Message] {
            queue.push(awaited);
        }
        assert_eq!((queue.messages(), queue.pings()), (3, 1));
        assert!(!queue.pop(Ping));
        assert!(queue.pop(Message) && queue.pop(Message) && !queue.pop(Message));
        assert!(queue.pop(Ping) && queue.pop(Message) && !queue.pop(Message) && !queue.pop(Ping));
        assert_eq!((queue.messages(), queue.pings()), (0, 0));
    }

    #[test]
    fn one_kind_in_flight_is_one_run() {
        let mut queue = Queue::default();
        for _ in 0..10_000 {
            queue.push(Message);
        }
        assert_eq!(queue.runs.len(), 1);
    }
}
