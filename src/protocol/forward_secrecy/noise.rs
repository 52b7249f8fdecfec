//! The symmetric state of a Noise handshake (revision 34, section 5.2): a chaining key and the transcript's hash.
//!
//! Sealing is not done here: in `NNpsk0` each key seals one payload and is replaced before the next, so that its
//! nonce is always zero and nothing has to be counted.

use std::ops::{Deref, DerefMut};

use hmac::digest::FixedOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Exactly as long as a hash, so that it is the first one (section 5.2, `InitializeSymmetric`).
const PROTOCOL: &[u8; 32] = b"Noise_NNpsk0_25519_AESGCM_SHA256";

const PROLOGUE: &[u8] = b"FalcoTCP forward secrecy 1";

/// 32 bytes that are wiped when dropped; on the heap, so that moving them leaves no copy behind.
#[derive(Clone, Default)]
pub(in crate::protocol) struct Secret(Box<Zeroizing<[u8; 32]>>);

#[derive(Clone)]
pub(in crate::protocol) struct SymmetricState {
    chaining_key: Secret,
    hash: Secret,
}

impl SymmetricState {
    /// After the prologue and the token `psk`, with which every handshake under this key starts.
    pub(in crate::protocol) fn preshared(psk: &[u8; 32]) -> Self {
        let mut state = Self { chaining_key: Secret::from(*PROTOCOL), hash: Secret::from(*PROTOCOL) };
        state.mix_hash(PROLOGUE);
        // `MixKeyAndHash`. Its third output would be a key, which the token that follows replaces unused.
        let [chaining_key, hash] = hkdf(&state.chaining_key, psk);
        state.chaining_key = chaining_key;
        state.mix_hash(&hash[..]);
        state
    }

    /// `MixHash`: `data` is in the transcript.
    pub(super) fn mix_hash(&mut self, data: &[u8]) {
        let hash = Sha256::new_with_prefix(&self.hash[..]).chain_update(data);
        FixedOutput::finalize_into(hash, (&mut *self.hash).into());
    }

    /// `MixKey`: gives the key for the next payload.
    pub(super) fn mix_key(&mut self, input: &[u8; 32]) -> Secret {
        let [chaining_key, key] = hkdf(&self.chaining_key, input);
        self.chaining_key = chaining_key;
        key
    }

    /// What is in the transcript so far, as associated data of the next payload.
    pub(super) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// `Split`: the keys of the initiator's and of the responder's frames.
    pub(super) fn split(&self) -> [Secret; 2] {
        hkdf(&self.chaining_key, &[])
    }
}

/// The first two outputs of Noise's `HKDF` (section 4.3).
fn hkdf(chaining_key: &Secret, input: &[u8]) -> [Secret; 2] {
    let extracted = hmac(chaining_key, &[input]);
    let first = hmac(&extracted, &[&[1]]);
    let second = hmac(&extracted, &[&first[..], &[2]]);
    [first, second]
}

fn hmac(key: &Secret, parts: &[&[u8]]) -> Secret {
    // A key shorter than a block is filled up with zeros (RFC 2104).
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(&key[..]);
    let mut mac = <Hmac<Sha256> as KeyInit>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    let mut output = Secret::default();
    mac.finalize_into((&mut *output).into());
    output
}

impl From<[u8; 32]> for Secret {
    fn from(bytes: [u8; 32]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }
}

impl Secret {
    pub(super) fn copied(bytes: &[u8; 32]) -> Self {
        let mut secret = Self::default();
        secret.copy_from_slice(bytes);
        secret
    }
}

impl Deref for Secret {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl DerefMut for Secret {
    fn deref_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}
