//! SIGINT (ctrl-c) and SIGTERM: the first one asks a program to come to its end, the second one ends it at once.

#[cfg(not(unix))]
#[path = "signal_flag.rs"]
mod signal_flag;

use std::io;

/// Calls `act` on a thread of its own when the first signal comes.
#[cfg(unix)]
pub(crate) fn on_first(act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            act();
        }
        if let Some(signal) = signals.next() {
            // Returns only if it can't end the program, and then the first signal still counts.
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// Calls `act` on a thread of its own when the first ctrl-c comes.
#[cfg(not(unix))]
pub(crate) fn on_first(act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    signal_flag::on_first(&[signal_hook::consts::SIGINT], act)
}
