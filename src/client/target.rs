//! Where a client connects to, with which key, and which addresses it avoids for a while.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use log::debug;
use parking_lot::Mutex;

use super::key_source::{CurrentKey, KeySource};
use super::settings::{LOG, Settings};
use crate::protocol::{Cipher, ClientSession, NonceSequence};
use crate::{Addresses, Error, Phase};

/// How long an address that failed is not tried again, unless all have failed; twice as long with each further failure.
const AVOIDED: Duration = Duration::from_secs(5);

/// The longest that an address is avoided.
const LONGEST_AVOIDED: Duration = Duration::from_secs(60);

/// The server's addresses and the key for it.
#[derive(Debug)]
pub(super) struct Target {
    addresses: Addresses,
    /// What they were when they last resolved.
    known: Vec<SocketAddr>,
    failures: Failures,
    key: CurrentKey,
}

/// The addresses that have failed lately, known to all clients of a builder and its clones.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures(Arc<Mutex<HashMap<SocketAddr, Failure>>>);

#[derive(Debug)]
struct Failure {
    /// When it failed, or was last tried after that.
    at: Instant,
    avoided: Duration,
}

impl Target {
    pub(super) fn new(addresses: Addresses, failures: Failures, key: KeySource) -> Self {
        Self { addresses, known: Vec::new(), failures, key: CurrentKey::new(key) }
    }

    /// The key for the next connection.
    pub(super) fn cipher(&mut self) -> Result<Arc<Cipher>, Error> {
        self.key.cipher()
    }

    /// Resolves the addresses anew. Those that are known serve on while that fails.
    pub(super) fn resolve(&mut self) -> Result<(), Error> {
        match self.addresses.resolve() {
            Ok(addrs) => self.known = addrs,
            Err(error) if self.known.is_empty() => return Err(Error::io(Phase::Connect, error)),
            Err(error) => debug!(target: LOG, "connecting to the addresses that are known: {error}"),
        }
        Ok(())
    }

    /// The addresses to try, in turn: those that have not just failed, or else all of them, the longest ago first.
    pub(super) fn candidates(&self) -> Vec<SocketAddr> {
        let failures = self.failures.0.lock();
        let is_good = |addr: &&SocketAddr| {
            failures.get(addr).is_none_or(|failure| failure.at.elapsed() >= failure.avoided)
        };
        let good: Vec<SocketAddr> = self.known.iter().filter(is_good).copied().collect();
        if !good.is_empty() {
            return good;
        }
        let mut avoided = self.known.clone();
        avoided.sort_by_key(|addr| failures.get(addr).map(|failure| failure.at));
        avoided
    }

    /// Says that `addr` is being tried: if it failed before, one client finds out whether it is back, not all at once.
    pub(super) fn trying(&self, addr: &SocketAddr) {
        if let Some(failure) = self.failures.0.lock().get_mut(addr) {
            failure.at = Instant::now();
        }
    }

    pub(super) fn failed(&self, addr: SocketAddr) {
        let now = Instant::now();
        let mut failures = self.failures.0.lock();
        failures.retain(|_, failure| now.duration_since(failure.at) < 2 * LONGEST_AVOIDED);
        let failure = failures.entry(addr).or_insert(Failure { at: now, avoided: AVOIDED / 2 });
        *failure = Failure { at: now, avoided: (2 * failure.avoided).min(LONGEST_AVOIDED) };
    }

    pub(super) fn accepted(&self, addr: &SocketAddr) {
        self.failures.0.lock().remove(addr);
    }

    /// A new session, and its establishment appended to `output`.
    pub(super) fn session(
        cipher: &Arc<Cipher>,
        settings: &Settings,
        output: &mut Vec<u8>,
    ) -> Result<ClientSession, Error> {
        let mut session = ClientSession::with_policy(
            Arc::clone(cipher),
            NonceSequence::new()?,
            settings.max_message_size(),
            settings.forward_secrecy,
        );
        session.establish(&mut SysRng, output).map_err(Error::random)?;
        Ok(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn target(failures: &Failures) -> Target {
        let key = KeySource::Fixed(Key::from_bytes([1; 32]));
        let mut target = Target::new([1, 2, 3].map(addr).into(), failures.clone(), key);
        target.resolve().unwrap();
        target
    }

    #[test]
    fn an_address_that_failed_is_avoided_while_there_are_others() {
        let target = target(&Failures::default());
        assert_eq!(target.candidates(), [1, 2, 3].map(addr));
        target.failed(addr(1));
        target.failed(addr(3));
        assert_eq!(target.candidates(), [addr(2)]);
        target.failed(addr(2));
        assert_eq!(target.candidates(), [1, 3, 2].map(addr), "all have failed: the longest ago first");
        target.accepted(&addr(3));
        assert_eq!(target.candidates(), [addr(3)]);
    }

    #[test]
    fn what_one_client_finds_out_the_others_know() {
        let failures = Failures::default();
        let (one, other) = (target(&failures), target(&failures));
        one.failed(addr(1));
        assert_eq!(other.candidates(), [2, 3].map(addr));
        other.accepted(&addr(1));
        assert_eq!(one.candidates(), [1, 2, 3].map(addr));
    }

    #[test]
    fn an_address_that_goes_on_failing_is_avoided_longer_and_tried_by_one_client_at_a_time() {
        let target = target(&Failures::default());
        let avoided = || target.failures.0.lock()[&addr(1)].avoided;
        target.failed(addr(1));
        assert_eq!(avoided(), AVOIDED);
        target.failed(addr(1));
        assert_eq!(avoided(), 2 * AVOIDED);
        for _ in 0..10 {
            target.failed(addr(1));
        }
        assert_eq!(avoided(), LONGEST_AVOIDED);
        // Its time is over, and the first client begins to try it.
        let Some(long_ago) = Instant::now().checked_sub(LONGEST_AVOIDED) else { return };
        target.failures.0.lock().get_mut(&addr(1)).expect("it failed").at = long_ago;
        assert_eq!(target.candidates().len(), 3);
        target.trying(&addr(1));
        assert_eq!(target.candidates().len(), 2);
    }
}
