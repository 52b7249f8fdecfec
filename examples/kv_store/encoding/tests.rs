//! Whatever is written can be read, and nothing else can.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ID: RequestId = RequestId { session: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef, number: 7 };

fn request(operation: &Operation<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    write_request(ID, operation, &mut message);
    message
}

fn response(answer: &Answer) -> Vec<u8> {
    let mut response = Vec::new();
    write_response(ID, answer, &mut response);
    response
}

fn operations() -> Vec<Operation<'static>> {
    vec![
        Operation::Hello,
        Operation::Get { key: "k" },
        Operation::Set { key: "Schlüssel", value: b"\0\xff" },
        Operation::Set { key: "k", value: b"" },
        Operation::Delete { key: "k" },
        Operation::List { prefix: "", after: "" },
        Operation::List { prefix: "user:", after: "user:41" },
        Operation::Add { key: "k", amount: i64::MIN },
    ]
}

fn answers() -> Vec<Answer> {
    let mut answers = vec![
        Answer::Welcome { session: u128::MAX },
        Answer::Done,
        Answer::NotFound,
        Answer::Value(b"\0\xff".as_slice().into()),
        Answer::Value(b"".as_slice().into()),
        Answer::Keys { keys: vec![], more: false },
        Answer::Keys { keys: vec!["a".to_owned(), "ä".to_owned()], more: true },
        Answer::Number(-1),
    ];
    answers.extend(Problem::ALL.map(Answer::Problem));
    answers
}

#[test]
fn operations_and_answers_can_be_read_again() {
    for operation in operations() {
        assert_eq!(read_request(&request(&operation)), Ok((ID, Ok(operation))));
    }
    for answer in answers() {
        assert_eq!(read_response(ID, &response(&answer)), Ok(answer));
    }
}

#[test]
fn what_is_cut_short_or_too_long_is_an_error() {
    let reads_as_operation = |message: &[u8]| matches!(read_request(message), Ok((_, Ok(_))));
    for operation in operations() {
        let mut message = request(&operation);
        for length in 0..message.len() {
            assert!(!reads_as_operation(&message[..length]), "{operation:?} cut to {length} bytes");
        }
        message.push(0);
        assert!(!reads_as_operation(&message), "{operation:?} with one byte more");
    }
    for answer in answers() {
        let mut response = response(&answer);
        for length in 0..response.len() {
            let cut = read_response(ID, &response[..length]);
            assert_eq!(cut, Err(Malformed), "{answer:?} cut to {length} bytes");
        }
        response.push(0);
        assert_eq!(read_response(ID, &response), Err(Malformed), "{answer:?} with one byte more");
    }
}

#[test]
fn a_request_is_no_response_and_a_response_no_request() {
    for operation in operations() {
        assert_eq!(read_response(ID, &request(&operation)), Err(Malformed));
    }
    for answer in answers() {
        assert_eq!(read_request(&response(&answer)), Err(Malformed));
    }
}

#[test]
fn the_response_to_another_request_is_not_taken() {
    let response = response(&Answer::Done);
    let others = [
        RequestId { number: ID.number + 1, ..ID },
        RequestId { session: ID.session + 1, ..ID },
        RequestId::NONE,
    ];
    for other in others {
        assert_eq!(read_response(other, &response), Err(Malformed));
    }
}

#[test]
fn an_operation_that_can_not_be_read_still_has_an_id() {
    let mut message = request(&Operation::Hello);
    message.pop();
    message.push(0xff);
    assert_eq!(read_request(&message), Ok((ID, Err(Malformed))));
}

#[test]
fn keys_and_values_have_their_limits() {
    let longest = "k".repeat(MAX_KEY);
    let value = vec![0; MAX_VALUE];
    let message = request(&Operation::Set { key: &longest, value: &value });
    assert!(message.len() <= MAX_MESSAGE);
    assert!(matches!(read_request(&message), Ok((_, Ok(_)))));

    let too_long = format!("{longest}k");
    for key in ["", &too_long] {
        assert_eq!(read_request(&request(&Operation::Get { key })), Ok((ID, Err(Malformed))));
    }
    let value = vec![0; MAX_VALUE + 1];
    let message = request(&Operation::Set { key: "k", value: &value });
    assert_eq!(read_request(&message), Ok((ID, Err(Malformed))));
}

proptest! {
    #[test]
    fn random_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = read_request(&bytes);
        let _ = read_response(ID, &bytes);
    }

    /// Random bytes behind a head that is right reach the parts that quite random bytes hardly ever do.
    #[test]
    fn random_bytes_behind_a_head_are_read_or_refused(code in 0..8_u8, bytes in vec(0..4_u8, 0..60)) {
        for direction in [REQUEST, RESPONSE] {
            let mut message = Vec::new();
            write_head(direction, ID, &mut message);
            message.push(code);
            message.extend_from_slice(&bytes);
            if let Ok((_, Ok(operation))) = read_request(&message) {
                prop_assert_eq!(request(&operation), message);
            } else if let Ok(answer) = read_response(ID, &message) {
                prop_assert_eq!(response(&answer), message);
            }
        }
    }

    #[test]
    fn any_key_and_value_can_be_read_again(key in "\\PC{1,99}", value in vec(any::<u8>(), 0..300)) {
        let set = Operation::Set { key: &key, value: &value };
        let message = request(&set);
        prop_assert_eq!(read_request(&message), Ok((ID, Ok(set))));
    }
}
