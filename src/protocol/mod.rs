//! The `FalcoTCP` wire protocol: bytes and instants in, events and bytes out.
//!
//! Nothing in this module knows a socket, a thread or a clock. The server and the client of this crate
//! are built on it; so can your own transport be, and so are the property tests and benches.
//!
//! # The wire
//!
//! Everything that carries data is sealed with AES-256-GCM (NIST SP 800-38D) under one shared 32-byte key:
//! a 12-byte nonce, the ciphertext, a 16-byte tag, no associated data. Lengths are big-endian `u64`.
//!
//! | client sends | bytes | server answers |
//! |---|---|---|
//! | establishment | `0`, nonce\[12\], ciphertext\[128\], tag\[16\] | `0xFF`, or closes in silence |
//! | message | `1`, length\[8\], then `length` bytes: nonce, ciphertext, tag | a response |
//! | ping | `2` | nothing |
//! | unregistered | `3..=255` | nothing: that one byte is skipped |
//!
//! A response is length\[8\], then `length` bytes: nonce, ciphertext, tag. The **empty response**, length 0,
//! says that the message was not processed. Responses come in the order of their messages, one for one.
//!
//! # Parts
//!
//! - lengths and headers: [`RequestHeader`], [`decode_request`], [`decode_response`];
//! - sealing and opening: [`Cipher`] and [`NonceSequence`];
//! - the two state machines: [`ServerSession`] and [`ClientSession`].

mod cipher;
mod client_session;
mod frame;
mod response_writer;
mod server_session;

pub use cipher::{Cipher, NonceSequence, NotAuthentic, SealError};
pub use client_session::{ClientEvent, ClientFault, ClientSession};
pub use frame::{RequestHeader, decode_request, decode_response, message_header, response_header};
pub use response_writer::ResponseWriter;
pub(crate) use server_session::later;
pub use server_session::{Deadline, Expiry, Refusal, Rejection, ServerEvent, ServerSession, SessionSettings};

/// Bytes of a nonce, as AES-GCM prefers it (NIST SP 800-38D, 5.2.1.1).
pub const NONCE_LENGTH: usize = 12;

/// Bytes of an authentication tag.
pub const TAG_LENGTH: usize = 16;

/// What sealing adds to a plaintext: a nonce before it and a tag behind it.
pub const SEAL_OVERHEAD: usize = NONCE_LENGTH + TAG_LENGTH;

/// Bytes of the random plaintext in an establishment.
pub const ESTABLISHMENT_PLAINTEXT: usize = 128;

/// Bytes of a whole establishment, its type byte included.
pub const ESTABLISHMENT_LENGTH: usize = 1 + SEAL_OVERHEAD + ESTABLISHMENT_PLAINTEXT;

/// The server's one-byte answer to an establishment that opened.
pub const ACCEPTED: u8 = 0xFF;

/// Bytes before the sealed part of a message: the type and the length.
pub const MESSAGE_HEADER: usize = 9;

/// Bytes before the sealed part of a response: the length.
pub const RESPONSE_HEADER: usize = 8;

/// The empty response: the message was not processed.
pub const EMPTY_RESPONSE: [u8; RESPONSE_HEADER] = [0; RESPONSE_HEADER];
