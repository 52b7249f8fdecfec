//! A pipeline that takes its messages from an iterator: how far ahead of the results, and when they go out.

use std::time::{Duration, Instant};

use super::Pipeline;
use crate::Error;
use crate::client::in_flight::Look;

/// Sealed messages are collected up to about this many bytes before they are sent together.
const BATCH: usize = 64 << 10;

/// Messages of an iterator whose results may be outstanding at the same time.
const IN_FLIGHT: usize = 1024;

/// An iterator that takes longer for a message may take long for the next one.
const PROMPT: Duration = Duration::from_millis(1);

/// Messages that are sent one by one when a pause of the iterator has to be expected behind each.
const ONE_BY_ONE: u32 = 32;

impl Pipeline<'_> {
    /// Sends all messages, and gives each result to `each`.
    pub(super) fn run<M: AsRef<[u8]>>(
        &mut self,
        messages: &mut impl Iterator<Item = M>,
        each: &mut impl FnMut(Result<&[u8], Error>),
    ) -> Result<(), Error> {
        // Such an iterator is, as a rule, fed while it runs.
        let mut one_by_one = if messages.size_hint().1.is_none() { ONE_BY_ONE } else { 0 };
        loop {
            let filled = self.fill(messages, each, &mut one_by_one)?;
            if filled == Filled::Ended && self.in_flight() == 0 {
                return Ok(());
            }
            self.in_flight.restart_deadline();
            if self.in_flight.is_any_sealed()
                && self.with_link(|in_flight, link| in_flight.flush(link, false)).is_err()
            {
                // The error comes behind the results that have arrived.
                self.give(Look::Buffer, each)?;
            }
            match filled {
                Filled::OneByOne => self.give(Look::Buffer, each)?,
                Filled::Paused => self.give(Look::Socket, each)?,
                Filled::Full | Filled::Ended => self.give(Look::Wait, each)?,
            }
        }
    }

    /// Takes messages from the iterator and seals them, until they should go out.
    fn fill<M: AsRef<[u8]>>(
        &mut self,
        messages: &mut impl Iterator<Item = M>,
        each: &mut impl FnMut(Result<&[u8], Error>),
        one_by_one: &mut u32,
    ) -> Result<Filled, Error> {
        let mut before = Instant::now();
        let mut held = self.held();
        while held < BATCH && self.in_flight() < IN_FLIGHT {
            let Some(message) = messages.next() else { return Ok(Filled::Ended) };
            let message = message.as_ref();
            let now = Instant::now();
            let was_slow = now.saturating_duration_since(before) >= PROMPT;
            before = now;
            if was_slow {
                // The connection may have ended meanwhile. Then this message is better not sent on it.
                self.give(Look::Socket, each)?;
            }
            match self.seal(message) {
                Err(Error::TooLarge { size, limit, .. }) => self.in_flight.push_too_large(size, limit),
                outcome => held = outcome?,
            }
            if was_slow {
                *one_by_one = ONE_BY_ONE;
                return Ok(Filled::Paused);
            }
            if *one_by_one > 0 {
                *one_by_one -= 1;
                return Ok(Filled::OneByOne);
            }
        }
        Ok(Filled::Full)
    }

    /// Gives the next result, looked for so far, and those that have arrived with it.
    fn give(&mut self, look: Look, each: &mut impl FnMut(Result<&[u8], Error>)) -> Result<(), Error> {
        let mut next = look;
        while let Some(result) = self.take(next)? {
            each(result);
            if look == Look::Wait {
                next = Look::Buffer;
            }
        }
        Ok(())
    }
}

/// Why no more messages were taken from the iterator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filled {
    /// There is no room for more.
    Full,
    /// It has none, for now at least.
    Ended,
    /// It took its time for the last one.
    Paused,
    /// It may do so for the next one.
    OneByOne,
}
