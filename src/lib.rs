//! docs to come with the front page

mod client;
mod error;
mod key;
pub mod protocol;
mod read_buffer;
mod server;

pub use client::{Client, ClientBuilder};
pub use error::{Error, Phase};
pub use key::Key;
pub use server::{
    ConnectionId, Handler, Request, Response, Server, ServerBuilder, ServerHandle, ShutdownReport, Stats,
    Stopper, WorkerStats,
};
