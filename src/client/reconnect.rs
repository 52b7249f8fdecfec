//! Getting a link: to the first address that accepts, again when one is known to be over, with pauses in between.

use std::io::{self, ErrorKind};
use std::mem::discriminant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use getrandom::SysRng;
use log::debug;
use rand_core::TryRng;

use super::connection::Connection;
use super::keep_alive;
use super::link::Link;
use super::settings::{LOG, Settings};
use super::target::Target;
use crate::protocol::{Cipher, later};
use crate::{Error, Phase};

/// The first pause between two rounds; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause between two rounds.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What an attempt at one address has at least, as long as it is not more than half of the time for all.
const SHORTEST_ATTEMPT: Duration = Duration::from_secs(1);

impl Connection {
    /// Connects to the first address of `target` that accepts.
    pub(super) fn connect(target: Target, settings: Settings) -> Result<Self, Error> {
        let mut connection = Self::new(target, settings);
        let deadline = later(Instant::now(), settings.connect_timeout);
        connection.try_each_address(deadline, settings.connect_timeout)?;
        Ok(connection)
    }

    /// Sees to it that there is a link on which nothing is in flight, a new one if that is wanted.
    pub(super) fn make_ready(&mut self, deadline: Instant) -> Result<(), Error> {
        if !self.settings.reconnect {
            return self.look();
        }
        if self.closed_by_owner {
            return Err(Error::Closed);
        }
        match &self.link {
            Some(link) if link.last_used.elapsed() >= link.longest_idle(&self.settings) => {
                debug!(target: LOG, "connecting anew: idle for nearly the connection's lifetime");
            }
            _ => match self.look() {
                Ok(()) => return Ok(()),
                Err(error) => debug!(target: LOG, "connecting anew: {error}"),
            },
        }
        self.link = None;
        let mut backoff = Backoff::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Settings { connect_timeout, request_timeout, .. } = self.settings;
            let limit = if left < connect_timeout { request_timeout } else { connect_timeout };
            // What came behind the acceptance is no answer to a message that is still to be sent.
            match self.try_each_address(deadline, limit).and_then(|()| self.look()) {
                Err(error) if !error.may_pass() || !backoff.pause(deadline) => return Err(error),
                Err(error) => debug!(target: LOG, "connecting again after a pause: {error}"),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// A new link to the first address that accepts, before the deadline.
    pub(super) fn connect_anew(&mut self, deadline: Instant) -> Result<Link, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let time = left.min(self.settings.connect_timeout);
        self.try_each_address(later(Instant::now(), time), time).and_then(|()| self.look())?;
        self.link.take().ok_or(Error::Closed)
    }

    fn look(&mut self) -> Result<(), Error> {
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        link.pass_over_unasked(&mut self.input, &self.settings).map_err(|error| error.at(link.addr))
    }

    /// Connects to the first address that accepts, before the deadline. A time-out is told as `limit`, or as an address's share.
    fn try_each_address(&mut self, deadline: Instant, limit: Duration) -> Result<(), Error> {
        let cipher = self.target.cipher()?;
        self.target.resolve()?;
        let mut failed = Vec::new();
        let candidates = self.target.candidates();
        for (tried, addr) in candidates.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !failed.is_empty() {
                break;
            }
            // Each has its share of the time that is left, so that one that hangs does not use up the others'.
            let share = left / u32::try_from(candidates.len() - tried).unwrap_or(u32::MAX);
            let time = share.max(SHORTEST_ATTEMPT.min(left / 2)).min(self.settings.connect_timeout);
            let limit = if candidates.len() == 1 { limit } else { time };
            let settings = Settings { connect_timeout: limit, ..self.settings };
            match self.establish(addr, &cipher, &settings, later(Instant::now(), time)) {
                Ok(()) => return Ok(()),
                Err(error @ Error::Random(_)) => return Err(error),
                Err(error) => {
                    let error = error.at(*addr);
                    debug!(target: LOG, "{error}");
                    self.target.failed(*addr);
                    failed.push(error);
                }
            }
        }
        Err(all_failed(&failed))
    }

    fn establish(
        &mut self,
        addr: &SocketAddr,
        cipher: &Arc<Cipher>,
        settings: &Settings,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.target.trying(addr);
        self.input.clear();
        self.output.clear();
        let session = Target::session(cipher, settings, &mut self.output)?;
        let link = Link::establish(addr, session, &self.output, &mut self.input, settings, deadline)?;
        self.link = Some(link);
        self.target.accepted(addr);
        keep_alive::resume_after_fork();
        Ok(())
    }
}

/// What happened at all addresses, in one error: the plain one where that says it.
fn all_failed(failed: &[Error]) -> Error {
    let Some(last) = failed.last() else {
        return Error::io(Phase::Connect, ErrorKind::TimedOut.into());
    };
    let are_alike = failed.iter().all(|error| discriminant(error) == discriminant(last));
    let kind = match last {
        last if failed.len() == 1 => return last.clone(),
        Error::Io { source, .. } => source.kind(),
        last if are_alike => return last.clone(),
        Error::TimedOut { .. } => ErrorKind::TimedOut,
        _ => ErrorKind::ConnectionRefused,
    };
    let tell = |error: &Error| match error {
        Error::Io { source, addr: Some(addr), .. } => format!("{addr}: {source}"),
        error => error.to_string(),
    };
    let text = failed.iter().map(tell).collect::<Vec<_>>().join("; ");
    Error::io(Phase::Connect, io::Error::new(kind, text))
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
        self.next(deadline).map(thread::sleep).is_some()
    }

    /// How long to pause; `None` when there is no time for another attempt.
    pub(super) fn next(&mut self, deadline: Instant) -> Option<Duration> {
        // Without random bytes the pause is merely a whole one.
        let random = SysRng.try_next_u32().unwrap_or(u32::MAX);
        let pause = self.next.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX));
        let left = deadline.saturating_duration_since(Instant::now());
        if left < FIRST_PAUSE {
            return None;
        }
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        // Half of what is left is for the attempt.
        Some(pause.min(left / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_end_before_the_deadline() {
        let mut backoff = Backoff::new();
        let now = Instant::now();
        let first = backoff.next(now + Duration::from_secs(3600)).expect("there is time");
        assert!(first >= FIRST_PAUSE / 2 && first <= FIRST_PAUSE, "{first:?}");
        assert!(backoff.next(now + FIRST_PAUSE / 2).is_none());
    }

    #[test]
    fn failures_are_told_with_their_addresses_unless_one_word_says_it_all() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let io = |kind| Error::io(Phase::Connect, io::Error::new(kind, "no"));
        let refused = |port| Error::Refused { addr: Some(addr(port)) };
        let unreachable = || io(ErrorKind::HostUnreachable).at(addr(2));
        let nobody = || io(ErrorKind::ConnectionRefused).at(addr(3));

        let all_refused = all_failed(&[refused(1), refused(4)]);
        assert!(matches!(all_refused, Error::Refused { addr: Some(last) } if last == addr(4)));
        for (failures, last) in [
            (vec![nobody(), unreachable()], ErrorKind::HostUnreachable),
            (vec![unreachable(), nobody()], ErrorKind::ConnectionRefused),
            (vec![unreachable(), refused(1)], ErrorKind::ConnectionRefused),
            (vec![nobody()], ErrorKind::ConnectionRefused),
        ] {
            let addrs: Vec<_> =
                failures.iter().filter_map(Error::addr).map(|addr| addr.to_string()).collect();
            let error = all_failed(&failures);
            let Error::Io { phase: Phase::Connect, source, .. } = &error else { panic!("{error:?}") };
            assert_eq!(source.kind(), last);
            assert_eq!(addrs.len(), failures.len());
            assert!(addrs.iter().all(|addr| error.to_string().matches(addr).count() == 1), "{error}");
        }
    }
}
