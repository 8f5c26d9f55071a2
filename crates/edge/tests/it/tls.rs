//! TLS: certificates that change, and those of clients.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use thalweg_edge::{EdgeConfig, Tls, TlsFiles};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    certificates::Authority,
    server::{Server, get_path},
};

/// Connects, trusting the authority in `ca`, and showing the certificate in `own` if any.
async fn connect(
    server: &Server,
    ca: &Path,
    own: Option<&TlsFiles>,
) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match own {
        None => config.with_no_client_auth(),
        Some(own) => config
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&own.cert).unwrap()],
                PrivateKeyDer::from_pem_file(&own.key).unwrap(),
            )
            .unwrap(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, server.connect().await).await
}

#[tokio::test]
async fn a_request_over_tls_is_answered_and_a_plain_one_is_not() {
    let authority = Authority::new("ca");
    let tls = Tls::open(authority.issue("server")).unwrap();
    let server = Server::start(EdgeConfig::default(), Some(tls)).await;
    let mut stream = connect(&server, &authority.file("ca.pem"), None).await.unwrap();
    assert!(get_path(&mut stream, "/").await.ends_with("hello"));
    let plain = get_path(&mut server.connect().await, "/").await;
    assert!(!plain.contains("HTTP"), "{plain}");
}

#[tokio::test]
async fn a_changed_certificate_is_used_and_a_bad_one_leaves_the_old_one_in_use() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let files = first.issue("server");
    let tls = Tls::open(files.clone()).unwrap();
    let server = Server::start(EdgeConfig::default(), Some(Arc::clone(&tls))).await;
    assert!(!tls.reload_if_changed().unwrap());

    std::fs::write(&files.cert, "no certificate").unwrap();
    let error = tls.reload_if_changed().unwrap_err().to_string();
    assert!(error.contains("expected certificates in PEM, found none"), "{error}");
    assert!(!tls.reload_if_changed().unwrap(), "said once");
    let ca = first.file("ca.pem");
    assert!(connect(&server, &ca, None).await.is_ok());

    let renewed = second.issue("server");
    std::fs::copy(&renewed.cert, &files.cert).unwrap();
    let error = tls.reload_if_changed().unwrap_err().to_string();
    assert!(error.contains("do not make a TLS identity"), "{error}");
    std::fs::copy(&renewed.key, &files.key).unwrap();
    assert!(tls.reload_if_changed().unwrap());
    assert!(connect(&server, &ca, None).await.is_err());
    assert!(connect(&server, &second.file("ca.pem"), None).await.is_ok());
}

#[tokio::test]
async fn clients_need_a_certificate_of_the_authority_that_is_asked_for() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let files = TlsFiles { client_ca: Some(ours.file("ca.pem")), ..ours.issue("server") };
    let server = Server::start(EdgeConfig::default(), Some(Tls::open(files).unwrap())).await;
    let ca = ours.file("ca.pem");
    for own in [None, Some(theirs.issue("mallory"))] {
        // In TLS 1.3 a client learns that it is refused when it reads.
        if let Ok(mut stream) = connect(&server, &ca, own.as_ref()).await {
            assert_eq!(get_path(&mut stream, "/").await, "");
        }
    }
    let mut stream = connect(&server, &ca, Some(&ours.issue("alice"))).await.unwrap();
    assert!(get_path(&mut stream, "/").await.ends_with("alice"));
}

#[test]
fn a_missing_file_is_named() {
    let files = TlsFiles { cert: "/nowhere.pem".into(), key: "/k".into(), client_ca: None };
    let error = Tls::open(files).err().unwrap().to_string();
    assert_eq!(error, "/nowhere.pem: expected certificates in PEM, found no file");
}
