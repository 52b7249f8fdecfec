//! One direction of a session: its key, its counter, and when the key is replaced.

use std::fmt;

use super::noise::Secret;
use crate::protocol::cipher::Aead;
use crate::protocol::{NONCE_LENGTH, NotAuthentic, SealError, TAG_LENGTH};

/// 16 MiB under one key: often enough to be seen in every test, and for free.
const REKEY_BLOCKS: u64 = 1 << 20;

/// Blocks that every frame counts besides those of its text: for its header, and for the one that makes the tag.
const FRAME_BLOCKS: u64 = 2;

/// The longest text of AES-GCM (NIST SP 800-38D, 5.2.1.1).
const LONGEST_TEXT: u64 = (1 << 36) - 32;

/// The counter that only the replacing of keys uses.
const RESERVED: u64 = u64::MAX;

/// Seals or opens the frames of one direction, one after the other. No counter is used twice: each is counted before
/// it seals anything, and the last one seals no frame.
pub(super) struct FrameCipher {
    aead: Aead,
    counter: u64,
    /// What has been sealed or opened under this key.
    blocks: u64,
    rekey_blocks: u64,
}

impl FrameCipher {
    pub(super) fn new(key: &Secret) -> Self {
        Self::with_rekey_blocks(key, REKEY_BLOCKS)
    }

    pub(super) fn with_rekey_blocks(key: &Secret, rekey_blocks: u64) -> Self {
        Self { aead: Aead::new(key), counter: 0, blocks: 0, rekey_blocks }
    }

    /// Seals `text` in place and gives its tag.
    ///
    /// # Errors
    /// [`SealError`] when the text is too long, or there are no more counters.
    #[inline]
    pub(super) fn seal(&mut self, header: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LENGTH], SealError> {
        if self.counter == RESERVED || text.len() as u64 > LONGEST_TEXT {
            return Err(SealError);
        }
        let nonce = nonce(self.counter);
        self.counter += 1;
        let tag = self.aead.seal(&nonce, header, text).ok_or(SealError)?;
        self.count_blocks(text.len());
        Ok(tag)
    }

    /// Opens `text` in place. Nothing advances when that fails.
    ///
    /// # Errors
    /// [`NotAuthentic`] when the tag does not verify, or there are no more counters.
    #[inline]
    pub(super) fn open(
        &mut self,
        header: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_LENGTH],
    ) -> Result<(), NotAuthentic> {
        if self.counter == RESERVED || !self.aead.open(&nonce(self.counter), header, text, tag) {
            return Err(NotAuthentic);
        }
        self.counter += 1;
        self.count_blocks(text.len());
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    #[inline]
    fn count_blocks(&mut self, text: usize) {
        self.blocks = self.blocks.saturating_add((text as u64).div_ceil(16) + FRAME_BLOCKS);
        if self.blocks >= self.rekey_blocks {
            self.rekey();
        }
    }

    /// Noise's `REKEY` (section 4.2). The old key is wiped.
    #[cold]
    fn rekey(&mut self) {
        let mut key = Secret::default();
        match self.aead.seal(&nonce(RESERVED), &[], &mut key[..]) {
            Some(_) => self.aead = Aead::new(&key),
            // The old key must not serve on; without counters the cipher does nothing any more.
            None => self.counter = RESERVED,
        }
        self.blocks = 0;
    }
}

/// Four zero bytes and the counter.
#[inline]
fn nonce(counter: u64) -> [u8; NONCE_LENGTH] {
    let mut nonce = [0; NONCE_LENGTH];
    nonce[NONCE_LENGTH - 8..].copy_from_slice(&counter.to_be_bytes());
    nonce
}

impl fmt::Debug for FrameCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameCipher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; 9] = [1, 0, 0, 0, 0, 0, 0, 0, 16];

    fn secret(byte: u8) -> Secret {
        [byte; 32].into()
    }

    #[test]
    fn the_last_counter_is_for_replacing_keys_only() {
        let mut ciphers = [(); 2].map(|()| FrameCipher::new(&secret(1)));
        for cipher in &mut ciphers {
            cipher.counter = RESERVED - 1;
        }
        let [sealing, opening] = &mut ciphers;
        let tag = sealing.seal(&HEADER, &mut []).unwrap();
        opening.open(&HEADER, &mut [], &tag).unwrap();
        assert_eq!(sealing.seal(&HEADER, &mut []), Err(SealError));
        assert_eq!(opening.open(&HEADER, &mut [], &tag), Err(NotAuthentic));

        let tag = sealing.aead.seal(&nonce(RESERVED), &HEADER, &mut []).unwrap();
        assert_eq!(opening.open(&HEADER, &mut [], &tag), Err(NotAuthentic));
    }

    #[test]
    fn a_key_is_replaced_after_the_frame_that_reaches_the_threshold() {
        let mut cipher = FrameCipher::new(&secret(1));
        cipher.blocks = REKEY_BLOCKS - 5;
        cipher.seal(&HEADER, &mut [0; 17]).unwrap();
        assert_eq!(cipher.blocks, REKEY_BLOCKS - 1);
        let mut zeros = [0; 32];
        cipher.aead.seal(&nonce(RESERVED), &[], &mut zeros).unwrap();
        cipher.seal(&HEADER, &mut []).unwrap();
        assert_eq!((cipher.blocks, cipher.counter), (0, 2), "the nonces go on");

        let mut next = FrameCipher::new(&zeros.into());
        next.counter = 2;
        assert_eq!(cipher.seal(&HEADER, &mut [7; 5]), next.seal(&HEADER, &mut [7; 5]));
    }

    #[test]
    fn what_does_not_open_advances_nothing() {
        let [mut sealing, mut opening] = [(); 2].map(|()| FrameCipher::new(&secret(1)));
        let mut text = *b"text";
        let tag = sealing.seal(&HEADER, &mut text).unwrap();
        assert_eq!(opening.open(&[2; 9], &mut text.clone(), &tag), Err(NotAuthentic));
        assert_eq!((opening.counter, opening.blocks), (0, 0));
        opening.open(&HEADER, &mut text, &tag).unwrap();
        assert_eq!((&text, opening.counter, opening.blocks), (b"text", 1, 3));
    }
}
