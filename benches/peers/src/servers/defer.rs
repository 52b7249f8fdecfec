//! Answers that come later: one other thread gives all of them, and no worker waits.

use std::sync::mpsc::{Sender, channel};
use std::thread;

use falcotcp_sync::{Handler, Reply, Request, Response};

use super::work::Work;

/// Hands each message over together with its reply.
pub(super) struct Defer {
    jobs: Sender<(Vec<u8>, Reply)>,
}

impl Defer {
    pub(super) fn start(work: Work) -> Defer {
        let (jobs, waiting) = channel::<(Vec<u8>, Reply)>();
        thread::spawn(move || {
            let mut held = Vec::new();
            for (message, reply) in waiting {
                if work.holds(&message) {
                    held.push((message, reply));
                } else {
                    // Who asked may be gone; then nobody waits for the answer.
                    let _ = reply.send(message);
                }
            }
        });
        Defer { jobs }
    }
}

impl Handler for Defer {
    /// Were the other thread gone, the reply would be dropped, which rejects the request.
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let _ = self.jobs.send((request.message().to_vec(), response.defer()));
    }
}
