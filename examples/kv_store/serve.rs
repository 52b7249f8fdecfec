//! `kv_store serve`: the store as a service, until SIGINT (ctrl-c) or SIGTERM stops it.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use falcotcp_sync::{Error, Key, Server, ServerHandle, Stopper};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::arguments::{self, ADDRESS, Failure, KEY_FILE};
use crate::encoding::MAX_MESSAGE;
use crate::service::Service;
use crate::store::Store;

/// How long unfinished exchanges may take to end after the first signal.
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn run(words: impl Iterator<Item = String>) -> Result<(), Failure> {
    let ([listen, key_file], rest) = arguments::flags(["--listen", "--key-file"], words)?;
    if let Some(word) = rest.first() {
        return Err(Failure::Usage(format!("serve takes no {word}")));
    }
    let listen = listen.as_deref().unwrap_or(ADDRESS);
    let key = load_or_make_key(key_file.as_deref().unwrap_or(KEY_FILE).as_ref())?;

    let store = Arc::new(Store::default());
    let server = start(key, listen, Arc::clone(&store))
        .map_err(|error| Failure::because(format_args!("can't serve on {listen}"), error))?;
    stop_on_signal(server.stopper()).map_err(|error| Failure::because("signals can't be caught", error))?;

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
    let service = Service::new(store)?;
    Server::builder(key).max_message_size(MAX_MESSAGE).bind(listen)?.spawn(service)
}

fn load_or_make_key(path: &Path) -> Result<Key, Failure> {
    match Key::load(path) {
        Err(Error::KeyFile { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let key = Key::generate()?;
            key.save(path)?;
            eprintln!(
                "made a new key in {0}; clients need a copy: kv_store client --key-file {0}",
                path.display()
            );
            Ok(key)
        }
        loaded => Ok(loaded?),
    }
}

/// Stops the server on the first signal; the second one ends the program at once.
fn stop_on_signal(stopper: Stopper) -> io::Result<()> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag unset and sets it, and the second one finds it set.
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&signalled))?;
        flag::register(signal, Arc::clone(&signalled))?;
    }
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while !signalled.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(100));
        }
        stopper.stop_within(DRAIN);
    })?;
    Ok(())
}
