//! The messages of the store, as bytes.
//!
//! ```text
//! request:   '?'  session[16]  number[8]  code[1]  what belongs to the code
//! response:  '!'  session[16]  number[8]  code[1]  what belongs to the code
//! ```
//!
//! Why there is more in it than a code and a key: the protocol below keeps messages secret and unchanged, but it
//! does not say where a frame belongs (the guide, "Security": no binding to place, no protection against replay).
//! Somebody on the path who can't read a single byte can still
//!
//! - send a client's own request back to it as the response, or give a response to the server as a request: the first
//!   byte says the direction, so neither is taken for the other;
//! - answer a request with the recorded response to another one, or shift the responses by one: each response repeats
//!   the session and the number of its request, and the client takes no other;
//! - play a recorded `add` to the server once more: the number only grows within a session, the server remembers the
//!   last one, and it made the session's name itself, so that a recording from before a restart belongs to none;
//! - give an establishment's 128 random bytes to the server as a request: a message must be exact to its last byte.
//!
//! A client's first request is a [`Operation::Hello`] with a random number in the place of the session. The response
//! to it repeats that, which no recording can, so it also proves that the server has the key.

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

const REQUEST: u8 = b'?';
const RESPONSE: u8 = b'!';

/// Which request this is, or which one a response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId {
    /// The session's name, made by the server; in a hello a random number, made by the client.
    pub(crate) session: u128,
    /// Greater than that of any earlier request of the session; 0 in a hello.
    pub(crate) number: u64,
}

impl RequestId {
    /// In the response to something of which not even the beginning can be read. It answers no request.
    pub(crate) const NONE: Self = Self { session: 0, number: 0 };
}

/// What a client asks for. Keys are texts of 1 to [`MAX_KEY`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    /// A session, please.
    Hello,
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
    /// To a hello: the session's name.
    Welcome { session: u128 },
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

/// Why the server did not do it. Nothing has changed, except for [`AlreadySeen`](Self::AlreadySeen).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// The request can't be decoded, or is over a limit.
    Malformed,
    /// The session is not one of those that the server remembers: a hello makes a new one.
    UnknownSession,
    /// The session has had a request with this number or a greater one.
    AlreadySeen,
    /// The value is not a number that could be added to.
    NotANumber,
    /// The sum would not fit into 64 bits.
    OutOfRange,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the server does not understand the request",
            Self::UnknownSession => "the server does not know the session",
            Self::AlreadySeen => "the server has already seen this request",
            Self::NotANumber => "the value is not a number",
            Self::OutOfRange => "the sum is out of range",
        })
    }
}

/// Whether `key` can be one.
pub(crate) fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len())
}

/// A request's id and what it asks for.
///
/// Outside: not even the id can be read. Inside: only the id can, so the response can at least repeat that.
pub(crate) fn read_request(
    message: &[u8],
) -> Result<(RequestId, Result<Operation<'_>, Malformed>), Malformed> {
    let (id, rest) = read_head(REQUEST, message)?;
    Ok((id, Operation::decode(rest)))
}

/// The answer in `response`, if it is a response, and one to the request `id`.
pub(crate) fn read_response(id: RequestId, response: &[u8]) -> Result<Answer, Malformed> {
    let (answered, rest) = read_head(RESPONSE, response)?;
    if answered == id { Answer::decode(rest) } else { Err(Malformed) }
}

pub(crate) fn write_request(id: RequestId, operation: &Operation<'_>, output: &mut impl Output) {
    write_head(REQUEST, id, output);
    operation.encode(output);
}

pub(crate) fn write_response(id: RequestId, answer: &Answer, output: &mut impl Output) {
    write_head(RESPONSE, id, output);
    answer.encode(output);
}

fn read_head(direction: u8, message: &[u8]) -> Result<(RequestId, &[u8]), Malformed> {
    let mut reader = Reader::new(message);
    if reader.byte()? != direction {
        return Err(Malformed);
    }
    let id = RequestId { session: reader.u128()?, number: reader.u64()? };
    Ok((id, reader.into_rest()))
}

fn write_head(direction: u8, id: RequestId, output: &mut impl Output) {
    output.put(&[direction]);
    output.put(&id.session.to_be_bytes());
    output.put(&id.number.to_be_bytes());
}

impl<'a> Operation<'a> {
    fn encode(&self, output: &mut impl Output) {
        match *self {
            Self::Hello => output.put(&[0]),
            Self::Get { key } => {
                output.put(&[1]);
                output.put_counted(key.as_bytes());
            }
            Self::Set { key, value } => {
                output.put(&[2]);
                output.put_counted(key.as_bytes());
                output.put_counted(value);
            }
            Self::Delete { key } => {
                output.put(&[3]);
                output.put_counted(key.as_bytes());
            }
            Self::List { prefix, after } => {
                output.put(&[4]);
                output.put_counted(prefix.as_bytes());
                output.put_counted(after.as_bytes());
            }
            Self::Add { key, amount } => {
                output.put(&[5]);
                output.put_counted(key.as_bytes());
                output.put(&amount.to_be_bytes());
            }
        }
    }

    fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let operation = match reader.byte()? {
            0 => Self::Hello,
            1 => Self::Get { key: read_key(&mut reader)? },
            2 => Self::Set { key: read_key(&mut reader)?, value: read_value(&mut reader)? },
            3 => Self::Delete { key: read_key(&mut reader)? },
            4 => Self::List { prefix: reader.text()?, after: reader.text()? },
            5 => Self::Add { key: read_key(&mut reader)?, amount: reader.i64()? },
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
    fn encode(&self, output: &mut impl Output) {
        match self {
            Self::Welcome { session } => {
                output.put(&[0]);
                output.put(&session.to_be_bytes());
            }
            Self::Done => output.put(&[1]),
            Self::NotFound => output.put(&[2]),
            Self::Value(value) => {
                output.put(&[3]);
                output.put_counted(value);
            }
            Self::Keys { keys, more } => {
                output.put(&[4, u8::from(*more)]);
                output.put(&(keys.len() as u64).to_be_bytes());
                for key in keys {
                    output.put_counted(key.as_bytes());
                }
            }
            Self::Number(number) => {
                output.put(&[5]);
                output.put(&number.to_be_bytes());
            }
            Self::Problem(problem) => output.put(&[6, problem.code()]),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let answer = match reader.byte()? {
            0 => Self::Welcome { session: reader.u128()? },
            1 => Self::Done,
            2 => Self::NotFound,
            3 => Self::Value(reader.counted()?.into()),
            4 => Self::read_keys(&mut reader)?,
            5 => Self::Number(reader.i64()?),
            6 => Self::Problem(Problem::from_code(reader.byte()?)?),
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
    const ALL: [Self; 5] =
        [Self::Malformed, Self::UnknownSession, Self::AlreadySeen, Self::NotANumber, Self::OutOfRange];

    fn code(self) -> u8 {
        match self {
            Self::Malformed => 0,
            Self::UnknownSession => 1,
            Self::AlreadySeen => 2,
            Self::NotANumber => 3,
            Self::OutOfRange => 4,
        }
    }

    fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|problem| problem.code() == code).ok_or(Malformed)
    }
}
