// Links between the chapters: the first definition of a link counts, so that `links.txt` leads through the docs, and the
// definitions in the files themselves from file to file.
#![doc = include_str!("links.txt")]
#![doc = include_str!("README.md")]

#[doc = include_str!("links.txt")]
#[doc = include_str!("getting_started.md")]
///
/// API: [`Key`](crate::Key), [`Server`](crate::Server), [`ServerHandle`](crate::ServerHandle),
/// [`Client`](crate::Client).
pub mod getting_started {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("handlers.md")]
///
/// API: [`Handler`](crate::Handler), [`Request`](crate::Request), [`Response`](crate::Response),
/// [`ConnectionInfo`](crate::ConnectionInfo), [`EndReason`](crate::EndReason), [`TestRequest`](crate::TestRequest),
/// [`Error::Rejected`](crate::Error::Rejected), [`Error::HandlerFailed`](crate::Error::HandlerFailed).
pub mod handlers {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("workers.md")]
///
/// API: [`ServerBuilder::workers`](crate::ServerBuilder::workers), [`Stats::redealt`](crate::Stats::redealt),
/// [`WorkerStats`](crate::WorkerStats).
pub mod workers {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("waiting.md")]
///
/// API: [`Response::defer`](crate::Response::defer), [`Reply`](crate::Reply), [`NotWanted`](crate::NotWanted),
/// [`ServerBuilder::max_deferred`](crate::ServerBuilder::max_deferred),
/// [`deferred_timeout`](crate::ServerBuilder::deferred_timeout); [`SharedClient`](crate::SharedClient),
/// [`Call`](crate::Call), [`ClientBuilder::max_in_flight`](crate::ClientBuilder::max_in_flight),
/// [`stall_timeout`](crate::ClientBuilder::stall_timeout).
pub mod waiting {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("overload.md")]
///
/// API: [`ServerBuilder::shed_after`](crate::ServerBuilder::shed_after), [`Error::Overloaded`](crate::Error::Overloaded),
/// [`Request::waited`](crate::Request::waited), [`is_peer_gone`](crate::Request::is_peer_gone),
/// [`Stats::oldest_wait`](crate::Stats::oldest_wait).
pub mod overload {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("timeouts.md")]
///
/// API: [`ServerBuilder::lifetime`](crate::ServerBuilder::lifetime),
/// [`handshake_timeout`](crate::ServerBuilder::handshake_timeout),
/// [`write_timeout`](crate::ServerBuilder::write_timeout);
/// [`ClientBuilder::lifetime`](crate::ClientBuilder::lifetime),
/// [`connect_timeout`](crate::ClientBuilder::connect_timeout),
/// [`request_timeout`](crate::ClientBuilder::request_timeout).
pub mod timeouts {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("limits.md")]
///
/// API: [`ServerBuilder::max_message_size`](crate::ServerBuilder::max_message_size),
/// [`max_connections`](crate::ServerBuilder::max_connections), [`backlog`](crate::ServerBuilder::backlog);
/// [`ClientBuilder::max_message_size`](crate::ClientBuilder::max_message_size).
pub mod limits {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("errors.md")]
///
/// API: [`Error`](crate::Error), [`Error::was_sent`](crate::Error::was_sent), [`Phase`](crate::Phase),
/// [`Client::is_open`](crate::Client::is_open).
pub mod errors {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("reconnecting.md")]
///
/// API: [`ClientBuilder::keep_alive`](crate::ClientBuilder::keep_alive),
/// [`reconnect`](crate::ClientBuilder::reconnect);
/// [`Client::request`](crate::Client::request),
/// [`Addresses`](crate::Addresses),
/// [`Error::was_sent`](crate::Error::was_sent).
pub mod reconnecting {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("pools.md")]
///
/// API: `ClientManager` with the feature `r2d2`, [`Client::pipeline`](crate::Client::pipeline).
pub mod pools {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("keys.md")]
///
/// API: [`Key`](crate::Key), [`ServerKeys`](crate::ServerKeys),
/// [`Server::builder_with_key`](crate::Server::builder_with_key),
/// [`ServerBuilder::accept_key`](crate::ServerBuilder::accept_key),
/// [`Request::key_name`](crate::Request::key_name).
pub mod keys {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("forward_secrecy.md")]
///
/// API: [`ForwardSecrecy`](crate::ForwardSecrecy),
/// [`ServerBuilder::forward_secrecy`](crate::ServerBuilder::forward_secrecy),
/// [`ClientBuilder::forward_secrecy`](crate::ClientBuilder::forward_secrecy),
/// [`Client::is_forward_secret`](crate::Client::is_forward_secret),
/// [`Request::is_forward_secret`](crate::Request::is_forward_secret).
pub mod forward_secrecy {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("stolen_key.md")]
///
/// API: [`ServerKeys`](crate::ServerKeys), [`Client::builder_with_keys`](crate::Client::builder_with_keys).
pub mod stolen_key {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("alternatives.md")]
#[allow(clippy::doc_markdown, reason = "a name is no code")]
pub mod alternatives {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("processes.md")]
pub mod processes {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("load_balancers.md")]
///
/// API: `ServerBuilder::proxy_protocol_from` with the feature `proxy-protocol`,
/// [`Request::peer`](crate::Request::peer).
pub mod load_balancers {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("stopping.md")]
///
/// API: [`ServerHandle::shutdown`](crate::ServerHandle::shutdown), [`Stopper`](crate::Stopper),
/// [`ShutdownReport`](crate::ShutdownReport), [`ServerBuilder::listen`](crate::ServerBuilder::listen).
pub mod stopping {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("kubernetes.md")]
pub mod kubernetes {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("systemd.md")]
///
/// API: [`Key::load`](crate::Key::load), [`ServerBuilder::listen`](crate::ServerBuilder::listen).
pub mod systemd {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("observing.md")]
///
/// API: [`Stats`](crate::Stats), [`WorkerStats`](crate::WorkerStats), [`Metrics`](crate::Metrics),
/// [`Monitor`](crate::Monitor).
pub mod observing {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("capacity.md")]
pub mod capacity {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("performance.md")]
pub mod performance {}

#[doc = include_str!("links.txt")]
#[doc = include_str!("wire.md")]
///
/// API: [`protocol`](crate::protocol).
pub mod wire {}
