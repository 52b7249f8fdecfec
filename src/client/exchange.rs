//! The exchanges of a client: one message and its response, or a ping.

use std::time::Instant;

use log::debug;

use super::connection::Connection;
use super::reconnect::Backoff;
use super::settings::{Ask, LOG, rejected};
use crate::protocol::ClientEvent;
use crate::{Error, Phase};

impl Connection {
    /// Sends a message and receives its response, if need be on another connection.
    pub(super) fn message(&mut self, message: &[u8], response: &mut Vec<u8>, ask: Ask) -> Result<(), Error> {
        response.clear();
        ask.check()?;
        self.check(message)?;
        let defaults = self.settings;
        self.settings.request_timeout = ask.timeout.unwrap_or(defaults.request_timeout);
        let outcome = self.message_until(self.settings.deadline(), message, response, ask.is_idempotent);
        self.settings = defaults;
        outcome
    }

    fn message_until(
        &mut self,
        deadline: Instant,
        message: &[u8],
        response: &mut Vec<u8>,
        is_idempotent: bool,
    ) -> Result<(), Error> {
        let mut backoff = Backoff::new();
        let mut sent_before = None;
        loop {
            let outcome =
                self.exchange(deadline, |connection| connection.request(message, response, deadline));
            let Err(error) = outcome else { return Ok(()) };
            let may_help = if error.was_sent() {
                is_idempotent && matches!(error, Error::ClosedByServer { .. } | Error::Io { .. })
            } else {
                error.is_goodbye()
            };
            if !may_help || !self.settings.reconnect || !backoff.pause(deadline) {
                // What an earlier attempt may have done is what the caller must know.
                return Err(if error.was_sent() { error } else { sent_before.unwrap_or(error) });
            }
            debug!(target: LOG, "sending a message again after: {error}");
            if error.was_sent() {
                sent_before = Some(error);
            }
        }
    }

    pub(super) fn ping(&mut self) -> Result<(), Error> {
        let deadline = self.settings.deadline();
        self.exchange(deadline, |connection| {
            connection.output.clear();
            let link = connection.link.as_mut().ok_or(Error::Closed)?;
            link.session.ping(&mut connection.output);
            link.transport
                .send(&connection.output, deadline)
                .map_err(|error| connection.settings.io_error(Phase::Send, error))?;
            link.receive_pongs(&mut connection.input, &connection.settings, deadline)
        })
    }

    /// Runs `exchange` on a link that is known to be in order, and closes it if it is not afterwards.
    pub(super) fn exchange(
        &mut self,
        deadline: Instant,
        exchange: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.unpark();
        let outcome = self
            .make_ready(deadline)
            .and_then(|()| exchange(self).map_err(|error| error.at(self.peer_addr())));
        match (&outcome, &mut self.link) {
            (Err(Error::TooLarge { phase: Phase::Send, .. }), _) => {}
            (Err(error), link) if !error.is_rejection() => *link = None,
            (_, Some(link)) => link.last_used = Instant::now(),
            (_, None) => {}
        }
        self.release_buffers();
        self.park();
        outcome
    }

    /// Finds out without waiting whether the idle link is in order.
    #[cfg(feature = "r2d2")]
    pub(super) fn check_idle(&mut self) -> Result<(), Error> {
        self.unpark();
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        let outcome = link.refresh(&mut self.input, &self.settings).map_err(|error| error.at(link.addr));
        if outcome.is_err() {
            self.link = None;
        }
        self.park();
        outcome
    }

    fn check(&self, message: &[u8]) -> Result<(), Error> {
        if (!self.settings.reconnect || self.closed_by_owner) && !self.is_open() {
            return Err(Error::Closed);
        }
        // The server's own limit is known once there is a link.
        self.settings.max_message_size.map_or(Ok(()), |limit| check_size(message, limit as u64))
    }

    fn request(&mut self, message: &[u8], response: &mut Vec<u8>, deadline: Instant) -> Result<(), Error> {
        let (settings, input) = (&self.settings, &mut self.input);
        let link = self.link.as_mut().ok_or(Error::Closed)?;
        self.output.clear();
        let limit = link.max_message_size(settings);
        check_size(message, limit)?;
        link.session.send(message, &mut self.output).map_err(|_| Error::TooLarge {
            phase: Phase::Send,
            size: message.len() as u64,
            limit,
        })?;
        if let Err(error) = link.send(&self.output, input, settings, deadline) {
            // Also when it was rejected: the server takes what comes next for the rest of this message.
            let error = error.at(link.addr);
            self.link = None;
            return Err(error);
        }
        link.receive(input, settings, Phase::Receive, deadline, |event| match event {
            ClientEvent::Response(text) => {
                response.extend_from_slice(text);
                Ok(())
            }
            ClientEvent::Rejected(reason) => Err(rejected(reason)),
            _ => Err(Error::Rejected),
        })
    }
}

fn check_size(message: &[u8], limit: u64) -> Result<(), Error> {
    let size = message.len() as u64;
    if size > limit { Err(Error::TooLarge { phase: Phase::Send, size, limit }) } else { Ok(()) }
}
