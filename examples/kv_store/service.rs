//! What the server does with a message: decode, let in, do, encode.

use std::sync::Arc;

use falcotcp_sync::{Error, Handler, Request, Response};

use crate::encoding::{self, Answer, MAX_LISTED, Operation, Problem, RequestId};
use crate::sessions::Sessions;
use crate::store::Store;

/// The handler. It answers whatever bytes come, and never panics: what can't be decoded gets an answer that says so.
pub(crate) struct Service {
    store: Arc<Store>,
    sessions: Sessions,
}

impl Service {
    /// Serves `store`.
    pub(crate) fn new(store: Arc<Store>) -> Result<Self, Error> {
        let run = getrandom::u64().map_err(|error| Error::Random(Arc::new(error.into())))?;
        Ok(Self { store, sessions: Sessions::new(run) })
    }

    fn answer(&self, message: &[u8]) -> (RequestId, Answer) {
        match encoding::read_request(message) {
            Ok((id, Ok(operation))) => (id, self.execute(id, operation).unwrap_or_else(Answer::Problem)),
            Ok((id, Err(_))) => (id, Answer::Problem(Problem::Malformed)),
            Err(_) => (RequestId::NONE, Answer::Problem(Problem::Malformed)),
        }
    }

    fn execute(&self, id: RequestId, operation: Operation<'_>) -> Result<Answer, Problem> {
        // Everything but a hello belongs to a session, also what only reads: one rule is simpler than two.
        if operation != Operation::Hello {
            self.sessions.admit(id)?;
        }
        let store = &self.store;
        Ok(match operation {
            Operation::Hello => Answer::Welcome { session: self.sessions.open() },
            Operation::Get { key } => store.get(key).map_or(Answer::NotFound, Answer::Value),
            Operation::Set { key, value } => {
                store.set(key, value);
                Answer::Done
            }
            Operation::Delete { key } if store.delete(key) => Answer::Done,
            Operation::Delete { .. } => Answer::NotFound,
            Operation::List { prefix, after } => {
                let (keys, more) = store.list(prefix, after, MAX_LISTED);
                Answer::Keys { keys, more }
            }
            Operation::Add { key, amount } => Answer::Number(store.add(key, amount)?),
        })
    }
}

impl Handler for Service {
    fn handle(&self, request: Request<'_>, response: &mut Response<'_>) {
        let (id, answer) = self.answer(request.message());
        if let Answer::Problem(problem) = answer {
            log::debug!("{}: {problem}", request.peer());
        }
        encoding::write_response(id, &answer, response);
    }
}
