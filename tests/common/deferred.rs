//! A server whose answers come later, for the tests of that.

// Each test file is a crate of its own and uses its part of this.
#![allow(dead_code)]

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use falcotcp_sync::{Handler, Reply, Request, Response, ServerBuilder, ServerHandle};

use crate::common::PATIENCE;

/// A message that is answered later.
pub(crate) struct Job {
    pub(crate) message: Vec<u8>,
    pub(crate) reply: Reply,
}

impl Job {
    /// The answer that its peer expects.
    pub(crate) fn answer(self) {
        self.reply.send(answer_to(&self.message)).expect("an answer that is wanted");
    }
}

pub(crate) fn answer_to(message: &[u8]) -> Vec<u8> {
    [message, b"!"].concat()
}

/// Does what the first word of a message says; echoes it when that says nothing.
struct Jobs {
    jobs: Sender<Job>,
    gate: Mutex<Receiver<()>>,
}

impl Jobs {
    fn later(&self, request: Request<'_>, response: &mut Response<'_>) {
        let reply = response.defer();
        // Nobody takes jobs any more when the test has ended.
        let _ = self.jobs.send(Job { message: request.message().to_vec(), reply });
    }
}

impl Handler for Jobs {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let message = request.message();
        match message.split(|byte| *byte == b' ').next() {
            Some(b"later") => {
                response.extend_from_slice(b"thrown away");
                self.later(request, response);
                response.extend_from_slice(b"as well");
            }
            Some(b"within") => response.defer().send(answer_to(message)).expect("an answer that is wanted"),
            Some(b"dropped") => drop(response.defer()),
            Some(b"rejected") => response.defer().reject(),
            Some(b"twice") => {
                let first = response.defer();
                self.later(request, response);
                let _ = self.jobs.send(Job { message: message.to_vec(), reply: first });
            }
            Some(b"fails") => panic!("as the test wants"),
            Some(b"fails-later") => {
                self.later(request, response);
                panic!("as the test wants");
            }
            // An error says that the test has ended.
            Some(b"blocks") => drop(self.gate.lock().expect("a gate").recv()),
            _ => response.extend_from_slice(message),
        }
    }
}

/// The jobs of one server, in the order in which its workers took them up.
pub(crate) struct Todo {
    jobs: Receiver<Job>,
    gate: Sender<()>,
}

impl Todo {
    /// The next job.
    pub(crate) fn next(&self) -> Job {
        self.jobs.recv_timeout(PATIENCE).expect("a job")
    }

    pub(crate) fn take(&self, count: usize) -> Vec<Job> {
        (0..count).map(|_| self.next()).collect()
    }

    /// Lets a handler that blocks go on.
    pub(crate) fn release(&self) {
        self.gate.send(()).expect("a server");
    }

    /// A job that is there by now.
    pub(crate) fn try_next(&self) -> Option<Job> {
        match self.jobs.try_recv() {
            Ok(job) => Some(job),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => panic!("the server has ended"),
        }
    }
}

pub(crate) fn jobs(builder: ServerBuilder) -> (ServerHandle, Todo) {
    let (sender, jobs) = channel();
    let (gate, waiting) = channel();
    let handler = Jobs { jobs: sender, gate: Mutex::new(waiting) };
    let server = builder.bind("127.0.0.1:0").expect("binding").spawn(handler).expect("spawning");
    (server, Todo { jobs, gate })
}
