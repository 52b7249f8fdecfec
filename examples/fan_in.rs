//! A service that asks three others for each of its requests, at once, and answers when all have: on two workers, without a
//! thread a request. Then the same one after the other, for comparison.
//!
//! `cargo run --release --example fan_in`

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use falcotcp_sync::{
    Client, Error, Handler, Key, Reply, Request, Response, Server, ServerHandle, SharedClient,
};
use parking_lot::Mutex;

/// How long each of the three takes.
const TAKES: Duration = Duration::from_millis(20);
const CLIENTS: usize = 16;
const REQUESTS: usize = 5;

/// One of the services that are asked. Its answer comes later, so that it can take all requests at the same time.
struct Backend(&'static str);

impl Handler for Backend {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let reply = response.defer();
        let answer = [self.0.as_bytes(), b" of ", request.message()].concat();
        thread::spawn(move || {
            thread::sleep(TAKES);
            let _ = reply.send(answer);
        });
    }
}

/// Asks all three at once.
struct AtOnce([SharedClient; 3]);

/// The answers to one request, which the last one completes.
struct Gathered {
    answers: [Option<Vec<u8>>; 3],
    reply: Option<Reply>,
}

impl Gathered {
    fn add(&mut self, index: usize, answer: Result<Vec<u8>, Error>) {
        match answer {
            Ok(answer) => self.answers[index] = Some(answer),
            // Dropping the reply rejects the request.
            Err(_) => self.reply = None,
        }
        if self.answers.iter().all(Option::is_some)
            && let Some(reply) = self.reply.take()
        {
            let _ = reply.send(joined(self.answers.iter().flatten()));
        }
    }
}

fn joined<'a>(answers: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    answers.map(Vec::as_slice).collect::<Vec<_>>().join(&b", "[..])
}

impl Handler for AtOnce {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let gathered = Gathered { answers: [const { None }; 3], reply: Some(response.defer()) };
        let gathered = Arc::new(Mutex::new(gathered));
        for (index, backend) in self.0.iter().enumerate() {
            let gathered = Arc::clone(&gathered);
            match backend.try_start(request.message()) {
                // On the clients' own thread, which must not be held up: this only stores an answer.
                Ok(call) => call.then(move |answer| gathered.lock().add(index, answer)),
                Err(error) => gathered.lock().add(index, Err(error)),
            }
        }
    }
}

/// Asks one after the other, and holds a worker for as long.
struct InTurn([SharedClient; 3]);

impl Handler for InTurn {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let answers: Result<Vec<_>, _> =
            self.0.iter().map(|backend| backend.message(request.message())).collect();
        // A handler that panics rejects its request and nothing else.
        response.extend_from_slice(&joined(answers.expect("the services answer").iter()));
    }
}

/// How long the clients' requests take in all.
fn time(server: &ServerHandle, key: &Key) -> Result<Duration, Error> {
    let builder = Client::builder(key);
    let clients =
        (0..CLIENTS).map(|_| builder.connect(server.local_addr())).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                for number in 0..REQUESTS {
                    let answer = client.message(format!("order {number}").as_bytes()).expect("an answer");
                    assert_eq!(answer.split(|byte| *byte == b',').count(), 3);
                }
            });
        }
    });
    Ok(begun.elapsed())
}

fn main() -> Result<(), Error> {
    let key = Key::generate()?;
    let mut backends = Vec::new();
    for name in ["price", "stock", "delivery"] {
        backends.push(Server::builder(key.clone()).bind("127.0.0.1:0")?.spawn(Backend(name))?);
    }
    let connect = |index: usize| {
        Client::builder(&key).reconnect(true).keep_alive(true).connect_shared(backends[index].local_addr())
    };
    let clients = [connect(0)?, connect(1)?, connect(2)?];

    let front = |workers| Server::builder(key.clone()).workers(workers).bind("127.0.0.1:0");
    let server = front(2)?.spawn(AtOnce(clients.clone()))?;
    let mut client = Client::connect(server.local_addr(), &key)?;
    println!("{}", String::from_utf8_lossy(&client.message(b"order 7")?));
    let at_once = time(&server, &key)?;
    println!("{CLIENTS} clients, {REQUESTS} requests each, at once, on 2 workers:     {at_once:?}");
    drop(server);

    let server = front(CLIENTS)?.spawn(InTurn(clients))?;
    let in_turn = time(&server, &key)?;
    println!("{CLIENTS} clients, {REQUESTS} requests each, in turn, on {CLIENTS} workers:    {in_turn:?}");
    Ok(())
}
