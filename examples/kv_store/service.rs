//! What the server does with a message: decode, do, encode.

use std::sync::Arc;

use falcotcp_sync::{Handler, Request, Response};

use crate::encoding::{Answer, MAX_LISTED, Operation, Problem};
use crate::store::Store;

/// The handler. It answers whatever bytes come, and never panics: what can't be decoded gets an answer that says so.
pub(crate) struct Service {
    store: Arc<Store>,
}

impl Service {
    /// Serves `store`.
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    fn answer(&self, message: &[u8]) -> Result<Answer, Problem> {
        let store = &self.store;
        Ok(match Operation::decode(message).map_err(|_| Problem::Malformed)? {
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
        let answer = self.answer(request.message()).unwrap_or_else(|problem| {
            log::debug!("{}: {problem}", request.peer());
            Answer::Problem(problem)
        });
        answer.encode(response);
    }
}
