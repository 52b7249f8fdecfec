//! A server whose answers come from another thread: each message is a job, two threads do the jobs, and no worker waits for
//! them. Without `--serve` it shows that with forty clients and ends.
//!
//! `cargo run --release --example job_queue [-- --serve]`

#[path = "common/stop_signals.rs"]
mod stop_signals;

use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use falcotcp_sync::{Client, Handler, Key, Reply, Request, Response, Server, ServerHandle};
use parking_lot::Mutex;

const JOB: Duration = Duration::from_millis(20);
const CLIENTS: usize = 40;

struct Job {
    message: Vec<u8>,
    reply: Reply,
}

struct Jobs(Sender<Job>);

impl Handler for Jobs {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        if request.message() == b"how are you?" {
            return response.extend_from_slice(b"fine"); // at once, as ever
        }
        let job = Job { message: request.message().to_vec(), reply: response.defer() };
        // If nobody does jobs any more, the reply is dropped with the job, and the client told so.
        let _ = self.0.send(job);
    }
}

/// Does jobs until there are no more.
fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let Ok(Job { message, reply }) = jobs.lock().recv() else { return };
        // Its client may be gone by now.
        if reply.is_wanted() {
            thread::sleep(JOB);
            let _ = reply.send([b"done: ", &message[..]].concat());
        }
    }
}

fn serve(key: &Key, addr: &str) -> Result<ServerHandle, falcotcp_sync::Error> {
    let (sender, jobs) = channel();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..2 {
        let jobs = Arc::clone(&jobs);
        thread::spawn(move || work(&jobs));
    }
    Server::builder(key.clone()).workers(2).bind(addr)?.spawn(Jobs(sender))
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("--serve") {
        let path = "falcotcp.key";
        let key = Key::load(path).map_err(|error| format!("{error}; `falco keygen {path}` makes one"))?;
        let server = serve(&key, "127.0.0.1:7880")?;
        let stopper = server.stopper();
        stop_signals::on_first(move || stopper.stop_within(Duration::from_secs(5)))?;
        println!("listening on {}, the key is in {path}", server.local_addr());
        server.wait()?;
        return Ok(());
    }

    let key = Key::generate()?;
    let server = serve(&key, "127.0.0.1:0")?;
    let addr = server.local_addr();
    let clients = (0..CLIENTS).map(|_| Client::connect(addr, &key)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    thread::scope(|scope| {
        for (number, mut client) in clients.into_iter().enumerate() {
            scope.spawn(move || client.message(format!("job {number}").as_bytes()).expect("an answer"));
        }
        // Two workers, forty jobs under way, and another client is answered at once.
        while server.stats().deferred_now == 0 {
            thread::yield_now();
        }
        let mut client = Client::connect(addr, &key).expect("a connection");
        let asked = Instant::now();
        client.message(b"how are you?").expect("an answer");
        let waiting = server.stats().deferred_now;
        println!("answered after {:?}, while {waiting} clients wait for their jobs", asked.elapsed());
    });
    println!("{CLIENTS} jobs of {JOB:?}, done by two threads: {:?}", begun.elapsed());
    server.shutdown(Duration::from_secs(5))?;
    Ok(())
}
