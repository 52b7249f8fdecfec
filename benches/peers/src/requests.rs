//! The requests of a load, made once and sent over and over.

use std::sync::Arc;

/// The first byte of a message over which a blocking handler blocks.
pub(crate) const BLOCKING_MARK: u8 = 1;

/// Bytes of the length (u64 big-endian) before each message of the unencrypted framing.
pub(crate) const HEADER: usize = 8;

/// One in this many requests carries the mark, where a load has marked ones at all.
const MARKED_ONE_IN: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Ordinary,
    Blocking,
}

/// The two frames (header and message) that a load consists of. They are equally long.
pub(crate) struct Requests {
    ordinary: Box<[u8]>,
    blocking: Box<[u8]>,
}

impl Requests {
    /// Messages of `size` bytes, at least one.
    pub(crate) fn new(size: usize) -> Arc<Requests> {
        let pattern = (0..size).map(|index| (index % 251) as u8);
        let mut ordinary: Vec<u8> = (size as u64).to_be_bytes().into_iter().chain(pattern).collect();
        let mut blocking = ordinary.clone();
        ordinary[HEADER] = 0;
        blocking[HEADER] = BLOCKING_MARK;
        Arc::new(Requests { ordinary: ordinary.into(), blocking: blocking.into() })
    }

    pub(crate) fn frame(&self, mark: Mark) -> &[u8] {
        match mark {
            Mark::Ordinary => &self.ordinary,
            Mark::Blocking => &self.blocking,
        }
    }

    pub(crate) fn message(&self, mark: Mark) -> &[u8] {
        &self.frame(mark)[HEADER..]
    }

    pub(crate) fn message_length(&self) -> usize {
        self.ordinary.len() - HEADER
    }
}

/// Decides which requests are marked: irregularly, so that the marked ones do not march in step with the
/// connections, and the same way in every run.
pub(crate) struct Marker {
    state: u64,
    marks: bool,
}

impl Marker {
    pub(crate) fn new(marks: bool) -> Marker {
        Marker { state: 0x9e37_79b9_7f4a_7c15, marks }
    }

    pub(crate) fn next(&mut self) -> Mark {
        if !self.marks {
            return Mark::Ordinary;
        }
        // xorshift64: quality enough for this, and next to nothing to pay.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        if self.state.is_multiple_of(MARKED_ONE_IN) { Mark::Blocking } else { Mark::Ordinary }
    }
}
