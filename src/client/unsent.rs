//! Sealed frames on their way to the socket.

/// Sealed frames, sent up to some byte. Positions count the bytes since the link began.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    /// New frames go to its end.
    pub(super) bytes: Vec<u8>,
    start: usize,
    sent: u64,
}

impl Unsent {
    /// What the socket has not taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The position up to which all is sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The position behind the last frame.
    pub(super) fn end(&self) -> u64 {
        self.sent + self.rest().len() as u64
    }

    /// Says that the socket took `count` bytes.
    pub(super) fn advance(&mut self, count: usize) {
        self.start += count;
        self.sent += count as u64;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }
}
