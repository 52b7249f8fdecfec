//! The unencrypted framing inside TLS 1.3, with rustls.

use std::io::{self, BufRead, ErrorKind, IoSlice, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use super::echo::EchoStream;
use super::session::{Received, Session};
use crate::error::Result;
use crate::requests::{Mark, Requests};

/// The name in the certificate.
pub(crate) const SERVER_NAME: &str = "localhost";

/// AWS-LC, and no cipher suite but AES-256-GCM: the cipher of the protocol that TLS is compared with.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
    Arc::new(provider)
}

pub(super) struct Connector {
    config: Arc<ClientConfig>,
    shared_records: bool,
}

impl Connector {
    /// Trusts this one certificate (DER), and resumes sessions where the server gave tickets.
    pub(super) fn new(certificate: &[u8], shared_records: bool) -> Result<Connector> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate.to_vec()))?;
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Connector { config: Arc::new(config), shared_records })
    }

    pub(super) fn establish(&self, socket: &mut TcpStream, requests: Arc<Requests>) -> Result<TlsSession> {
        let name = ServerName::try_from(SERVER_NAME)?;
        let mut session = ClientConnection::new(Arc::clone(&self.config), name)?;
        // A whole batch of requests is sealed at once, however large.
        session.set_buffer_limit(None);
        while session.is_handshaking() || session.wants_write() {
            session.complete_io(socket)?;
        }
        let responses = EchoStream::new(Arc::clone(&requests));
        Ok(TlsSession { session, requests, responses, shared_records: self.shared_records })
    }
}

pub(super) struct TlsSession {
    session: ClientConnection,
    requests: Arc<Requests>,
    responses: EchoStream,
    shared_records: bool,
}

impl Session for TlsSession {
    fn send(&mut self, requests: &[Mark], wire: &mut Vec<u8>) -> io::Result<()> {
        if self.shared_records {
            self.seal_together(requests)?;
        } else {
            for &mark in requests {
                self.session.writer().write_all(self.requests.frame(mark))?;
            }
        }
        while self.session.wants_write() {
            self.session.write_tls(wire)?;
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<Received> {
        let mut responses = 0;
        let mut rest = &*bytes;
        while !rest.is_empty() {
            self.session.read_tls(&mut rest)?;
            self.session.process_new_packets().map_err(io::Error::other)?;
            responses += self.take_plaintext()?;
        }
        Ok(Received { consumed: bytes.len(), responses })
    }

    fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl TlsSession {
    fn seal_together(&mut self, requests: &[Mark]) -> io::Result<()> {
        let frames: Vec<_> = requests.iter().map(|&mark| IoSlice::new(self.requests.frame(mark))).collect();
        let length: usize = frames.iter().map(|frame| frame.len()).sum();
        if self.session.writer().write_vectored(&frames)? != length {
            return Err(io::Error::other("rustls took only a part of the requests"));
        }
        Ok(())
    }

    fn take_plaintext(&mut self) -> io::Result<usize> {
        let mut responses = 0;
        let mut reader = self.session.reader();
        loop {
            let length = match reader.fill_buf() {
                Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(chunk) => {
                    responses += self.responses.take(chunk)?;
                    chunk.len()
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(responses),
                Err(error) => return Err(error),
            };
            reader.consume(length);
        }
    }
}
