//! A measurement either works or ends with one plain sentence.

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
