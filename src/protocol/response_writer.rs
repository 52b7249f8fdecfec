//! A response while it is written.

use std::{fmt, io};

use super::{
    Cipher, EMPTY_RESPONSE, NONCE_LENGTH, NonceSequence, RESPONSE_HEADER, SealError, TAG_LENGTH,
    response_header,
};

/// Room for the header and the nonce of a classic session.
pub(super) const CLASSIC_PREFIX: usize = RESPONSE_HEADER + NONCE_LENGTH;

/// The response to one message, written straight into the output behind whatever is there already, and sealed in place.
///
/// ```
/// use falcotcp_sync::protocol::ResponseWriter;
/// use std::io::Write;
///
/// let mut output = Vec::new();
/// let mut response = ResponseWriter::begin(&mut output);
/// response.extend_from_slice(b"sum: ");
/// write!(response, "{}", 1 + 2)?;
/// assert_eq!(response.as_slice(), b"sum: 3");
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ResponseWriter<'a> {
    output: &'a mut Vec<u8>,
    start: usize,
    /// Bytes between `start` and the text, for what the session puts there.
    prefix: usize,
}

impl<'a> ResponseWriter<'a> {
    /// An empty response behind whatever `output` holds already.
    #[inline]
    pub fn begin(output: &'a mut Vec<u8>) -> Self {
        Self::behind_prefix(CLASSIC_PREFIX, output)
    }

    /// An empty response with room for so many bytes before it.
    #[inline]
    pub(super) fn behind_prefix(prefix: usize, output: &'a mut Vec<u8>) -> Self {
        let start = output.len();
        output.resize(start + prefix, 0);
        Self { output, start, prefix }
    }

    /// Appends `bytes`.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Makes room for `additional` more bytes at once; never needed, at times faster.
    pub fn reserve(&mut self, additional: usize) {
        self.output.reserve(additional.saturating_add(TAG_LENGTH));
    }

    /// What has been written so far.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.output[self.text_start()..]
    }

    /// What has been written so far, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
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
        let end = self.text_start().saturating_add(length);
        self.output.truncate(end);
    }

    /// The same response, in another's hands for a while.
    pub(crate) fn reborrow(&mut self) -> ResponseWriter<'_> {
        ResponseWriter { output: self.output, start: self.start, prefix: self.prefix }
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

    /// Takes it back, and gives the output as it was before.
    pub(crate) fn discard(self) -> &'a mut Vec<u8> {
        self.output.truncate(self.start);
        self.output
    }

    /// The output and where in it the response starts: so many bytes before its text, which moves if it was begun with
    /// another number.
    #[inline]
    pub(super) fn into_output(self, prefix: usize) -> (&'a mut Vec<u8>, usize) {
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

    #[inline]
    fn text_start(&self) -> usize {
        self.start + self.prefix
    }
}

impl io::Write for ResponseWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Extend<u8> for ResponseWriter<'_> {
    fn extend<T: IntoIterator<Item = u8>>(&mut self, bytes: T) {
        self.output.extend(bytes);
    }
}

impl fmt::Debug for ResponseWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseWriter").field("len", &self.len()).finish_non_exhaustive()
    }
}
