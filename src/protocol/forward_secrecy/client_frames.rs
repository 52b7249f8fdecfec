//! The client's side of a session after the handshake.

use super::frame::{self, Incoming, from_client, from_server};
use super::frame_cipher::FrameCipher;
use super::handshake::SessionKeys;
use super::queue::{Awaited, Queue};
use crate::protocol::{ClientEvent, ClientFault, RejectionReason, SealError, ServerLimits, TAG_LENGTH};

/// Seals the client's frames, opens the server's, and holds these to the order of the queue.
#[derive(Debug)]
pub(in crate::protocol) struct ClientFrames {
    /// For sealing and for opening; `None` after a goodbye.
    ciphers: Option<(FrameCipher, FrameCipher)>,
    unanswered: Queue,
    /// Messages that were answered, by a response or a rejection.
    answered: u64,
    limits: ServerLimits,
    max_message_size: usize,
}

impl ClientFrames {
    pub(in crate::protocol) fn new(
        keys: &SessionKeys,
        limits: ServerLimits,
        max_message_size: usize,
    ) -> Self {
        let ciphers = (FrameCipher::new(&keys.client_to_server), FrameCipher::new(&keys.server_to_client));
        Self::with_ciphers(ciphers, limits, max_message_size)
    }

    pub(super) fn with_ciphers(
        ciphers: (FrameCipher, FrameCipher),
        limits: ServerLimits,
        max_message_size: usize,
    ) -> Self {
        Self { ciphers: Some(ciphers), unanswered: Queue::default(), answered: 0, limits, max_message_size }
    }

    /// Appends a message.
    ///
    /// # Errors
    /// [`SealError`] when it is over the server's limit, or after a goodbye; nothing was appended then.
    #[inline]
    pub(in crate::protocol) fn send(
        &mut self,
        message: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        if message.len() as u64 > self.limits.max_message_size {
            return Err(SealError);
        }
        self.append(Awaited::Message, from_client::MESSAGE, message, output)
    }

    /// Appends a ping; nothing after a goodbye.
    ///
    /// # Errors
    /// [`SealError`] after a goodbye.
    pub(in crate::protocol) fn ping(&mut self, output: &mut Vec<u8>) -> Result<(), SealError> {
        self.append(Awaited::Ping, from_client::PING, &[], output)
    }

    /// Takes one event from the start of `input` and says how many bytes belong to it.
    ///
    /// # Errors
    /// [`ClientFault`]; the session is over then.
    #[inline]
    pub(in crate::protocol) fn receive<'i>(
        &mut self,
        input: &'i mut [u8],
    ) -> Result<(usize, ClientEvent<'i>), ClientFault> {
        let Some((_, opening)) = &mut self.ciphers else { return Err(ClientFault::Unasked) };
        let (kind, text, frame_length) = match frame::receive(opening, input, self.max_message_size) {
            Incoming::NeedMore { frame_length } => return Ok((0, ClientEvent::NeedMore { frame_length })),
            Incoming::TooLarge { length } => {
                return Err(ClientFault::TooLarge { size: length - TAG_LENGTH as u64 });
            }
            Incoming::NotAuthentic => return Err(ClientFault::NotAuthentic),
            Incoming::Frame { kind, text, frame_length } => (kind, text, frame_length),
        };
        let event = match kind {
            from_server::RESPONSE => {
                self.message_answered()?;
                ClientEvent::Response(text)
            }
            from_server::REJECTION => {
                let [reason] = *text else { return Err(ClientFault::Malformed) };
                self.message_answered()?;
                ClientEvent::Rejected(RejectionReason::from_byte(reason))
            }
            from_server::GOODBYE if *text == self.answered.to_be_bytes() => {
                self.ciphers = None;
                ClientEvent::Goodbye
            }
            from_server::GOODBYE => return Err(ClientFault::Malformed),
            from_server::PONG if !text.is_empty() => return Err(ClientFault::Malformed),
            from_server::PONG if self.unanswered.pop(Awaited::Ping) => ClientEvent::Pong,
            from_server::PONG => return Err(ClientFault::Unasked),
            kind => ClientEvent::Skipped(kind),
        };
        Ok((frame_length, event))
    }

    /// Whether the server has not said goodbye.
    pub(in crate::protocol) fn is_open(&self) -> bool {
        self.ciphers.is_some()
    }

    /// How many messages have no response yet.
    pub(in crate::protocol) fn unanswered(&self) -> usize {
        self.unanswered.messages()
    }

    /// How many pings have no pong yet.
    pub(in crate::protocol) fn unanswered_pings(&self) -> usize {
        self.unanswered.pings()
    }

    /// What the server said of itself.
    pub(in crate::protocol) fn limits(&self) -> ServerLimits {
        self.limits
    }

    /// A frame of a later version.
    #[cfg(test)]
    pub(super) fn append_unregistered(
        &mut self,
        kind: u8,
        text: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let (sealing, _) = self.ciphers.as_mut().ok_or(SealError)?;
        frame::append(sealing, kind, text, output)
    }

    #[inline]
    fn append(
        &mut self,
        awaited: Awaited,
        kind: u8,
        text: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let (sealing, _) = self.ciphers.as_mut().ok_or(SealError)?;
        frame::append(sealing, kind, text, output)?;
        self.unanswered.push(awaited);
        Ok(())
    }

    #[inline]
    fn message_answered(&mut self) -> Result<(), ClientFault> {
        if !self.unanswered.pop(Awaited::Message) {
            return Err(ClientFault::Unasked);
        }
        self.answered += 1;
        Ok(())
    }
}
