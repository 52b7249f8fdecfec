//! What limits a session of a server.

use std::time::Duration;

use super::ForwardSecrecy;

/// What limits a session; the defaults are those of the protocol.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionSettings {
    /// How long a connection lives from its last interaction. Default: 60 s.
    pub lifetime: Duration,
    /// How long a peer may take for its establishment. Default: 5 s, many round trips of any network.
    pub handshake_timeout: Duration,
    /// How long nothing at all may be taken of a response that is being sent. Default: 10 s.
    pub write_timeout: Duration,
    /// Bytes of plaintext in the largest message. Default: 16 MiB, so that a hundred peers in the middle of
    /// their largest message fit into the memory of a small machine.
    pub max_message_size: usize,
    /// Whether the server takes offers of forward-secret sessions, and whether it takes anything else. Default:
    /// `Prefer`; without the feature of that name, `Off`.
    pub forward_secrecy: ForwardSecrecy,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            max_message_size: 16 << 20,
            forward_secrecy: ForwardSecrecy::default(),
        }
    }
}
