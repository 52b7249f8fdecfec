//! A worker's buffers, and what a connection keeps of them while a frame or a response is unfinished.
//!
//! A worker reads into one buffer and collects responses in another, whatever connection it serves. What is left of
//! them at the end of a turn goes with the connection: copied when it is little, and otherwise the buffer itself, so
//! that a large message is read to the end in the place where it began. Either way a connection holds memory in
//! proportion to what has arrived, never to what was announced.

use std::mem;

use crate::read_buffer::ReadBuffer;

/// What a worker reads at once from an idle connection.
const READ_BUFFER: usize = 64 << 10;

/// A turn reads no more than about this many bytes, and then the other connections have theirs.
pub(super) const TURN_BYTES: usize = 256 << 10;

/// Buffers that grew beyond this are given back to the allocator rather than kept for the next message.
const RETAINED: usize = 4 << 20;

/// Buffers that a worker keeps in stock, each for one connection in the middle of a large frame.
const SPARES: usize = 2;

/// A buffer is handed over instead of copied from when at least one byte in this many is needed.
const HANDED_OVER: usize = 8;

/// The buffer that a worker reads into.
pub(in crate::server) struct Input {
    pub(super) current: ReadBuffer,
    spares: Vec<ReadBuffer>,
}

impl Input {
    pub(in crate::server) fn new() -> Self {
        Self { current: ReadBuffer::with_size(READ_BUFFER), spares: Vec::new() }
    }

    /// Goes on with what a connection has kept.
    pub(super) fn resume(&mut self, kept: ReadBuffer) {
        if kept.size() >= READ_BUFFER {
            let idle = mem::replace(&mut self.current, kept);
            if self.spares.len() < SPARES && idle.size() <= RETAINED {
                self.spares.push(idle);
            }
        } else {
            let kept = kept.filled();
            self.current.room(kept.len())[..kept.len()].copy_from_slice(kept);
            self.current.received(kept.len());
        }
    }

    /// What the connection must keep of an unfinished frame; the buffer is empty afterwards.
    pub(super) fn set_aside(&mut self) -> ReadBuffer {
        let unfinished = self.current.filled();
        if unfinished.is_empty() {
            self.clear();
            ReadBuffer::default()
        } else if unfinished.len() >= self.current.size() / HANDED_OVER {
            let next = self.spares.pop().unwrap_or_else(|| ReadBuffer::with_size(READ_BUFFER));
            mem::replace(&mut self.current, next)
        } else {
            let kept = ReadBuffer::copied(unfinished);
            self.clear();
            kept
        }
    }

    pub(in crate::server) fn clear(&mut self) {
        self.current.clear();
        if self.current.size() > RETAINED {
            self.current = ReadBuffer::with_size(READ_BUFFER);
        }
    }
}

/// Responses that the socket did not take: what `bytes` holds from `start` on.
#[derive(Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    start: usize,
}

impl Unsent {
    pub(super) fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn sent(&mut self, count: usize) {
        self.start += count;
    }
}

/// The buffer that a worker collects responses in.
#[derive(Default)]
pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    spare: Vec<u8>,
}

impl Output {
    /// What the connection must keep when the socket took only the first `sent` bytes; empty afterwards.
    pub(super) fn set_aside(&mut self, sent: usize) -> Unsent {
        let unsent = &self.bytes[sent..];
        if unsent.len() >= self.bytes.capacity() / HANDED_OVER {
            let bytes = mem::replace(&mut self.bytes, mem::take(&mut self.spare));
            Unsent { bytes, start: sent }
        } else {
            let kept = Unsent { bytes: unsent.to_vec(), start: 0 };
            self.clear();
            kept
        }
    }

    /// Takes back the buffer of responses that have been sent.
    pub(super) fn give_back(&mut self, sent: Unsent) {
        let mut bytes = sent.bytes;
        if bytes.capacity() > self.spare.capacity() && bytes.capacity() <= RETAINED {
            bytes.clear();
            self.spare = bytes;
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > RETAINED {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(input: &mut Input, bytes: &[u8], frame_length: usize) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = input.current.room(frame_length);
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            input.current.received(count);
            rest = &rest[count..];
        }
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..=255).cycle().take(length).collect()
    }

    #[test]
    fn what_is_set_aside_comes_back() {
        for length in [0, 1, 8_191, 8_192, READ_BUFFER - 1, READ_BUFFER, 5 * READ_BUFFER + 3] {
            let bytes = pattern(length);
            let mut input = Input::new();
            receive(&mut input, &bytes, length + 7);
            let kept = input.set_aside();
            assert!(input.current.is_empty());
            assert_eq!(kept.filled(), bytes, "{length} bytes");
            input.resume(kept);
            receive(&mut input, b"the end", length + 7);
            assert_eq!(input.current.filled(), [&bytes[..], b"the end"].concat());
        }
    }

    #[test]
    fn little_is_copied_and_much_is_handed_over() {
        let mut input = Input::new();
        receive(&mut input, &[1; 100], usize::MAX);
        assert_eq!(input.set_aside().size(), 100);
        receive(&mut input, &vec![1; READ_BUFFER], usize::MAX);
        assert_eq!(input.set_aside().size(), READ_BUFFER);
        assert_eq!(input.current.size(), READ_BUFFER);
    }

    #[test]
    fn a_buffer_of_the_largest_message_is_not_kept_for_ever() {
        let mut input = Input::new();
        receive(&mut input, &vec![1; RETAINED + 1], RETAINED + 1);
        input.current.consume(RETAINED + 1);
        assert!(input.set_aside().is_empty());
        assert_eq!(input.current.size(), READ_BUFFER);

        let mut output = Output { bytes: vec![0; RETAINED + 1], ..Output::default() };
        output.clear();
        assert_eq!(output.bytes.capacity(), 0);
    }

    #[test]
    fn unsent_output_is_kept_from_where_the_socket_stopped() {
        for sent in [10, 990] {
            let bytes = pattern(1000);
            let mut output = Output { bytes: bytes.clone(), ..Output::default() };
            let kept = output.set_aside(sent);
            assert_eq!(kept.as_slice(), &bytes[sent..]);
            assert!(output.bytes.is_empty());
        }
    }
}
