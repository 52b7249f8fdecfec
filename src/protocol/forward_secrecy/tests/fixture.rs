//! What the tests share.

use std::convert::Infallible;
use std::time::Duration;

use rand_core::{TryCryptoRng, TryRng};

use crate::protocol::ServerLimits;
use crate::protocol::forward_secrecy::client_frames::ClientFrames;
use crate::protocol::forward_secrecy::frame_cipher::FrameCipher;
use crate::protocol::forward_secrecy::handshake::SessionKeys;
use crate::protocol::forward_secrecy::noise::Secret;
use crate::protocol::forward_secrecy::server_frames::ServerFrames;

/// The largest plaintext of the sessions here.
pub(in crate::protocol::forward_secrecy) const LIMIT: usize = 600;

/// A random source that gives exactly these bytes.
pub(in crate::protocol::forward_secrecy) struct Known(pub(in crate::protocol::forward_secrecy) Vec<u8>);

impl TryRng for Known {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut word = [0; 4];
        self.try_fill_bytes(&mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut word = [0; 8];
        self.try_fill_bytes(&mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.drain(..bytes.len()).zip(bytes).for_each(|(given, byte)| *byte = given);
        Ok(())
    }
}

impl TryCryptoRng for Known {}

/// Both ends of a session with these keys, right after the handshake.
pub(in crate::protocol::forward_secrecy) fn ends(
    keys: &SessionKeys,
    rekey_blocks: u64,
) -> (ClientFrames, ServerFrames) {
    let cipher = |key: &Secret| FrameCipher::with_rekey_blocks(key, rekey_blocks);
    let limits = ServerLimits { lifetime: Duration::from_secs(60), max_message_size: LIMIT as u64 };
    let client = (cipher(&keys.client_to_server), cipher(&keys.server_to_client));
    let server = (cipher(&keys.server_to_client), cipher(&keys.client_to_server));
    (ClientFrames::with_ciphers(client, limits, LIMIT), ServerFrames::with_ciphers(server, LIMIT))
}
