//! The memory that keeps replayed requests out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::encoding::{Problem, RequestId};

/// How many sessions are remembered. One more, and the oldest is forgotten; its client makes a new one when it notices.
///
/// A session is forgotten like that and not with its connection, because a handler does not learn of a connection's
/// end, and because a client that connects again may go on with the session it has.
const REMEMBERED: usize = 1 << 16;

/// The sessions that there are, and how far each has come.
///
/// A request is let in once: with a session that is known, and a number beyond all before. Everything else is refused,
/// above all what was recorded in an earlier run of the server, whose sessions had other names.
#[derive(Debug)]
pub(crate) struct Sessions {
    /// The upper half of every session's name: random, so that no two runs have a session in common.
    run: u64,
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// How many there have been: the lower half of the newest session's name.
    opened: u64,
    /// The last number of each session. The names grow, so the first is the oldest.
    last_numbers: BTreeMap<u128, u64>,
}

impl Sessions {
    /// No sessions yet. `run` must be random.
    pub(crate) fn new(run: u64) -> Self {
        Self { run, remembered: Mutex::default() }
    }

    /// Makes a session and returns its name.
    pub(crate) fn open(&self) -> u128 {
        let mut remembered = self.lock();
        remembered.opened += 1;
        let session = (u128::from(self.run) << 64) | u128::from(remembered.opened);
        remembered.last_numbers.insert(session, 0);
        if remembered.last_numbers.len() > REMEMBERED {
            remembered.last_numbers.pop_first();
        }
        session
    }

    /// Lets the request `id` in, now and never again.
    pub(crate) fn admit(&self, id: RequestId) -> Result<(), Problem> {
        let mut remembered = self.lock();
        let last = remembered.last_numbers.get_mut(&id.session).ok_or(Problem::UnknownSession)?;
        if id.number <= *last {
            return Err(Problem::AlreadySeen);
        }
        *last = id.number;
        Ok(())
    }

    /// A panic under the lock would leave a session more or less behind, nothing worse.
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_admitted_once() {
        let sessions = Sessions::new(1);
        let session = sessions.open();
        let admit = |session, number| sessions.admit(RequestId { session, number });
        assert_eq!(admit(session, 0), Err(Problem::AlreadySeen));
        assert_eq!(admit(session, 1), Ok(()));
        assert_eq!(admit(session, 1), Err(Problem::AlreadySeen));
        assert_eq!(admit(session, 5), Ok(()));
        assert_eq!(admit(session, 4), Err(Problem::AlreadySeen));
        assert_eq!(admit(sessions.open(), 1), Ok(()));
        assert_eq!(admit(Sessions::new(2).open(), 9), Err(Problem::UnknownSession));
    }

    #[test]
    fn the_oldest_session_is_forgotten_and_its_requests_with_it() {
        let sessions = Sessions::new(1);
        let oldest = sessions.open();
        let second = sessions.open();
        for _ in 2..=REMEMBERED {
            sessions.open();
        }
        let admit = |session| sessions.admit(RequestId { session, number: 1 });
        assert_eq!(admit(oldest), Err(Problem::UnknownSession));
        assert_eq!(admit(second), Ok(()));
    }
}
