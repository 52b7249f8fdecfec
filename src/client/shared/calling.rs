//! A call as a future from its very beginning: it waits for room without blocking.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::begin::Begin;
use super::call::Call;
use super::client::Shared;
use crate::Error;

/// What [`SharedClient::call`](crate::SharedClient::call) gives: a future of the response, in any executor. It begins when it is
/// first polled. Dropping it abandons the answer.
#[must_use = "a future does nothing until it is polled"]
pub struct Calling {
    client: Arc<Shared>,
    message: Vec<u8>,
    begin: Begin,
    /// Its place among those that wait for room.
    place: Option<u64>,
    call: Option<Call>,
}

impl Calling {
    pub(super) fn new(client: Arc<Shared>, message: Vec<u8>, begin: Begin) -> Self {
        Self { client, message, begin, place: None, call: None }
    }
}

impl Future for Calling {
    type Output = Result<Vec<u8>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            if let Some(call) = &mut this.call {
                return Pin::new(call).poll(context);
            }
            match this.client.begin(&this.message, this.begin) {
                Ok(slot) => {
                    this.leave();
                    this.message = Vec::new();
                    this.call = Some(Call::new(Arc::clone(&this.client), slot, this.begin.time));
                }
                Err(Error::Busy) => {
                    match this.client.wait_for_room(&mut this.place, context.waker(), this.begin.time) {
                        // There is room by now.
                        Ok(false) => {}
                        Ok(true) => return Poll::Pending,
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Err(error) => {
                    this.leave();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl Calling {
    fn leave(&mut self) {
        if let Some(place) = self.place.take() {
            self.client.leave_room_queue(place);
        }
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for Calling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calling").field("is_started", &self.call.is_some()).finish_non_exhaustive()
    }
}
