//! What all exchanges of a client obey, and how failures are told in its terms.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::protocol::{ClientFault, RejectionReason, later};
use crate::{Error, ForwardSecrecy, Phase};

/// The target of the client's log lines.
pub(super) const LOG: &str = "falcotcp_sync::client";

/// What one message may ask for beyond the settings.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ask {
    pub(super) timeout: Option<Duration>,
    pub(super) is_idempotent: bool,
}

/// The time of one exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimit {
    pub(super) deadline: Instant,
    /// The time-out that is over then.
    pub(super) timeout: Duration,
}

impl Ask {
    pub(super) fn check(&self) -> Result<(), Error> {
        let (setting, requirement) = ("timeout", "longer than zero");
        let is_met = self.timeout != Some(Duration::ZERO);
        if is_met { Ok(()) } else { Err(Error::InvalidSetting { setting, requirement }) }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    /// What was set; a server that says its own limit and lifetime makes the defaults superfluous.
    pub(super) max_message_size: Option<usize>,
    pub(super) lifetime: Option<Duration>,
    pub(super) reconnect: bool,
    pub(super) forward_secrecy: ForwardSecrecy,
}

/// What a server's rejection means.
pub(super) fn rejected(reason: RejectionReason) -> Error {
    match reason {
        RejectionReason::NotGiven => Error::Rejected,
        RejectionReason::HandlerFailed => Error::HandlerFailed,
        RejectionReason::Overloaded => Error::Overloaded,
    }
}

impl Settings {
    /// The largest response, and the largest message to a server that does not say its limit.
    pub(super) fn max_message_size(&self) -> usize {
        self.max_message_size.unwrap_or(16 << 20)
    }

    /// The lifetime of connections to a server that does not say it.
    pub(super) fn lifetime(&self) -> Duration {
        self.lifetime.unwrap_or(Duration::from_secs(60))
    }

    /// By when an exchange that begins now must be complete.
    pub(super) fn deadline(&self) -> Instant {
        later(Instant::now(), self.request_timeout)
    }

    /// The time of an exchange that begins now.
    pub(super) fn time_limit(&self, ask: Ask) -> TimeLimit {
        let timeout = ask.timeout.unwrap_or(self.request_timeout);
        TimeLimit { deadline: later(Instant::now(), timeout), timeout }
    }

    pub(super) fn error(&self, phase: Phase, fault: ClientFault) -> Error {
        match fault {
            ClientFault::Refused => Error::Refused { addr: None },
            ClientFault::NotForwardSecret => Error::NotForwardSecret { addr: None },
            ClientFault::NotAuthentic | ClientFault::Malformed => Error::NotAuthentic,
            ClientFault::TooLarge { size } => {
                Error::TooLarge { phase, size, limit: self.max_message_size() as u64 }
            }
            ClientFault::Unasked => Error::Unasked,
            ClientFault::TimedOut => Error::timed_out(phase, self.limit(phase)),
            ClientFault::Closed => Error::Closed,
        }
    }

    pub(super) fn io_error(&self, phase: Phase, error: io::Error) -> Error {
        match (error.kind(), phase) {
            // With a number of the operating system's it is a time-out of TCP's own: the peer's machine is gone.
            (ErrorKind::TimedOut, _) if error.raw_os_error().is_none() => {
                Error::timed_out(phase, self.limit(phase))
            }
            (_, Phase::Connect) => Error::io(phase, error),
            (
                ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe,
                phase,
            ) => match phase {
                Phase::Establishment => Error::Refused { addr: None },
                phase => Error::closed_by_server(phase),
            },
            _ => Error::io(phase, error),
        }
    }

    fn limit(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Connect | Phase::Establishment => self.connect_timeout,
            _ => self.request_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_time_out_of_tcps_own_is_not_told_as_one_of_ours() {
        let settings = Settings {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            max_message_size: None,
            lifetime: None,
            reconnect: false,
            forward_secrecy: ForwardSecrecy::default(),
        };
        for phase in [Phase::Connect, Phase::Establishment, Phase::Idle, Phase::Send, Phase::Receive] {
            let of_tcp = settings.io_error(phase, io::Error::from_raw_os_error(110));
            assert!(matches!(&of_tcp, Error::Io { source, .. } if source.kind() == ErrorKind::TimedOut));
            let of_ours = settings.io_error(phase, ErrorKind::TimedOut.into());
            assert!(matches!(of_ours, Error::TimedOut { .. }), "{of_ours:?}");
        }
    }
}
