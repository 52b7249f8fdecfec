//! Answers that another thread gives: one thread for all of them, which echoes what it is handed.

use std::sync::mpsc::{Sender, channel};
use std::thread;

use falcotcp_sync::{Handler, Request, Response};

/// Hands each message over and waits for its answer, which holds up one worker a message.
pub(super) struct HandOver {
    jobs: Sender<(Vec<u8>, Sender<Vec<u8>>)>,
}

impl HandOver {
    pub(super) fn start() -> HandOver {
        let (jobs, waiting) = channel::<(Vec<u8>, Sender<Vec<u8>>)>();
        thread::spawn(move || {
            for (message, answer) in waiting {
                // Who asked waits until it is answered.
                let _ = answer.send(message);
            }
        });
        HandOver { jobs }
    }
}

impl Handler for HandOver {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let (answer, answered) = channel();
        let handed_over = self.jobs.send((request.message().to_vec(), answer));
        if let (Ok(()), Ok(message)) = (handed_over, answered.recv()) {
            response.extend_from_slice(&message);
        }
    }
}
