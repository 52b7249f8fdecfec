//! Whatever is written can be read, and nothing else can.

use arbtest::arbtest;

use super::*;

fn request(operation: &Operation<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    operation.encode(&mut message);
    message
}

fn response(answer: &Answer) -> Vec<u8> {
    let mut response = Vec::new();
    answer.encode(&mut response);
    response
}

fn operations() -> Vec<Operation<'static>> {
    vec![
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
        assert_eq!(Operation::decode(&request(&operation)), Ok(operation));
    }
    for answer in answers() {
        assert_eq!(Answer::decode(&response(&answer)), Ok(answer));
    }
}

#[test]
fn what_is_cut_short_or_too_long_is_an_error() {
    for operation in operations() {
        let mut message = request(&operation);
        for length in 0..message.len() {
            let cut = Operation::decode(&message[..length]);
            assert_eq!(cut, Err(Malformed), "{operation:?} cut to {length} bytes");
        }
        message.push(0);
        assert_eq!(Operation::decode(&message), Err(Malformed), "{operation:?} with one byte more");
    }
    for answer in answers() {
        let mut response = response(&answer);
        for length in 0..response.len() {
            let cut = Answer::decode(&response[..length]);
            assert_eq!(cut, Err(Malformed), "{answer:?} cut to {length} bytes");
        }
        response.push(0);
        assert_eq!(Answer::decode(&response), Err(Malformed), "{answer:?} with one byte more");
    }
}

#[test]
fn keys_and_values_have_their_limits() {
    let longest = "k".repeat(MAX_KEY);
    let value = vec![0; MAX_VALUE];
    let message = request(&Operation::Set { key: &longest, value: &value });
    assert!(message.len() <= MAX_MESSAGE);
    assert!(Operation::decode(&message).is_ok());

    let too_long = format!("{longest}k");
    for key in ["", &too_long] {
        assert_eq!(Operation::decode(&request(&Operation::Get { key })), Err(Malformed));
    }
    let value = vec![0; MAX_VALUE + 1];
    let message = request(&Operation::Set { key: "k", value: &value });
    assert_eq!(Operation::decode(&message), Err(Malformed));
}

#[test]
fn random_bytes_are_read_or_refused() {
    arbtest(|random| {
        let mut bytes = random.bytes(random.len())?.to_vec();
        // Bytes that are small reach the parts behind lengths, which quite random ones hardly ever do.
        if bytes.first().is_some_and(|byte| byte % 2 == 0) {
            for byte in &mut bytes {
                *byte %= 7;
            }
        }
        if let Ok(operation) = Operation::decode(&bytes) {
            assert_eq!(request(&operation), bytes);
        }
        if let Ok(answer) = Answer::decode(&bytes) {
            assert_eq!(response(&answer), bytes);
        }
        Ok(())
    })
    .size_min(1)
    .size_max(200);
}

#[test]
fn any_key_and_value_can_be_read_again() {
    arbtest(|random| {
        let length = random.int_in_range(1..=99)?;
        let key = (0..length).map(|_| random.arbitrary::<char>()).collect::<Result<String, _>>()?;
        let set = Operation::Set { key: &key, value: random.bytes(random.len())? };
        assert_eq!(Operation::decode(&request(&set)), Ok(set));
        Ok(())
    })
    .size_max(1000);
}
