//! X25519 (RFC 7748): in pure Rust, or with that feature by AWS-LC.

#[cfg(feature = "aws-lc-rs")]
pub(super) use aws_lc::PrivateKey;
#[cfg(not(feature = "aws-lc-rs"))]
pub(super) use pure_rust::PrivateKey;

pub(super) type PublicKey = [u8; 32];

#[cfg(not(feature = "aws-lc-rs"))]
mod pure_rust {
    use x25519_dalek::StaticSecret;

    use super::PublicKey;
    use crate::protocol::forward_secrecy::noise::Secret;

    /// A private key, wiped when dropped. The type for keys of one use can't be made of bytes from a source that may fail.
    pub(in super::super) struct PrivateKey(StaticSecret);

    impl PrivateKey {
        pub(in super::super) fn new(bytes: &Secret) -> Self {
            Self(StaticSecret::from(**bytes))
        }

        pub(in super::super) fn public(&self) -> PublicKey {
            x25519_dalek::PublicKey::from(&self.0).to_bytes()
        }

        /// The secret that is shared with the peer; none if it is zero whatever the private key.
        pub(in super::super) fn agree(&self, peer: &PublicKey) -> Option<Secret> {
            let shared = self.0.diffie_hellman(&(*peer).into());
            shared.was_contributory().then(|| Secret::copied(shared.as_bytes()))
        }
    }

    #[cfg(test)]
    mod tests {
        use zeroize::ZeroizeOnDrop;

        #[test]
        fn secrets_are_wiped() {
            fn wiped<T: ZeroizeOnDrop>() {}
            wiped::<super::StaticSecret>();
            wiped::<x25519_dalek::SharedSecret>();
        }
    }
}

#[cfg(feature = "aws-lc-rs")]
mod aws_lc {
    use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};

    use super::PublicKey;
    use crate::protocol::forward_secrecy::noise::Secret;

    /// A private key, which AWS-LC wipes when it is dropped. Without one only if the library refused bytes of the right
    /// length: no peer takes its public key then, and nothing is agreed.
    pub(in super::super) struct PrivateKey(Option<agreement::PrivateKey>);

    impl PrivateKey {
        pub(in super::super) fn new(bytes: &Secret) -> Self {
            Self(agreement::PrivateKey::from_private_key(&X25519, &bytes[..]).ok())
        }

        pub(in super::super) fn public(&self) -> PublicKey {
            let public = self.0.as_ref().and_then(|key| key.compute_public_key().ok());
            public.and_then(|public| public.as_ref().try_into().ok()).unwrap_or_default()
        }

        /// The secret that is shared with the peer; none if it is zero whatever the private key.
        pub(in super::super) fn agree(&self, peer: &PublicKey) -> Option<Secret> {
            let peer = UnparsedPublicKey::new(&X25519, peer);
            let agreed = agreement::agree(self.0.as_ref()?, peer, (), |shared| {
                shared.try_into().map(Secret::copied).map_err(|_| ())
            });
            agreed.ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::forward_secrecy::noise::Secret;

    fn bytes(hex: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        base16ct::lower::decode(hex, &mut bytes).unwrap();
        bytes
    }

    /// The vectors of RFC 7748, section 5.2, and a key pair of section 6.1.
    #[test]
    fn it_is_that_of_the_specification() {
        for (private, public, shared) in [
            (
                "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
                "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
                "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
            ),
            (
                "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
                "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
                "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
            ),
        ] {
            let private = PrivateKey::new(&Secret::from(bytes(private)));
            assert_eq!(*private.agree(&bytes(public)).unwrap(), bytes(shared));
        }
        let bob = Secret::from(bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
        let public = bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        assert_eq!(PrivateKey::new(&bob).public(), public);
    }

    #[test]
    fn nothing_is_agreed_with_a_key_that_gives_no_secret() {
        let private = PrivateKey::new(&Secret::from([9; 32]));
        for low_order in [0, 1] {
            let mut public = [0; 32];
            public[0] = low_order;
            assert!(private.agree(&public).is_none());
        }
    }
}
