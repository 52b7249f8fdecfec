//! A server's key file, which is made when the server starts for the first time.

use std::io::ErrorKind;
use std::path::Path;

use falcotcp_sync::{Error, Key};

/// The key in `path`, or a new one that is saved there. `client` is the command that needs a copy then.
pub(crate) fn load_or_make(path: &Path, client: &str) -> Result<Key, Error> {
    match Key::load(path) {
        Err(Error::KeyFile { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let key = Key::generate()?;
            key.save(path)?;
            eprintln!("made a new key in {0}; clients need a copy: {client} --key-file {0}", path.display());
            Ok(key)
        }
        loaded => loaded,
    }
}
