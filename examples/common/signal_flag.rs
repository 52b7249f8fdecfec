//! Signals on every platform, by way of a flag that a thread looks at: the first one asks a program to come to its
//! end, the second one ends it at once.

use std::ffi::c_int;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::flag;

/// Calls `act` on a thread of its own soon after the first of `signals` comes.
pub(crate) fn on_first(signals: &[c_int], act: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let signalled = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        // In this order: the first signal finds the flag unset and sets it, and the second one finds it set.
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&signalled))?;
        flag::register(signal, Arc::clone(&signalled))?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while !signalled.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(100));
        }
        act();
    })?;
    Ok(())
}
