//! What the threads of one server share, a file each. Nothing in here knows a socket, a connection or a worker.

mod admission;
mod alarm;
mod counters;
mod end;
mod flood;
mod load;
mod stop;
mod sync;
mod watchdog_clock;

pub(super) use admission::{AdmissionLimits, Full};
pub(super) use alarm::Alarm;
pub(super) use counters::{Counters, Gauge, ServerCounters, WorkerCounters};
pub(super) use end::End;
pub(super) use flood::Floods;
pub(super) use load::{EndHook, LoadGuard};
pub(super) use stop::{StopPhase, StopState};
pub(super) use sync::{AtomicBool, AtomicUsize, Mutex, Waker};
pub(super) use watchdog_clock::WatchdogClock;

/// The log target of a server as a whole.
pub(super) const LOG: &str = "falcotcp_sync::server";
