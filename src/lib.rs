//! Encrypted request/response over TCP between endpoints that share one key: the `FalcoTCP` protocol on plain
//! threads.
//!
//! A [`Client`] sends a message and gets one response; a [`Server`] answers the messages of many clients.
//! Everything that carries data is sealed with AES-256-GCM; one 32-byte [`Key`] that both hold is all that they need.
//! Between two ends of this crate sessions are forward-secret. There is no async runtime: calls block, or are in flight
//! ([`SharedClient`]), and handlers answer at once or later ([`Response::defer`]). The published `falcotcp` packages
//! for Rust and for Python work with it, both ways.
//!
//! ```
//! use falcotcp_sync::{Client, Key, Server};
//! use std::time::Duration;
//!
//! let key = Key::generate()?;                       // also from_bytes, from_hex, load(path)
//!
//! let server = Server::builder(key.clone())
//!     .workers(4)
//!     .lifetime(Duration::from_secs(60))
//!     .max_message_size(16 << 20)                   // bytes of plaintext
//!     .bind("127.0.0.1:0")?                         // bound, not yet serving
//!     .spawn(|message: &[u8]| message.to_ascii_uppercase())?;
//!
//! let mut client = Client::connect(server.local_addr(), &key)?;
//! assert_eq!(client.message(b"hello")?, b"HELLO");
//! client.ping()?;
//!
//! server.shutdown(Duration::from_secs(5))?;         // drains, then closes
//! # Ok::<(), falcotcp_sync::Error>(())
//! ```
//!
//! # How it behaves
//!
//! - **Threads.** An acceptor deals connections to a fixed number of workers, each of which serves many. An idle,
//!   slow or unauthenticated connection occupies none of them. [Handlers](Handler) may block: the other connections
//!   of their worker are served by workers that have nothing to do, so set [`workers`](ServerBuilder::workers) to
//!   more than may block at the same time. What another thread answers later blocks none ([`Response::defer`]).
//! - **Calls in flight.** A [`SharedClient`] is one connection for any number of threads and for futures in any executor.
//!   The chapter [Waiting](guide::waiting) says when to defer, to share and to have a pool.
//! - **Time-outs.** Every connection has a deadline: [5 s](ServerBuilder::handshake_timeout) for its establishment,
//!   [60 s](ServerBuilder::lifetime) from its last interaction, [10 s](ServerBuilder::write_timeout) for a peer
//!   that does not read. A client has one deadline for [connecting](ClientBuilder::connect_timeout) and one for a
//!   whole [exchange](ClientBuilder::request_timeout), however slowly the bytes come. An answer that comes later has
//!   [5 minutes](ServerBuilder::deferred_timeout).
//! - **Errors.** One type, [`Error`], that says what happened and in which [`Phase`]. An error that leaves the
//!   stream in doubt closes the client ([`Client::is_open`]). With [`reconnect`](ClientBuilder::reconnect) it connects
//!   anew by itself. What may have been processed is never sent again, unless you say that it may be
//!   ([`ClientRequest::idempotent`]), or a server said goodbye before it took it up.
//! - **Panics.** A handler that panics rejects its message, which the client sees as [`Error::HandlerFailed`], in a
//!   classic session as [`Error::Rejected`]. All others go on. That needs `panic = "unwind"`, Cargo's default.
//! - **Stopping.** [`ServerHandle::shutdown`] answers what has arrived before it closes; a [`Stopper`] does it from
//!   another thread. Dropping the handle stops the server as well. Peers of forward-secret sessions have up to a second
//!   more to read its goodbye.
//! - **Log.** Through the `log` crate, with the targets `falcotcp_sync::server`,
//!   `falcotcp_sync::server::connection` and `falcotcp_sync::client`.
//!
//! # Security
//!
//! Who does not hold the key can't read, change or make up what is sealed. Everybody who holds it can be a client or the
//! server, for there are no identities; lengths and times are visible.
//!
//! Two ends of this crate have **forward-secret** sessions: a key that leaks later opens no recording, nothing can be
//! replayed, reordered, reflected or injected, and a client knows that the server holds the key. With the published
//! packages sessions are **classic** and have none of that. By default ([`ForwardSecrecy`]) each end takes what the other
//! has, which protects from everybody who only listens; who can change traffic can make a session classic, unless one end
//! requires forward secrecy.
//!
//! The chapter [Security](guide::security) has the whole list and when to choose TLS instead,
//! [Forward secrecy](guide::forward_secrecy) how to come to require it and what to do about a stolen key,
//! [Keys](guide::keys) how to make and keep a key, and [Processes](guide::processes) what `fork` and snapshots break.
//!
//! # Where to look
//!
//! | for | see |
//! |---|---|
//! | making, loading and saving a key | [`Key`] |
//! | starting a server and its settings | [`Server`], [`ServerBuilder`] |
//! | answering messages | [`Handler`], [`Request`], [`Response`] |
//! | connections that begin and end | [`ConnectionInfo`], [`ConnectionId`], [`EndReason`] |
//! | testing a handler without a server | [`TestRequest`], [`TestAnswer`], [`TestReply`] |
//! | answering later | [`Response::defer`], [`Reply`], [`NotWanted`] |
//! | a server that runs: waiting, stopping | [`ServerHandle`], [`Stopper`], [`ShutdownReport`] |
//! | counters, and their export | [`Stats`], [`Monitor`], [`Metrics`] |
//! | talking to a server | [`Client`], [`ClientBuilder`], [`ClientRequest`], [`Addresses`] |
//! | one connection for many threads, and futures | [`SharedClient`], [`Call`], [`Calling`] |
//! | which sessions are forward-secret | [`ForwardSecrecy`] |
//! | what went wrong, and when | [`Error`], [`Phase`] |
//! | keys that change while a server runs | [`ServerKeys`] |
//! | the wire format and the state machines, without sockets | [`protocol`] |
//! | building and running a service, a chapter a question | [`guide`] |
//!
//! # Features
//!
//! - `forward-secrecy`: forward-secret sessions, see [`ForwardSecrecy`]. The only one that is on by default; without it
//!   every session is classic, and the crate needs neither X25519 nor SHA-256.
//! - `aws-lc-rs`: AES-GCM and X25519 of AWS-LC instead of the pure Rust ones; needs a C compiler.
//! - `r2d2`: `ClientManager`, for pools of clients by the crate of that name.
//! - `proxy-protocol`: `ServerBuilder::proxy_protocol_from`, for the true peer behind load balancers.

#![forbid(unsafe_code)]
// On docs.rs, items say which feature they need.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod addresses;
mod client;
mod error;
pub mod guide;
mod key;
mod key_file;
mod keyring;
mod phase;
pub mod protocol;
mod read_buffer;
mod server;
mod unwind;

pub use addresses::Addresses;
#[cfg(feature = "r2d2")]
pub use client::ClientManager;
pub use client::{
    Call, Calling, Client, ClientBuilder, ClientRequest, Pipeline, SharedClient, SharedRequest,
};
pub use error::Error;
pub use key::Key;
pub use keyring::{Keyring, NamedKey};
pub use phase::Phase;
pub use protocol::ForwardSecrecy;
pub use server::{
    ConnectionId, ConnectionInfo, EndReason, Handler, Metric, MetricKind, Metrics, Monitor, NotWanted, Reply,
    Request, Response, Server, ServerBuilder, ServerHandle, ServerKeys, ShutdownReport, Stats, Stopper,
    TestAnswer, TestReply, TestRequest, WorkerStats,
};

/// Compiles and runs the README's code.
#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;
