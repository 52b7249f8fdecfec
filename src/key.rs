//! The shared secret key.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use ctutils::CtEq;
use getrandom::SysRng;
use rand_core::TryRng;
use zeroize::Zeroizing;

use crate::{Error, key_file};

/// Bytes of a key.
const KEY_LENGTH: usize = 32;

/// The 32-byte key that both endpoints hold.
///
/// Whoever has it can connect to every server that accepts it, so make it with [`generate`](Self::generate),
/// keep it in a file that only the service can read, and never in the source or in a log. It is wiped from memory
/// when dropped, compared in constant time, and not shown by `Debug`.
///
/// ```
/// use falcotcp_sync::Key;
///
/// let key = Key::generate()?;
/// let path = std::env::temp_dir().join(format!("falcotcp-doc-{}.key", std::process::id()));
/// key.save(&path)?;                       // mode 0600; refuses to overwrite
/// assert_eq!(Key::load(&path)?, key);
/// # std::fs::remove_file(&path).ok();
/// assert_eq!(format!("{key:?}"), "Key(..)");
/// # Ok::<(), falcotcp_sync::Error>(())
/// ```
#[derive(Clone)]
pub struct Key(Box<Zeroizing<[u8; KEY_LENGTH]>>);

impl Key {
    /// A new key from the operating system's random source.
    ///
    /// # Errors
    /// [`Error::Random`] when the operating system gives no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut key = Self(Box::default());
        SysRng.try_fill_bytes(&mut key.0[..]).map_err(Error::random)?;
        Ok(key)
    }

    /// A key from its bytes. The caller's own copy of them is the caller's to wipe.
    pub fn from_bytes(bytes: [u8; KEY_LENGTH]) -> Self {
        Self(Box::new(Zeroizing::new(bytes)))
    }

    /// A key from 64 hexadecimal digits of either case; [`str::parse`] does the same.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for any other length or character; the message never repeats the text.
    pub fn from_hex(hex: &str) -> Result<Self, Error> {
        Self::from_hex_bytes(hex.as_bytes())
    }

    /// A key from a file of 64 hexadecimal digits, as [`save`](Self::save) and `openssl rand -hex 32` write it; white space
    /// around them is ignored. The path may lead through symbolic links.
    ///
    /// # Errors
    /// [`Error::KeyFile`] when the file can't be read, is no regular file, is longer than 256 bytes, holds something else
    /// (the error says what that looks like) or, on Unix, when anybody but its owner has any access to it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let load = || {
            let text = key_file::read(path)?;
            Self::from_hex_bytes(text.trim_ascii()).map_err(|_| key_file::no_key(&text))
        };
        load().map_err(|source| of_file(path, source))
    }

    /// Writes the key to a new file of 64 hexadecimal digits, which on Unix only its owner can read and write.
    ///
    /// # Errors
    /// [`Error::KeyFile`] when the file exists already or can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let mut text = Zeroizing::new([b'\n'; key_file::DIGITS + 1]);
        // The destination has exactly two digits a byte, the only thing that could be wrong.
        let _ = base16ct::lower::encode(&self.0[..], &mut text[..key_file::DIGITS]);
        key_file::write_new(path, &text[..]).map_err(|source| of_file(path, source))
    }

    /// The bytes, for the cipher alone.
    pub(crate) fn expose(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }

    fn from_hex_bytes(hex: &[u8]) -> Result<Self, Error> {
        if hex.len() != key_file::DIGITS {
            return Err(Error::InvalidKey { length: hex.len() });
        }
        let mut key = Self(Box::default());
        base16ct::mixed::decode(hex, &mut key.0[..]).map_err(|_| Error::InvalidKey { length: hex.len() })?;
        Ok(key)
    }
}

/// From 64 hexadecimal digits, as [`Key::from_hex`].
impl FromStr for Key {
    type Err = Error;

    fn from_str(hex: &str) -> Result<Self, Error> {
        Self::from_hex(hex)
    }
}

/// From its bytes, as [`Key::from_bytes`].
impl From<[u8; KEY_LENGTH]> for Key {
    fn from(bytes: [u8; KEY_LENGTH]) -> Self {
        Self::from_bytes(bytes)
    }
}

/// From 32 bytes as they are, not as text; any other number of them is [`Error::InvalidKey`].
impl TryFrom<&[u8]> for Key {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8; KEY_LENGTH] =
            bytes.try_into().map_err(|_| Error::InvalidKey { length: bytes.len() })?;
        let mut key = Self(Box::default());
        key.0.copy_from_slice(bytes);
        Ok(key)
    }
}

/// A copy, for whoever takes keys by value.
impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

fn of_file(path: &Path, source: io::Error) -> Error {
    Error::KeyFile { path: path.to_owned(), source: Arc::new(source) }
}
