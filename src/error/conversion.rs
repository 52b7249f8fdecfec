//! Errors from and to those of the standard library.

use std::io;
use std::sync::Arc;

use super::Error;
use crate::Phase;

/// [`Error::Other`], for functions of your own, as sources of keys
/// ([`Client::builder_with_keys`](crate::Client::builder_with_keys)).
impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::Other(Arc::new(source))
    }
}

/// For functions that fail with [`io::Error`]: its kind says what this error comes closest to, and it holds the error.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Refused { .. } => io::ErrorKind::ConnectionRefused,
            Error::Rejected | Error::HandlerFailed | Error::Overloaded | Error::InCallback { .. } => {
                io::ErrorKind::Other
            }
            Error::Busy => io::ErrorKind::WouldBlock,
            Error::NotForwardSecret { .. } => io::ErrorKind::Unsupported,
            Error::TimedOut { .. } => io::ErrorKind::TimedOut,
            Error::TooLarge { phase: Phase::Send, .. }
            | Error::InvalidKey { .. }
            | Error::InvalidSetting { .. } => io::ErrorKind::InvalidInput,
            Error::TooLarge { .. } | Error::NotAuthentic | Error::Unasked => io::ErrorKind::InvalidData,
            Error::ClosedByServer { .. } | Error::ClosedInFlight => io::ErrorKind::ConnectionAborted,
            Error::Closed | Error::Stopped => io::ErrorKind::NotConnected,
            Error::Io { source, .. }
            | Error::KeyFile { source, .. }
            | Error::Random(source)
            | Error::Other(source) => source.kind(),
            Error::KeyNameTaken { .. } | Error::KeyTaken { .. } => io::ErrorKind::AlreadyExists,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::tests::all;
    use crate::Error;

    #[test]
    fn an_io_error_holds_the_error_and_the_kind_that_comes_closest() {
        for error in all() {
            let (text, is_timeout) = (error.to_string(), error.is_timeout());
            let io_error = io::Error::from(error);
            assert_eq!(io_error.to_string(), text);
            assert_eq!(io_error.kind() == io::ErrorKind::TimedOut, is_timeout, "{text}");
            let inner = io_error.into_inner().and_then(|inner| inner.downcast::<Error>().ok());
            assert_eq!(inner.expect("the error itself").to_string(), text);
        }
    }
}
