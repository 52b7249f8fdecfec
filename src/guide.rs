//! Running a service: what to choose, what to watch, how to change it while it runs.
//!
//! The other pages say what each part does; this one says how to put them together, and why.
//!
//! - [Choosing workers](#choosing-workers)
//! - [Handlers that block](#handlers-that-block)
//! - [Time-outs that fit together](#time-outs-that-fit-together)
//! - [Clients that run for months](#clients-that-run-for-months)
//! - [Many threads, one service](#many-threads-one-service)
//! - [Memory, descriptors, sizes](#memory-descriptors-sizes)
//! - [Changing keys](#changing-keys)
//! - [Load balancers](#load-balancers)
//! - [Restarts without a gap](#restarts-without-a-gap)
//! - [Stopping, in containers above all](#stopping-in-containers-above-all)
//! - [What to log and alert on](#what-to-log-and-alert-on)
//!
//! # Choosing workers
//!
//! A worker is a thread that serves many connections, so [`workers`](crate::ServerBuilder::workers) does not follow
//! from the number of clients. It follows from what the handlers do:
//!
//! | handlers | workers |
//! |---|---|
//! | compute, or answer from memory | the default, one for each processor that is available, at least 2 |
//! | block: a database, a file, another service | as many as may block at once, and one for each processor |
//!
//! How many block at once is Little's law: requests per second, times the seconds that one of them blocks. 400
//! requests per second that wait 20 ms each are 8 at once on average, so 12 at a busy moment, and on 4 processors 16
//! workers. Workers that wait cost a stack and nothing else; workers that compute and are more than the processors
//! only take turns. A container's processor limit counts as far as
//! [`available_parallelism`](std::thread::available_parallelism) sees it; with limits that it does not see, say the
//! number yourself.
//!
//! ```
//! use falcotcp_sync::{Key, Server};
//! use std::thread::available_parallelism;
//!
//! // From the load that you expect; measured later, by what the section on alerts shows.
//! let (requests_per_second, milliseconds_blocked) = (400, 20);
//! let blocked = requests_per_second * milliseconds_blocked / 1000;
//! let processors = available_parallelism().map_or(2, usize::from);
//!
//! let server = Server::builder(Key::generate()?)
//!     .workers(blocked + blocked / 2 + processors)
//!     .bind("127.0.0.1:0")?
//!     .spawn(|message: &[u8]| message.to_vec())?;
//! assert_eq!(server.stats().workers.len(), 12 + processors);
//! # Ok::<(), falcotcp_sync::Error>(())
//! ```
//!
//! # Handlers that block
//!
//! A handler may block. The other connections of its worker are taken over by workers that have nothing to do, within
//! a millisecond or two; [`Stats::redealt`](crate::Stats::redealt) counts such moves among others. What does wait is:
//!
//! - the later messages of the same connection, which are answered in their order;
//! - everybody, when every worker is in a handler.
//!
//! Here the first worker waits for what only the second connection can bring:
//!
//! ```
//! use falcotcp_sync::{Client, Key, Server};
//! use std::sync::{Mutex, mpsc};
//! use std::thread;
//!
//! let (bring, brought) = mpsc::channel();
//! let (bring, brought) = (Mutex::new(bring), Mutex::new(brought));
//!
//! let key = Key::generate()?;
//! let server = Server::builder(key.clone()).workers(2).bind("127.0.0.1:0")?.spawn(
//!     move |message: &[u8]| match message {
//!         b"wait" => brought.lock().unwrap().recv().unwrap(),
//!         _ => {
//!             bring.lock().unwrap().send(message.to_vec()).unwrap();
//!             b"done".to_vec()
//!         }
//!     },
//! )?;
//!
//! let mut patient = Client::connect(server.local_addr(), &key)?;
//! let mut other = Client::connect(server.local_addr(), &key)?;
//! let waits = thread::spawn(move || patient.message(b"wait"));
//! assert_eq!(other.message(b"news")?, b"done");
//! assert_eq!(waits.join().unwrap()?, b"news");
//! # Ok::<(), falcotcp_sync::Error>(())
//! ```
//!
//! Nothing can interrupt a handler: not its client's time-out, nor the client's end, nor a stop. So give everything
//! that it waits for a time-out, shorter than the clients' [`request_timeout`](crate::ClientBuilder::request_timeout),
//! and let the response say what failed. An error that the handler answers costs one exchange. One that it doesn't
//! answer costs the client its connection and leaves open what was done. The empty response
//! ([`Error::Rejected`](crate::Error::Rejected)) is for panics; a first byte of your own says more:
//!
//! ```
//! use falcotcp_sync::{Client, Handler, Key, Request, Response, Server};
//! use std::sync::{Mutex, PoisonError, mpsc};
//! use std::time::Duration;
//!
//! /// Waits for the database for 50 ms, and then answers that it is busy.
//! struct Service {
//!     database: Mutex<mpsc::Receiver<Vec<u8>>>,
//! }
//!
//! impl Handler for Service {
//!     fn handle(&self, _request: Request<'_>, response: &mut Response<'_>) {
//!         // A handler that panicked with the lock must not make all others panic.
//!         let database = self.database.lock().unwrap_or_else(PoisonError::into_inner);
//!         match database.recv_timeout(Duration::from_millis(50)) {
//!             Ok(row) => {
//!                 response.extend_from_slice(b"+");
//!                 response.extend_from_slice(&row);
//!             }
//!             Err(_) => response.extend_from_slice(b"-busy"),
//!         }
//!     }
//! }
//!
//! let (rows, database) = mpsc::channel();
//! let key = Key::generate()?;
//! let server = Server::builder(key.clone())
//!     .bind("127.0.0.1:0")?
//!     .spawn(Service { database: Mutex::new(database) })?;
//!
//! let mut client = Client::connect(server.local_addr(), &key)?;
//! assert_eq!(client.message(b"next")?, b"-busy");
//! rows.send(b"row 1".to_vec()).unwrap();
//! assert_eq!(client.message(b"next")?, b"+row 1");
//! # Ok::<(), falcotcp_sync::Error>(())
//! ```
//!
//! Work that takes minutes does not belong into a handler: answer with a number for it, and let the client ask again.
//!
//! # Time-outs that fit together
//!
//! From the inside to the outside each one is longer than the one before:
//!
//! 1. what the handler waits for, as the time-out of a query;
//! 2. the client's [`request_timeout`](crate::ClientBuilder::request_timeout), 30 s: it also covers connecting anew
//!    and waiting for a worker;
//! 3. the server's [`lifetime`](crate::ServerBuilder::lifetime), 60 s: at least as long as clients fall silent, unless
//!    they ping;
//! 4. the idle time-outs of what is between the two, as load balancers and firewalls.
//!
//! [`ClientBuilder::lifetime`](crate::ClientBuilder::lifetime) is the same number as the server's. The protocol does
//! not carry it, so change both. A client that believes in too long a lifetime finds its connection closed, perhaps
//! only when its message is on the way, and then nobody knows whether it was processed. One that believes in too short
//! a lifetime merely connects or pings more often.
//!
//! Connections that have not proved that they have the key live for
//! [`handshake_timeout`](crate::ServerBuilder::handshake_timeout), 5 s, and a client that reads nothing for
//! [`write_timeout`](crate::ServerBuilder::write_timeout), 10 s. There is seldom a reason to change these: neither
//! occupies a worker.
//!
//! ```
//! use falcotcp_sync::{Client, Key, Server};
//! use std::time::Duration;
//!
//! // One place for the number that both ends must agree on.
//! const LIFETIME: Duration = Duration::from_secs(120);
//!
//! let key = Key::generate()?;
//! let server = Server::builder(key.clone())
//!     .lifetime(LIFETIME)
//!     .bind("127.0.0.1:0")?
//!     .spawn(|message: &[u8]| message.to_vec())?;
//!
//! let mut client = Client::builder(&key)
//!     .lifetime(LIFETIME)
//!     .connect_timeout(Duration::from_secs(2))
//!     .request_timeout(Duration::from_secs(10))
//!     .connect(server.local_addr())?;
//! assert_eq!(client.message(b"hello")?, b"hello");
//! # Ok::<(), falcotcp_sync::Error>(())
//! ```
//!
//! # Clients that run for months
//!
//! Two settings, off by default, make a [`Client`](crate::Client) outlive its connections.
//! [`keep_alive`](crate::ClientBuilder::keep_alive) pings after a quarter of the lifetime without a message, from one
//! thread for all clients of the program. [`reconnect`](crate::ClientBuilder::reconnect) connects anew before a
//! message when the connection is known to be over. Several addresses are tried in the order in which they are given,
//! and one that failed not again for some seconds unless all have; that is for a second machine that stands by, not
//! for spreading load.
//!
//! What reconnecting never does by itself is to send a message a second time that the server may have processed. That
//! is yours to decide, message by message:
//!
//! - [`message_idempotent`](crate::Client::message_idempotent) sends again when the connection ends before the
//!   response. It is for reading, and for setting a value: what may happen twice.
//! - [`message`](crate::Client::message) gives the error, and [`Error::was_sent`](crate::Error::was_sent) tells
//!   whether the message may have been processed. A transfer of money needs a number of its own, by which the handler
//!   knows it again.
//!
//! ```
//! use falcotcp_sync::{Client, Error, Key, Server};
//! use std::time::Duration;
//!
//! # let key = Key::generate()?;
//! # let start = || {
//! #     let server = Server::builder(key.clone()).bind("127.0.0.1:0")?;
//! #     server.spawn(|message: &[u8]| message.to_vec())
//! # };
//! # let (first, second) = (start()?, start()?);
//! let addrs = [first.local_addr(), second.local_addr()];
//! let mut client = Client::builder(&key)
//!     .keep_alive(true)
//!     .reconnect(true)
//!     .request_timeout(Duration::from_secs(10))
//!     .connect(&addrs[..])?;
//! assert_eq!(client.peer_addr(), Some(addrs[0]));
//!
//! first.shutdown(Duration::from_secs(1))?;
//! assert_eq!(client.message_idempotent(b"get balance")?, b"get balance");
//! assert_eq!(client.peer_addr(), Some(addrs[1]));
//!
//! match client.message(b"transfer 17: 5 coins") {
//!     Ok(response) => println!("{} bytes", response.len()),
//!     Err(error) if error.was_sent() => println!("ask what became of transfer 17: {error}"),
//!     Err(error) => println!("not transferred, safe to try again later: {error}"),
//! }
//! # Ok::<(), Error>(())
//! ```
//!
//! The first connection is not tried again and again: a program that starts learns at once that an address or a key is
//! wrong. Later a refusal does count as something that may pass, since a server that is full or stopping refuses as
//! well; so after a key was withdrawn, a client that reconnects fails with [`Error::Refused`](crate::Error::Refused)
//! only at the end of its `request_timeout`. The names of addresses are resolved once, when the client is made: if the
//! service moves to another address, make the client anew.
//!
//! # Many threads, one service
//!
//! A client is one connection, used by one thread at a time. For a fixed number of threads give each its own. For more
//! threads than connections there is `ClientManager`, for the pool of the crate `r2d2` (feature `r2d2`). Its size is
//! Little's law again: requests per second at the peak, times the seconds that one takes from end to end, and half as
//! many again. More connections than the server can answer at once only wait there instead of here. All pools together
//! stay below the server's [`max_connections`](crate::ServerBuilder::max_connections).
//!
//! ```
//! # #[cfg(not(feature = "r2d2"))]
//! # fn main() {}
//! # #[cfg(feature = "r2d2")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use falcotcp_sync::{Client, ClientManager, Key, Server};
//! use std::thread;
//! use std::time::Duration;
//!
//! # let key = Key::generate()?;
//! # let server = Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(|message: &[u8]| message.to_vec())?;
//! # let addr = server.local_addr();
//! // 400 requests per second of 10 ms each: 4 at once on average.
//! let settings = Client::builder(&key).keep_alive(true).request_timeout(Duration::from_secs(10));
//! let pool = r2d2::Pool::builder()
//!     .max_size(6)
//!     .min_idle(Some(1))
//!     // Who waits longer than this for a connection would not have its answer in time either.
//!     .connection_timeout(Duration::from_secs(5))
//!     .build(ClientManager::new(settings, addr)?)?;
//!
//! thread::scope(|scope| {
//!     for number in 0..20 {
//!         let pool = &pool;
//!         scope.spawn(move || {
//!             let message = format!("request {number}");
//!             let response = pool.get().unwrap().message(message.as_bytes()).unwrap();
//!             assert_eq!(response, message.as_bytes());
//!         });
//!     }
//! });
//! assert!(server.stats().open <= 6);
//! # Ok(())
//! # }
//! ```
//!
//! One thread with many messages at hand needs no pool: [`Client::pipeline`](crate::Client::pipeline) has up to 1024
//! of them in flight on one connection.
//!
//! # Memory, descriptors, sizes
//!
//! - **Memory.** A buffer grows with the bytes that arrive, never with a length that was only announced, and before
//!   the establishment not beyond that one's 157 bytes. So strangers can't fill the memory; those who hold the key
//!   can, with up to [`max_message_size`](crate::ServerBuilder::max_message_size) for each connection, and as much
//!   again in responses that they don't read. The worst case is that times
//!   [`max_connections`](crate::ServerBuilder::max_connections): lower both from their defaults to what the service
//!   needs.
//! - **Descriptors.** One for each connection and a few for each thread. `ulimit -n`, or `LimitNOFILE=` of systemd, is
//!   to be above `max_connections` by some hundreds. When they run out, accepting pauses, is tried again until it
//!   works, and the log has a warning; connections that are open don't notice.
//! - **Threads.** The workers and one that accepts; in programs with clients that are kept alive, one more.
//! - **Responses.** The server does not limit its own: keep them within the clients'
//!   [`max_message_size`](crate::ClientBuilder::max_message_size), or send lists in pieces.
//! - **The queue.** [`backlog`](crate::ServerBuilder::backlog) is how many connections may arrive in one burst; Linux
//!   cuts it to `net.core.somaxconn`.
//!
//! ```
//! use falcotcp_sync::{Client, Error, Key, Phase, Server};
//!
//! // At worst 1000 * (64 KiB + 64 KiB), if responses are no larger than messages: 128 MiB and a little.
//! const LARGEST: usize = 64 << 10;
//!
//! let key = Key::generate()?;
//! let server = Server::builder(key.clone())
//!     .max_connections(1000)
//!     .max_message_size(LARGEST)
//!     .bind("127.0.0.1:0")?
//!     .spawn(|message: &[u8]| message.to_vec())?;
//!
//! let mut client = Client::builder(&key).max_message_size(LARGEST).connect(server.local_addr())?;
//! assert_eq!(client.message(&[0; LARGEST])?.len(), LARGEST);
//!
//! // With the same limit at both ends the client knows before it sends, and stays connected.
//! let too_large = client.message(&[0; LARGEST + 1]);
//! assert!(matches!(too_large, Err(Error::TooLarge { phase: Phase::Send, .. })));
//! assert!(client.is_open());
//! # Ok::<(), Error>(())
//! ```
//!
//! # Changing keys
//!
//! Change a key when somebody who had it leaves, when it may have been seen, when a machine was restored from a
//! snapshot, and otherwise once a year or so, so that it is known to work. A server accepts several keys at the same
//! time, each with a name, and so no request needs to fail:
//!
//! 1. Make the new key and carry it to all servers: [`ServerKeys::add`](crate::ServerKeys::add), on each of them.
//! 2. Give it to the clients, which connect with it: a client has one key, so the program makes a new
//!    [`Client`](crate::Client) and drops the old one after its last exchange.
//! 3. Wait until [`connections`](crate::ServerKeys::connections) says on each server that nobody is left under the old
//!    key. That is for programs that stay connected; one that runs once a night does not show.
//! 4. [`withdraw`](crate::ServerKeys::withdraw) the old one. Whoever still had it is disconnected, and refused from
//!    now on. [`Stats::withdrawn`](crate::Stats::withdrawn) counts these, and afterwards
//!    [`Stats::unauthenticated`](crate::Stats::unauthenticated) grows while they try.
//!
//! When the key was stolen, begin with step 4.
//!
//! ```
//! use falcotcp_sync::{Client, Error, Key, Server};
//! use std::thread;
//! use std::time::{Duration, Instant};
//!
//! let (old, new) = (Key::generate()?, Key::generate()?);
//! let server = Server::builder_with_key("2026", old.clone())
//!     .bind("127.0.0.1:0")?
//!     .spawn(|message: &[u8]| message.to_vec())?;
//! let addr = server.local_addr();
//! let mut client = Client::connect(addr, &old)?;
//!
//! server.keys().add("2027", &new)?;                                       // 1
//! client = Client::connect(addr, &new)?;                                  // 2
//! let given_up = Instant::now() + Duration::from_secs(60);
//! while server.keys().connections("2026") != Some(0) {                    // 3
//!     assert!(Instant::now() < given_up, "somebody still uses the old key");
//!     thread::sleep(Duration::from_millis(10));
//! }
//! server.keys().withdraw("2026");                                         // 4
//!
//! assert_eq!(server.keys().names(), ["2027"]);
//! assert_eq!(client.message(b"hello")?, b"hello");
//! assert!(matches!(Client::connect(addr, &old), Err(Error::Refused)));
//! # Ok::<(), Error>(())
//! ```
//!
//! What survives a restart is what the program reads when it starts. A directory of key files does both, and is read
//! again at a signal, as SIGHUP:
//!
//! ```
//! use falcotcp_sync::{Error, Key, ServerKeys};
//! use std::path::Path;
//!
//! /// Makes the server accept the keys in `directory`: `2027.key` under the name `2027`.
//! fn reload(keys: &ServerKeys, directory: &Path) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut found = Vec::new();
//!     for entry in directory.read_dir()? {
//!         let path = entry?.path();
//!         if path.extension().is_some_and(|extension| extension == "key") {
//!             let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
//!             // Every file is read before anything is changed: one that is wrong must not cut anybody off.
//!             found.push((name, Key::load(&path)?));
//!         }
//!     }
//!     let accepted = keys.names();
//!     for (name, key) in found.iter().filter(|(name, _)| !accepted.contains(name)) {
//!         keys.add(name, key)?;
//!     }
//!     // New ones first: at no moment is there no key.
//!     for name in accepted.iter().filter(|name| !found.iter().any(|(other, _)| other == *name)) {
//!         keys.withdraw(name);
//!     }
//!     Ok(())
//! }
//! # use falcotcp_sync::Server;
//! # let directory = std::env::temp_dir().join(format!("falcotcp-guide-{}", std::process::id()));
//! # let directory = directory.as_path();
//! # let _ = std::fs::remove_dir_all(directory);
//! # std::fs::create_dir(directory)?;
//! # Key::generate()?.save(directory.join("2026.key"))?;
//! # let first = Key::load(directory.join("2026.key"))?;
//! # let server = Server::builder_with_key("2026", first).bind("127.0.0.1:0")?.spawn(|m: &[u8]| m.to_vec())?;
//! # reload(&server.keys(), directory)?;
//! # assert_eq!(server.keys().names(), ["2026"]);
//!
//! Key::generate()?.save(directory.join("2027.key"))?;
//! reload(&server.keys(), directory)?;
//! assert_eq!(server.keys().names(), ["2026", "2027"]);
//!
//! std::fs::remove_file(directory.join("2026.key"))?;
//! reload(&server.keys(), directory)?;
//! assert_eq!(server.keys().names(), ["2027"]);
//! # std::fs::remove_dir_all(directory)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A key for each client, or for each group of them, tells them apart, which one key can't:
//! [`Request::key_name`](crate::Request::key_name) is the name of the key that the connection lives under, and to lock
//! one of them out its key is withdrawn. The server tries its keys in turn at each establishment, so tens of them cost
//! nothing that matters. Within one key everything of the README's section "Security" holds as before.
//!
//! ```
//! use falcotcp_sync::{Client, Handler, Key, Request, Response, Server};
//!
//! struct Service;
//!
//! impl Handler for Service {
//!     fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
//!         let may_write = request.key_name() == "billing";
//!         let answer: &[u8] = match request.message() {
//!             b"set" if !may_write => b"-only billing may do that",
//!             _ => b"+ok",
//!         };
//!         response.extend_from_slice(answer);
//!     }
//! }
//!
//! let (billing, reports) = (Key::generate()?, Key::generate()?);
//! let server = Server::builder_with_key("billing", billing.clone())
//!     .accept_key("reports", reports.clone())
//!     .bind("127.0.0.1:0")?
//!     .spawn(Service)?;
//!
//! assert_eq!(Client::connect(server.local_addr(), &billing)?.message(b"set")?, b"+ok");
//! assert_eq!(Client::connect(server.local_addr(), &reports)?.message(b"set")?, b"-only billing may do that");
//! # Ok::<(), falcotcp_sync::Error>(())
//! ```
//!
//! # Load balancers
//!
//! A load balancer before several servers works on TCP connections. It can't read what is sealed, and it needs no key.
//! For haproxy:
//!
//! ```text
//! defaults
//!     mode tcp
//!     timeout connect 2s
//!     # Longer than the lifetime, 60 s here: the servers end idle connections, not the balancer.
//!     timeout client  90s
//!     timeout server  90s
//!     # A server that has just gone: try another one.
//!     retries 3
//!     option redispatch
//!
//! frontend falcotcp
//!     bind :7878
//!     default_backend servers
//!
//! backend servers
//!     balance leastconn
//!     # "check" alone connects and closes again: no key is needed for it.
//!     default-server check inter 2s fall 2 rise 2 send-proxy-v2
//!     server one 10.0.0.1:7878
//!     server two 10.0.0.2:7878
//! ```
//!
//! - It deals connections, not messages: a client that stays connected stays with its server. `leastconn` suits that.
//!   After a restart of one server the connections come back to it only as clients connect anew.
//! - Pings are traffic for the balancer too: a client that is kept alive stays connected through it.
//! - A health check is a connection that never proves to have the key. It counts in
//!   [`Stats::accepted`](crate::Stats::accepted), and costs a descriptor for a moment; it says that the process
//!   accepts, not that it answers.
//! - To a client it looks as if the balancer were the server. When no server is left, haproxy accepts the connection
//!   and closes it, which is [`Error::Refused`](crate::Error::Refused). Clients with
//!   [`reconnect`](crate::ClientBuilder::reconnect) try again until their time is over.
//! - State that belongs to a connection, as by [`ConnectionId`](crate::ConnectionId), is gone when the connection is.
//!   Keep what must last where all servers find it.
//! - All servers hold the same keys; add a new one on all of them before any client uses it.
//!
//! The peer's address is the balancer's, unless that announces the true one. `send-proxy-v2` does so in a header
//! before everything else, and `proxy_protocol_from` (feature `proxy-protocol`) makes the server expect it from the
//! addresses given. The header is not sealed: whoever can connect from such an address can claim to be anybody, so
//! name no address that strangers can connect from, and close the servers' port to all others. Version 1 of the
//! header, the one in text, is refused. Switch it on at both ends together: connections with a header that is not
//! expected are closed, and so are those without one that is.
//!
//! ```
//! # #[cfg(not(feature = "proxy-protocol"))]
//! # fn main() {}
//! # #[cfg(feature = "proxy-protocol")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use falcotcp_sync::{Client, Handler, Key, Request, Response, Server};
//! use std::net::{IpAddr, Ipv4Addr};
//!
//! /// Answers with the address that the client has.
//! struct WhoAmI;
//!
//! impl Handler for WhoAmI {
//!     fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
//!         response.extend_from_slice(request.peer().ip().to_string().as_bytes());
//!     }
//! }
//!
//! # let key = Key::generate()?;
//! let balancer = IpAddr::V4(Ipv4Addr::LOCALHOST); // yours: 10.0.0.100, say
//! let server = Server::builder(key.clone())
//!     .proxy_protocol_from([balancer])
//!     .bind("127.0.0.1:0")?
//!     .spawn(WhoAmI)?;
//! # // A balancer for one connection: the header of a client at 192.0.2.1, then both directions.
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let (balanced, server_addr) = (listener.local_addr()?, server.local_addr());
//! # std::thread::spawn(move || -> std::io::Result<()> {
//! #     let (mut client, _) = listener.accept()?;
//! #     let mut server = std::net::TcpStream::connect(server_addr)?;
//! #     let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x0f\xa0\x01\xbb";
//! #     std::io::Write::write_all(&mut server, header)?;
//! #     let (mut requests, mut requests_to) = (client.try_clone()?, server.try_clone()?);
//! #     std::thread::spawn(move || std::io::copy(&mut requests, &mut requests_to));
//! #     std::io::copy(&mut server, &mut client)?;
//! #     Ok(())
//! # });
//!
//! // `balanced` is the balancer's address, and the client is at 192.0.2.1.
//! let mut client = Client::connect(balanced, &key)?;
//! assert_eq!(client.message(b"who am I?")?, b"192.0.2.1");
//! # Ok(())
//! # }
//! ```
//!
//! # Restarts without a gap
//!
//! Connections end with their process, and clients that [`reconnect`](crate::ClientBuilder::reconnect) get over that.
//! What must not happen is that nobody listens in between. There are two ways besides a load balancer.
//!
//! **Socket activation.** The service manager listens and hands the listener to the process. While the service
//! restarts, new connections wait in the queue, and the next process accepts them. With systemd that is a socket unit
//! beside the service's, `[Socket]` with `ListenStream=7878`, and in the program the crate `listenfd` with
//! [`ServerBuilder::listen`](crate::ServerBuilder::listen). The queue's length is `Backlog=` of the socket unit, then.
//!
//! ```
//! use falcotcp_sync::{Client, Key, Server};
//! use listenfd::ListenFd;
//!
//! # let key = Key::generate()?;
//! let builder = Server::builder(key.clone());
//! let server = match ListenFd::from_env().take_tcp_listener(0)? {
//!     Some(listener) => builder.listen(listener)?,
//!     None => builder.bind("127.0.0.1:0")?, // started by hand; 0.0.0.0:7878 in earnest
//! };
//! let server = server.spawn(|message: &[u8]| message.to_vec())?;
//! # let addr = server.local_addr();
//! assert_eq!(Client::connect(addr, &key)?.message(b"hello")?, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What the service manager does, in one program: the listener outlives the server.
//!
//! ```
//! use falcotcp_sync::{Client, Key, Server};
//! use std::net::TcpListener;
//! use std::thread;
//! use std::time::Duration;
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let addr = listener.local_addr()?;
//! let key = Key::generate()?;
//! let start = |answer: &'static [u8]| {
//!     let server = Server::builder(key.clone()).listen(listener.try_clone().unwrap())?;
//!     server.spawn(move |_: &[u8]| answer)
//! };
//!
//! let old = start(b"old")?;
//! let mut client = Client::builder(&key).reconnect(true).connect(addr)?;
//! assert_eq!(client.message(b"version")?, b"old");
//! old.shutdown(Duration::from_secs(1))?;
//!
//! // Nobody serves now: the client's new connection waits in the queue.
//! let asks = thread::spawn(move || client.message(b"version"));
//! thread::sleep(Duration::from_millis(100));
//! let new = start(b"new")?;
//! assert_eq!(asks.join().unwrap()?, b"new");
//! # drop(new);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **Several processes on one port.** With `reuse_port` (Unix) the new version listens beside the old one, which is
//! stopped when the new one is seen to work. Linux spreads new connections over the two; other systems may give all of
//! them to one. All processes must set it, and run as the same user. One thing remains on Linux: connections that wait
//! in the queue of the process that stops are reset, unless `net.ipv4.tcp_migrate_req` is 1. Clients that reconnect
//! try again.
//!
//! ```
//! # #[cfg(not(unix))]
//! # fn main() {}
//! # #[cfg(unix)]
//! # fn main() -> Result<(), falcotcp_sync::Error> {
//! use falcotcp_sync::{Client, Key, Server};
//! use std::net::SocketAddr;
//! use std::time::Duration;
//!
//! let key = Key::generate()?;
//! let start = |addr: SocketAddr| {
//!     let server = Server::builder(key.clone()).reuse_port(true).bind(addr)?;
//!     server.spawn(|message: &[u8]| message.to_vec())
//! };
//!
//! let old = start(SocketAddr::from(([127, 0, 0, 1], 0)))?;
//! let addr = old.local_addr();
//! let mut client = Client::builder(&key).reconnect(true).connect(addr)?;
//! let new = start(addr)?; // the next process
//! old.shutdown(Duration::from_secs(5))?;
//! assert_eq!(client.message(b"hello")?, b"hello");
//! assert_eq!(new.stats().messages, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Stopping, in containers above all
//!
//! [`shutdown`](crate::ServerHandle::shutdown) and [`Stopper::stop_within`](crate::Stopper::stop_within) accept no
//! more connections, answer each message that has arrived whole, and close a connection when nothing of it is
//! unfinished. What is still unfinished when the drain is over is cut, and counted in the
//! [report](crate::ShutdownReport). [`Stopper::stop`](crate::Stopper::stop), as dropping the handle, drains for 100
//! ms. A handler that runs is always waited for, which is one more reason for time-outs in handlers.
//!
//! In a container:
//!
//! - Handle SIGTERM. The first process of a container is not ended by a signal that it does not handle: it would be
//!   killed when the grace period is over. Start the program itself (`ENTRYPOINT ["/service"]`), not through a shell,
//!   which does not pass the signal on.
//! - Drain for less than the grace period, which is 10 s with Docker and 30 s with Kubernetes unless you set it.
//! - Kubernetes takes the address out of its services while it sends SIGTERM, not before. So some clients still come
//!   when nobody listens any more; those that reconnect try again. Or let a `preStop` hook sleep for some seconds.
//! - Listen on `0.0.0.0` or `[::]`: on `127.0.0.1` nobody outside the container can connect.
//! - [`Key::load`](crate::Key::load) refuses files that others than their owner can read, as a secret that is mounted
//!   for a group. If such a mount is what you have, read the file yourself and use
//!   [`Key::from_hex`](crate::Key::from_hex).
//!
//! ```
//! # #[cfg(not(unix))]
//! # fn main() {}
//! # #[cfg(unix)]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use falcotcp_sync::{Client, Key, Server};
//! use signal_hook::consts::{SIGINT, SIGTERM};
//! use signal_hook::iterator::Signals;
//! use std::thread;
//! use std::time::Duration;
//!
//! /// Less than the 10 s after which Docker kills.
//! const DRAIN: Duration = Duration::from_secs(8);
//!
//! # let key = Key::generate()?;
//! // Before the server serves: a signal that comes early is not lost.
//! let mut signals = Signals::new([SIGTERM, SIGINT])?;
//! let server = Server::builder(key.clone())
//!     .bind("127.0.0.1:0")? // 0.0.0.0:7878 in a container
//!     .spawn(|message: &[u8]| message.to_vec())?;
//! let stopper = server.stopper();
//! thread::spawn(move || {
//!     if signals.forever().next().is_some() {
//!         stopper.stop_within(DRAIN);
//!     }
//! });
//!
//! # let mut client = Client::connect(server.local_addr(), &key)?;
//! # assert_eq!(client.message(b"hello")?, b"hello");
//! # signal_hook::low_level::raise(SIGTERM)?;
//! let report = server.wait()?; // until the signal
//! println!("drained {}, cut {}", report.drained, report.cut);
//! # assert_eq!((report.drained, report.cut), (1, 0));
//! # Ok(())
//! # }
//! ```
//!
//! `examples/echo_server.rs` does this with a second signal that ends the program at once.
//!
//! # What to log and alert on
//!
//! Log lines go through the `log` crate. In production take `info` from `falcotcp_sync::server` and `warn` from
//! `falcotcp_sync::server::connection`; with `env_logger` that is `RUST_LOG=falcotcp_sync=info`. `debug` also says
//! when each connection begins and ends and why a client connects anew, and is for looking into something. Whoever can
//! reach the port can cause a `warn` line for each connection that it opens: bound what your logger keeps. No key,
//! plaintext or nonce is ever written.
//!
//! [`ServerHandle::stats`](crate::ServerHandle::stats) is cheap, and all its numbers but `open` and each worker's
//! `connections` only grow: export them as they are, and alert on their rates. The handler measures its own times: the
//! server does not.
//!
//! | number | alert when | as a rule it is |
//! |---|---|---|
//! | `panics` | it grows at all | a bug in the handler; the panic's own message on standard error says where |
//! | `refused` | it grows at all | `max_connections` is too low, or clients leak connections |
//! | `open` | it comes near `max_connections`, or the descriptors' limit | growth, or a leak |
//! | `unauthenticated` | it grows by more than a few | a client with an old key, or strangers at the port |
//! | `rejected` | it grows at all | a client with a higher `max_message_size`, or damage by somebody on the path |
//! | `expired` | it is a large part of `accepted` | clients without keep-alive, or lifetimes that differ |
//! | `withdrawn` | it grows by more than you expect when a key changes | clients that nobody has told |
//! | `cut` | it is not 0 after a stop | the drain is shorter than what handlers or slow peers take |
//! | `redealt` | it is a large part of `messages` | handlers block: not wrong, but have enough workers. A few moves are normal under any load |
//! | `messages` | it stands still while `open` does not | handlers hang, all of them |
//!
//! The error lines of `falcotcp_sync::server` and `falcotcp_sync::server::connection` are worth an alert each, and so
//! is the warning that accepting failed.
//!
//! ```
//! use falcotcp_sync::{Client, Key, Server, Stats};
//!
//! /// What has gone wrong from one look to the next.
//! fn alarms(before: &Stats, now: &Stats, max_connections: usize) -> Vec<&'static str> {
//!     let expected = now.accepted - before.accepted;
//!     [
//!         (now.panics > before.panics, "handlers panic"),
//!         (now.refused > before.refused, "connections are refused"),
//!         (now.open * 10 > max_connections * 9, "nearly full"),
//!         (now.rejected > before.rejected, "messages are rejected"),
//!         // A few strangers are normal; when it is every other connection, a client has the wrong key.
//!         ((now.unauthenticated - before.unauthenticated) * 2 > expected, "keys don't match"),
//!     ]
//!     .into_iter()
//!     .filter_map(|(is_wrong, alarm)| is_wrong.then_some(alarm))
//!     .collect()
//! }
//!
//! let key = Key::generate()?;
//! let server = Server::builder(key.clone())
//!     .max_connections(1000)
//!     .bind("127.0.0.1:0")?
//!     .spawn(|message: &[u8]| message[0].to_string())?; // panics at an empty message
//!
//! let before = server.stats();
//! let mut client = Client::connect(server.local_addr(), &key)?;
//! assert_eq!(client.message(b"A")?, b"65");
//! assert!(alarms(&before, &server.stats(), 1000).is_empty());
//!
//! client.message(b"").unwrap_err();
//! assert_eq!(alarms(&before, &server.stats(), 1000), ["handlers panic"]);
//! # Ok::<(), falcotcp_sync::Error>(())
//! ```
//!
//! A health check that says more than "it accepts" is a message of your own that the handler answers, from a client
//! with a short time-out. It needs a key, so let it have one of its own name, and it measures what users wait for:
//! `falco ping --count 1` from `examples/falco` does that in a shell.
