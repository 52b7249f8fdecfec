//! Answers that come later: who gets which, and in what order.

mod common;
#[path = "common/deferred.rs"]
mod deferred;

use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use common::{PING, Peer, Random, establishment, eventually, key, server};
use deferred::{Job, answer_to, jobs};
use falcotcp_sync::protocol::{Cipher, NonceSequence, SEAL_OVERHEAD, message_header};
use falcotcp_sync::{Client, Error, Key, NotWanted, Reply};

fn assert_sendable<T: Send + Sync + 'static>() {}

#[test]
fn replies_go_to_any_thread() {
    assert_sendable::<Reply>();
    assert_sendable::<NotWanted>();
}

#[test]
fn answers_leave_in_the_order_of_the_messages() {
    let (server, todo) = jobs(server(1));
    let mut peer = Peer::establish(server.local_addr());
    for message in ["later 1", "at once", "later 2", "later 3"] {
        peer.send_message(message.as_bytes());
    }
    let jobs = todo.take(3);
    assert_eq!((server.stats().deferred_now, server.stats().deferred), (3, 3));
    for job in jobs.into_iter().rev() {
        assert!(job.reply.is_wanted());
        job.answer();
    }
    for expected in ["later 1!", "at once", "later 2!", "later 3!"] {
        assert_eq!(peer.response().as_deref(), Some(expected.as_bytes()));
    }
    assert_eq!((server.stats().deferred_now, server.stats().deferred), (0, 3));
}

/// What a peer is to receive for one frame.
enum Expected {
    Nothing,
    Response(Vec<u8>),
    Empty,
    Accepted,
}

fn random_frame(peer: &mut Peer, random: &mut Random, number: usize) -> (Vec<u8>, Expected) {
    let mut text = |word: &str| {
        let size = if random.below(10) == 0 { random.below(200_000) } else { random.below(100) };
        [format!("{word} {number} ").into_bytes(), vec![b'.'; size]].concat()
    };
    let words =
        ["later", "later", "later", "later", "echo", "within", "dropped", "rejected", "twice", "fails"];
    let texts: Vec<_> = words.iter().copied().map(&mut text).collect();
    match random.below(words.len() + 6) {
        0 => (vec![1, 0, 0, 0, 0, 0, 0, 0, 0], Expected::Empty),
        1 => {
            let mut frame = peer.message(b"later");
            *frame.last_mut().expect("a tag") ^= 1;
            (frame, Expected::Empty)
        }
        2 => (establishment(&key()), Expected::Accepted),
        3 => (PING.to_vec(), Expected::Nothing),
        4 => (vec![77], Expected::Nothing),
        5 => (peer.message(b"fails-later"), Expected::Empty),
        kind => {
            let (word, text) = (words[kind - 6], &texts[kind - 6]);
            let expected = match word {
                "later" | "within" | "twice" => Expected::Response(answer_to(text)),
                "echo" => Expected::Response(text.clone()),
                _ => Expected::Empty,
            };
            (peer.message(text), expected)
        }
    }
}

/// Gives an answer if it is still wanted, as that of a message whose handler failed or deferred anew is not.
fn finish(job: Job) {
    let answer = answer_to(&job.message);
    if let Err(NotWanted(returned)) = job.reply.send(answer.clone()) {
        assert_eq!(returned, answer);
    }
}

fn answers_come_in_order(seed: u64) {
    let (server, todo) = jobs(server(2).max_deferred(1000));
    let mut random = Random(seed);
    let mut peer = Peer::establish(server.local_addr());
    let mut receiving = peer.second_hand();
    let mut frames = Vec::new();
    let mut expected = Vec::new();
    for number in 0..150 {
        let (frame, answer) = random_frame(&mut peer, &mut random, number);
        frames.push(frame);
        expected.push(answer);
    }
    let received = thread::spawn(move || {
        for (number, answer) in expected.into_iter().enumerate() {
            match answer {
                Expected::Nothing => {}
                Expected::Response(text) => {
                    assert!(receiving.response() == Some(text), "seed {seed}, {number}");
                }
                Expected::Empty => assert!(receiving.response().is_none(), "seed {seed}, {number}"),
                Expected::Accepted => assert_eq!(receiving.receive(1), [0xFF], "seed {seed}, {number}"),
            }
        }
    });
    let mut open = Vec::new();
    let mut unsent = frames.concat();
    while !unsent.is_empty() {
        let rest = unsent.split_off(random.below(20_000).min(unsent.len()));
        peer.send(&std::mem::replace(&mut unsent, rest));
        open.extend(std::iter::from_fn(|| todo.try_next()));
        while random.below(3) > 0 && !open.is_empty() {
            finish(open.swap_remove(random.below(open.len())));
        }
    }
    eventually("all answers received", || {
        open.extend(std::iter::from_fn(|| todo.try_next()));
        if !open.is_empty() {
            finish(open.swap_remove(random.below(open.len())));
        }
        received.is_finished()
    });
    received.join().expect("answers in order");
    assert_eq!(server.stats().deferred_now, 0);
    peer.assert_served();
}

#[test]
fn answers_come_in_order_whatever_happens_beside_them() {
    (0..12).for_each(answers_come_in_order);
}

#[test]
fn answers_of_many_connections_and_threads_find_theirs() {
    let (server, todo) = jobs(server(3));
    let addr = server.local_addr();
    let clients: Vec<_> = (0..8)
        .map(|client| {
            thread::spawn(move || {
                let mut connection = Client::connect(addr, key()).expect("connecting");
                let messages: Vec<_> =
                    (0..100).map(|number| format!("later {client} {number}").into_bytes()).collect();
                let mut answers = Vec::new();
                connection
                    .pipeline(&messages, |answer| answers.push(answer.expect("an answer").to_vec()))
                    .expect("a connection in order");
                let expected: Vec<_> = messages.iter().map(|message| answer_to(message)).collect();
                assert!(answers == expected);
            })
        })
        .collect();
    let (hand, jobs) = mpsc::channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..4 {
        let jobs = Arc::clone(&jobs);
        thread::spawn(move || {
            while let Ok(job) = { jobs.lock().expect("jobs").recv() } {
                job.answer();
            }
        });
    }
    (0..800).for_each(|_| hand.send(todo.next()).expect("threads that answer"));
    for client in clients {
        client.join().expect("answers in order");
    }
    assert_eq!((server.stats().deferred_now, server.stats().deferred), (0, 800));
}

#[test]
fn a_reply_that_is_dropped_or_rejects_gives_the_empty_response() {
    let (server, todo) = jobs(server(1));
    let mut client = Client::connect(server.local_addr(), key()).expect("connecting");
    for message in ["dropped", "rejected"] {
        assert!(matches!(client.message(message.as_bytes()), Err(Error::Rejected)), "{message}");
    }
    let mut peer = Peer::establish(server.local_addr());
    for how in [drop, Reply::reject] {
        peer.send_message(b"later");
        how(todo.next().reply);
        assert_eq!(peer.response(), None);
    }
    assert_eq!(peer.exchange(b"within the handler").as_deref(), Some(&b"within the handler!"[..]));
    peer.assert_served();
    assert_eq!((server.stats().deferred_now, server.stats().deferred), (0, 5));
}

#[test]
fn an_empty_answer_is_no_rejection() {
    let (server, todo) = jobs(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_message(b"later");
    todo.next().reply.send([]).expect("an answer that is wanted");
    assert_eq!(peer.response().as_deref(), Some(&b""[..]));
}

#[test]
fn the_reply_of_a_handler_that_panics_is_not_wanted() {
    let (server, todo) = jobs(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_message(b"fails-later");
    assert_eq!(peer.response(), None);
    let Job { reply, .. } = todo.next();
    assert!(!reply.is_wanted());
    assert_eq!(reply.send("too late"), Err(NotWanted(b"too late".to_vec())));
    peer.assert_served();
    assert_eq!((server.stats().panics, server.stats().deferred_now), (1, 0));
}

#[test]
fn of_two_replies_to_one_message_only_the_second_is_wanted() {
    let (server, todo) = jobs(server(1));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_message(b"twice");
    let [second, first] = [todo.next(), todo.next()];
    assert_eq!((first.reply.is_wanted(), second.reply.is_wanted()), (false, true));
    assert_eq!((server.stats().deferred_now, server.stats().deferred), (1, 1), "one answer");
    assert_eq!(first.reply.send("unwanted"), Err(NotWanted(b"unwanted".to_vec())));
    second.answer();
    assert_eq!(peer.response().as_deref(), Some(&b"twice!"[..]));
    peer.assert_served();
}

#[test]
fn an_answer_is_sealed_under_the_key_that_its_message_came_under() {
    let other = Key::from_bytes([0xA5; 32]);
    let (server, todo) = jobs(server(1).accept_key("other", other.clone()));
    let mut peer = Peer::establish(server.local_addr());
    peer.send_message(b"later 1");
    let first = todo.next();
    let other_cipher = Cipher::new(&other);
    let mut other_message = message_header(SEAL_OVERHEAD + 7).to_vec();
    other_message.extend([&[0; 12][..], b"later 2", &[0; 16]].concat());
    let mut nonces = NonceSequence::new().expect("random bytes");
    let sealed = other_message.len() - SEAL_OVERHEAD - 7;
    other_cipher.seal(&mut nonces, &mut other_message[sealed..]).expect("sealing");
    peer.send(&[establishment(&other), other_message].concat());
    // Time in which the establishment arrives.
    peer.assert_open();
    first.answer();
    assert_eq!(peer.response().as_deref(), Some(&b"later 1!"[..]));
    assert_eq!(peer.receive(1), [0xFF]);
    todo.next().answer();
    let length = u64::from_be_bytes(peer.receive(8).try_into().expect("8 bytes"));
    let mut response = peer.receive(usize::try_from(length).expect("a length"));
    assert_eq!(other_cipher.open(&mut response).expect("the other key"), b"later 2!");
}

#[test]
fn a_worker_at_a_long_turn_does_not_delay_the_answers_of_its_other_connections() {
    let (server, todo) = jobs(server(2));
    let mut peers: Vec<_> = (0..8).map(|_| Peer::establish(server.local_addr())).collect();
    let mut blocked = Peer::establish(server.local_addr());
    for round in 0..5 {
        let text = format!("later {round}");
        for peer in &mut peers {
            peer.send_message(text.as_bytes());
        }
        let open = todo.take(peers.len());
        blocked.send_message(b"blocks");
        eventually("a handler blocks", || server.stats().messages == (round + 1) * 9);
        open.into_iter().for_each(Job::answer);
        for peer in &mut peers {
            assert_eq!(peer.response(), Some(answer_to(text.as_bytes())));
        }
        eventually("it is seen that they were moved", || server.stats().redealt > 0);
        todo.release();
        assert_eq!(blocked.response().as_deref(), Some(&b""[..]));
    }
    assert_eq!(server.stats().deferred_now, 0);
}
