//! How a server's session answers its messages, and says goodbye.

use super::{ServerSession, State};
use crate::keyring::NamedKey;
#[cfg(feature = "forward-secrecy")]
use crate::protocol::forward_secrecy::FRAME_HEADER;
use crate::protocol::response_writer::CLASSIC_PREFIX;
use crate::protocol::{NonceSequence, RejectionReason, ResponseWriter};

impl ServerSession {
    /// An empty response behind whatever `output` holds already, to be written and [sealed](Self::seal).
    #[inline]
    pub fn begin_response<'o>(&self, output: &'o mut Vec<u8>) -> ResponseWriter<'o> {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(_) => ResponseWriter::behind_prefix(FRAME_HEADER, output),
            _ => ResponseWriter::behind_prefix(CLASSIC_PREFIX, output),
        }
    }

    /// Seals it under the key that its message came under, in a session that was established anew since.
    pub(crate) fn seal_under(
        &mut self,
        key: &NamedKey,
        response: ResponseWriter<'_>,
        nonces: &mut NonceSequence,
    ) -> bool {
        self.interaction = true;
        response.seal(key.cipher(), nonces).is_ok()
    }

    /// Seals the response to the oldest message that has none.
    ///
    /// `false` for a response longer than AES-GCM allows, which becomes the empty response or a rejection; and where
    /// there is no message to answer, since the session is not established or its last frame is sealed: nothing is
    /// left of it then. The nonces are for classic sessions; forward-secret ones count theirs.
    #[inline]
    pub fn seal(&mut self, response: ResponseWriter<'_>, nonces: &mut NonceSequence) -> bool {
        self.interaction = true;
        match &mut self.state {
            State::Established(key) => response.seal(key.cipher(), nonces).is_ok(),
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(session) => {
                let (output, start) = response.into_output(FRAME_HEADER);
                session.frames.respond(output, start)
            }
            State::Establishing | State::Closed => {
                _ = response.discard();
                false
            }
        }
    }

    /// Rejects the oldest message without a response in place of answering it. What was written of `response` is
    /// forgotten. A classic session says the empty response, whatever the reason.
    #[cfg_attr(
        not(feature = "forward-secrecy"),
        expect(unused_variables, reason = "only one says more than nothing")
    )]
    pub fn reject(&mut self, response: ResponseWriter<'_>, reason: RejectionReason) {
        self.interaction = true;
        match &mut self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(session) => _ = session.frames.reject(reason, response.discard()),
            State::Established(_) => response.reject(),
            State::Establishing | State::Closed => _ = response.discard(),
        }
    }

    /// Ends a forward-secret session: rejects the messages that are unanswered, without a reason, and appends the
    /// goodbye, which says how many were taken up. Half-close behind it, and read on for a while.
    ///
    /// Appends nothing where no goodbye belongs: in a classic session, before the client has proven itself, after a
    /// bad frame, and a second time. The keys of the session are wiped.
    #[cfg_attr(
        not(feature = "forward-secrecy"),
        expect(unused_variables, clippy::ptr_arg, reason = "no classic session says it")
    )]
    pub fn goodbye(&mut self, output: &mut Vec<u8>) {
        #[cfg(feature = "forward-secrecy")]
        if let State::ForwardSecret(session) = &mut self.state {
            let length = output.len();
            session.frames.goodbye(output);
            self.has_said_goodbye = output.len() > length;
            self.state = State::Closed;
        }
    }

    /// Messages and pings of a forward-secret session whose answers are not sealed yet. It grows while messages are
    /// answered later than they come: read no more while there are too many. Always 0 in a classic session.
    pub fn unanswered(&self) -> usize {
        match &self.state {
            #[cfg(feature = "forward-secrecy")]
            State::ForwardSecret(session) => session.frames.unanswered(),
            _ => 0,
        }
    }
}
