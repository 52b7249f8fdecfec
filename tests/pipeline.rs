//! Many messages in flight on one connection.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{PATIENCE, Peer, echo_server, key, server};
use falcotcp_sync::{Client, Error, ForwardSecrecy, Phase, ServerHandle};

fn client(server: &ServerHandle) -> Client {
    Client::builder(key()).request_timeout(PATIENCE).connect(server.local_addr()).expect("connecting")
}

#[test]
fn responses_come_in_the_order_of_their_messages() {
    let server = echo_server(server(2));
    let mut client = client(&server);
    for count in [0, 1, 2, 1023, 1024, 1025, 20_000u32] {
        let mut next = 0u32;
        client
            .pipeline((0..count).map(u32::to_be_bytes), |result| {
                assert_eq!(result.expect("an answer"), next.to_be_bytes());
                next += 1;
            })
            .expect("a connection in order");
        assert_eq!(next, count);
    }
    assert_eq!(client.message(b"afterwards").expect("an answer"), b"afterwards");
}

#[test]
fn a_rejected_message_does_not_spoil_the_others() {
    let server = server(2)
        .bind("127.0.0.1:0")
        .expect("binding")
        .spawn(|message: &[u8]| {
            assert_ne!(message[0] % 3, 0);
            message.to_vec()
        })
        .expect("spawning");
    let mut client = client(&server);
    let messages: Vec<_> = (0..30u8).map(|number| [number]).collect();
    let results = client.messages(&messages).expect("a connection in order");
    assert_eq!(results.len(), messages.len());
    for (message, result) in messages.iter().zip(results) {
        match result {
            Ok(response) => assert_eq!(response, message),
            Err(error) => assert!(matches!(error, Error::HandlerFailed) && message[0] % 3 == 0, "{error}"),
        }
    }
    assert!(client.is_open());
}

#[test]
fn a_message_over_the_limit_has_its_result_in_its_place() {
    let server = echo_server(server(2));
    let mut client =
        Client::builder(key()).max_message_size(4).connect(server.local_addr()).expect("connecting");
    let messages = [&b"12345"[..], b"one", b"12345", b"12345", b"two", b"12345"];
    let results = client.messages(&messages).expect("a connection in order");
    for (message, result) in messages.iter().zip(&results) {
        match result {
            Ok(response) => assert_eq!(response, message),
            Err(Error::TooLarge { phase: Phase::Send, size: 5, limit: 4, .. }) => {
                assert_eq!(message.len(), 5);
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
}

#[test]
fn large_messages_and_large_responses_do_not_block_each_other() {
    let server = echo_server(server(1));
    let mut client = client(&server);
    // Each far beyond the sockets' buffers, in both directions at the same time.
    for (count, size) in [(12, 6 << 20), (300, 200_000), (3000, 16 << 10)] {
        let message: Vec<u8> = (0..=255).cycle().take(size).collect();
        let mut answered = 0;
        client
            .pipeline(std::iter::repeat_n(&message, count), |result| {
                assert!(result.expect("an answer") == message);
                answered += 1;
            })
            .expect("a connection in order");
        assert_eq!(answered, count);
    }
}

#[test]
fn small_messages_with_large_responses_do_not_block() {
    let server =
        server(1).bind("127.0.0.1:0").expect("binding").spawn(|_: &[u8]| vec![7; 1 << 20]).expect("spawning");
    let mut total = 0;
    client(&server)
        .pipeline(std::iter::repeat_n([0; 100], 200), |result| total += result.expect("an answer").len())
        .expect("a connection in order");
    assert_eq!(total, 200 << 20);
}

#[test]
fn results_that_came_before_the_end_of_the_connection_are_given() {
    let server = echo_server(server(1).max_message_size(1000).forward_secrecy(ForwardSecrecy::Off));
    let mut client = client(&server);
    let messages = [vec![1; 10], vec![2; 10], vec![3; 1001], vec![4; 10]];
    let mut results = Vec::new();
    let outcome = client.pipeline(&messages, |result| results.push(result.map(<[u8]>::to_vec)));
    // A time slice that is lost before the last message leaves it unsent.
    assert!(
        matches!(outcome, Err(Error::ClosedByServer { phase: Phase::Receive | Phase::Idle, .. })),
        "{outcome:?}"
    );
    assert!(matches!(results[..], [Ok(_), Ok(_), Err(Error::Rejected)]), "{results:?}");
    assert!(!client.is_open());
}

#[test]
fn a_server_that_stops_answering_times_out() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binding");
    let addr: SocketAddr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        std::io::Read::read_exact(&mut stream, &mut [0; 157]).expect("an establishment");
        std::io::Write::write_all(&mut stream, &[0xFF]).expect("accepting");
        drop(Peer::from(stream).rest());
    });
    let limit = Duration::from_millis(200);
    let mut client = Client::builder(key()).request_timeout(limit).connect(addr).expect("connecting");
    let outcome = client.pipeline([b"one", b"two"], |_| panic!("no answer was given"));
    assert!(matches!(outcome, Err(Error::TimedOut { phase: Phase::Receive, .. })), "{outcome:?}");
    assert!(!client.is_open());
}

#[test]
fn a_panic_of_the_caller_closes_the_client() {
    let server = echo_server(server(1));
    let mut client = client(&server);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        client.pipeline([b"one", b"two"], |_| panic!("the caller's own"))
    }));
    assert!(outcome.is_err());
    assert!(matches!(client.message(b"next"), Err(Error::Closed)));
}

#[test]
fn a_client_may_be_idle_after_a_pipeline_for_longer_than_a_request_may_take() {
    let server = echo_server(server(2));
    let limit = Duration::from_millis(1500);
    let mut client =
        Client::builder(key()).request_timeout(limit).connect(server.local_addr()).expect("connecting");
    client.messages(&["one", "two"]).expect("a connection in order");
    std::thread::sleep(limit);
    client.ping().expect("a connection in order");
}
