//! The shared secret key.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use ctutils::CtEq;
use getrandom::SysRng;
use rand_core::TryRng;
use zeroize::Zeroizing;

use crate::Error;

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

    /// A key from 64 hexadecimal digits of either case.
    ///
    /// # Errors
    /// [`Error::InvalidKey`] for any other length or character; the message never repeats the text.
    pub fn from_hex(hex: &str) -> Result<Self, Error> {
        Self::from_hex_bytes(hex.as_bytes())
    }

    /// A key from a file of 64 hexadecimal digits, as [`save`](Self::save) and `openssl rand -hex 32` write it; white space
    /// around them is ignored.
    ///
    /// # Errors
    /// [`Error::KeyFile`] when the file can't be read, when it holds something else or, on Unix, when anybody but
    /// its owner has any access to it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let failed = |source| Error::KeyFile { path: path.to_owned(), source: Arc::new(source) };
        let mut file = File::open(path).map_err(failed)?;
        refuse_shared_file(&file, path).map_err(failed)?;
        // Larger than any key file, so that a wrong path can't fill the memory; on the heap and never grown,
        // so that wiping it leaves no copy behind.
        let mut text = Zeroizing::new(vec![0; 256]);
        let mut length = 0;
        while length < text.len() {
            match file.read(&mut text[length..]) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Self::from_hex_bytes(text[..length].trim_ascii())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// Writes the key to a new file of 64 hexadecimal digits, which on Unix only its owner can read and write.
    ///
    /// # Errors
    /// [`Error::KeyFile`] when the file exists already or can't be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let mut text = Zeroizing::new([b'\n'; 2 * KEY_LENGTH + 1]);
        // The destination has exactly two digits a byte, the only thing that could be wrong.
        let _ = base16ct::lower::encode(&self.0[..], &mut text[..2 * KEY_LENGTH]);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        owner_only(&mut options);
        let failed = |source| Error::KeyFile { path: path.to_owned(), source: Arc::new(source) };
        let mut file = options.open(path).map_err(failed)?;
        file.write_all(&text[..]).and_then(|()| file.sync_all()).map_err(|source| {
            // Half a key would be in the way of the next attempt. What went wrong first is what is told.
            let _ = std::fs::remove_file(path);
            failed(source)
        })
    }

    /// The bytes, for the cipher alone.
    pub(crate) fn expose(&self) -> &[u8; KEY_LENGTH] {
        &self.0
    }

    fn from_hex_bytes(hex: &[u8]) -> Result<Self, Error> {
        if hex.len() != 2 * KEY_LENGTH {
            return Err(Error::InvalidKey { length: hex.len() });
        }
        let mut key = Self(Box::default());
        base16ct::mixed::decode(hex, &mut key.0[..]).map_err(|_| Error::InvalidKey { length: hex.len() })?;
        Ok(key)
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

#[cfg(unix)]
fn refuse_shared_file(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode();
    let others = mode & 0o077;
    if others == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("others have access to it (mode {:04o}): run `chmod 600 {}`", mode & 0o7777, path.display()),
    ))
}

#[cfg(not(unix))]
fn refuse_shared_file(_file: &File, _path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn owner_only(options: &mut OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600);
}

#[cfg(not(unix))]
fn owner_only(_options: &mut OpenOptions) {}
