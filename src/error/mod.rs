//! What can go wrong: `text` says it in words, and `conversion` makes it an error of the standard library's.

mod conversion;
mod text;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::Phase;

/// What the text of an error ends with if [`Error::was_sent`].
pub(crate) const MAY_HAVE_BEEN_PROCESSED: &str = "; the message may have been processed";

/// Everything that this crate's functions fail with.
///
/// Each error says what happened, in which phase, with which size or limit, and what can be done. Whether a
/// [`Client`](crate::Client) can still be used afterwards is told by [`Client::is_open`](crate::Client::is_open).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The server closed the connection, or answered with something else, instead of accepting the establishment:
    /// it holds another key, is full or stopping, or does not speak this protocol. The protocol doesn't tell which.
    #[non_exhaustive]
    Refused {
        /// The server; of several that did, the last one.
        addr: Option<SocketAddr>,
    },
    /// The server holds the key but offers no forward-secret sessions, which the client requires. Nothing was sent.
    #[non_exhaustive]
    NotForwardSecret {
        /// The server; of several, the last one.
        addr: Option<SocketAddr>,
    },
    /// The empty response, or a rejection without a reason: the server has no answer to this message. Its handler rejected it
    /// or, in a classic session, failed; or the message arrived damaged or over the server's limit, of which the server's log
    /// tells. The client stays usable unless the server closes, or answered before it had all of the message.
    Rejected,
    /// The handler failed: it panicked, and the server's log says at what. Only forward-secret sessions say so; in others it
    /// is [`Rejected`](Self::Rejected). The client stays usable.
    HandlerFailed,
    /// The server sheds load: the message had waited too long there, and was not handled
    /// ([`shed_after`](crate::ServerBuilder::shed_after)). It may be sent again after a pause, which is up to the caller: the
    /// client does not by itself, since that would add to the load. Only forward-secret sessions say so; in others it is
    /// [`Rejected`](Self::Rejected). The client stays usable.
    Overloaded,
    /// A time-out ran out. In [`Phase::Send`] and [`Phase::Receive`] the server may have processed the message.
    #[non_exhaustive]
    TimedOut {
        /// What was going on.
        phase: Phase,
        /// The time-out that ran out: `request_timeout` also when connecting anew before a message took too long; of several
        /// addresses, the last one's share of it.
        limit: Duration,
        /// The server, if it was about one; of several, the last one.
        addr: Option<SocketAddr>,
    },
    /// A message is larger than the client's limit, or than the server's, which a forward-secret session knows; or a response is
    /// larger than the client's.
    #[non_exhaustive]
    TooLarge {
        /// [`Phase::Send`] for a message, of which nothing was sent, so the client stays usable;
        /// [`Phase::Receive`] for a response, after which the client is closed.
        phase: Phase,
        /// Bytes of plaintext.
        size: u64,
        /// The largest size that is allowed, in bytes of plaintext.
        limit: u64,
    },
    /// A response does not open under the key, or is too short to be one. The client is closed.
    NotAuthentic,
    /// Bytes arrived that answer no message; nothing of this call was sent. The client is closed, since nothing
    /// after them can be trusted to belong to its message.
    Unasked,
    /// The server closed the connection. In [`Phase::Idle`] nothing of the message had been sent, or the server has said that
    /// it did not and will not process it (the goodbye of a forward-secret session), so that it can be sent again; with
    /// [`reconnect`](crate::ClientBuilder::reconnect) that is done without asking. In the others the server may have
    /// processed it.
    #[non_exhaustive]
    ClosedByServer {
        /// What was going on.
        phase: Phase,
        /// The server.
        addr: Option<SocketAddr>,
    },
    /// As many calls of the shared client are in flight as [`max_in_flight`](crate::ClientBuilder::max_in_flight) allows; nothing
    /// was sent.
    Busy,
    /// What would wait was called on a thread of the shared client, where it would wait for itself: in a callback of any shared
    /// client, or in a logger or a source of keys or addresses that is asked for this one.
    #[non_exhaustive]
    InCallback {
        /// [`Phase::Receive`] for a call that had been started, and whose answer is now thrown away; otherwise
        /// [`Phase::Idle`].
        phase: Phase,
    },
    /// The client was closed by an earlier error, or by the caller; nothing of this call was sent. Connect again.
    Closed,
    /// The shared client was closed, or its last clone dropped, when the message was on the way: the server may have processed
    /// it.
    ClosedInFlight,
    /// The operating system reported an error.
    #[non_exhaustive]
    Io {
        /// What was going on.
        phase: Phase,
        /// What it reported.
        source: Arc<io::Error>,
        /// The server, if it was about one; the source tells of several.
        addr: Option<SocketAddr>,
    },
    /// A key is 64 hexadecimal digits as text, or 32 bytes as they are, and this is neither.
    #[non_exhaustive]
    InvalidKey {
        /// Bytes that were found.
        length: usize,
    },
    /// A key file could not be used.
    #[non_exhaustive]
    KeyFile {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        source: Arc<io::Error>,
    },
    /// A setting has a value that can't work.
    #[non_exhaustive]
    InvalidSetting {
        /// The builder's setter, or `key name`.
        setting: &'static str,
        /// What it must be.
        requirement: &'static str,
    },
    /// A keyring has a key of this name already.
    #[non_exhaustive]
    KeyNameTaken {
        /// The name.
        name: String,
    },
    /// The server has ended, so that nothing about it can be changed.
    Stopped,
    /// A keyring has this key already, under another name.
    #[non_exhaustive]
    KeyTaken {
        /// That other name.
        name: String,
    },
    /// The operating system gave no random bytes.
    #[non_exhaustive]
    Random(Arc<io::Error>),
    /// An error of the caller's own, from `?` in a function that fails with this type, as a source of keys. This crate's functions
    /// give it to nobody.
    #[non_exhaustive]
    Other(Arc<io::Error>),
}

impl Error {
    /// The server said goodbye before it took up a message.
    pub(crate) const GOODBYE: Self = Self::closed_by_server(Phase::Idle);

    /// Whether this is that, or the server closed before anything was sent.
    pub(crate) fn is_goodbye(&self) -> bool {
        matches!(self, Self::ClosedByServer { phase: Phase::Idle, .. })
    }

    pub(crate) const fn closed_by_server(phase: Phase) -> Self {
        Self::ClosedByServer { phase, addr: None }
    }

    pub(crate) fn timed_out(phase: Phase, limit: Duration) -> Self {
        Self::TimedOut { phase, limit, addr: None }
    }

    /// The same, about this server if it is about none so far.
    pub(crate) fn at(mut self, server: impl Into<Option<SocketAddr>>) -> Self {
        if let Self::Refused { addr }
        | Self::NotForwardSecret { addr }
        | Self::TimedOut { addr, .. }
        | Self::ClosedByServer { addr, .. }
        | Self::Io { addr, .. } = &mut self
        {
            *addr = addr.or(server.into());
        }
        self
    }

    /// What the operating system reported in `phase`.
    pub(crate) fn io(phase: Phase, source: io::Error) -> Self {
        Self::Io { phase, source: Arc::new(source), addr: None }
    }

    /// The operating system gave no random bytes.
    pub(crate) fn random(source: impl Into<io::Error>) -> Self {
        Self::Random(Arc::new(source.into()))
    }

    /// Whether the server may have received the message and processed it, so that sending it again could do
    /// something twice.
    pub fn was_sent(&self) -> bool {
        match self {
            Self::Rejected | Self::HandlerFailed | Self::NotAuthentic | Self::ClosedInFlight => true,
            Self::TooLarge { phase, .. }
            | Self::TimedOut { phase, .. }
            | Self::ClosedByServer { phase, .. }
            | Self::InCallback { phase }
            | Self::Io { phase, .. } => match (self, phase) {
                (Self::TooLarge { .. }, Phase::Send) => false,
                (_, phase) => matches!(phase, Phase::Send | Phase::Receive),
            },
            _ => false,
        }
    }

    /// Whether the server has no response to this message: [`Rejected`](Self::Rejected), [`HandlerFailed`](Self::HandlerFailed) or
    /// [`Overloaded`](Self::Overloaded). The client stays usable, unless that came before the server had all of the message.
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Rejected | Self::HandlerFailed | Self::Overloaded)
    }

    /// What was going on; `None` where nothing was, as for a setting or a key.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::Refused { .. } | Self::NotForwardSecret { .. } => Some(Phase::Establishment),
            Self::Rejected
            | Self::HandlerFailed
            | Self::Overloaded
            | Self::NotAuthentic
            | Self::ClosedInFlight => Some(Phase::Receive),
            Self::Unasked => Some(Phase::Idle),
            Self::TimedOut { phase, .. }
            | Self::TooLarge { phase, .. }
            | Self::ClosedByServer { phase, .. }
            | Self::InCallback { phase }
            | Self::Io { phase, .. } => Some(*phase),
            Self::Closed
            | Self::Busy
            | Self::Stopped
            | Self::InvalidKey { .. }
            | Self::KeyFile { .. }
            | Self::InvalidSetting { .. }
            | Self::KeyNameTaken { .. }
            | Self::KeyTaken { .. }
            | Self::Random(_)
            | Self::Other(_) => None,
        }
    }

    /// The server that it is about, with whose address the text begins: that refused, closed or did not answer in time, or
    /// about whose connection the operating system reported an error.
    pub fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Refused { addr }
            | Self::NotForwardSecret { addr }
            | Self::TimedOut { addr, .. }
            | Self::ClosedByServer { addr, .. }
            | Self::Io { addr, .. } => *addr,
            _ => None,
        }
    }

    /// Whether a time-out ran out, one of this crate's or the operating system's own.
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Io { source, .. } | Self::Other(source) => source.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// Whether connecting again later can help.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::TimedOut { .. } | Self::ClosedByServer { .. } | Self::Io { .. }
        )
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::KeyFile { source, .. } | Self::Random(source) => Some(&**source),
            Self::Other(source) => source.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 7] = [
        Phase::Bind,
        Phase::Spawn,
        Phase::Connect,
        Phase::Establishment,
        Phase::Idle,
        Phase::Send,
        Phase::Receive,
    ];

    /// Every variant, in every phase that it can name.
    pub(super) fn all() -> Vec<Error> {
        let source = || Arc::new(io::Error::from(io::ErrorKind::WouldBlock));
        let limit = Duration::from_secs(1);
        let mut all = vec![
            Error::Refused { addr: None },
            Error::NotForwardSecret { addr: None },
            Error::Rejected,
            Error::HandlerFailed,
            Error::Overloaded,
            Error::NotAuthentic,
            Error::Unasked,
            Error::Closed,
            Error::ClosedInFlight,
            Error::InvalidKey { length: 5 },
            Error::KeyFile { path: "key".into(), source: source() },
            Error::InvalidSetting { setting: "workers", requirement: "at least 1" },
            Error::KeyNameTaken { name: "default".to_owned() },
            Error::KeyTaken { name: "default".to_owned() },
            Error::Random(source()),
            Error::Other(source()),
        ];
        for phase in PHASES {
            all.push(Error::timed_out(phase, limit));
            all.push(Error::TooLarge { phase, size: 2, limit: 1 });
            all.push(Error::closed_by_server(phase));
            all.push(Error::InCallback { phase });
            all.push(Error::io(phase, io::ErrorKind::WouldBlock.into()));
        }
        all
    }

    #[test]
    fn what_was_sent_was_sent_in_a_phase_of_sending() {
        for error in all().into_iter().filter(Error::was_sent) {
            assert!(matches!(error.phase(), Some(Phase::Send | Phase::Receive)), "{error}");
        }
        for phase in PHASES {
            assert_eq!(Error::closed_by_server(phase).phase(), Some(phase));
        }
        assert_eq!(Error::Closed.phase(), None);
    }

    #[test]
    fn the_server_is_named_once_and_stays_the_first_that_was() {
        let [first, second] = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 7], port)));
        for error in all() {
            let text = error.to_string();
            let at_first = error.at(first);
            if let Some(addr) = at_first.addr() {
                assert_eq!((addr, at_first.to_string()), (first, format!("{first}: {text}")));
            } else {
                assert_eq!(at_first.to_string(), text);
            }
            assert_eq!(at_first.clone().at(second).addr(), at_first.addr());
            let is_of_server = at_first.may_pass() || matches!(at_first, Error::NotForwardSecret { .. });
            assert_eq!(at_first.addr().is_some(), is_of_server, "{at_first}");
        }
    }

    #[test]
    fn time_outs_are_told_whoever_ended_the_wait() {
        let of_system = Error::io(Phase::Connect, io::ErrorKind::TimedOut.into());
        assert!(of_system.is_timeout());
        for error in all() {
            assert_eq!(error.is_timeout(), matches!(error, Error::TimedOut { .. }), "{error}");
        }
    }
}
