//! SIGINT and SIGTERM: the first one asks a command to come to its end, the second one ends the program at once.

#[path = "../../common/stop_signals.rs"]
mod stop_signals;

use std::sync::mpsc::{self, Receiver};

use crate::failure::Failure;

/// Receives something when the first signal comes.
pub(crate) fn interruption() -> Result<Receiver<()>, Failure> {
    let (sender, receiver) = mpsc::channel();
    let tell = move || {
        // Nobody receives any more when the command is at its end already.
        let _ = sender.send(());
    };
    stop_signals::on_first(tell).map_err(|error| Failure::because("signals can't be caught", error))?;
    Ok(receiver)
}
