//! A response while a handler writes it.

use std::ops::Range;
use std::{fmt, io};

use super::{
    Cipher, EMPTY_RESPONSE, NONCE_LENGTH, NonceSequence, RESPONSE_HEADER, SEAL_OVERHEAD, SealError,
    TAG_LENGTH, response_header,
};

/// A response is left in its message only from this many bytes on: fewer are copied within the processor's caches, and can
/// be written together with other responses.
pub(crate) const WORTH_LEAVING: usize = 64 << 10;

/// The response to one message, written by a [`Handler`](crate::Handler) straight into the worker's output.
///
/// It starts empty; what is appended is sealed in place afterwards, so a handler that appends slices
/// allocates nothing once the buffer has grown to the size of its usual responses. A response that is one part of its
/// message, or all of it, is not even copied when it is large: it is sealed and sent from where the message lies.
///
/// ```
/// use falcotcp_sync::protocol::Response;
/// use std::io::Write;
///
/// let mut output = Vec::new();
/// let mut response = Response::begin(&mut output);
/// response.extend_from_slice(b"sum: ");
/// write!(response, "{}", 1 + 2)?;
/// assert_eq!(response.as_slice(), b"sum: 3");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Response<'a> {
    output: &'a mut Vec<u8>,
    start: usize,
    /// The message, as long as the response may still be left in it; otherwise empty.
    message: &'a [u8],
    /// The part of the message that is the whole response so far. Nothing is in `output` then.
    left: Option<Range<usize>>,
}

impl<'a> Response<'a> {
    /// An empty response behind whatever `output` holds already.
    #[inline]
    pub fn begin(output: &'a mut Vec<u8>) -> Self {
        Self::beside(&[], output)
    }

    /// The same as an answer to `message`, which [`left_in_message`](Self::left_in_message) may be asked about.
    #[inline]
    pub(crate) fn beside(message: &'a [u8], output: &'a mut Vec<u8>) -> Self {
        let start = output.len();
        output.extend_from_slice(&[0; RESPONSE_HEADER + NONCE_LENGTH]);
        Self { output, start, message, left: None }
    }

    /// Appends `bytes`.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.message.is_empty() || !self.leave(bytes) {
            self.output.extend_from_slice(bytes);
        }
    }

    /// Makes room for `additional` more bytes at once; never needed, at times faster.
    pub fn reserve(&mut self, additional: usize) {
        self.output.reserve(additional.saturating_add(TAG_LENGTH));
    }

    /// What has been written so far.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.left {
            Some(part) => &self.message[part.clone()],
            None => &self.output[self.text_start()..],
        }
    }

    /// What has been written so far, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.copy_out();
        let start = self.text_start();
        &mut self.output[start..]
    }

    /// Bytes written so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what was written beyond the first `length` bytes; no effect when it is that short.
    pub fn truncate(&mut self, length: usize) {
        if let Some(part) = &mut self.left {
            part.end = part.end.min(part.start.saturating_add(length));
        }
        let end = self.text_start().saturating_add(length);
        self.output.truncate(end);
    }

    /// Seals what was written into a whole frame.
    ///
    /// # Errors
    /// [`SealError`] when it is longer than AES-GCM allows; the empty response stands in its place then.
    #[inline]
    pub fn seal(mut self, cipher: &Cipher, nonces: &mut NonceSequence) -> Result<(), SealError> {
        self.copy_out();
        let header = response_header(self.len() + SEAL_OVERHEAD);
        self.output.extend_from_slice(&[0; TAG_LENGTH]);
        let (length, sealed) = self.output[self.start..].split_at_mut(RESPONSE_HEADER);
        length.copy_from_slice(&header);
        let outcome = cipher.seal(nonces, sealed);
        if outcome.is_err() {
            self.reject();
        }
        outcome
    }

    /// Puts the empty response in its place: the message was not processed.
    #[inline]
    pub fn reject(self) {
        self.output.truncate(self.start);
        self.output.extend_from_slice(&EMPTY_RESPONSE);
    }

    /// The part of the message that is the whole response. It must be sealed there, and `output` is as before;
    /// without one, [`seal`](Self::seal) the response.
    #[inline]
    pub(crate) fn left_in_message(&mut self) -> Option<Range<usize>> {
        let part = self.left.take()?;
        self.output.truncate(self.start);
        Some(part)
    }

    /// Leaves `bytes` in the message if they are a large part of it and the response is empty. The message can't change
    /// before the handler is done, so nobody sees the difference.
    fn leave(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() >= WORTH_LEAVING && self.is_empty() {
            self.left = position(self.message, bytes);
        } else {
            self.copy_out();
        }
        self.left.is_some()
    }

    /// From here on the response is in the output.
    #[inline]
    fn copy_out(&mut self) {
        if let Some(part) = self.left.take() {
            self.output.extend_from_slice(&self.message[part]);
        }
        self.message = &[];
    }

    #[inline]
    fn text_start(&self) -> usize {
        self.start + RESPONSE_HEADER + NONCE_LENGTH
    }
}

impl io::Write for Response<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Extend<u8> for Response<'_> {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        self.copy_out();
        self.output.extend(bytes);
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Where `part` lies in `whole`, unless it is somewhere else in memory.
fn position(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::LazyLock;

    use super::*;

    static MESSAGE: LazyLock<Vec<u8>> = LazyLock::new(|| (0..251).cycle().take(3 * WORTH_LEAVING).collect());

    /// What `write` leaves in the message, and what it appends to the output.
    fn answered(message: &[u8], write: impl FnOnce(&mut Response<'_>)) -> (Option<Range<usize>>, Vec<u8>) {
        let mut output = b"earlier".to_vec();
        let mut response = Response::beside(message, &mut output);
        write(&mut response);
        let text = response.as_slice().to_vec();
        assert_eq!(text.len(), response.len());
        let left = response.left_in_message();
        match &left {
            Some(part) => {
                assert_eq!(text, message[part.clone()]);
                assert_eq!(output, b"earlier");
            }
            None => assert_eq!(output[7 + RESPONSE_HEADER + NONCE_LENGTH..], text),
        }
        (left, text)
    }

    #[test]
    fn a_large_part_of_the_message_is_left_where_it_is() {
        for part in [0..MESSAGE.len(), 1..MESSAGE.len(), 0..WORTH_LEAVING, 5..WORTH_LEAVING + 6] {
            let (left, text) =
                answered(&MESSAGE, |response| response.extend_from_slice(&MESSAGE[part.clone()]));
            assert_eq!((left, &text[..]), (Some(part.clone()), &MESSAGE[part.clone()]));
            let (left, _) =
                answered(&MESSAGE, |response| response.write_all(&MESSAGE[part.clone()]).unwrap());
            assert_eq!(left, Some(part));
        }
    }

    #[test]
    fn what_is_small_or_lies_elsewhere_or_comes_second_is_copied() {
        let copy = MESSAGE.to_vec();
        let writes: [&dyn Fn(&mut Response<'_>); 5] = [
            &|response| response.extend_from_slice(&MESSAGE[..WORTH_LEAVING - 1]),
            &|response| response.extend_from_slice(&copy),
            &|response| response.extend_from_slice(&[]),
            &|response| {
                response.extend_from_slice(b"id ");
                response.extend_from_slice(&MESSAGE);
            },
            &|response| {
                response.extend_from_slice(&copy);
                response.extend_from_slice(&MESSAGE);
            },
        ];
        for write in writes {
            assert_eq!(answered(&MESSAGE, write).0, None);
        }
        assert_eq!(answered(&[], |response| response.extend_from_slice(&MESSAGE)).0, None);
    }

    #[test]
    fn a_part_that_reaches_over_an_edge_of_the_message_is_copied() {
        for message in [&MESSAGE[1..], &MESSAGE[..MESSAGE.len() - 1], &MESSAGE[..0]] {
            let (left, text) = answered(message, |response| response.extend_from_slice(&MESSAGE));
            assert_eq!((left, &text[..]), (None, &MESSAGE[..]));
        }
    }

    #[test]
    fn whatever_is_done_with_it_afterwards_it_reads_the_same() {
        let (left, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE[2..]);
            response.truncate(5000);
        });
        assert_eq!((left, text.len()), (Some(2..5002), 5000));

        let (left, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE);
            response.truncate(0);
            response.extend_from_slice(&MESSAGE[1..]);
        });
        assert_eq!((left, &text[..]), (Some(1..MESSAGE.len()), &MESSAGE[1..]));

        let (left, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE);
            response.extend_from_slice(&MESSAGE);
            response.extend(*b"end");
        });
        assert_eq!((left, text), (None, [&MESSAGE[..], &MESSAGE, b"end"].concat()));

        let (left, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE);
            response.extend(*b"end");
        });
        assert_eq!((left, text), (None, [&MESSAGE[..], b"end"].concat()));

        let (left, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE[7..]);
            response.as_mut_slice()[0] = 99;
        });
        assert_eq!((left, text), (None, [&[99], &MESSAGE[8..]].concat()));
    }

    #[test]
    fn one_that_was_left_in_the_message_can_still_be_sealed_or_rejected() {
        let cipher = Cipher::new(&crate::Key::from_bytes([7; 32]));
        let mut nonces = NonceSequence::new().unwrap();
        let mut output = Vec::new();
        let mut response = Response::beside(&MESSAGE, &mut output);
        response.extend_from_slice(&MESSAGE[1..]);
        response.seal(&cipher, &mut nonces).unwrap();
        assert_eq!(cipher.open(&mut output[RESPONSE_HEADER..]).unwrap(), &MESSAGE[1..]);

        let mut output = Vec::new();
        let mut response = Response::beside(&MESSAGE, &mut output);
        response.extend_from_slice(&MESSAGE);
        response.reject();
        assert_eq!(output, EMPTY_RESPONSE);
    }
}
