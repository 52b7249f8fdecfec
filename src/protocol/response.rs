//! A response while a handler writes it.

use std::ops::Range;
use std::{fmt, io};

use super::{
    Cipher, EMPTY_RESPONSE, NONCE_LENGTH, NonceSequence, RESPONSE_HEADER, SealError, TAG_LENGTH,
    response_header,
};

/// A response stays in its message only from this many bytes on. Fewer are copied within the processor's caches, and
/// can be written together with other responses; so many are written by themselves anyway.
const WORTH_KEEPING: usize = 64 << 10;

/// Room for the header and the nonce of a classic session.
pub(super) const CLASSIC_PREFIX: usize = RESPONSE_HEADER + NONCE_LENGTH;

/// The response to one message, written by a [`Handler`](crate::Handler) straight into the worker's output.
///
/// It starts empty; what is appended is sealed in place afterwards, so a handler that appends slices
/// allocates nothing once the buffer has grown to the size of its usual responses. A server does not even copy a large
/// response (64 KiB and more) that was appended at once from its own message, as a rule: it goes out from where that
/// lies.
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
    /// Bytes between `start` and the text, for what the session puts there.
    prefix: usize,
    /// The message, as long as the response may still stay in it; otherwise empty.
    message: &'a [u8],
    /// The part of the message that is the whole response so far. No text is in `output` then.
    in_message: Option<Range<usize>>,
}

impl<'a> Response<'a> {
    /// An empty response behind whatever `output` holds already.
    #[inline]
    pub fn begin(output: &'a mut Vec<u8>) -> Self {
        Self::beside(&[], output)
    }

    /// The same, which may become a [part of `message`](Self::into_part_of_message) if that is large.
    #[inline]
    pub(crate) fn beside(message: &'a [u8], output: &'a mut Vec<u8>) -> Self {
        let message = if message.len() >= WORTH_KEEPING { message } else { &[] };
        Self { message, ..Self::behind_prefix(CLASSIC_PREFIX, output) }
    }

    /// An empty response with room for so many bytes before it.
    #[inline]
    pub(super) fn behind_prefix(prefix: usize, output: &'a mut Vec<u8>) -> Self {
        let start = output.len();
        output.resize(start + prefix, 0);
        Self { output, start, prefix, message: &[], in_message: None }
    }

    /// Appends `bytes`.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        if self.message.is_empty() || !self.keep_in_message(bytes) {
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
        match &self.in_message {
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
        if let Some(part) = &mut self.in_message {
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
    pub fn seal(self, cipher: &Cipher, nonces: &mut NonceSequence) -> Result<(), SealError> {
        let (output, start) = self.into_output(CLASSIC_PREFIX);
        output.extend_from_slice(&[0; TAG_LENGTH]);
        let (length, sealed) = output[start..].split_at_mut(RESPONSE_HEADER);
        length.copy_from_slice(&response_header(sealed.len()));
        let outcome = cipher.seal(nonces, sealed);
        if outcome.is_err() {
            output.truncate(start);
            output.extend_from_slice(&EMPTY_RESPONSE);
        }
        outcome
    }

    /// The output and where in it the response starts: so many bytes before its text, which moves if it was begun
    /// with another number.
    #[inline]
    pub(super) fn into_output(mut self, prefix: usize) -> (&'a mut Vec<u8>, usize) {
        self.copy_out();
        if prefix != self.prefix {
            let old = self.start..self.text_start();
            self.output.splice(old, std::iter::repeat_n(0, prefix));
        }
        (self.output, self.start)
    }

    /// Puts the empty response in its place: the message was not processed.
    #[inline]
    pub fn reject(self) {
        self.discard().extend_from_slice(&EMPTY_RESPONSE);
    }

    /// The output as it was before the response.
    pub(super) fn discard(self) -> &'a mut Vec<u8> {
        self.output.truncate(self.start);
        self.output
    }

    /// The part of the message that is the whole response, to be sealed there; `output` is as it was before. Otherwise
    /// the response itself, to be [sealed](Self::seal).
    #[inline]
    pub(crate) fn into_part_of_message(mut self) -> Result<Range<usize>, Self> {
        match self.in_message.take() {
            Some(part) => {
                self.output.truncate(self.start);
                Ok(part)
            }
            None => Err(self),
        }
    }

    /// Keeps `bytes` where they are if they are a large part of the message and the response is empty. The message
    /// can't change before the handler is done, so nobody sees the difference.
    fn keep_in_message(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() >= WORTH_KEEPING && self.is_empty() {
            self.in_message = position(self.message, bytes);
        } else {
            self.copy_out();
        }
        self.in_message.is_some()
    }

    /// From here on the response is in the output.
    #[inline]
    fn copy_out(&mut self) {
        if let Some(part) = self.in_message.take() {
            self.output.extend_from_slice(&self.message[part]);
        }
        self.message = &[];
    }

    #[inline]
    fn text_start(&self) -> usize {
        self.start + self.prefix
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

    static MESSAGE: LazyLock<Vec<u8>> = LazyLock::new(|| (0..251).cycle().take(3 * WORTH_KEEPING).collect());

    type Write<'a> = &'a dyn Fn(&mut Response<'_>);

    /// The part of the message that a response is after `write`, if it is one, and its text.
    fn answered(message: &[u8], write: impl FnOnce(&mut Response<'_>)) -> (Option<Range<usize>>, Vec<u8>) {
        let mut output = b"earlier".to_vec();
        let mut response = Response::beside(message, &mut output);
        write(&mut response);
        let text = response.as_slice().to_vec();
        assert_eq!(text.len(), response.len());
        let part = response.into_part_of_message().ok();
        match &part {
            Some(part) => {
                assert_eq!(text, message[part.clone()]);
                assert_eq!(output, b"earlier");
            }
            None => assert_eq!(output[7 + RESPONSE_HEADER + NONCE_LENGTH..], text),
        }
        (part, text)
    }

    #[test]
    fn a_large_part_of_the_message_stays_where_it_is() {
        for part in [0..MESSAGE.len(), 1..MESSAGE.len(), 0..WORTH_KEEPING, 5..WORTH_KEEPING + 6] {
            let (kept, text) =
                answered(&MESSAGE, |response| response.extend_from_slice(&MESSAGE[part.clone()]));
            assert_eq!((kept, &text[..]), (Some(part.clone()), &MESSAGE[part.clone()]));
            let (kept, _) =
                answered(&MESSAGE, |response| response.write_all(&MESSAGE[part.clone()]).unwrap());
            assert_eq!(kept, Some(part));
        }
    }

    #[test]
    fn what_is_small_or_lies_elsewhere_or_comes_second_is_copied() {
        let copy = MESSAGE.to_vec();
        let writes: [(Write<'_>, &[&[u8]]); 5] = [
            (
                &|response| response.extend_from_slice(&MESSAGE[..WORTH_KEEPING - 1]),
                &[&MESSAGE[..WORTH_KEEPING - 1]],
            ),
            (&|response| response.extend_from_slice(&copy), &[&MESSAGE]),
            (&|response| response.extend_from_slice(&[]), &[]),
            (
                &|response| {
                    response.extend_from_slice(b"id ");
                    response.extend_from_slice(&MESSAGE);
                },
                &[b"id ", &MESSAGE],
            ),
            (
                &|response| {
                    response.extend_from_slice(&copy);
                    response.extend_from_slice(&MESSAGE);
                },
                &[&MESSAGE, &MESSAGE],
            ),
        ];
        for (write, expected) in writes {
            assert_eq!(answered(&MESSAGE, write), (None, expected.concat()));
        }
        let small = &MESSAGE[..WORTH_KEEPING - 1];
        assert_eq!(answered(small, |response| response.extend_from_slice(small)), (None, small.to_vec()));
    }

    #[test]
    fn a_part_that_reaches_over_an_edge_of_the_message_is_copied() {
        for message in [&MESSAGE[1..], &MESSAGE[..MESSAGE.len() - 1], &MESSAGE[..0]] {
            let (kept, text) = answered(message, |response| response.extend_from_slice(&MESSAGE));
            assert_eq!((kept, &text[..]), (None, &MESSAGE[..]));
        }
    }

    #[test]
    fn whatever_is_done_with_it_afterwards_it_reads_the_same() {
        let (kept, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE[2..]);
            response.truncate(5000);
        });
        assert_eq!((kept, text.len()), (Some(2..5002), 5000));

        let (kept, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE);
            response.truncate(0);
            response.extend_from_slice(&MESSAGE[1..]);
        });
        assert_eq!((kept, &text[..]), (Some(1..MESSAGE.len()), &MESSAGE[1..]));

        let (kept, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE);
            response.extend_from_slice(&MESSAGE);
            response.extend(*b"end");
        });
        assert_eq!((kept, text), (None, [&MESSAGE[..], &MESSAGE, b"end"].concat()));

        let (kept, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE);
            response.extend(*b"end");
        });
        assert_eq!((kept, text), (None, [&MESSAGE[..], b"end"].concat()));

        let (kept, text) = answered(&MESSAGE, |response| {
            response.extend_from_slice(&MESSAGE[7..]);
            response.as_mut_slice()[0] = 99;
        });
        assert_eq!((kept, text), (None, [&[99], &MESSAGE[8..]].concat()));
    }

    #[test]
    fn one_that_stayed_in_the_message_can_still_be_sealed_or_rejected() {
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
