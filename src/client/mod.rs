//! The client: one connection, one exchange at a time.
//!
//! A call goes down this list, and each file knows only those below it:
//!
//! - `pool`: clients for many threads, and `builder`: settings, and how a client comes to be;
//! - `shared`: a client that many threads share;
//! - `request`: a message with more than the defaults;
//! - `handle`: [`Client`] itself, and `pipeline`: many messages in flight;
//! - `exchange`: a message and its response;
//! - `reconnect`: a new link when the old one is over, and `keep_alive`: pings while idle;
//! - `connection`: the link and the buffers; `target`: the addresses and the key, of a `key_source`;
//! - `link`: a socket and the session over it; `transport`: the socket and its deadlines; `settings`.

mod builder;
mod connection;
mod exchange;
mod handle;
mod in_flight;
mod keep_alive;
mod key_source;
mod link;
mod pipeline;
#[cfg(feature = "r2d2")]
mod pool;
mod reconnect;
mod request;
mod settings;
mod shared;
mod target;
mod transport;
mod unsent;

pub use builder::ClientBuilder;
pub use handle::Client;
pub use pipeline::Pipeline;
#[cfg(feature = "r2d2")]
pub use pool::ClientManager;
pub use request::ClientRequest;
pub use shared::{Call, Calling, SharedClient, SharedRequest};
