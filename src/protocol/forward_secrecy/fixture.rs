//! What the tests of this module share.

use std::convert::Infallible;
use std::time::Duration;

use rand_core::{TryCryptoRng, TryRng};

use super::client_frames::ClientFrames;
use super::frame_cipher::FrameCipher;
use super::handshake::SessionKeys;
use super::noise::Secret;
use super::server_frames::ServerFrames;
use crate::protocol::ServerLimits;

/// The largest plaintext of the sessions here.
pub(super) const LIMIT: usize = 600;

/// A random source that gives exactly these bytes.
pub(super) struct Known(pub(super) Vec<u8>);

impl TryRng for Known {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unimplemented!("nothing here draws numbers")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unimplemented!("nothing here draws numbers")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.drain(..bytes.len()).zip(bytes).for_each(|(given, byte)| *byte = given);
        Ok(())
    }
}

impl TryCryptoRng for Known {}

/// Both ends of a session with these keys, right after the handshake.
pub(super) fn ends(keys: &SessionKeys, rekey_blocks: u64) -> (ClientFrames, ServerFrames) {
    let cipher = |key: &Secret| FrameCipher::with_rekey_blocks(key, rekey_blocks);
    let limits = ServerLimits { lifetime: Duration::from_secs(60), max_message_size: LIMIT as u64 };
    let client = (cipher(&keys.client_to_server), cipher(&keys.server_to_client));
    let server = (cipher(&keys.server_to_client), cipher(&keys.client_to_server));
    (ClientFrames::with_ciphers(client, limits, LIMIT), ServerFrames::with_ciphers(server, LIMIT))
}
