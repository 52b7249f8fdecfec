//! How the values of arguments are written, and what is wrong with one that is not.

use std::time::Duration;

use falcotcp_sync::ForwardSecrecy;
use log::LevelFilter;

/// The largest size that an argument may name: it is allocated, and more would be a typing error.
pub(crate) const MOST_BYTES: usize = 1 << 30;

/// A host and a port. Checked here so that a forgotten port is told from a server that is away.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let is_complete = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if is_complete { Ok(text.to_owned()) } else { Err("needs HOST:PORT, as 127.0.0.1:7878".to_owned()) }
}

/// A number of bytes, with `k`, `m` or `g` for the powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .filter(|bytes| *bytes <= MOST_BYTES)
        .ok_or_else(|| "needs a number of bytes up to 1g, as 512, 16k or 1m".to_owned())
}

/// A time in seconds, of which there may be fractions and none at all.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "needs a number of seconds, as 10 or 0.5".to_owned())
}

/// A time in seconds that is not zero.
pub(crate) fn some_seconds(text: &str) -> Result<Duration, String> {
    match seconds(text)? {
        Duration::ZERO => Err("must be longer than 0 seconds".to_owned()),
        time => Ok(time),
    }
}

/// From which level on the log is shown.
pub(crate) fn level(text: &str) -> Result<LevelFilter, String> {
    text.parse().map_err(|_| "needs off, error, warn, info, debug or trace".to_owned())
}

/// The policy that is not named: that of the crate.
pub(crate) const POLICY: &str = "prefer";

/// Which kinds of sessions there are to be.
pub(crate) fn forward_secrecy(text: &str) -> Result<ForwardSecrecy, String> {
    match text {
        "off" => Ok(ForwardSecrecy::Off),
        "prefer" => Ok(ForwardSecrecy::Prefer),
        "require" => Ok(ForwardSecrecy::Require),
        _ => Err("needs off, prefer or require".to_owned()),
    }
}
