//! Which answers have arrived, by their headers: what opens is seen when their turn comes.

use std::ops::RangeInclusive;
use std::time::Instant;

use super::InFlight;
use crate::client::link::Link;
use crate::protocol::{RESPONSE_HEADER, SEAL_OVERHEAD, decode_response};
use crate::{Error, Phase};

/// The types of forward-secret frames that end a message's wait: response, rejection and goodbye.
const ANSWERS: RangeInclusive<u8> = 1..=3;

/// What stands at the start of the input.
enum Frame {
    /// Not all of it is there: it has so many bytes, as far as is known.
    Missing(usize),
    /// What ends a message's wait, of so many bytes.
    Answer(usize),
    /// A pong, or of a type that nothing is known of.
    Other(usize),
}

impl InFlight {
    /// Bytes of the answer at the start of the input, as far as is known; `None` when it is there. Other frames that
    /// stand before it are done with.
    pub(in crate::client) fn missing(&mut self, link: &mut Link) -> Result<Option<usize>, Error> {
        loop {
            match self.frame(link, self.input.filled()) {
                Frame::Missing(frame_length) => return Ok(Some(frame_length)),
                Frame::Answer(_) => return Ok(None),
                Frame::Other(_) => match link.session.receive(self.input.filled_mut(), Instant::now()) {
                    Ok((taken, _)) => self.input.consume(taken),
                    Err(fault) => {
                        let error = self.settings.error(Phase::Receive, fault);
                        self.failed = Some(error.clone());
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Whether the server has a whole message whose response has not arrived: then one will come.
    pub(super) fn is_response_owed(&self, link: &Link) -> bool {
        self.sealed().nth(self.arrived(link)).is_some_and(|(_, end)| end <= link.unsent.sent())
    }

    /// How many responses have arrived and were not given. One that can't be used counts as one.
    fn arrived(&self, link: &Link) -> usize {
        self.answers(link).count()
    }

    /// The answers that have arrived and were not given.
    fn answers<'a>(&'a self, link: &'a Link) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.input.filled();
        std::iter::from_fn(move || {
            loop {
                let (frame_length, is_answer) = match self.frame(link, rest) {
                    Frame::Missing(_) => return None,
                    Frame::Answer(frame_length) => (frame_length, true),
                    Frame::Other(frame_length) => (frame_length, false),
                };
                let frame;
                (frame, rest) = rest.split_at(frame_length);
                if is_answer {
                    return Some(frame);
                }
            }
        })
    }

    /// Whether the server has said what it took up, behind some answers. Only what opens is believed, in its turn.
    pub(super) fn is_goodbye_there(&self, link: &Link) -> bool {
        link.session.is_forward_secret() && self.answers(link).any(|frame| frame[0] == *ANSWERS.end())
    }

    /// Whether the next answer is a goodbye, of which the first byte has arrived.
    pub(super) fn is_goodbye_next(&self, link: &Link) -> bool {
        link.session.is_forward_secret() && self.input.filled().first() == Some(ANSWERS.end())
    }

    pub(super) fn are_all_answered(&self, link: &Link) -> bool {
        self.arrived(link) >= self.sealed().count()
    }

    /// What stands at the start of `input`, by its header.
    fn frame(&self, link: &Link, input: &[u8]) -> Frame {
        let is_forward_secret = link.session.is_forward_secret();
        let start = usize::from(is_forward_secret);
        let header = start + RESPONSE_HEADER;
        let Some(length) = input.get(start..).and_then(decode_response) else {
            return Frame::Missing(header);
        };
        let longest = self.settings.max_message_size().saturating_add(SEAL_OVERHEAD);
        // What can't be right is left to the session to refuse, and nothing behind it counts.
        let frame_length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= longest)
            .and_then(|length| length.checked_add(header))
            .unwrap_or(input.len());
        if input.len() < frame_length {
            Frame::Missing(frame_length)
        } else if is_forward_secret && !ANSWERS.contains(&input[0]) {
            Frame::Other(frame_length)
        } else {
            Frame::Answer(frame_length)
        }
    }
}
