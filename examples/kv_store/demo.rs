//! `kv_store` without an argument: a server, clients and somebody on the path in one program.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use falcotcp_sync::{Client, Key};

use crate::client::{AskError, StoreClient};
use crate::command;
use crate::encoding::{self, Answer, Operation};
use crate::failure::Failure;
use crate::serve;
use crate::store::Store;
use crate::wire::Malformed;

const CLIENTS: usize = 4;
const ADDITIONS: usize = 250;

pub(crate) fn run() -> Result<(), Failure> {
    let key = Key::generate()?;
    let server = serve::start(key.clone(), "127.0.0.1:0", Arc::new(Store::default()))?;
    let addr = server.local_addr().to_string();
    say(&format!("A server with a new key, on {addr}. A client's session:"))?;

    let mut client = StoreClient::connect(&addr, &key)?;
    type_commands(&mut client)?;
    add_at_the_same_time(&addr, &key, &mut client)?;
    replay(&addr, &key, &mut client)?;
    reflect(&mut client)?;

    let stats = server.stats();
    let report = server.shutdown(Duration::from_secs(5))?;
    say(&format!(
        "\nThe server has stopped: {} connections, {} messages, {} connections cut.",
        stats.accepted, stats.messages, report.cut
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

/// Somebody who records frames can send them again, on any connection, without being able to read them. This sends one
/// message twice, which comes to the same for the handler.
fn replay(addr: &str, key: &Key, client: &mut StoreClient) -> Result<(), Failure> {
    say("\nSomebody on the path records an `add counter 1000` and sends it once more:")?;
    let (id, message) = client.next_request(&Operation::Add { key: "counter", amount: 1000 });
    for time in ["the first time", "again, on another connection"] {
        let response = Client::connect(addr, key)?.message(&message)?;
        say(&format!("{time}: {}", outcome(&encoding::read_response(id, &response))))?;
    }
    type_command(client, "get counter")
}

/// A sealed request opens at the client that sent it, too: both directions have one key.
fn reflect(client: &mut StoreClient) -> Result<(), Failure> {
    say("\nAnd sends a `get counter` back to its client as the response:")?;
    let (id, message) = client.next_request(&Operation::Get { key: "counter" });
    say(&outcome(&encoding::read_response(id, &message)))
}

fn outcome(read: &Result<Answer, Malformed>) -> String {
    match read {
        Ok(Answer::Problem(problem)) => format!("refused, {problem}"),
        Ok(Answer::Number(number)) => format!("done, {number}"),
        Ok(other) => format!("unexpected: {other:?}"),
        Err(_) => AskError::NotTheAnswer.to_string(),
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
