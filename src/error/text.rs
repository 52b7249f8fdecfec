//! What an error says, and what to do about it.

use std::fmt;

use super::{Error, MAY_HAVE_BEEN_PROCESSED};
use crate::Phase;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(addr) = self.addr() {
            write!(f, "{addr}: ")?;
        }
        self.describe(f)?;
        if self.was_sent() { f.write_str(MAY_HAVE_BEEN_PROCESSED) } else { Ok(()) }
    }
}

impl Error {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { .. } => f.write_str(
                "the server refused the establishment: it holds another key, is full or stopping, or is no FalcoTCP server",
            ),
            Self::NotForwardSecret { .. } => f.write_str(
                "the server accepts the key but offers no forward secrecy, which this client requires: upgrade the server",
            ),
            Self::Rejected => {
                f.write_str("the server rejected the message: its handler did, or it was damaged or too large (see its log)")
            }
            Self::HandlerFailed => {
                f.write_str("the server rejected the message, as its handler failed: see its log")
            }
            Self::Overloaded => {
                f.write_str("the server sheds load and did not handle the message: send it again after a pause")
            }
            Self::TimedOut { phase, limit, .. } => write!(f, "timed out after {limit:?} while {phase}"),
            Self::TooLarge { phase: Phase::Send, size, limit } => {
                write!(f, "a message of {size} bytes is over the limit of {limit}: raise max_message_size, at the server too")
            }
            Self::TooLarge { size, limit, .. } => {
                write!(f, "a response of {size} bytes is over the client's limit of {limit}: raise max_message_size")
            }
            Self::NotAuthentic => {
                f.write_str("a response does not open under the key: damaged, or not from the server; connection closed")
            }
            Self::Unasked => f.write_str("bytes arrived that answer no message; connection closed"),
            Self::ClosedByServer { phase: Phase::Idle, .. } => {
                f.write_str("the server closed the idle connection, or said goodbye before it took the message: connect again")
            }
            Self::ClosedByServer { phase, .. } => write!(f, "the server closed the connection while {phase}: connect again"),
            Self::Busy => f.write_str("as many calls are in flight as max_in_flight allows: wait, or raise it"),
            Self::InCallback { .. } => f.write_str("a thread of a shared client, as in a callback, must not wait for it: start another call, or use a thread"),
            Self::Closed => f.write_str("the client is closed, by its owner or by an earlier error: connect again"),
            Self::ClosedInFlight => f.write_str("the shared client was closed by its owner while the message was on the way"),
            Self::Io { phase, source, .. } => write!(f, "I/O error while {phase}: {source}"),
            Self::InvalidKey { length } => {
                write!(f, "a key is 64 hexadecimal digits, or 32 bytes as they are; found {length} bytes")?;
                f.write_str(match length {
                    32 => " as text: write a raw key as hexadecimal digits, or use Key::from_bytes",
                    43 | 44 => ", as many as base64 of a key has: write it as hexadecimal digits",
                    64 => ", which are not all digits, or were not taken as text: see Key::from_hex",
                    65 | 66 => ": is there a line break or 0x beside the digits?",
                    _ => "",
                })
            }
            Self::KeyFile { path, source } => write!(f, "key file {}: {source}", path.display()),
            Self::InvalidSetting { setting, requirement } => write!(f, "{setting} must be {requirement}"),
            Self::KeyNameTaken { name } => {
                write!(f, "a key named {name:?} is accepted already: withdraw it first, or choose another name")
            }
            Self::Stopped => f.write_str("the server has ended"),
            Self::KeyTaken { name } => {
                write!(f, "this key is accepted already, under the name {name:?}: withdraw that first")
            }
            Self::Random(source) => write!(f, "the operating system gave no random bytes: {source}"),
            Self::Other(source) => write!(f, "{source}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::all;

    #[test]
    fn the_text_says_that_a_message_may_have_been_processed_exactly_where_it_may() {
        for error in all() {
            let says = error.to_string().contains("may have been processed");
            assert_eq!(says, error.was_sent(), "{error}");
            assert!(!error.to_string().contains("did not process"), "{error}");
        }
    }
}
