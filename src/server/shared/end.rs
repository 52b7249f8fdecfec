//! Why connections end.

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum End {
    /// The peer closed it.
    Closed,
    /// Its socket failed, or what the peer sent was wrong.
    Failed,
    /// The handler closed it.
    ByHandler,
    /// It was not established, and made room for another one.
    Evicted,
    /// A deadline ran out.
    Expired,
    /// Its key was withdrawn.
    Withdrawn,
    /// The server stops, and nothing of it was unfinished.
    Drained,
    /// The server stops, in the middle of a message or with an answer unsent.
    Cut,
}
