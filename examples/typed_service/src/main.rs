//! A service whose requests, answers and errors are enums: serde and postcard make bytes of them.
//!
//! `cargo run --manifest-path examples/typed_service/Cargo.toml`

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use falcotcp_sync::{Client, Handler, Key, Response, Server};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Request {
    Deposit { account: String, cents: u64 },
    Withdraw { account: String, cents: u64 },
    Balance { account: String },
}

/// What the service answers, also when that is no: only a handler that panics gives no answer.
type Answer = Result<u64, Refusal>;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Refusal {
    /// The request could not be decoded: the client is newer or older than the server.
    Unreadable,
    NoSuchAccount,
    TooLittle {
        cents: u64,
    },
}

#[derive(Default)]
struct Bank(Mutex<BTreeMap<String, u64>>);

impl Bank {
    fn answer(&self, request: Request) -> Answer {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match request {
            Request::Deposit { account, cents } => {
                let balance = accounts.entry(account).or_default();
                *balance = balance.saturating_add(cents);
                Ok(*balance)
            }
            Request::Withdraw { account, cents } => {
                let balance = accounts.get_mut(&account).ok_or(Refusal::NoSuchAccount)?;
                *balance = balance.checked_sub(cents).ok_or(Refusal::TooLittle { cents: *balance })?;
                Ok(*balance)
            }
            Request::Balance { account } => accounts.get(&account).copied().ok_or(Refusal::NoSuchAccount),
        }
    }
}

impl Handler for Bank {
    fn handle(&self, request: falcotcp_sync::Request<'_>, response: &mut Response<'_>) {
        let decoded = postcard::from_bytes(request.message()).map_err(|_| Refusal::Unreadable);
        let answer = decoded.and_then(|request| self.answer(request));
        if postcard::to_io(&answer, &mut *response).is_err() {
            response.reject();
        }
    }
}

/// Why there is no answer that can be used.
type Failure = Box<dyn std::error::Error>;

fn ask(client: &mut Client, request: &Request) -> Result<Answer, Failure> {
    let message = postcard::to_stdvec(request)?;
    // Asking twice changes nothing, depositing twice does.
    let asked = client.request(&message).timeout(Duration::from_secs(5));
    let asked = if matches!(request, Request::Balance { .. }) { asked.idempotent() } else { asked };
    Ok(postcard::from_bytes(&asked.send()?)?)
}

fn main() -> Result<(), Failure> {
    let key = Key::generate()?;
    let server = Server::builder(&key).bind("127.0.0.1:0")?.spawn(Bank::default())?;
    let mut client = Client::builder(&key).reconnect(true).connect(server.local_addr())?;
    let account = || "anna".to_owned();
    for request in [
        Request::Balance { account: account() },
        Request::Deposit { account: account(), cents: 500 },
        Request::Withdraw { account: account(), cents: 200 },
        Request::Withdraw { account: account(), cents: 700 },
    ] {
        println!("{request:?}: {:?}", ask(&mut client, &request)?);
    }
    let unreadable: Answer = postcard::from_bytes(&client.message(b"\xFF")?)?;
    println!("nonsense: {unreadable:?}");
    Ok(())
}

#[cfg(test)]
mod tests;
