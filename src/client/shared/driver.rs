//! The one background thread of all shared clients of a program: it reads where no caller does, keeps the time, runs callbacks
//! and keeps idle connections alive.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::process;
// Those of `std`, since a forked child may find threads of its parent waiting here: see `keep_alive`.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use log::error;
use mio::{Events, Poll, Registry, Token, Waker};

use super::slot::Notice;
use crate::client::settings::LOG;
use crate::unwind::contained;

const WAKER: Token = Token(usize::MAX);

/// A client as the thread sees it.
pub(super) trait Driven: Send + Sync {
    /// Reads and writes what can be, and looks at the deadlines. When to look again, and what is to be done without a lock.
    fn drive(&self) -> (Option<Instant>, Vec<Notice>);
}

/// The pause after a wait that failed.
const PAUSE: Duration = Duration::from_millis(10);

/// The thread, as long as there are shared clients.
static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

struct Driver {
    /// A forked child has a copy of this, and no thread.
    process: u32,
    registry: Registry,
    waker: Arc<Waker>,
    clients: HashMap<Token, Weak<dyn Driven>>,
    /// Clients, also those that are not attached yet. The thread ends with the last.
    registrations: usize,
    next_token: usize,
    /// Callbacks to run, of calls that other threads completed.
    notices: Vec<Notice>,
}

thread_local! {
    static IS_DRIVER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is the thread itself, which must not wait for what it does.
pub(super) fn is_this_thread() -> bool {
    IS_DRIVER.with(Cell::get)
}

fn driver() -> MutexGuard<'static, Option<Driver>> {
    DRIVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a shared client keeps of the thread.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) token: Token,
    pub(super) registry: Registry,
    waker: Arc<Waker>,
}

impl Registration {
    /// Makes the thread look at its clients' deadlines anew.
    pub(super) fn wake(&self) {
        // It fails only when the system is out of memory; the thread goes on when something else wakes it.
        let _ = self.waker.wake();
    }
}

/// A place for a client, which is to be [attached](attach). The thread is started if it is not there.
pub(super) fn register() -> io::Result<Registration> {
    let mut driver = driver();
    if driver.as_ref().is_none_or(|driver| driver.process != process::id()) {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let registry = poll.registry().try_clone()?;
        thread::Builder::new().name("falcotcp-shared".to_owned()).spawn(move || run(poll))?;
        *driver = Some(Driver {
            process: process::id(),
            registry,
            waker,
            clients: HashMap::new(),
            registrations: 0,
            next_token: 0,
            notices: Vec::new(),
        });
    }
    let Some(driver) = driver.as_mut() else { return Err(io::ErrorKind::Other.into()) };
    let registry = driver.registry.try_clone()?;
    let token = Token(driver.next_token);
    driver.next_token += 1;
    driver.registrations += 1;
    Ok(Registration { token, registry, waker: Arc::clone(&driver.waker) })
}

impl Registration {
    /// Lets the thread see to the client.
    pub(super) fn attach(&self, client: Weak<dyn Driven>) {
        if let Some(driver) = driver().as_mut() {
            driver.clients.insert(self.token, client);
        }
        self.wake();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(driver) = driver().as_mut()
            && driver.process == process::id()
        {
            driver.clients.remove(&self.token);
            driver.registrations -= 1;
        }
        self.wake();
    }
}

/// Wakes who is to be woken, and has callbacks run by the thread.
pub(super) fn give(notices: Vec<Notice>) {
    let mut callbacks = wake(notices);
    if !callbacks.is_empty()
        && let Some(driver) = driver().as_mut()
    {
        driver.notices.append(&mut callbacks);
        let _ = driver.waker.wake();
    }
}

/// Wakes who is to be woken; the rest is to be called.
fn wake(notices: Vec<Notice>) -> Vec<Notice> {
    let mut callbacks = Vec::new();
    for notice in notices {
        match notice {
            // The executor's code may panic.
            Notice::Wake(waker) => _ = contained(|| waker.wake()),
            callback @ Notice::Call(..) => callbacks.push(callback),
        }
    }
    callbacks
}

fn run(mut poll: Poll) {
    IS_DRIVER.with(|is_driver| is_driver.set(true));
    let mut events = Events::with_capacity(256);
    let mut timeout = Some(Duration::ZERO);
    loop {
        if let Err(error) = poll.poll(&mut events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            thread::sleep(PAUSE);
            contained(|| error!(target: LOG, "waiting for responses failed: {error}"));
        }
        let (clients, notices) = {
            let mut driver = driver();
            let Some(this) = driver.as_mut() else { return };
            if this.registrations == 0 && this.notices.is_empty() {
                *driver = None;
                return;
            }
            let clients: Vec<_> = this.clients.values().filter_map(Weak::upgrade).collect();
            (clients, std::mem::take(&mut this.notices))
        };
        run_callbacks(notices);
        let mut next: Option<Instant> = None;
        for client in &clients {
            let (due, notices) = client.drive();
            next = next.into_iter().chain(due).min();
            run_callbacks(wake(notices));
        }
        timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
    }
}

fn run_callbacks(notices: Vec<Notice>) {
    for notice in notices {
        if let Notice::Call(callback, outcome) = notice {
            contained(|| callback(outcome));
        }
    }
}
