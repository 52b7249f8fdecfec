//! A buffer to read frames into: it grows with what has arrived, never with what was announced.

use std::fmt;

/// Bytes that were read and wait to be consumed, and room for more behind them.
///
/// All of its bytes are initialised, so that reading needs no zeroing.
#[derive(Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReadBuffer {
    pub(crate) fn with_size(size: usize) -> Self {
        Self { bytes: vec![0; size], start: 0, end: 0 }
    }

    /// A buffer that holds `bytes` and nothing else.
    pub(crate) fn copied(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), start: 0, end: bytes.len() }
    }

    /// How many bytes it can hold without growing.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    #[inline]
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    #[inline]
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
    }

    pub(crate) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Room to read into, for a frame of `frame_length` bytes that begins where the filled part does.
    ///
    /// The buffer grows only when it is full, to the double at most, and never beyond the frame.
    #[inline]
    pub(crate) fn room(&mut self, frame_length: usize) -> &mut [u8] {
        if self.is_empty() {
            self.clear();
        } else if self.start > 0 && (self.end == self.size() || frame_length > self.size() - self.start) {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.size() {
            let grown = self.size().saturating_mul(2).min(frame_length.max(self.size() + 1));
            self.bytes.resize(grown, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// Says that `count` bytes were read into the room.
    #[inline]
    pub(crate) fn received(&mut self, count: usize) {
        self.end += count;
    }
}

/// Without the bytes, some of which are plaintext.
impl fmt::Debug for ReadBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBuffer").field("len", &self.filled().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(buffer: &mut ReadBuffer, bytes: &[u8], frame_length: usize) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = buffer.room(frame_length);
            let count = room.len().min(rest.len());
            room[..count].copy_from_slice(&rest[..count]);
            buffer.received(count);
            rest = &rest[count..];
        }
    }

    #[test]
    fn it_grows_with_what_has_arrived_and_stops_at_the_frame() {
        let mut buffer = ReadBuffer::with_size(64);
        receive(&mut buffer, &[1; 65], usize::MAX);
        assert_eq!(buffer.size(), 128);
        receive(&mut buffer, &[1; 64], 130);
        assert_eq!(buffer.size(), 130);
        assert_eq!(buffer.filled(), [1; 129]);
    }

    #[test]
    fn a_frame_behind_others_moves_to_the_front_before_the_buffer_grows() {
        let mut buffer = ReadBuffer::with_size(64);
        receive(&mut buffer, &[1; 60], 60);
        buffer.consume(50);
        receive(&mut buffer, &[2; 40], 50);
        assert_eq!(buffer.filled(), [[1; 10].as_slice(), &[2; 40]].concat());
        assert_eq!(buffer.size(), 64);
    }

    #[test]
    fn debug_shows_no_bytes() {
        assert_eq!(format!("{:?}", ReadBuffer::copied(b"ABCDE")), "ReadBuffer { len: 5, .. }");
    }
}
