//! The store as its clients see it.

use std::fmt;
use std::sync::Arc;

use falcotcp_sync::{Client, Error, Key, Phase};

use crate::encoding::{self, Answer, MAX_MESSAGE, Operation, Problem, RequestId};

/// A client of the store, connected and with a session.
pub(crate) struct StoreClient {
    addr: String,
    key: Key,
    client: Client,
    /// The session's name, which outlives the connection.
    session: u128,
    /// The number of the last request.
    number: u64,
}

/// Why there is no answer that could be used.
#[derive(Debug)]
pub(crate) enum AskError {
    /// The server answered that it did not do it.
    Problem(Problem),
    /// What came back is not the answer to this request.
    NotTheAnswer,
    /// Nothing came back.
    Transport(Error),
}

impl StoreClient {
    /// Connects to the store at `addr` and opens a session.
    pub(crate) fn connect(addr: &str, key: &Key) -> Result<Self, AskError> {
        let client = connect(addr, key)?;
        let mut client = Self { addr: addr.to_owned(), key: key.clone(), client, session: 0, number: 0 };
        client.open_session()?;
        Ok(client)
    }

    /// Asks the store for `operation` and returns what it answers, other than a problem.
    pub(crate) fn ask(&mut self, operation: &Operation<'_>) -> Result<Answer, AskError> {
        match self.ask_in_session(operation) {
            // The server was restarted, or has had very many sessions since. It did not do it, so asking again is safe.
            Err(AskError::Problem(Problem::UnknownSession)) => {
                self.open_session()?;
                self.ask_in_session(operation)
            }
            outcome => outcome,
        }
    }

    /// The next request of the session as its message, not sent.
    pub(crate) fn next_request(&mut self, operation: &Operation<'_>) -> (RequestId, Vec<u8>) {
        self.number += 1;
        let id = RequestId { session: self.session, number: self.number };
        (id, request(id, operation))
    }

    fn ask_in_session(&mut self, operation: &Operation<'_>) -> Result<Answer, AskError> {
        let (id, message) = self.next_request(operation);
        self.exchange(id, &message)
    }

    fn open_session(&mut self) -> Result<(), AskError> {
        // Fresh random bits that only the server can send back: a recorded welcome has others.
        let mut challenge = [0; 16];
        getrandom::fill(&mut challenge).map_err(|error| Error::Random(Arc::new(error.into())))?;
        let id = RequestId { session: u128::from_be_bytes(challenge), number: 0 };
        let Answer::Welcome { session } = self.exchange(id, &request(id, &Operation::Hello))? else {
            return Err(AskError::NotTheAnswer);
        };
        (self.session, self.number) = (session, 0);
        Ok(())
    }

    fn exchange(&mut self, id: RequestId, message: &[u8]) -> Result<Answer, AskError> {
        let response = self.send(message).inspect_err(|_| self.client.close())?;
        match encoding::read_response(id, &response) {
            Ok(Answer::Problem(problem)) => Err(AskError::Problem(problem)),
            Ok(answer) => Ok(answer),
            Err(_) => {
                // Somebody on the path moves responses about. The ones to come would not be the right ones either.
                self.client.close();
                Err(AskError::NotTheAnswer)
            }
        }
    }

    fn send(&mut self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self.client.message(message) {
            Err(error) if was_not_sent(&error) => {
                self.client = connect(&self.addr, &self.key)?;
                self.client.message(message)
            }
            outcome => outcome,
        }
    }
}

fn connect(addr: &str, key: &Key) -> Result<Client, Error> {
    Client::builder(key).max_message_size(MAX_MESSAGE).connect(addr)
}

fn request(id: RequestId, operation: &Operation<'_>) -> Vec<u8> {
    let mut message = Vec::new();
    encoding::write_request(id, operation, &mut message);
    message
}

/// Whether the connection was found dead before anything was sent over it. After any other error the store may or
/// may not have done what it was asked, and only the user can know whether doing it twice matters.
fn was_not_sent(error: &Error) -> bool {
    matches!(
        error,
        Error::Closed
            | Error::Unasked
            | Error::ClosedByServer { phase: Phase::Idle }
            | Error::Io { phase: Phase::Idle, .. }
    )
}

impl From<Error> for AskError {
    fn from(error: Error) -> Self {
        Self::Transport(error)
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => problem.fmt(f),
            Self::NotTheAnswer => f.write_str("what came back is not the answer to this request"),
            Self::Transport(error) => error.fmt(f),
        }
    }
}
