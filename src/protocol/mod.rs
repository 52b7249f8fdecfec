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
//! # Forward-secret sessions
//!
//! Two endpoints that both know it make of a connection a session under keys of its own, with the feature
//! `forward-secrecy`. The establishment's plaintext is then message 1 of `Noise_NNpsk0_25519_AESGCM_SHA256` (Noise
//! revision 34), with the shared key as the `psk` and the prologue `FalcoTCP forward secrecy 1`. A server that knows
//! nothing of it sees a classic establishment.
//!
//! | who | bytes | holds |
//! |---|---|---|
//! | client | an establishment; its plaintext: `e`\[32\], sealed payload\[80\], tag\[16\] | the payload is random |
//! | server | `0xFE`, `e`\[32\], sealed payload\[16\], tag\[16\] | its lifetime in milliseconds and its limit in bytes, `u64` each |
//! | client | a ping (below) | shows that the establishment is no replay |
//!
//! From there on each end sends frames: type\[1\], length\[8\], then `length` bytes: ciphertext and tag. The header
//! is the associated data, and the nonce, which is not sent, counts the frames of that direction. Whenever a key has
//! sealed 2^20 blocks of 16 bytes (each frame counts two more than its text), Noise's `REKEY` replaces it.
//!
//! | client sends | type | text | server answers |
//! |---|---|---|---|
//! | message | `1` | the message | a response or a rejection |
//! | ping | `2` | none | a pong, in order with the responses |
//! | unregistered | others | any | nothing: it is opened and ignored |
//!
//! | server sends | type | text |
//! |---|---|---|
//! | response | `1` | the response |
//! | rejection | `2` | the [reason](RejectionReason)\[1\] |
//! | goodbye | `3` | count\[8\] of all messages that were taken up: they are answered, and no others will be |
//! | pong | `4` | none |
//! | unregistered | others | any: it is opened and ignored |
//!
//! A frame that does not open, or is not what is due, ends the session at once and in silence.
//!
//! # Parts
//!
//! - lengths and headers: [`RequestHeader`], [`decode_request`], [`decode_response`];
//! - sealing and opening: [`Cipher`] and [`NonceSequence`];
//! - the two state machines: [`ServerSession`] and [`ClientSession`], which speak both kinds of sessions as
//!   [`ForwardSecrecy`] says.

mod cipher;
mod client_session;
mod deadline;
mod events;
#[cfg(feature = "forward-secrecy")]
mod forward_secrecy;
mod frame;
mod policy;
mod response_writer;
mod server_session;
mod settings;

pub use cipher::{Cipher, NonceSequence, NotAuthentic, SealError};
pub use client_session::ClientSession;
pub(crate) use deadline::later;
pub use deadline::{Deadline, Expiry};
pub use events::{ClientEvent, ClientFault, Refusal, Rejection, RejectionReason, ServerEvent};
pub use frame::{RequestHeader, decode_request, decode_response, message_header, response_header};
pub use policy::{ForwardSecrecy, ServerLimits};
pub use response_writer::ResponseWriter;
pub use server_session::ServerSession;
pub use settings::SessionSettings;

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
