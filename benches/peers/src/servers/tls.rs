//! What both TLS servers present: a fresh self-signed certificate, TLS 1.3, AES-256-GCM.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::crypto::{SERVER_NAME, provider};
use crate::error::Result;
use crate::hex;

pub(super) struct Identity {
    pub(super) config: Arc<ServerConfig>,
    /// DER in hex, for the driver to trust.
    pub(super) certificate: String,
}

impl Identity {
    pub(super) fn generate() -> Result<Identity> {
        let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        // One for each connection of a client that connects again and again; elsewhere it comes before what is measured.
        config.send_tls13_tickets = 1;
        config.ticketer = Ticketer::new()?;
        Ok(Identity { config: Arc::new(config), certificate: hex::encode(made.cert.der()) })
    }
}
