//! Answers that come later.

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};

use common::{PATIENCE, Peer, server};
use falcotcp_sync::{Handler, Reply, Request, Response, ServerBuilder, ServerHandle};

/// Defers every message that begins with `later`, and echoes the others.
struct Jobs(Sender<(Vec<u8>, Reply)>);

impl Handler for Jobs {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        if request.message().starts_with(b"later") {
            response.extend_from_slice(b"thrown away");
            let reply = response.defer();
            response.extend_from_slice(b"as well");
            let _ = self.0.send((request.message().to_vec(), reply));
            assert!(!request.message().ends_with(b"panic"), "as the test wants");
        } else {
            response.extend_from_slice(request.message());
        }
    }
}

fn jobs(builder: ServerBuilder) -> (ServerHandle, Receiver<(Vec<u8>, Reply)>) {
    let (sender, jobs) = channel();
    let server = builder.bind("127.0.0.1:0").expect("binding").spawn(Jobs(sender)).expect("spawning");
    (server, jobs)
}

fn job(jobs: &Receiver<(Vec<u8>, Reply)>) -> (Vec<u8>, Reply) {
    jobs.recv_timeout(PATIENCE).expect("a job")
}

#[test]
fn answers_leave_in_the_order_of_the_messages() {
    let (server, jobs) = jobs(server(1));
    let mut peer = Peer::establish(server.local_addr());
    for message in ["later 1", "at once", "later 2", "later 3"] {
        let frame = peer.message(message.as_bytes());
        peer.send(&frame);
    }
    let replies: Vec<_> = (0..3).map(|_| job(&jobs)).collect();
    assert_eq!((server.stats().deferred_now, server.stats().deferred), (3, 3));
    for (message, reply) in replies.into_iter().rev() {
        assert!(reply.is_wanted());
        reply.send([&message[..], b"!"].concat()).expect("a wanted answer");
    }
    for expected in ["later 1!", "at once", "later 2!", "later 3!"] {
        assert_eq!(peer.response().as_deref(), Some(expected.as_bytes()));
    }
    assert_eq!(server.stats().deferred_now, 0);
}
