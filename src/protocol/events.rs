//! What the two sessions find in their input, and why they end.

use std::fmt;

/// What [`ServerSession::receive`](super::ServerSession::receive) found at the start of its input. `Debug` and `Display` show
/// a message's length only.
#[derive(PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent<'a> {
    /// No whole frame yet; nothing was taken.
    NeedMore {
        /// Bytes of the frame that has begun, as far as is known: never more than the session's largest.
        frame_length: usize,
    },
    /// The establishment opened; its answer was appended. The session is classic.
    Established,
    /// The establishment opened and offered a forward-secret session; the answer was appended. The session is
    /// established with the first frame that opens, which is an event as any other.
    OfferAnswered,
    /// A message opened. It wants one response.
    Message(&'a mut [u8]),
    /// A ping. A forward-secret session appended its pong, or will as soon as the messages before it are answered.
    Ping,
    /// One byte of an unregistered type was skipped; of a forward-secret session, a whole frame.
    Skipped(u8),
    /// A message was not processed; the empty response was appended and the connection goes on.
    Rejected(Rejection),
    /// A message is longer than the limit, or any frame of a forward-secret session, and nothing more is read. Of a
    /// classic one the empty response was appended: send it, then close. A forward-secret one wants its open answers
    /// and its [goodbye](super::ServerSession::goodbye) first.
    TooLarge {
        /// Bytes that the peer announced behind the header.
        length: u64,
    },
    /// Close the connection in silence.
    Refused(Refusal),
}

/// Why a message was answered with the empty response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// Its length has no room for nonce and tag.
    TooShort,
    /// Its tag does not verify.
    NotAuthentic,
}

/// Why a connection is closed in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Something else than an establishment came first.
    NotAnEstablishment,
    /// The establishment does not open under the key; in a forward-secret session, a frame does not. What opened
    /// before it may still be answered.
    NotAuthentic,
    /// The establishment offers no forward-secret session, and the server requires one.
    NoOffer,
    /// The offer's public key is one of those that give no secret.
    LowOrder,
    /// The offer could not be answered for want of random bytes.
    Unable,
    /// A frame of a forward-secret session opened, but its text is not as long as its type says. What opened before
    /// it may still be answered.
    Malformed,
    /// The session has ended; nothing is read any more.
    Closed,
}

/// What [`ClientSession::receive`](super::ClientSession::receive) found at the start of its input. `Debug` and `Display` show
/// a response's length only.
#[derive(PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent<'a> {
    /// No whole frame yet; nothing was taken.
    NeedMore {
        /// Bytes of the frame that has begun, as far as is known: never more than the session's largest.
        frame_length: usize,
    },
    /// The server accepted the establishment. If the session [is
    /// forward-secret](super::ClientSession::is_forward_secret), send a [ping](super::ClientSession::ping) at once:
    /// until then the server holds it for a replay.
    Established,
    /// The response to the oldest message that had none.
    Response(&'a mut [u8]),
    /// The oldest message that had no response has none. In a classic session it was not processed; in a
    /// forward-secret one the reason says what is known.
    Rejected(RejectionReason),
    /// An empty response that answers nothing, as the published Python server sends to clients that are idle. It says
    /// nothing and can be passed over.
    Unasked,
    /// The answer to the oldest ping that had none. Of forward-secret sessions only, as are all that follow.
    Pong,
    /// A frame of a type that nothing is known of was skipped.
    Skipped(u8),
    /// The server ends the session. The messages that are [unanswered](super::ClientSession::unanswered) were not and
    /// will not be processed, and may be sent again elsewhere. Nothing but the end of the stream follows.
    Goodbye,
}

/// Why a message has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RejectionReason {
    /// The server gave none.
    NotGiven,
    /// The handler failed.
    HandlerFailed,
    /// The server sheds load: the message was not handled and may be sent again.
    Overloaded,
}

#[cfg(feature = "forward-secrecy")]
impl RejectionReason {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::NotGiven => 0,
            Self::HandlerFailed => 1,
            Self::Overloaded => 2,
        }
    }

    /// What is reserved says nothing yet.
    pub(super) fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::HandlerFailed,
            2 => Self::Overloaded,
            _ => Self::NotGiven,
        }
    }
}

/// Why a session can't go on: the connection must be closed and nothing of it used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientFault {
    /// The server answered the establishment with another byte than 0xFF, or an offer with what does not verify.
    Refused,
    /// The server took no offer of a forward-secret session, which is required.
    NotForwardSecret,
    /// A response does not open under the key, or is too short to be one; in a forward-secret session, any frame.
    NotAuthentic,
    /// A response is longer than the limit; in a forward-secret session, any frame.
    TooLarge {
        /// Bytes of its plaintext, as announced.
        size: u64,
    },
    /// Bytes arrived that answer nothing, or not what is next in order.
    Unasked,
    /// A frame of a forward-secret session opened, but its text is not what its type says.
    Malformed,
    /// The exchange in flight is not complete at its deadline.
    TimedOut,
    /// The session has ended before.
    Closed,
}

impl fmt::Display for ClientFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("the server refused the establishment"),
            Self::NotForwardSecret => f.write_str("the server offers no forward secrecy, which is required"),
            Self::NotAuthentic => f.write_str("a response does not open under the key"),
            Self::TooLarge { size } => write!(f, "a response of {size} bytes is over the limit"),
            Self::Unasked => f.write_str("bytes arrived that answer no message"),
            Self::Malformed => f.write_str("a frame opened whose text is not what its type says"),
            Self::TimedOut => f.write_str("the exchange is not complete at its deadline"),
            Self::Closed => f.write_str("the session has ended before"),
        }
    }
}

impl std::error::Error for ClientFault {}

impl fmt::Debug for ServerEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore { frame_length } => {
                f.debug_struct("NeedMore").field("frame_length", frame_length).finish()
            }
            Self::Established => f.write_str("Established"),
            Self::OfferAnswered => f.write_str("OfferAnswered"),
            Self::Message(text) => f.debug_struct("Message").field("len", &text.len()).finish(),
            Self::Ping => f.write_str("Ping"),
            Self::Skipped(kind) => f.debug_tuple("Skipped").field(kind).finish(),
            Self::Rejected(rejection) => f.debug_tuple("Rejected").field(rejection).finish(),
            Self::TooLarge { length } => f.debug_struct("TooLarge").field("length", length).finish(),
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
        }
    }
}

impl fmt::Display for ServerEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore { frame_length } => {
                write!(f, "no whole frame yet, of {frame_length} bytes or more")
            }
            Self::Established => f.write_str("established"),
            Self::OfferAnswered => f.write_str("answered the offer of a forward-secret session"),
            Self::Message(text) => write!(f, "a message of {} bytes", text.len()),
            Self::Ping => f.write_str("a ping"),
            Self::Skipped(kind) => write!(f, "skipped the unregistered type {kind}"),
            Self::Rejected(rejection) => write!(f, "a message was rejected: {rejection}"),
            Self::TooLarge { length } => write!(f, "a message of {length} sealed bytes is over the limit"),
            Self::Refused(refusal) => write!(f, "refused: {refusal}"),
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "it is too short to hold a nonce and a tag",
            Self::NotAuthentic => "it does not open under the connection's key",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnEstablishment => "something else than an establishment came first",
            Self::NotAuthentic => "it does not open under a key that is accepted",
            Self::NoOffer => "it offers no forward-secret session, which is required",
            Self::LowOrder => "its offer's public key gives no secret",
            Self::Unable => "the operating system gave no random bytes to answer its offer",
            Self::Malformed => "a frame's text is not as long as its type says",
            Self::Closed => "the session has ended before",
        })
    }
}

impl fmt::Debug for ClientEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore { frame_length } => {
                f.debug_struct("NeedMore").field("frame_length", frame_length).finish()
            }
            Self::Established => f.write_str("Established"),
            Self::Response(text) => f.debug_struct("Response").field("len", &text.len()).finish(),
            Self::Rejected(reason) => f.debug_tuple("Rejected").field(reason).finish(),
            Self::Unasked => f.write_str("Unasked"),
            Self::Pong => f.write_str("Pong"),
            Self::Skipped(kind) => f.debug_tuple("Skipped").field(kind).finish(),
            Self::Goodbye => f.write_str("Goodbye"),
        }
    }
}

impl fmt::Display for ClientEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedMore { frame_length } => {
                write!(f, "no whole frame yet, of {frame_length} bytes or more")
            }
            Self::Established => f.write_str("established"),
            Self::Response(text) => write!(f, "a response of {} bytes", text.len()),
            Self::Rejected(reason) => write!(f, "a message was rejected: {reason}"),
            Self::Unasked => f.write_str("an empty response that answers nothing"),
            Self::Pong => f.write_str("a pong"),
            Self::Skipped(kind) => write!(f, "skipped a frame of the unknown type {kind}"),
            Self::Goodbye => f.write_str("the server says goodbye"),
        }
    }
}

impl fmt::Display for RejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotGiven => "no reason given",
            Self::HandlerFailed => "the handler failed",
            Self::Overloaded => "the server sheds load",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_show_lengths_and_no_plaintext() {
        let mut text = *b"ABCDE";
        let event = ServerEvent::Message(&mut text);
        assert_eq!(format!("{event:?} {event}"), "Message { len: 5 } a message of 5 bytes");
        let event = ClientEvent::Response(&mut text);
        assert_eq!(format!("{event:?} {event}"), "Response { len: 5 } a response of 5 bytes");
    }
}
