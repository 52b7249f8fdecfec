//! The messages of the store, as bytes.
//!
//! ```text
//! request:   code[1]  what belongs to the code
//! response:  code[1]  what belongs to the code
//! ```
//!
//! Nothing in them says which request a response answers, or that a request is no repetition. Both ends require
//! forward-secret sessions (the guide, "Forward secrecy"), so somebody on the path can't
//!
//! - send a client's request back to it as the response: each direction has keys of its own;
//! - drop, repeat or swap frames, or answer with the response to another request: frames are counted, responses come in
//!   the order of their requests, and the first frame that is not the next one ends the session;
//! - play a recorded `add` to the server once more, also after a restart: each session has keys of its own, to which both
//!   ends contribute;
//! - pose as the server: the handshake proves, before the first request, that it has the key.
//!
//! In classic sessions the messages would have to carry all of that: a direction, a number for each request that its
//! response repeats, a random challenge at the start, and on the server a memory of the numbers that were used.
//!
//! What no session can know is whether an `add` was done whose response is missing:
//! [`Error::was_sent`](falcotcp_sync::Error::was_sent) says whether that is possible, and `client` acts on it.
//! A message must still be exact to its last byte, which tells ends of different versions apart.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use crate::wire::{Malformed, Output, Reader};

/// The longest key, in bytes.
pub(crate) const MAX_KEY: usize = 1 << 10;

/// The longest value, in bytes.
pub(crate) const MAX_VALUE: usize = 1 << 20;

/// The most keys in one response. Server and client limit what they receive, but nobody limits what a server
/// sends: a list of everything would one day be more than a client takes.
pub(crate) const MAX_LISTED: usize = 1000;

/// What both sides set as their `max_message_size`: room for the longest key and value and all that is around them.
pub(crate) const MAX_MESSAGE: usize = MAX_VALUE + MAX_KEY + 64;

const LENGTH: usize = size_of::<u64>();
const _: () = assert!(MAX_LISTED * (LENGTH + MAX_KEY) + 64 <= MAX_MESSAGE, "a full list must fit");

/// What a client asks for. Keys are texts of 1 to [`MAX_KEY`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    /// The value of a key.
    Get { key: &'a str },
    /// A value, instead of what the key had.
    Set { key: &'a str, value: &'a [u8] },
    /// No value any more.
    Delete { key: &'a str },
    /// Keys that begin with `prefix` and are greater than `after`, in order, at most [`MAX_LISTED`].
    List { prefix: &'a str, after: &'a str },
    /// The number that the key has, plus `amount`, in one step.
    Add { key: &'a str, amount: i64 },
}

/// What the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was done.
    Done,
    /// There is no such key.
    NotFound,
    /// The key's value, shared with the store.
    Value(Arc<[u8]>),
    /// Keys; `more` says whether there were more than fit.
    Keys { keys: Vec<String>, more: bool },
    /// The number after an addition.
    Number(i64),
    /// It was not done.
    Problem(Problem),
}

/// Why the server did not do it. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The request can't be decoded, or is over a limit.
    Malformed,
    /// The value is not a number that could be added to.
    NotANumber,
    /// The sum would not fit into 64 bits.
    OutOfRange,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the server does not understand the request",
            Self::NotANumber => "the value is not a number",
            Self::OutOfRange => "the sum is out of range",
        })
    }
}

/// Whether `key` can be one.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len())
}

impl<'a> Operation<'a> {
    /// Whether it changes nothing, so that doing it twice is harmless. A `set` is not among them: a late repetition would
    /// undo what another client has set meanwhile.
    pub(crate) fn only_reads(&self) -> bool {
        matches!(self, Self::Get { .. } | Self::List { .. })
    }

    pub(crate) fn encode(&self, output: &mut impl Output) {
        match *self {
            Self::Get { key } => {
                output.put(&[0]);
                output.put_counted(key.as_bytes());
            }
            Self::Set { key, value } => {
                output.put(&[1]);
                output.put_counted(key.as_bytes());
                output.put_counted(value);
            }
            Self::Delete { key } => {
                output.put(&[2]);
                output.put_counted(key.as_bytes());
            }
            Self::List { prefix, after } => {
                output.put(&[3]);
                output.put_counted(prefix.as_bytes());
                output.put_counted(after.as_bytes());
            }
            Self::Add { key, amount } => {
                output.put(&[4]);
                output.put_counted(key.as_bytes());
                output.put(&amount.to_be_bytes());
            }
        }
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let operation = match reader.byte()? {
            0 => Self::Get { key: read_key(&mut reader)? },
            1 => Self::Set { key: read_key(&mut reader)?, value: read_value(&mut reader)? },
            2 => Self::Delete { key: read_key(&mut reader)? },
            3 => Self::List { prefix: reader.text()?, after: reader.text()? },
            4 => Self::Add { key: read_key(&mut reader)?, amount: reader.i64()? },
            _ => return Err(Malformed),
        };
        if reader.is_at_end() { Ok(operation) } else { Err(Malformed) }
    }
}

fn read_key<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Malformed> {
    reader.text().and_then(|key| if is_key(key) { Ok(key) } else { Err(Malformed) })
}

fn read_value<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    reader.counted().and_then(|value| if value.len() <= MAX_VALUE { Ok(value) } else { Err(Malformed) })
}

impl Answer {
    pub(crate) fn encode(&self, output: &mut impl Output) {
        match self {
            Self::Done => output.put(&[0]),
            Self::NotFound => output.put(&[1]),
            Self::Value(value) => {
                output.put(&[2]);
                output.put_counted(value);
            }
            Self::Keys { keys, more } => {
                output.put(&[3, u8::from(*more)]);
                output.put(&(keys.len() as u64).to_be_bytes());
                for key in keys {
                    output.put_counted(key.as_bytes());
                }
            }
            Self::Number(number) => {
                output.put(&[4]);
                output.put(&number.to_be_bytes());
            }
            Self::Problem(problem) => output.put(&[5, problem.code()]),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let answer = match reader.byte()? {
            0 => Self::Done,
            1 => Self::NotFound,
            2 => Self::Value(reader.counted()?.into()),
            3 => Self::read_keys(&mut reader)?,
            4 => Self::Number(reader.i64()?),
            5 => Self::Problem(Problem::from_code(reader.byte()?)?),
            _ => return Err(Malformed),
        };
        if reader.is_at_end() { Ok(answer) } else { Err(Malformed) }
    }

    fn read_keys(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let more = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed),
        };
        // No room is reserved for the count, which could be any number: the keys themselves have to be there.
        let count = reader.u64()?;
        let keys = (0..count).map(|_| read_key(reader).map(str::to_owned)).collect::<Result<_, _>>()?;
        Ok(Self::Keys { keys, more })
    }
}

impl Problem {
    const ALL: [Self; 3] = [Self::Malformed, Self::NotANumber, Self::OutOfRange];

    fn code(self) -> u8 {
        match self {
            Self::Malformed => 0,
            Self::NotANumber => 1,
            Self::OutOfRange => 2,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|problem| problem.code() == code).ok_or(Malformed)
    }
}
