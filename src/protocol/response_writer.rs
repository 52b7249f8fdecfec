//! A response while it is written.

use std::{fmt, io};

use super::{
    Cipher, EMPTY_RESPONSE, NONCE_LENGTH, NonceSequence, RESPONSE_HEADER, SEAL_OVERHEAD, SealError,
    TAG_LENGTH, response_header,
};

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
}

impl<'a> ResponseWriter<'a> {
    /// An empty response behind whatever `output` holds already.
    #[inline]
    pub fn begin(output: &'a mut Vec<u8>) -> Self {
        let start = output.len();
        output.extend_from_slice(&[0; RESPONSE_HEADER + NONCE_LENGTH]);
        Self { output, start }
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
        ResponseWriter { output: self.output, start: self.start }
    }

    /// Seals what was written into a whole frame.
    ///
    /// # Errors
    /// [`SealError`] when it is longer than AES-GCM allows; the empty response stands in its place then.
    #[inline]
    pub fn seal(self, cipher: &Cipher, nonces: &mut NonceSequence) -> Result<(), SealError> {
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

    /// Takes it back: nothing of it is left in the output.
    pub fn discard(self) {
        self.output.truncate(self.start);
    }

    /// Puts the empty response in its place: the message was not processed.
    #[inline]
    pub fn reject(self) {
        self.output.truncate(self.start);
        self.output.extend_from_slice(&EMPTY_RESPONSE);
    }

    #[inline]
    fn text_start(&self) -> usize {
        self.start + RESPONSE_HEADER + NONCE_LENGTH
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
