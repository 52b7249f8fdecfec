//! Whether an end speaks forward-secret sessions, and what a server says of itself in one.

use std::time::Duration;

/// Whether an end speaks forward-secret sessions, and whether it speaks anything else.
///
/// A server answers whoever offers one; a client that offers one goes on as its server answers. Nobody tries again as
/// classic after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum ForwardSecrecy {
    /// Every session is classic.
    #[cfg_attr(not(feature = "forward-secrecy"), default)]
    Off,
    /// Forward-secret with a peer that knows it, classic with others. This protects from everybody who only listens;
    /// who can change traffic can make the session classic. The default.
    #[cfg(feature = "forward-secrecy")]
    #[default]
    Prefer,
    /// Forward-secret, or none. A server closes a peer without an offer in silence; for a client, a server that does
    /// not take its offer is an error of its own.
    #[cfg(feature = "forward-secrecy")]
    Require,
}

/// What a server says of itself in the handshake of a forward-secret session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// How long its connections live from their last interaction.
    pub lifetime: Duration,
    /// Bytes of plaintext in the largest message that it takes.
    pub max_message_size: u64,
}
