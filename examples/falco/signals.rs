//! SIGINT and SIGTERM: the first one asks a command to come to its end, the second one ends the program at once.

use std::sync::mpsc::Receiver;

use crate::failure::Failure;

/// Receives something when the first signal comes.
pub(crate) fn interruption() -> Result<Receiver<()>, Failure> {
    watch().map_err(|error| Failure::because("signals can't be caught", error))
}

#[cfg(unix)]
fn watch() -> std::io::Result<Receiver<()>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::emulate_default_handler;

    let (sender, receiver) = std::sync::mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut signals = signals.forever();
        if signals.next().is_some() {
            // Nobody receives any more when the command is at its end already.
            let _ = sender.send(());
        }
        if let Some(signal) = signals.next() {
            // Returns only if it can't end the program, and then the first signal still counts.
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(receiver)
}

#[cfg(not(unix))]
fn watch() -> std::io::Result<Receiver<()>> {
    use signal_hook::consts::SIGINT;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::time::Duration;

    let (sender, receiver) = std::sync::mpsc::channel();
    let interrupted = Arc::new(AtomicBool::new(false));
    // In this order: the first ctrl-c finds the flag unset, sets it, and the second finds it set.
    signal_hook::flag::register_conditional_shutdown(SIGINT, 1, Arc::clone(&interrupted))?;
    signal_hook::flag::register(SIGINT, Arc::clone(&interrupted))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while !interrupted.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(100));
        }
        // Nobody receives any more when the command is at its end already.
        let _ = sender.send(());
    })?;
    Ok(receiver)
}
