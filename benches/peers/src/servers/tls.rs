//! What both TLS servers present: a fresh self-signed certificate, TLS 1.3, AES-256-GCM,
//! and tickets with which clients resume their sessions.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::client::tls::{SERVER_NAME, provider};
use crate::error::Result;

pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// In DER, for the driver to trust.
    pub(super) certificate: Vec<u8>,
}

impl Identity {
    pub(super) fn generate() -> Result<Identity> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        // One for each connection, which is what a client that connects again and again uses up.
        config.send_tls13_tickets = 1;
        config.ticketer = Ticketer::new()?;
        Ok(Identity { config: Arc::new(config), certificate: made.cert.der().to_vec() })
    }
}
