//! The key of a client: always the same, or asked for at each connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::MAY_HAVE_BEEN_PROCESSED;
use crate::protocol::Cipher;
use crate::{Error, Key, Phase};

/// Where the keys of a client come from.
#[derive(Clone)]
pub(super) enum KeySource {
    Fixed(Key),
    Asked(Arc<dyn Fn() -> Result<Key, Error> + Send + Sync>),
}

/// The key of the last connection, expanded.
#[derive(Debug)]
pub(super) struct CurrentKey {
    source: KeySource,
    last: Option<(Key, Arc<Cipher>)>,
}

impl CurrentKey {
    pub(super) fn new(source: KeySource) -> Self {
        Self { source, last: None }
    }

    /// The key for the next connection.
    pub(super) fn cipher(&mut self) -> Result<Arc<Cipher>, Error> {
        let key = match (&self.source, &self.last) {
            (KeySource::Fixed(_), Some((_, cipher))) => return Ok(Arc::clone(cipher)),
            (KeySource::Fixed(key), None) => key.clone(),
            (KeySource::Asked(ask), _) => ask().map_err(of_source)?,
        };
        match &self.last {
            Some((last, cipher)) if *last == key => Ok(Arc::clone(cipher)),
            _ => {
                let cipher = Arc::new(Cipher::new(&key));
                self.last = Some((key, Arc::clone(&cipher)));
                Ok(cipher)
            }
        }
    }
}

/// An error of a source as one of connecting. What came of a message, say of the client of a vault, was not this client's.
fn of_source(error: Error) -> Error {
    match error {
        Error::InvalidKey { .. } | Error::KeyFile { .. } | Error::Random(_) => error,
        error => {
            let text = format!("the source of keys failed: {error}");
            let text = text.trim_end_matches(MAY_HAVE_BEEN_PROCESSED);
            Error::io(Phase::Connect, io::Error::new(io::Error::from(error).kind(), text))
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySource(..)")
    }
}
