//! What drives a server: an event loop over many connections, or threads that each do one exchange after another.

pub(crate) mod callers;
mod connection;
pub(crate) mod event_loop;
pub(crate) mod short_connections;
pub(crate) mod threads;
pub(crate) mod turn;
