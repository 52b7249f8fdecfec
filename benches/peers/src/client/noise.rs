//! The client's half of `Noise_NNpsk0_25519_AESGCM_SHA256`, with the primitives of AWS-LC.

use std::io;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::{digest, hmac};

use super::falco::SHARED_KEY;
use crate::error::Result;

const PROTOCOL: [u8; 32] = *b"Noise_NNpsk0_25519_AESGCM_SHA256";
const PROLOGUE: &[u8] = b"FalcoTCP forward secrecy 1";
const EPHEMERAL: usize = 32;
const PAYLOAD: usize = 80;

/// Message 1: a public key, and a sealed payload with its tag.
pub(super) const OFFER: usize = EPHEMERAL + PAYLOAD + 16;

/// Message 2.
pub(super) const ANSWER: usize = EPHEMERAL + 16 + 16;

/// The keys of the frames from the client and of those from the server.
pub(super) type FrameKeys = [[u8; 32]; 2];

/// The symmetric state (Noise, section 5.2).
#[derive(Clone)]
pub(super) struct Handshake {
    chaining_key: [u8; 32],
    hash: [u8; 32],
}

pub(super) struct Offered {
    state: Handshake,
    ephemeral: EphemeralPrivateKey,
}

impl Handshake {
    /// After the token `psk`, with which all handshakes under the shared key begin.
    pub(super) fn new() -> Handshake {
        let mut state = Handshake { chaining_key: PROTOCOL, hash: PROTOCOL };
        state.mix_hash(PROLOGUE);
        let [chaining_key, hash] = expand(&state.chaining_key, &SHARED_KEY);
        state.chaining_key = chaining_key;
        state.mix_hash(&hash);
        state
    }

    /// Message 1, and what is needed for the answer.
    pub(super) fn offer(mut self) -> Result<(Offered, [u8; OFFER])> {
        let ephemeral = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())?;
        let public = ephemeral.compute_public_key()?;
        let mut offer = [0; OFFER];
        offer[..EPHEMERAL].copy_from_slice(public.as_ref());
        rand::fill(&mut offer[EPHEMERAL..][..PAYLOAD])?;
        let key = self.mix_ephemeral(public.as_ref());
        let (payload, tag) = offer[EPHEMERAL..].split_at_mut(PAYLOAD);
        let sealed =
            cipher(&key)?.seal_in_place_separate_tag(frame_nonce(0), Aad::from(self.hash), payload)?;
        tag.copy_from_slice(sealed.as_ref());
        self.mix_hash(&offer[EPHEMERAL..]);
        Ok((Offered { state: self, ephemeral }, offer))
    }

    fn mix_hash(&mut self, data: &[u8]) {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(&self.hash);
        hash.update(data);
        self.hash.copy_from_slice(hash.finish().as_ref());
    }

    fn mix_key(&mut self, input: &[u8]) -> [u8; 32] {
        let [chaining_key, key] = expand(&self.chaining_key, input);
        self.chaining_key = chaining_key;
        key
    }

    fn mix_ephemeral(&mut self, public: &[u8]) -> [u8; 32] {
        self.mix_hash(public);
        self.mix_key(public)
    }
}

impl Offered {
    /// Takes message 2.
    pub(super) fn finish(self, answer: &mut [u8; ANSWER]) -> Result<FrameKeys> {
        let Offered { mut state, ephemeral } = self;
        let (public, payload) = answer.split_at_mut(EPHEMERAL);
        state.mix_ephemeral(public);
        let peer = UnparsedPublicKey::new(&X25519, &*public);
        let refused = io::Error::other("the server's key is none");
        let key = agree_ephemeral(ephemeral, peer, refused, |shared| Ok(state.mix_key(shared)))?;
        cipher(&key)?.open_in_place(frame_nonce(0), Aad::from(state.hash), payload)?;
        Ok(expand(&state.chaining_key, &[]))
    }
}

/// The first two outputs of `HKDF` (section 4.3).
fn expand(chaining_key: &[u8; 32], input: &[u8]) -> [[u8; 32]; 2] {
    let extracted = mac(chaining_key, &[input]);
    let first = mac(&extracted, &[&[1]]);
    [first, mac(&extracted, &[&first, &[2]])]
}

fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut output = [0; 32];
    output.copy_from_slice(context.sign().as_ref());
    output
}

pub(super) fn cipher(key: &[u8; 32]) -> io::Result<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, key).map_err(io::Error::other)?;
    Ok(LessSafeKey::new(key))
}

/// Four zero bytes and a counter (section 12.4).
pub(super) fn frame_nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
