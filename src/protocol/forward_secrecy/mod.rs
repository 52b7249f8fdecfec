//! Forward-secret sessions: a Noise handshake within the classic establishment, then frames under its keys.
//!
//! `noise` hashes, `x25519` agrees, `handshake` exchanges two messages and gives the keys, `frame_cipher` seals one
//! direction under one of them and replaces it in time, `frame` lays out what is sealed, and `client_frames` and
//! `server_frames` say what is due. The two sessions of [`protocol`](crate::protocol) drive all that.

mod client_frames;
mod frame;
mod frame_cipher;
mod handshake;
mod noise;
mod queue;
mod server_frames;
mod x25519;

pub(super) use client_frames::ClientFrames;
pub(super) use frame::FRAME_HEADER;
pub(super) use handshake::{ANSWER_LENGTH, NoAnswer, OFFER_ACCEPTED, Offer, ReceivedOffer};
pub(super) use noise::SymmetricState;
pub(super) use server_frames::ServerFrames;

#[cfg(test)]
mod tests;
