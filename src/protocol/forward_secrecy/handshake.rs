//! The handshake: `Noise_NNpsk0_25519_AESGCM_SHA256`, with message 1 as the plaintext of an establishment.
//!
//! ```text
//! -> psk, e, payload[80]     the client's offer
//! <- e, ee, payload[16]      the server's answer: its lifetime and its limit
//! ```

use std::fmt;
use std::time::Duration;

use rand_core::TryCryptoRng;
use zeroize::Zeroizing;

use super::noise::{Secret, SymmetricState};
use super::x25519::{PrivateKey, PublicKey};
use crate::protocol::cipher::Aead;
use crate::protocol::{ESTABLISHMENT_PLAINTEXT, NONCE_LENGTH, ServerLimits, TAG_LENGTH};

/// The byte before message 2.
pub(in crate::protocol) const OFFER_ACCEPTED: u8 = 0xFE;

/// Bytes of the server's whole answer: the byte before it and message 2.
pub(in crate::protocol) const ANSWER_LENGTH: usize = 1 + MESSAGE_2;

const EPHEMERAL: usize = 32;
const MESSAGE_2: usize = EPHEMERAL + SERVER_PAYLOAD + TAG_LENGTH;
const SERVER_PAYLOAD: usize = 16;

/// A client's offer that is not answered yet. It owns the ephemeral private key, which is wiped with it.
pub(in crate::protocol) struct Offer {
    ephemeral: PrivateKey,
    state: SymmetricState,
}

/// An offer that a server has found in an establishment.
pub(in crate::protocol) struct ReceivedOffer {
    ephemeral: PublicKey,
    state: SymmetricState,
}

/// The keys of one session, wiped when dropped.
pub(in crate::protocol) struct SessionKeys {
    pub(super) client_to_server: Secret,
    pub(super) server_to_client: Secret,
}

/// Why a server does not answer an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol) enum NoAnswer {
    /// The Diffie-Hellman result is zero, whatever the private key.
    LowOrder,
    /// The random source failed, or the cipher can't seal.
    Unable,
}

impl Offer {
    /// Fills `plaintext`, that of an establishment, with message 1, whose private key and payload come from `rng`.
    ///
    /// # Errors
    /// Whatever `rng` fails with.
    pub(in crate::protocol) fn new<R: TryCryptoRng>(
        preshared: &SymmetricState,
        rng: &mut R,
        plaintext: &mut [u8],
    ) -> Result<Self, R::Error> {
        let ephemeral = draw(rng)?;
        let mut state = preshared.clone();
        let public = ephemeral.public();
        plaintext[..EPHEMERAL].copy_from_slice(&public);
        rng.try_fill_bytes(&mut plaintext[EPHEMERAL..ESTABLISHMENT_PLAINTEXT - TAG_LENGTH])?;
        let key = mix_ephemeral(&mut state, &public);
        // Sealing fails for no payload of this length. If it did, no server would find an offer here.
        let _ = seal_and_mix(&mut state, &key, &mut plaintext[EPHEMERAL..]);
        Ok(Self { ephemeral, state })
    }

    /// Takes the server's answer, message 2 behind its first byte, and gives the keys of the session. `None` if it
    /// does not verify. Either way the offer has served: drop it where it is, which wipes its key.
    pub(in crate::protocol) fn finish(
        &mut self,
        answer: &[u8; ANSWER_LENGTH],
    ) -> Option<(SessionKeys, ServerLimits)> {
        let [OFFER_ACCEPTED, mut message_2 @ ..] = *answer else { return None };
        let public = public_key(&message_2);
        mix_ephemeral(&mut self.state, &public);
        let shared = self.ephemeral.agree(&public)?;
        let key = self.state.mix_key(&shared);
        let payload = open_and_mix(&mut self.state, &key, &mut message_2[EPHEMERAL..])?;
        let limits = ServerLimits::decode(payload)?;
        Some((SessionKeys::new(&self.state), limits))
    }
}

impl ReceivedOffer {
    /// The offer in `plaintext`, that of an establishment, if its tag verifies under the key that the establishment
    /// was opened with.
    pub(in crate::protocol) fn find(preshared: &SymmetricState, plaintext: &mut [u8]) -> Option<Self> {
        let mut state = preshared.clone();
        let ephemeral = public_key(plaintext);
        let key = mix_ephemeral(&mut state, &ephemeral);
        open_and_mix(&mut state, &key, &mut plaintext[EPHEMERAL..])?;
        Some(Self { ephemeral, state })
    }

    /// Gives the whole answer and the keys of the session.
    pub(in crate::protocol) fn answer<R: TryCryptoRng>(
        mut self,
        rng: &mut R,
        limits: ServerLimits,
    ) -> Result<([u8; ANSWER_LENGTH], SessionKeys), NoAnswer> {
        let ephemeral = draw(rng).map_err(|_| NoAnswer::Unable)?;
        let shared = ephemeral.agree(&self.ephemeral).ok_or(NoAnswer::LowOrder)?;
        let public = ephemeral.public();
        mix_ephemeral(&mut self.state, &public);
        let key = self.state.mix_key(&shared);
        let mut answer = [OFFER_ACCEPTED; ANSWER_LENGTH];
        let message_2 = &mut answer[1..];
        message_2[..EPHEMERAL].copy_from_slice(&public);
        message_2[EPHEMERAL..][..SERVER_PAYLOAD].copy_from_slice(&limits.encode());
        seal_and_mix(&mut self.state, &key, &mut message_2[EPHEMERAL..]).ok_or(NoAnswer::Unable)?;
        Ok((answer, SessionKeys::new(&self.state)))
    }
}

impl SessionKeys {
    fn new(state: &SymmetricState) -> Self {
        let [client_to_server, server_to_client] = state.split();
        Self { client_to_server, server_to_client }
    }
}

impl ServerLimits {
    fn encode(self) -> [u8; SERVER_PAYLOAD] {
        let lifetime = u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX);
        let mut payload = [0; SERVER_PAYLOAD];
        payload[..8].copy_from_slice(&lifetime.to_be_bytes());
        payload[8..].copy_from_slice(&self.max_message_size.to_be_bytes());
        payload
    }

    fn decode(payload: &[u8]) -> Option<Self> {
        let (lifetime, rest) = payload.split_first_chunk()?;
        Some(Self {
            lifetime: Duration::from_millis(u64::from_be_bytes(*lifetime)),
            max_message_size: u64::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Offer(..)")
    }
}

/// A private key for one handshake, with which the offer or the answer that owns it is used up.
fn draw<R: TryCryptoRng>(rng: &mut R) -> Result<PrivateKey, R::Error> {
    let mut bytes = Secret::default();
    rng.try_fill_bytes(&mut bytes[..])?;
    Ok(PrivateKey::new(&bytes))
}

/// The public key at the start of a message.
fn public_key(message: &[u8]) -> PublicKey {
    let mut public = [0; EPHEMERAL];
    public.copy_from_slice(&message[..EPHEMERAL]);
    public
}

/// The token `e`, which with a pre-shared key is mixed into the key as well (section 9.2).
fn mix_ephemeral(state: &mut SymmetricState, public: &PublicKey) -> Secret {
    state.mix_hash(public);
    state.mix_key(public)
}

/// `EncryptAndHash` of what stands before the room for the tag.
fn seal_and_mix(state: &mut SymmetricState, key: &Secret, sealed: &mut [u8]) -> Option<()> {
    let (payload, tag) = sealed.split_last_chunk_mut::<TAG_LENGTH>()?;
    *tag = Aead::new(key).seal(&[0; NONCE_LENGTH], state.hash(), payload)?;
    state.mix_hash(sealed);
    Some(())
}

/// `DecryptAndHash`: the payload, if its tag verifies.
fn open_and_mix<'s>(state: &mut SymmetricState, key: &Secret, sealed: &'s mut [u8]) -> Option<&'s [u8]> {
    let associated = Zeroizing::new(*state.hash());
    state.mix_hash(sealed);
    let (payload, tag) = sealed.split_last_chunk_mut::<TAG_LENGTH>()?;
    Aead::new(key).open(&[0; NONCE_LENGTH], &*associated, payload, tag).then_some(payload)
}

#[cfg(test)]
mod tests {
    use getrandom::SysRng;
    use snow::HandshakeState;
    use zeroize::ZeroizeOnDrop;

    use super::*;
    use crate::protocol::forward_secrecy::tests::fixture::Known;

    const PSK: [u8; 32] = [0x42; 32];
    const LIMITS: ServerLimits =
        ServerLimits { lifetime: Duration::from_secs(60), max_message_size: 1 << 24 };

    fn preshared() -> SymmetricState {
        SymmetricState::preshared(&PSK)
    }

    fn offer() -> (Offer, [u8; 128]) {
        let mut plaintext = [0; 128];
        let offer = Offer::new(&preshared(), &mut SysRng, &mut plaintext).unwrap();
        (offer, plaintext)
    }

    fn answer(mut plaintext: [u8; 128]) -> ([u8; ANSWER_LENGTH], SessionKeys) {
        let received = ReceivedOffer::find(&preshared(), &mut plaintext).unwrap();
        received.answer(&mut SysRng, LIMITS).ok().unwrap()
    }

    fn snow() -> snow::Builder<'static> {
        let builder = snow::Builder::new("Noise_NNpsk0_25519_AESGCM_SHA256".parse().unwrap());
        builder.prologue(b"FalcoTCP forward secrecy 1").unwrap().psk(0, &PSK).unwrap()
    }

    fn assert_same_keys(mut snow: HandshakeState, keys: &SessionKeys) {
        assert!(snow.is_handshake_finished());
        let (client_to_server, server_to_client) = snow.dangerously_get_raw_split();
        assert_eq!((*keys.client_to_server, *keys.server_to_client), (client_to_server, server_to_client));
    }

    #[test]
    fn another_implementation_understands_the_offer() {
        let (mut offer, message_1) = offer();
        let mut server = snow().build_responder().unwrap();
        let mut payload = [0; 128];
        assert_eq!(server.read_message(&message_1, &mut payload).unwrap(), 80);
        let mut answer = [OFFER_ACCEPTED; ANSWER_LENGTH];
        assert_eq!(server.write_message(&LIMITS.encode(), &mut answer[1..]).unwrap(), 64);
        let (keys, limits) = offer.finish(&answer).unwrap();
        assert_eq!(limits, LIMITS);
        assert_same_keys(server, &keys);
    }

    #[test]
    fn another_implementation_understands_the_answer() {
        let mut client = snow().build_initiator().unwrap();
        let mut message_1 = [0; 128];
        assert_eq!(client.write_message(&[7; 80], &mut message_1).unwrap(), 128);
        let (answer, keys) = answer(message_1);
        let mut payload = [0; 64];
        assert_eq!(client.read_message(&answer[1..], &mut payload).unwrap(), 16);
        assert_eq!(payload[..16], LIMITS.encode());
        assert_same_keys(client, &keys);
    }

    #[test]
    fn every_flipped_bit_of_an_offer_makes_it_none() {
        let (_, plaintext) = offer();
        for bit in 0..8 * plaintext.len() {
            let mut flipped = plaintext;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ReceivedOffer::find(&preshared(), &mut flipped).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn every_flipped_bit_of_an_answer_is_refused() {
        let fresh = || {
            let mut plaintext = [0; 128];
            let Ok(offer) = Offer::new(&preshared(), &mut Known(vec![0x41; 112]), &mut plaintext);
            (offer, plaintext)
        };
        let (mut offer, plaintext) = fresh();
        let (answer, _) = answer(plaintext);
        for bit in 0..8 * ANSWER_LENGTH {
            let mut flipped = answer;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(fresh().0.finish(&flipped).is_none(), "bit {bit}");
        }
        assert!(offer.finish(&answer).is_some());
    }

    #[test]
    fn a_public_key_without_a_secret_is_refused_by_both_ends() {
        let zero = [0; 32];
        let mut state = preshared();
        mix_ephemeral(&mut state, &zero);
        let received = ReceivedOffer { ephemeral: zero, state };
        assert_eq!(received.answer(&mut SysRng, LIMITS).err(), Some(NoAnswer::LowOrder));

        // An answer with such a key verifies for whoever knows the shared key, since the secret is known to be zero.
        let (mut offer, mut plaintext) = offer();
        let mut state = ReceivedOffer::find(&preshared(), &mut plaintext).unwrap().state;
        mix_ephemeral(&mut state, &zero);
        let key = state.mix_key(&[0; 32]);
        let mut answer = [0; ANSWER_LENGTH];
        answer[0] = OFFER_ACCEPTED;
        seal_and_mix(&mut state, &key, &mut answer[1 + EPHEMERAL..]).unwrap();
        assert!(offer.finish(&answer).is_none());
    }

    #[test]
    fn the_longest_lifetime_is_sent() {
        let limits = ServerLimits { lifetime: Duration::MAX, max_message_size: 5 };
        let received = ServerLimits::decode(&limits.encode()).unwrap();
        assert_eq!((received.lifetime.as_millis(), received.max_message_size), (u64::MAX.into(), 5));
    }

    #[test]
    fn a_source_that_fails_makes_no_offer_and_no_answer() {
        struct Broken;
        impl rand_core::TryRng for Broken {
            type Error = fmt::Error;

            fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
                Err(fmt::Error)
            }

            fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
                Err(fmt::Error)
            }

            fn try_fill_bytes(&mut self, _: &mut [u8]) -> Result<(), Self::Error> {
                Err(fmt::Error)
            }
        }
        impl TryCryptoRng for Broken {}
        let (_, mut plaintext) = offer();
        let received = ReceivedOffer::find(&preshared(), &mut plaintext).unwrap();
        assert_eq!(received.answer(&mut Broken, LIMITS).err(), Some(NoAnswer::Unable));
        assert_eq!(Offer::new(&preshared(), &mut Broken, &mut plaintext).err(), Some(fmt::Error));
    }

    #[test]
    fn secrets_are_wiped_and_not_shown() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Zeroizing<[u8; 32]>>();
        wiped::<sha2::Sha256>();

        let mut plaintext = [0; 128];
        let Ok(offer) = Offer::new(&preshared(), &mut Known(vec![0x41; 112]), &mut plaintext);
        assert_eq!(format!("{offer:?}"), "Offer(..)");
    }
}
