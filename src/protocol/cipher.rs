//! Sealing and opening in place, and the nonces for it. The one file that names the AEAD crate.

use std::fmt;

use getrandom::SysRng;
use rand_core::TryCryptoRng;

#[cfg(feature = "forward-secrecy")]
use super::forward_secrecy::SymmetricState;
use super::{NONCE_LENGTH, SEAL_OVERHEAD, TAG_LENGTH};
use crate::{Error, Key};

/// AES-256-GCM under one key, expanded once and shared by every session of that key.
///
/// The sealed part of a frame is laid out as `nonce[12], text, tag[16]`; both operations work in place on exactly
/// that. The expanded key, and what handshakes of forward-secret sessions start from, are wiped when the cipher is
/// dropped.
///
/// ```
/// use falcotcp_sync::Key;
/// use falcotcp_sync::protocol::{Cipher, NonceSequence, SEAL_OVERHEAD};
///
/// let cipher = Cipher::new(&Key::generate()?);
/// let mut nonces = NonceSequence::new()?;
///
/// let mut sealed = vec![0; SEAL_OVERHEAD + 5];
/// sealed[12..17].copy_from_slice(b"hello");
/// cipher.seal(&mut nonces, &mut sealed)?;
/// assert_ne!(&sealed[12..17], b"hello");
/// assert_eq!(cipher.open(&mut sealed)?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Cipher {
    aead: Aead,
    /// Noise's state once the key is mixed in as the pre-shared one: the same for every handshake under it.
    #[cfg(feature = "forward-secrecy")]
    preshared: SymmetricState,
}

impl Cipher {
    /// Expands `key`.
    pub fn new(key: &Key) -> Self {
        Self {
            aead: Aead::new(key.expose()),
            #[cfg(feature = "forward-secrecy")]
            preshared: SymmetricState::preshared(key.expose()),
        }
    }

    /// Seals the text between the first 12 and the last 16 bytes of `sealed`, under the next nonce.
    ///
    /// # Errors
    /// [`SealError`] when `sealed` has no room for nonce and tag, or its text is longer than AES-GCM
    /// allows (64 GiB, NIST SP 800-38D 5.2.1.1).
    #[inline]
    pub fn seal(&self, nonces: &mut NonceSequence, sealed: &mut [u8]) -> Result<(), SealError> {
        let (nonce, text, tag) = split(sealed).ok_or(SealError)?;
        *nonce = nonces.advance();
        *tag = self.aead.seal(nonce, &[], text).ok_or(SealError)?;
        Ok(())
    }

    /// Opens `sealed` in place and gives its text.
    ///
    /// # Errors
    /// [`NotAuthentic`] when the tag does not verify, or `sealed` is too short to hold one. What
    /// `sealed` holds then is unspecified and must not be used.
    #[inline]
    pub fn open<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], NotAuthentic> {
        let (nonce, text, tag) = split(sealed).ok_or(NotAuthentic)?;
        if self.aead.open(nonce, &[], text, tag) { Ok(text) } else { Err(NotAuthentic) }
    }

    #[cfg(feature = "forward-secrecy")]
    pub(super) fn preshared(&self) -> &SymmetricState {
        &self.preshared
    }
}

/// AES-256-GCM under one key with explicit nonces, of which callers use none twice, and associated data.
#[cfg(not(feature = "aws-lc-rs"))]
pub(super) use pure_rust::Aead;

/// AES-GCM of the `RustCrypto` project.
#[cfg(not(feature = "aws-lc-rs"))]
mod pure_rust {
    use aes_gcm::aead::AeadInOut;
    use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};

    use super::{NONCE_LENGTH, TAG_LENGTH};

    pub(in crate::protocol) struct Aead(Aes256Gcm);

    impl Aead {
        pub(in crate::protocol) fn new(key: &[u8; 32]) -> Self {
            Self(Aes256Gcm::new(key.into()))
        }

        #[inline]
        pub(in crate::protocol) fn seal(
            &self,
            nonce: &[u8; NONCE_LENGTH],
            associated: &[u8],
            text: &mut [u8],
        ) -> Option<[u8; TAG_LENGTH]> {
            let tag = self.0.encrypt_inout_detached(<&Nonce<_>>::from(nonce), associated, text.into());
            tag.ok().map(Into::into)
        }

        #[inline]
        pub(in crate::protocol) fn open(
            &self,
            nonce: &[u8; NONCE_LENGTH],
            associated: &[u8],
            text: &mut [u8],
            tag: &[u8; TAG_LENGTH],
        ) -> bool {
            let (nonce, tag) = (<&Nonce<_>>::from(nonce), <&Tag>::from(tag));
            self.0.decrypt_inout_detached(nonce, associated, text.into(), tag).is_ok()
        }
    }
}

/// AES-256-GCM under one key with explicit nonces, of which callers use none twice, and associated data.
#[cfg(feature = "aws-lc-rs")]
pub(super) use aws_lc::Aead;

/// AES-GCM of AWS-LC: faster for large messages, and built from C and assembly.
#[cfg(feature = "aws-lc-rs")]
mod aws_lc {
    use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

    use super::{NONCE_LENGTH, TAG_LENGTH};

    /// Without a key only if the library refused one of the right length; nothing seals or opens then.
    pub(in crate::protocol) struct Aead(Option<LessSafeKey>);

    impl Aead {
        pub(in crate::protocol) fn new(key: &[u8; 32]) -> Self {
            Self(UnboundKey::new(&AES_256_GCM, key).ok().map(LessSafeKey::new))
        }

        #[inline]
        pub(in crate::protocol) fn seal(
            &self,
            nonce: &[u8; NONCE_LENGTH],
            associated: &[u8],
            text: &mut [u8],
        ) -> Option<[u8; TAG_LENGTH]> {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let tag = self.0.as_ref()?.seal_in_place_separate_tag(nonce, Aad::from(associated), text).ok()?;
            tag.as_ref().try_into().ok()
        }

        #[inline]
        pub(in crate::protocol) fn open(
            &self,
            nonce: &[u8; NONCE_LENGTH],
            associated: &[u8],
            text: &mut [u8],
            tag: &[u8; TAG_LENGTH],
        ) -> bool {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let Some(key) = &self.0 else { return false };
            key.open_in_place_separate_tag(nonce, Aad::from(associated), tag, text).is_ok()
        }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(AES-256-GCM)")
    }
}

type Sealed<'a> = (&'a mut [u8; NONCE_LENGTH], &'a mut [u8], &'a mut [u8; TAG_LENGTH]);

#[inline]
fn split(sealed: &mut [u8]) -> Option<Sealed<'_>> {
    if sealed.len() < SEAL_OVERHEAD {
        return None;
    }
    let (nonce, rest) = sealed.split_first_chunk_mut()?;
    let (text, tag) = rest.split_last_chunk_mut()?;
    Some((nonce, text, tag))
}

/// A sealing state's nonces: a random 96-bit start, then one more for each frame.
///
/// No nonce may repeat under one key, across all endpoints that hold it. With `q` frames in all over `c`
/// such sequences the chance of a repeat is about `q * c / 2^96` (fresh random nonces: `q^2 / 2^97`), and no
/// frame costs a system call. A sequence can't be cloned, and each frame needs it exclusively.
///
/// A copy of the whole process copies it all the same: a virtual machine that is restored from a snapshot, or a fork.
/// Seal nothing with it in the copy, but draw a new one. The clients of this crate do so after a fork, and the server's
/// threads do not exist in a child; restored programs must be restarted.
pub struct NonceSequence(u128);

/// Nonces are counted modulo 2^96.
const NONCE_MASK: u128 = (1 << 96) - 1;

impl NonceSequence {
    /// A sequence that starts at a point drawn from the operating system's random source.
    ///
    /// # Errors
    /// [`Error::Random`] when the operating system gives no random bytes.
    pub fn new() -> Result<Self, Error> {
        Self::from_rng(&mut SysRng).map_err(Error::random)
    }

    /// A sequence that starts at a point drawn from `rng`, for tests with known nonces and for platforms
    /// that bring a source of their own.
    ///
    /// # Errors
    /// Whatever `rng` fails with.
    pub fn from_rng<R: TryCryptoRng>(rng: &mut R) -> Result<Self, R::Error> {
        let mut start = [0; 16];
        rng.try_fill_bytes(&mut start[16 - NONCE_LENGTH..])?;
        Ok(Self(u128::from_be_bytes(start)))
    }

    #[inline]
    fn advance(&mut self) -> [u8; NONCE_LENGTH] {
        let mut nonce = [0; NONCE_LENGTH];
        nonce.copy_from_slice(&self.0.to_be_bytes()[16 - NONCE_LENGTH..]);
        self.0 = (self.0 + 1) & NONCE_MASK;
        nonce
    }
}

impl fmt::Debug for NonceSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NonceSequence(..)")
    }
}

/// The bytes do not open: damaged, cut short, or sealed under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAuthentic;

impl fmt::Display for NotAuthentic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes do not open: damaged, cut short, or sealed under another key")
    }
}

impl std::error::Error for NotAuthentic {}

/// The text can't be sealed: no room for nonce and tag around it, or longer than the 64 GiB of AES-GCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealError;

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the text can't be sealed: no room for nonce and tag, or over 64 GiB")
    }
}

impl std::error::Error for SealError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_count_up_and_wrap_at_96_bits() {
        let mut nonces = NonceSequence(NONCE_MASK - 1);
        let mut last = [0xFF; NONCE_LENGTH];
        last[NONCE_LENGTH - 1] = 0xFE;
        assert_eq!(nonces.advance(), last);
        assert_eq!(nonces.advance(), [0xFF; NONCE_LENGTH]);
        assert_eq!(nonces.advance(), [0; NONCE_LENGTH]);
    }

    #[test]
    fn sequences_start_apart() {
        let mut one = NonceSequence::new().unwrap();
        let mut other = NonceSequence::new().unwrap();
        assert_ne!(one.advance(), other.advance());
    }

    #[test]
    fn too_short_to_be_sealed_or_opened() {
        let cipher = Cipher::new(&Key::from_bytes([7; 32]));
        let mut nonces = NonceSequence::new().unwrap();
        for length in 0..SEAL_OVERHEAD {
            assert_eq!(cipher.seal(&mut nonces, &mut vec![0; length]), Err(SealError));
            assert_eq!(cipher.open(&mut vec![0; length]), Err(NotAuthentic));
        }
    }

    #[cfg(not(feature = "aws-lc-rs"))]
    #[test]
    fn the_expanded_key_is_wiped() {
        fn wiped<T: zeroize::ZeroizeOnDrop>() {}
        wiped::<aes_gcm::Aes256Gcm>();
    }

    #[test]
    fn debug_shows_neither_key_nor_nonce() {
        let cipher = Cipher::new(&Key::from_bytes([0x41; 32]));
        assert_eq!(format!("{cipher:?} {:?}", NonceSequence(0x41)), "Cipher(AES-256-GCM) NonceSequence(..)");
    }
}
