//! Certificates for tests of TLS.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Writes `ca.pem`, that authority's certificate for `localhost` (`cert.pem`, `key.pem`), and one
/// for a client with its key (`client.pem`).
pub(crate) fn certify(folder: &Path) {
    let mut params = CertificateParams::default();
    // OpenSSL takes a certificate for self-signed whose issuer has the name of its subject.
    params.distinguished_name.push(DnType::CommonName, "test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (certificate, key) = signed("localhost");
    std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
    let (certificate, key) = signed("sender");
    std::fs::write(folder.join("client.pem"), certificate + &key).unwrap();
}
