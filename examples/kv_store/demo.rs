//! `kv_store` without an argument: servers and clients in one program.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use falcotcp_sync::{Client, Error, ForwardSecrecy, Key, ServerHandle};

use crate::client::{AskError, StoreClient};
use crate::command;
use crate::encoding::Operation;
use crate::failure::Failure;
use crate::serve;
use crate::store::Store;

const CLIENTS: usize = 4;
const ADDITIONS: usize = 250;
const DRAIN: Duration = Duration::from_secs(5);

pub(crate) fn run() -> Result<(), Failure> {
    let key = Key::generate()?;
    let store = Arc::new(Store::default());
    let server = serve::start(key.clone(), "127.0.0.1:0", Arc::clone(&store))?;
    let addr = server.local_addr().to_string();
    say(&format!("A server with a new key, on {addr}. A client's session:"))?;

    let mut client = StoreClient::connect(&addr, &key)?;
    type_commands(&mut client)?;
    add_at_the_same_time(&addr, &key, &mut client)?;
    let server = replace(server, &key, store, &mut client)?;
    connect_as_classic(&addr, &key)?;

    let report = server.shutdown(DRAIN)?;
    say(&format!(
        "\nThe second server has stopped: {} connections, {} messages, {} connections cut.",
        report.stats.accepted, report.stats.messages, report.cut
    ))
}

fn type_commands(client: &mut StoreClient) -> Result<(), Failure> {
    for line in [
        "set greeting hello, falcon",
        "get greeting",
        "set user:1 Ada",
        "set user:2 Grace",
        "list user:",
        "delete user:1",
        "list",
        "add visits 1",
        "add visits 41",
    ] {
        type_command(client, line)?;
    }
    Ok(())
}

fn type_command(client: &mut StoreClient, line: &str) -> Result<(), Failure> {
    say(&format!("> {line}"))?;
    Ok(command::run(client, &command::words(line), &mut io::stdout().lock())?)
}

/// Each thread has a client of its own: a client is one connection, used by one thread at a time.
fn add_at_the_same_time(addr: &str, key: &Key, client: &mut StoreClient) -> Result<(), Failure> {
    say(&format!("\n{CLIENTS} clients at the same time, each adds 1 to a counter {ADDITIONS} times:"))?;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| add_repeatedly(addr, key))).collect();
        clients.into_iter().try_for_each(|client| match client.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Run("a client panicked".to_owned())),
        })
    })?;
    type_command(client, "get counter")
}

fn add_repeatedly(addr: &str, key: &Key) -> Result<(), Failure> {
    let mut client = StoreClient::connect(addr, key)?;
    for _ in 0..ADDITIONS {
        client.ask(&Operation::Add { key: "counter", amount: 1 })?;
    }
    Ok(())
}

/// A client that connects anew goes on with the next server. Had the first one stopped with the message on its way, it
/// would have said that it did not take it up, and the client would have sent it again.
fn replace(
    server: ServerHandle,
    key: &Key,
    store: Arc<Store>,
    client: &mut StoreClient,
) -> Result<ServerHandle, Failure> {
    say("\nAnother server takes the first one's place, and the client goes on:")?;
    let addr = server.local_addr().to_string();
    server.shutdown(DRAIN)?;
    let server = serve::start(key.clone(), &addr, store)?;
    type_command(client, "add counter 1")?;
    Ok(server)
}

/// Its messages could be replayed and reflected, so it is not let in.
fn connect_as_classic(addr: &str, key: &Key) -> Result<(), Failure> {
    say("\nA client with the key, but without forward secrecy:")?;
    match Client::builder(key).forward_secrecy(ForwardSecrecy::Off).connect(addr) {
        Err(Error::Refused { .. }) => say("refused"),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Failure::Run("it was let in".to_owned())),
    }
}

fn say(line: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::Run(error.to_string())
    }
}
