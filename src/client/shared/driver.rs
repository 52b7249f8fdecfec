//! The one background thread of all shared clients of a program: it reads where no caller does, keeps the time, runs callbacks
//! and keeps idle connections alive.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
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
    clients: HashMap<Token, Entry>,
    /// Clients, also those that are not attached yet. The thread ends with the last.
    registrations: usize,
    next_token: usize,
    /// Callbacks to run, of calls that other threads completed.
    notices: Vec<Notice>,
}

struct Entry {
    client: Weak<dyn Driven>,
    is_woken: Arc<AtomicBool>,
    /// When to look at it though nothing happens.
    due: Option<Instant>,
}

thread_local! {
    static IS_DRIVER: Cell<bool> = const { Cell::new(false) };
    /// On a thread that connects: the client for which.
    static CONNECTS: Cell<Option<Token>> = const { Cell::new(None) };
}

/// Whether this is the thread itself.
pub(super) fn is_this_thread() -> bool {
    IS_DRIVER.get()
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
    is_woken: Arc<AtomicBool>,
}

impl Registration {
    /// Whether the caller is the thread itself, or one that connects for this client, so that it would wait for itself: a
    /// callback, a logger, a source of keys.
    pub(super) fn is_own_thread(&self) -> bool {
        is_this_thread() || CONNECTS.get() == Some(self.token)
    }

    /// Says that this thread connects for the client from here on.
    pub(super) fn count_this_thread(&self) {
        CONNECTS.set(Some(self.token));
    }

    /// Makes the thread look at the client anew.
    pub(super) fn wake(&self) {
        self.is_woken.store(true, SeqCst);
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
    let waker = Arc::clone(&driver.waker);
    Ok(Registration { token, registry, waker, is_woken: Arc::new(AtomicBool::new(false)) })
}

impl Registration {
    /// Lets the thread see to the client.
    pub(super) fn attach(&self, client: Weak<dyn Driven>) {
        if let Some(driver) = driver().as_mut() {
            let is_woken = Arc::clone(&self.is_woken);
            driver.clients.insert(self.token, Entry { client, is_woken, due: None });
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
    IS_DRIVER.set(true);
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
            (this.take_due(&events), std::mem::take(&mut this.notices))
        };
        run_callbacks(notices);
        for (token, client) in clients {
            let (due, notices) = client.drive();
            if let Some(this) = driver().as_mut()
                && let Some(entry) = this.clients.get_mut(&token)
            {
                entry.due = due;
            }
            run_callbacks(wake(notices));
        }
        let next =
            driver().as_ref().and_then(|this| this.clients.values().filter_map(|entry| entry.due).min());
        timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
    }
}

impl Driver {
    /// The clients that something happened to, or whose time has come.
    fn take_due(&mut self, events: &Events) -> Vec<(Token, Arc<dyn Driven>)> {
        let now = Instant::now();
        for event in events {
            if let Some(entry) = self.clients.get_mut(&event.token()) {
                entry.due = Some(now);
            }
        }
        let is_due =
            |entry: &Entry| entry.is_woken.swap(false, SeqCst) || entry.due.is_some_and(|due| due <= now);
        let due = self.clients.iter().filter(|(_, entry)| is_due(entry));
        due.filter_map(|(token, entry)| Some((*token, entry.client.upgrade()?))).collect()
    }
}

fn run_callbacks(notices: Vec<Notice>) {
    for notice in notices {
        if let Notice::Call(callback, outcome) = notice {
            contained(|| callback(outcome));
        }
    }
}
