//! `kv_store serve`: the store as a service, until SIGINT (ctrl-c) or SIGTERM stops it.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use falcotcp_sync::{Error, ForwardSecrecy, Key, Server, ServerHandle};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::arguments::{self, ADDRESS, KEY_FILE};
use crate::encoding::MAX_MESSAGE;
use crate::failure::Failure;
use crate::service::Service;
use crate::store::Store;
use crate::{key_file, signal_flag};

/// How long unfinished exchanges may take to end after the first signal.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn run(words: impl Iterator<Item = String>) -> Result<(), Failure> {
    let ([listen, key_file], rest) = arguments::flags(["--listen", "--key-file"], words)?;
    if let Some(word) = rest.first() {
        return Err(Failure::Usage(format!("serve takes no {word}")));
    }
    let listen = listen.as_deref().unwrap_or(ADDRESS);
    let key = key_file::load_or_make(key_file.as_deref().unwrap_or(KEY_FILE).as_ref(), "kv_store client")?;

    let store = Arc::new(Store::default());
    let server =
        start(key, listen, Arc::clone(&store)).map_err(|error| Failure::because("can't serve", error))?;
    let stopper = server.stopper();
    signal_flag::on_first(&[SIGINT, SIGTERM], move || stopper.stop_within(DRAIN))
        .map_err(|error| Failure::because("signals can't be caught", error))?;

    let mut output = io::stdout().lock();
    // Other programs wait for this line to learn the port.
    writeln!(output, "listening on {}", server.local_addr())?;
    output.flush()?;
    let report = server.wait()?;
    let keys = store.len();
    writeln!(
        output,
        "stopped with {keys} keys; connections drained: {}, cut: {}",
        report.drained, report.cut
    )?;
    Ok(())
}

/// Serves `store` on `listen`. The handler computes and hardly ever waits, so the default number of workers is right.
pub(crate) fn start(key: Key, listen: &str, store: Arc<Store>) -> Result<ServerHandle, Error> {
    Server::builder(key)
        .max_message_size(MAX_MESSAGE)
        .forward_secrecy(ForwardSecrecy::Require)
        .bind(listen)?
        .spawn(Service::new(store))
}
