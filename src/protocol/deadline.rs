//! When a connection ends unless something happens before.

use std::fmt;
use std::time::{Duration, Instant};

/// The one moment at which a connection ends unless something happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The moment.
    pub at: Instant,
    /// What will have run out then.
    pub expiry: Expiry,
}

/// What ran out for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expiry {
    /// The time for the establishment.
    Handshake,
    /// The lifetime since the last interaction.
    Lifetime,
    /// The time in which the peer must take something of a response.
    Write,
}

/// `now + duration`, or some decades from `now` where the platform's clock can't count that far.
#[inline]
pub(crate) fn later(now: Instant, duration: Duration) -> Instant {
    const DECADES: Duration = Duration::from_secs(30 * 365 * 86_400);
    now.checked_add(duration).unwrap_or_else(|| now + DECADES)
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "the time for its establishment is over",
            Self::Lifetime => "its lifetime since the last interaction is over",
            Self::Write => "the time in which the peer must take something of a response is over",
        })
    }
}
