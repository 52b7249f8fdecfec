//! The keys that a server accepts, each with a name.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use parking_lot::RwLock;

use crate::protocol::{Cipher, NonceSequence, SEAL_OVERHEAD};
use crate::{Error, Key};

/// The keys that a server accepts, each with a name, to be changed while it runs.
///
/// A connection lives under the key that opened its establishment. See [`ServerKeys`](crate::ServerKeys) for the
/// keyring of a running server.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: RwLock<Vec<Arc<NamedKey>>>,
    changes: AtomicU64,
}

/// One key of a [`Keyring`].
pub struct NamedKey {
    name: Box<str>,
    cipher: Arc<Cipher>,
    withdrawn: AtomicBool,
}

impl Keyring {
    /// A keyring that accepts nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts `key`, under `name`, from now on.
    ///
    /// # Errors
    /// - [`Error::InvalidSetting`] for an empty name.
    /// - [`Error::KeyNameTaken`] when a key has this name; withdraw that one first.
    /// - [`Error::KeyTaken`] when this key is accepted under another name, since only one of the two could ever be seen.
    /// - [`Error::Random`] when the operating system gives no random bytes.
    pub fn add(&self, name: impl Into<String>, key: &Key) -> Result<(), Error> {
        let name = name.into();
        check_name(&name)?;
        let cipher = Cipher::new(key);
        // The same key opens what this one seals: nothing of a key is kept for comparing.
        let mut sealed = [0; SEAL_OVERHEAD];
        let _ = cipher.seal(&mut NonceSequence::new()?, &mut sealed);
        let mut keys = self.keys.write();
        if keys.iter().any(|key| *key.name == *name) {
            return Err(Error::KeyNameTaken { name });
        }
        if let Some(same) = keys.iter().find(|key| key.open(&sealed).is_some()) {
            return Err(Error::KeyTaken { name: same.name().to_owned() });
        }
        keys.push(Arc::new(NamedKey::new(name, Arc::new(cipher))));
        Ok(())
    }

    /// Accepts the key of this name no more; `false` when there is none.
    pub fn withdraw(&self, name: &str) -> bool {
        let mut keys = self.keys.write();
        let Some(index) = keys.iter().position(|key| *key.name == *name) else { return false };
        keys.remove(index).withdrawn.store(true, SeqCst);
        self.changes.fetch_add(1, SeqCst);
        true
    }

    /// The names of the keys, in the order in which they were added.
    pub fn names(&self) -> Vec<String> {
        self.keys.read().iter().map(|key| key.name.to_string()).collect()
    }

    /// How many sessions live under the key of this name; `None` when there is no such key.
    pub fn sessions(&self, name: &str) -> Option<usize> {
        let keys = self.keys.read();
        // Each session under the key holds it, and so does the keyring.
        keys.iter().find(|key| *key.name == *name).map(|key| Arc::strong_count(key) - 1)
    }

    /// Counts the withdrawals, so that a look at this number tells whether there were any.
    pub(crate) fn withdrawals(&self) -> u64 {
        self.changes.load(SeqCst)
    }

    /// The key that opens `sealed`, an establishment's sealed part, and what it is when opened.
    pub(crate) fn open<const N: usize>(&self, sealed: &[u8; N]) -> Option<(Arc<NamedKey>, [u8; N])> {
        self.keys.read().iter().find_map(|key| Some((Arc::clone(key), key.open(sealed)?)))
    }
}

/// One key, named `default`.
impl From<Arc<Cipher>> for Keyring {
    fn from(cipher: Arc<Cipher>) -> Self {
        Self {
            keys: RwLock::new(vec![Arc::new(NamedKey::new("default".to_owned(), cipher))]),
            ..Self::default()
        }
    }
}

/// What a name must be to be a key's.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::InvalidSetting { setting: "key name", requirement: "a text that is not empty" });
    }
    Ok(())
}

impl NamedKey {
    fn new(name: String, cipher: Arc<Cipher>) -> Self {
        Self { name: name.into(), cipher, withdrawn: AtomicBool::new(false) }
    }

    /// What the key is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the key has been withdrawn, so that what lives under it must end.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(SeqCst)
    }

    /// What does not open is left in an unspecified state by some ciphers, so each key has a copy of its own.
    fn open<const N: usize>(&self, sealed: &[u8; N]) -> Option<[u8; N]> {
        let mut opened = *sealed;
        self.cipher.open(&mut opened).is_ok().then_some(opened)
    }

    #[inline]
    pub(crate) fn cipher(&self) -> &Cipher {
        &self.cipher
    }
}

impl fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedKey").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{NonceSequence, SEAL_OVERHEAD};

    fn sealed_under(byte: u8) -> [u8; SEAL_OVERHEAD] {
        let mut sealed = [0; SEAL_OVERHEAD];
        let cipher = Cipher::new(&Key::from_bytes([byte; 32]));
        cipher.seal(&mut NonceSequence::new().unwrap(), &mut sealed).unwrap();
        sealed
    }

    #[test]
    fn each_key_opens_under_its_name_until_it_is_withdrawn() {
        let keyring = Keyring::new();
        for (name, byte) in [("old", 1), ("new", 2)] {
            keyring.add(name, &Key::from_bytes([byte; 32])).unwrap();
        }
        assert_eq!(keyring.names(), ["old", "new"]);
        let (opened, _) = keyring.open(&sealed_under(2)).unwrap();
        assert_eq!((opened.name(), opened.is_withdrawn()), ("new", false));
        assert!(keyring.open(&sealed_under(3)).is_none());

        assert!(keyring.withdraw("new"));
        assert!(opened.is_withdrawn());
        assert!(keyring.open(&sealed_under(2)).is_none());
        assert_eq!(keyring.open(&sealed_under(1)).unwrap().0.name(), "old");
        assert!(!keyring.withdraw("new"));
        assert_eq!(keyring.withdrawals(), 1);
    }

    #[test]
    fn a_name_is_taken_until_its_key_is_withdrawn() {
        let keyring = Keyring::new();
        let key = Key::from_bytes([1; 32]);
        keyring.add("key", &key).unwrap();
        assert!(matches!(keyring.add("key", &key), Err(Error::KeyNameTaken { name }) if name == "key"));
        assert!(keyring.withdraw("key"));
        keyring.add("key", &key).unwrap();
    }

    #[test]
    fn a_key_has_one_name_and_a_name_is_not_empty() {
        let keyring = Keyring::new();
        let key = Key::from_bytes([1; 32]);
        keyring.add("one", &key).unwrap();
        keyring.add("other", &Key::from_bytes([2; 32])).unwrap();
        assert!(matches!(keyring.add("two", &key), Err(Error::KeyTaken { name }) if name == "one"));
        assert!(matches!(keyring.add("", &Key::from_bytes([3; 32])), Err(Error::InvalidSetting { .. })));
        assert_eq!(keyring.names(), ["one", "other"]);
        assert!(keyring.withdraw("one"));
        keyring.add("two", &key).unwrap();

        let keyring = Keyring::from(Arc::new(Cipher::new(&key)));
        assert!(matches!(keyring.add("two", &key), Err(Error::KeyTaken { name }) if name == "default"));
    }
}
