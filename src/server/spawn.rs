//! Starts a server's threads.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::info;

use super::acceptor::{Acceptor, AcceptorSettings};
use super::connection::DeferralLimits;
use super::descriptors::explained;
use super::handle::{ServerHandle, ShutdownReport};
use super::handler::Handler;
use super::shared::{AdmissionLimits, LOG};
use super::worker::{self, Pool};
use crate::keyring::Keyring;
use crate::protocol::{NonceSequence, SessionSettings};
use crate::{Error, Key, Phase};

/// What a server is started with.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) keys: Vec<(String, Key)>,
    pub(super) session: SessionSettings,
    pub(super) workers: usize,
    pub(super) admission: AdmissionLimits,
    pub(super) shed_after: Option<Duration>,
    pub(super) deferral: DeferralLimits,
    #[cfg(feature = "proxy-protocol")]
    pub(super) proxies: Vec<std::net::IpAddr>,
}

/// Starts everything or nothing.
pub(super) fn spawn(
    listener: TcpListener,
    local_addr: SocketAddr,
    settings: Settings,
    handler: Box<dyn Handler>,
) -> Result<ServerHandle, Error> {
    let workers = settings.workers;
    let failed = |source| Error::io(Phase::Spawn, explained(source, workers));
    let keyring = Arc::new(Keyring::new());
    for (name, key) in &settings.keys {
        keyring.add(name.as_str(), key)?;
    }
    let deferral = DeferralLimits { max_bytes: settings.session.max_message_size, ..settings.deferral };
    let (admission, shed_after) = (settings.admission, settings.shed_after);
    let session = (Arc::new(settings.session), Arc::clone(&keyring));
    let listener = mio::net::TcpListener::from_std(listener);
    let settings = AcceptorSettings {
        session,
        #[cfg(feature = "proxy-protocol")]
        proxies: settings.proxies,
    };
    let (acceptor, acceptor_waker) = Acceptor::new(listener, settings).map_err(failed)?;
    let nonces = (0..workers).map(|_| NonceSequence::new()).collect::<Result<Vec<_>, Error>>()?;
    let pool = Arc::new(
        Pool::new(workers, (Arc::from(handler), shed_after), admission, deferral, keyring, acceptor_waker)
            .map_err(failed)?,
    );
    let (weak, counters) = (Arc::downgrade(&pool), Arc::clone(&pool.counters));
    let acceptor = Some(start_threads(&pool, acceptor, nonces).map_err(failed)?);
    // Before anything is logged: a logger that panics must not leave a server that nobody can stop.
    let handle = ServerHandle { pool: weak, counters, local_addr, acceptor };
    info!(target: LOG, "serving on {local_addr} with {workers} workers");
    Ok(handle)
}

/// Starts the workers and the acceptor, all of them or none.
fn start_threads(
    pool: &Arc<Pool>,
    acceptor: Acceptor,
    nonces: Vec<NonceSequence>,
) -> io::Result<JoinHandle<ShutdownReport>> {
    let start = || {
        let mut workers = Vec::new();
        for (index, nonces) in nonces.into_iter().enumerate() {
            let pool = Arc::clone(pool);
            workers.push(
                thread::Builder::new()
                    .name(format!("falcotcp-{index}"))
                    .spawn(move || worker::run(&pool, index, nonces))?,
            );
        }
        let pool = Arc::clone(pool);
        thread::Builder::new().name("falcotcp-accept".to_owned()).spawn(move || acceptor.run(pool, workers))
    };
    start().inspect_err(|_| {
        pool.stop.finish();
        pool.wake_workers();
    })
}
