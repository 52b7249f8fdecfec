//! A server and a client in one program: a message, a ping, a client with the wrong key, and a clean stop.
//!
//! `cargo run --release --example quickstart`

use std::time::Duration;

use falcotcp_sync::{Client, Error, Key, Server};

fn main() -> Result<(), Error> {
    let key = Key::generate()?;
    let server = Server::builder(key.clone())
        .workers(4)
        .bind("127.0.0.1:0")?
        .spawn(|message: &[u8]| message.to_ascii_uppercase())?;
    println!("server:  listening on {}", server.local_addr());

    let mut client = Client::connect(server.local_addr(), &key)?;
    println!("client:  connected, both hold the same key");

    let response = client.message(b"hello, falcon")?;
    println!("client:  sent \"hello, falcon\", received {:?}", String::from_utf8_lossy(&response));

    client.ping()?;
    println!("client:  pinged, so the connection lives for another 60 s");

    match Client::connect(server.local_addr(), &Key::generate()?) {
        Err(error @ Error::Refused { .. }) => println!("another: {error}"),
        Err(error) => return Err(error),
        Ok(_) => unreachable!("a client with another key was let in"),
    }

    let stats = server.stats();
    println!("server:  {} connections, {} message, {} ping", stats.accepted, stats.messages, stats.pings);

    let report = server.shutdown(Duration::from_secs(5))?;
    println!("server:  stopped, {} connection drained, {} cut", report.drained, report.cut);
    Ok(())
}
