//! A key/value store behind a falcotcp server: its commands, its own encoding of messages, and a client for it.
//!
//! `cargo run --release --example kv_store` shows all of it in one program. As a service, in two terminals:
//!
//! ```sh
//! cargo run --release --example kv_store -- serve       # makes kv_store.key in the current directory
//! cargo run --release --example kv_store -- client set greeting "hello, falcon"
//! ```
//!
//! Where to look: `encoding` has the messages and says why they need no checks against replay, `store` is the database,
//! `service` is the handler that joins them, and `client` is the other end.

mod arguments;
mod client;
mod command;
mod demo;
mod encoding;
mod serve;
mod service;
mod shell;
mod store;
mod wire;

#[path = "../common/environment_log.rs"]
mod environment_log;
#[path = "../common/failure.rs"]
mod failure;
#[path = "../common/flags.rs"]
mod flags;
#[path = "../common/key_file.rs"]
mod key_file;
#[path = "../common/signal_flag.rs"]
mod signal_flag;

use std::process::ExitCode;

use failure::Failure;

const USAGE: &str = "\
usage: kv_store                                                          a demonstration
       kv_store serve [--listen ADDR] [--key-file FILE]
       kv_store client [--connect ADDR] [--key-file FILE] [COMMAND...]

  --listen ADDR     where to listen (default: 127.0.0.1:7879)
  --connect ADDR    the server's address (default: 127.0.0.1:7879)
  --key-file FILE   the key that both sides have; serve makes it if there is none (default: kv_store.key)

commands; without one, the client reads one a line from standard input:
  get KEY           print the value
  set KEY VALUE     store a value; on standard input it is the rest of the line
  delete KEY        remove a key and its value
  list [PREFIX]     print the keys, in order
  add KEY N         add N, which may be negative, to a number, and print the sum; no value counts as 0

FALCOTCP_LOG=debug in the environment says more (off, error, warn, info, debug, trace; default: warn).";

fn main() -> ExitCode {
    failure::exit_status(arguments::words().and_then(run), USAGE)
}

fn run(words: Vec<String>) -> Result<(), Failure> {
    environment_log::start()?;
    let mut words = words.into_iter();
    match words.next().as_deref() {
        None => demo::run(),
        Some("serve") => serve::run(words),
        Some("client") => shell::run(words),
        Some("--help" | "-h" | "help") => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(Failure::Usage(format!("unknown argument: {other}"))),
    }
}
