//! Frames: a header of type and length, which the tag covers, then the ciphertext and the tag.

use super::frame_cipher::FrameCipher;
use crate::protocol::{SealError, TAG_LENGTH};

/// Bytes before the sealed part of every frame: the type and the length.
pub(in crate::protocol) const FRAME_HEADER: usize = 9;

/// What a client sends.
pub(super) mod from_client {
    pub(in super::super) const MESSAGE: u8 = 1;
    pub(in super::super) const PING: u8 = 2;
}

/// What a server sends.
pub(super) mod from_server {
    pub(in super::super) const RESPONSE: u8 = 1;
    pub(in super::super) const REJECTION: u8 = 2;
    pub(in super::super) const GOODBYE: u8 = 3;
    pub(in super::super) const PONG: u8 = 4;
}

/// What stands at the start of the received bytes.
pub(super) enum Incoming<'i> {
    /// No whole frame yet.
    NeedMore { frame_length: usize },
    /// One longer than the limit, by its header.
    TooLarge { length: u64 },
    /// One that does not open, or has no room for a tag.
    NotAuthentic,
    /// One that opened.
    Frame { kind: u8, text: &'i mut [u8], frame_length: usize },
}

/// Opens the frame at the start of `input`, with at most `max_text` bytes of plaintext whatever its type.
#[inline]
pub(super) fn receive<'i>(cipher: &mut FrameCipher, input: &'i mut [u8], max_text: usize) -> Incoming<'i> {
    let Some((&[kind, ref length @ ..], _)) = input.split_first_chunk::<FRAME_HEADER>() else {
        return Incoming::NeedMore { frame_length: FRAME_HEADER };
    };
    let length = u64::from_be_bytes(*length);
    if length < TAG_LENGTH as u64 {
        return Incoming::NotAuthentic;
    }
    let Some(frame_length) = frame_length(length, max_text) else { return Incoming::TooLarge { length } };
    let Some(frame) = input.get_mut(..frame_length) else { return Incoming::NeedMore { frame_length } };
    let (header, sealed) = frame.split_at_mut(FRAME_HEADER);
    let Some((text, tag)) = sealed.split_last_chunk_mut() else { return Incoming::NotAuthentic };
    match cipher.open(header, text, tag) {
        Ok(()) => Incoming::Frame { kind, text, frame_length },
        Err(_) => Incoming::NotAuthentic,
    }
}

/// Bytes of the whole frame, unless it is over the limit.
#[inline]
fn frame_length(length: u64, max_text: usize) -> Option<usize> {
    let length = usize::try_from(length).ok()?;
    (length <= max_text.saturating_add(TAG_LENGTH)).then(|| length.checked_add(FRAME_HEADER)).flatten()
}

/// Appends a frame with this text.
#[inline]
pub(super) fn append(
    cipher: &mut FrameCipher,
    kind: u8,
    text: &[u8],
    output: &mut Vec<u8>,
) -> Result<(), SealError> {
    let start = output.len();
    output.reserve(text.len().saturating_add(FRAME_HEADER + TAG_LENGTH));
    output.extend_from_slice(&[0; FRAME_HEADER]);
    output.extend_from_slice(text);
    seal(cipher, kind, output, start)
}

/// Makes a frame of what stands from `start` on: room for the header, and the text. When that can't be sealed,
/// nothing of it is left.
#[inline]
pub(super) fn seal(
    cipher: &mut FrameCipher,
    kind: u8,
    output: &mut Vec<u8>,
    start: usize,
) -> Result<(), SealError> {
    let (header, text) = output[start..].split_at_mut(FRAME_HEADER);
    header[0] = kind;
    header[1..].copy_from_slice(&(text.len() as u64 + TAG_LENGTH as u64).to_be_bytes());
    match cipher.seal(header, text) {
        Ok(tag) => output.extend_from_slice(&tag),
        Err(error) => {
            output.truncate(start);
            return Err(error);
        }
    }
    Ok(())
}
