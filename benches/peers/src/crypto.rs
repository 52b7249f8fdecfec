//! What both ends of an encrypted connection agree on: the key of FalcoTCP, the name and the cipher of TLS.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The servers that are measured here listen on the loopback interface and carry nothing worth hiding.
pub(crate) const SHARED_KEY: [u8; 32] = *b"a key for measurements, no other";

/// The name in the certificate.
pub(crate) const SERVER_NAME: &str = "localhost";

/// AWS-LC, and no cipher suite but AES-256-GCM: the cipher of the protocol that TLS is compared with.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
    Arc::new(provider)
}
