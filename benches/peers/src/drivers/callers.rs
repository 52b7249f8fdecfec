//! Ways for many threads to call one server through the library's client.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::{iter, thread};

use clap::ValueEnum;
use falcotcp_sync::{Client, ClientBuilder, ClientManager, ForwardSecrecy, Key};

use super::threads::Exchange;
use crate::client::falco::SHARED_KEY;
use crate::error::Result;
use crate::servers::options::LIFETIME;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// A client for each thread.
    Client,
    /// One client behind a mutex.
    Mutex,
    /// An `r2d2` pool of 8 clients.
    Pool,
    /// One thread that owns the client, takes messages from a channel, and sends those that wait as one pipeline.
    Owner,
    /// The library's shared client.
    Shared,
}

const POOL: u32 = 8;
/// The owner takes at most this many messages at a time.
const BATCH: usize = 1024;

type Answer = std::result::Result<Vec<u8>, String>;
type Call = Box<dyn FnMut(&[u8]) -> Answer + Send>;

/// A caller for each of so many threads, all with messages of this size.
pub(crate) fn callers(way: Way, server: SocketAddr, threads: usize, size: usize) -> Result<Vec<Exchange>> {
    let message: Arc<[u8]> = vec![b'm'; size].into();
    let exchange = |mut call: Call| {
        let message = Arc::clone(&message);
        let exchange: Exchange = Box::new(move || match call(&message)? {
            response if response == *message => Ok(()),
            _ => Err("a response differs from its request".to_owned()),
        });
        exchange
    };
    Ok(calls(way, server, threads)?.into_iter().map(exchange).collect())
}

fn calls(way: Way, server: SocketAddr, threads: usize) -> Result<Vec<Call>> {
    match way {
        Way::Client => (0..threads).map(|_| through_client(server)).collect(),
        Way::Mutex => through_mutex(server, threads),
        Way::Pool => through_pool(server, threads),
        Way::Owner => through_owner(server, threads),
        Way::Shared => through_shared(server, threads),
    }
}

/// No client runs out while others have their turn. Sessions are classic in all of them.
fn builder() -> ClientBuilder {
    Client::builder(Key::from_bytes(SHARED_KEY)).lifetime(LIFETIME).forward_secrecy(ForwardSecrecy::Off)
}

fn through_client(server: SocketAddr) -> Result<Call> {
    let mut client = builder().connect(server)?;
    Ok(Box::new(move |message| client.message(message).map_err(|error| error.to_string())))
}

fn through_mutex(server: SocketAddr, threads: usize) -> Result<Vec<Call>> {
    let client = Arc::new(Mutex::new(builder().connect(server)?));
    let call = |_| {
        let client = Arc::clone(&client);
        let call: Call = Box::new(move |message| {
            let mut client = client.lock().map_err(|error| error.to_string())?;
            client.message(message).map_err(|error| error.to_string())
        });
        call
    };
    Ok((0..threads).map(call).collect())
}

fn through_pool(server: SocketAddr, threads: usize) -> Result<Vec<Call>> {
    let pool = r2d2::Pool::builder().max_size(POOL).build(ClientManager::new(builder(), server)?)?;
    let call = |_| {
        let pool = pool.clone();
        let call: Call = Box::new(move |message| {
            let mut client = pool.get().map_err(|error| error.to_string())?;
            client.message(message).map_err(|error| error.to_string())
        });
        call
    };
    Ok((0..threads).map(call).collect())
}

fn through_shared(server: SocketAddr, threads: usize) -> Result<Vec<Call>> {
    let client = builder().connect_shared(server)?;
    let call = |_| {
        let client = client.clone();
        let call: Call = Box::new(move |message| client.message(message).map_err(|error| error.to_string()));
        call
    };
    Ok((0..threads).map(call).collect())
}

struct Job {
    message: Vec<u8>,
    answer: Sender<Answer>,
}

/// The owner ends when the last caller is dropped.
fn through_owner(server: SocketAddr, threads: usize) -> Result<Vec<Call>> {
    let client = builder().connect(server)?;
    let (jobs, waiting) = channel();
    thread::spawn(move || own(client, &waiting));
    let call = |_| {
        let jobs = jobs.clone();
        let (answer, answers) = channel();
        let call: Call = Box::new(move |message| {
            let job = Job { message: message.to_vec(), answer: answer.clone() };
            jobs.send(job).map_err(|error| error.to_string())?;
            answers.recv().map_err(|error| error.to_string())?
        });
        call
    };
    Ok((0..threads).map(call).collect())
}

fn own(mut client: Client, jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        let batch: Vec<Job> = iter::once(first).chain(jobs.try_iter().take(BATCH - 1)).collect();
        let mut waiting = batch.iter();
        // A caller whose turn is over does not take its answer.
        let done = client.pipeline(batch.iter().map(|job| &job.message), |result| {
            if let Some(job) = waiting.next() {
                let _ = job.answer.send(result.map(<[u8]>::to_vec).map_err(|error| error.to_string()));
            }
        });
        if let Err(error) = done {
            for job in waiting {
                let _ = job.answer.send(Err(error.to_string()));
            }
        }
    }
}
