//! A private certificate authority, made anew for each case that wants TLS.

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

/// A root that no trust store knows, and one leaf for `127.0.0.1` and `localhost`.
pub struct PrivateCa {
    /// The root in PEM: what `PARALLAX_CA_FILE` names.
    pub root_pem: String,
    /// The leaf certificate in PEM.
    pub leaf_pem: String,
    /// The leaf's private key in PEM.
    pub key_pem: String,
}

impl PrivateCa {
    /// Makes a root and a leaf.
    ///
    /// # Errors
    /// When a key cannot be generated or a certificate cannot be signed.
    pub fn new() -> anyhow::Result<Self> {
        let mut root = CertificateParams::new(Vec::new()).context("describing the private CA")?;
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        root.distinguished_name
            .push(rcgen::DnType::CommonName, "Parallax conformance CA");
        let root_key = KeyPair::generate().context("making the CA's key")?;
        let root_cert = root.self_signed(&root_key).context("signing the CA")?;
        let issuer = Issuer::new(root, root_key);

        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let leaf = CertificateParams::new(names).context("describing the server certificate")?;
        let leaf_key = KeyPair::generate().context("making the server's key")?;
        let leaf_cert = leaf
            .signed_by(&leaf_key, &issuer)
            .context("signing the server certificate")?;
        Ok(Self {
            root_pem: root_cert.pem(),
            leaf_pem: leaf_cert.pem(),
            key_pem: leaf_key.serialize_pem(),
        })
    }
}
