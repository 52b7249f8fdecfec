//! Where a client connects to, which address it avoids for a while, and the pauses between its attempts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use rand_core::TryRng;

use crate::Error;
use crate::protocol::{Cipher, ClientSession, NonceSequence};

/// How long an address that failed is not tried again, unless all have failed.
const AVOIDED: Duration = Duration::from_secs(5);

/// The first pause between two rounds; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause between two rounds.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The server's addresses and the key for it.
#[derive(Debug)]
pub(super) struct Target {
    addrs: Vec<Address>,
    cipher: Arc<Cipher>,
}

#[derive(Debug)]
struct Address {
    addr: SocketAddr,
    failed: Option<Instant>,
}

impl Target {
    pub(super) fn new(addrs: Vec<SocketAddr>, cipher: Arc<Cipher>) -> Self {
        Self { addrs: addrs.into_iter().map(|addr| Address { addr, failed: None }).collect(), cipher }
    }

    /// The addresses to try, in turn: those that have not just failed, or else all of them, the longest ago first.
    pub(super) fn candidates(&self) -> Vec<usize> {
        let all = 0..self.addrs.len();
        let is_good =
            |index: &usize| self.addrs[*index].failed.is_none_or(|failed| failed.elapsed() >= AVOIDED);
        let good: Vec<usize> = all.clone().filter(is_good).collect();
        if !good.is_empty() {
            return good;
        }
        let mut avoided: Vec<usize> = all.collect();
        avoided.sort_by_key(|index| self.addrs[*index].failed);
        avoided
    }

    pub(super) fn addr(&self, index: usize) -> &SocketAddr {
        &self.addrs[index].addr
    }

    pub(super) fn avoid(&mut self, index: usize) {
        self.addrs[index].failed = Some(Instant::now());
    }

    pub(super) fn accepted(&mut self, index: usize) {
        self.addrs[index].failed = None;
    }

    /// A new session, and its establishment appended to `output`.
    pub(super) fn session(
        &self,
        max_message_size: usize,
        output: &mut Vec<u8>,
    ) -> Result<ClientSession, Error> {
        let mut session =
            ClientSession::new(Arc::clone(&self.cipher), NonceSequence::new()?, max_message_size);
        session.establish(&mut SysRng, output).map_err(Error::random)?;
        Ok(session)
    }
}

/// Pauses that grow, each shortened by a random part so that many clients do not come back at the same moment.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    /// Pauses; `false` at once when there is no time for another attempt.
    pub(super) fn pause(&mut self, deadline: Instant) -> bool {
        // Without random bytes the pause is merely a whole one.
        let random = SysRng.try_next_u32().unwrap_or(u32::MAX);
        let pause = self.next.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX));
        let left = deadline.saturating_duration_since(Instant::now());
        if left < FIRST_PAUSE {
            return false;
        }
        // Half of what is left is for the attempt.
        thread::sleep(pause.min(left / 2));
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn an_address_that_failed_is_avoided_while_there_are_others() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let cipher = Arc::new(Cipher::new(&Key::from_bytes([1; 32])));
        let mut target = Target::new(vec![addr(1), addr(2), addr(3)], cipher);
        assert_eq!(target.candidates(), [0, 1, 2]);
        target.avoid(0);
        target.avoid(2);
        assert_eq!(target.candidates(), [1]);
        target.avoid(1);
        assert_eq!(target.candidates(), [0, 2, 1], "all have failed: the longest ago first");
        target.accepted(2);
        assert_eq!(target.candidates(), [2]);
    }

    #[test]
    fn pauses_end_before_the_deadline() {
        let mut backoff = Backoff::new();
        let begun = Instant::now();
        assert!(backoff.pause(begun + Duration::from_secs(3600)));
        assert!(begun.elapsed() >= FIRST_PAUSE / 2);
        assert!(!backoff.pause(Instant::now() + FIRST_PAUSE / 2));
    }
}
