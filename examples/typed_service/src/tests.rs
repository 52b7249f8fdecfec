//! Without a server: bytes in, bytes out.

use falcotcp_sync::{TestAnswer, TestRequest};

use super::{Answer, Bank, Refusal, Request};

fn answer(bank: &Bank, message: Vec<u8>) -> Answer {
    let TestAnswer::Response(response) = TestRequest::new(message).send_to(bank) else {
        panic!("no response")
    };
    postcard::from_bytes(&response).expect("an answer")
}

#[test]
fn every_request_and_every_answer_is_understood() {
    let bank = Bank::default();
    let account = || "anna".to_owned();
    for (request, expected) in [
        (Request::Balance { account: account() }, Err(Refusal::NoSuchAccount)),
        (Request::Deposit { account: account(), cents: 5 }, Ok(5)),
        (Request::Withdraw { account: account(), cents: 7 }, Err(Refusal::TooLittle { cents: 5 })),
        (Request::Withdraw { account: account(), cents: 2 }, Ok(3)),
        (Request::Balance { account: account() }, Ok(3)),
    ] {
        let message = postcard::to_stdvec(&request).expect("encoding");
        assert_eq!(postcard::from_bytes::<Request>(&message).expect("decoding"), request);
        assert_eq!(answer(&bank, message), expected, "{request:?}");
    }
}

#[test]
fn what_is_cut_off_or_nonsense_is_refused() {
    let bank = Bank::default();
    let whole = postcard::to_stdvec(&Request::Deposit { account: "anna".to_owned(), cents: 1 << 40 });
    let whole = whole.expect("encoding");
    for cut in 0..whole.len() {
        assert_eq!(answer(&bank, whole[..cut].to_vec()), Err(Refusal::Unreadable), "{cut} bytes");
    }
    assert_eq!(answer(&bank, vec![0xFF; 10]), Err(Refusal::Unreadable));
}
