//! TLS from files that may change while the server runs.

use std::{
    fs::Metadata,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// How often the files are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What is spoken over TLS, which clients are told in the handshake (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// HTTP, in version 2 or 1.1.
    Http,
    /// HTTP in version 2 only, as gRPC needs it.
    Http2,
    /// The Postgres wire protocol.
    Postgres,
    /// Something that has no name there, such as syslog.
    Unnamed,
}

impl Application {
    const ALL: [Self; 4] = [Self::Http, Self::Http2, Self::Postgres, Self::Unnamed];

    fn names(self) -> &'static [&'static [u8]] {
        match self {
            Self::Http => &[b"h2", b"http/1.1"],
            Self::Http2 => &[b"h2"],
            Self::Postgres => &[b"postgresql"],
            Self::Unnamed => &[],
        }
    }
}

/// Certificate, key and client authorities, as last read from their files.
pub struct Tls {
    files: TlsFiles,
    /// One for each of [`Application::ALL`].
    configs: ArcSwap<[Arc<ServerConfig>; 4]>,
    seen: Mutex<Vec<Seen>>,
}

/// By what a change of a file is told.
type Seen = Option<(u64, u64, i64, i64)>;

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("{file}: expected {expected}, found {found}")]
    File {
        /// The file.
        file: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// The files do not fit each other.
    #[error("{cert} and {key} do not make a TLS identity: {reason}")]
    Identity {
        /// File of the certificate.
        cert: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// What does not fit.
        reason: rustls::Error,
    },
    /// The client authorities cannot be used.
    #[error("{file}: {reason}")]
    ClientAuthorities {
        /// The file.
        file: PathBuf,
        /// What is wrong with them.
        reason: VerifierBuilderError,
    },
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let seen = look(&files);
        let configs = ArcSwap::from_pointee(read(&files)?);
        Ok(Arc::new(Self { files, configs, seen: Mutex::new(seen) }))
    }

    /// Accepts connections with what was last read.
    pub fn acceptor(&self, application: Application) -> TlsAcceptor {
        let configs = self.configs.load();
        TlsAcceptor::from(Arc::clone(&configs[application as usize]))
    }

    /// Reads the files again if one has changed since they were last read; says whether they were.
    /// What was read before stays in use when they cannot be read.
    ///
    /// # Errors
    /// [`TlsError`], once for each change.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let mut seen = self.seen.lock();
        let now = look(&self.files);
        if *seen == now {
            return Ok(false);
        }
        *seen = now;
        self.configs.store(Arc::new(read(&self.files)?));
        Ok(true)
    }

    /// Reads the files again whenever they change; never returns.
    pub async fn keep_current(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let tls = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || tls.reload_if_changed()).await {
                Ok(Ok(false)) | Err(_) => {}
                Ok(Ok(true)) => tracing::info!("TLS files have changed and were read again"),
                Ok(Err(error)) => {
                    tracing::error!(%error, "TLS files have changed; what was read before stays");
                }
            }
        }
    }
}

fn look(files: &TlsFiles) -> Vec<Seen> {
    let seen = |metadata: Metadata| {
        (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
    };
    let paths = [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()];
    paths.into_iter().flatten().map(|path| std::fs::metadata(path).ok().map(seen)).collect()
}

fn read(files: &TlsFiles) -> Result<[Arc<ServerConfig>; 4], TlsError> {
    let certificates = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unreadable(&files.key, "a private key in PEM", &error))?;
    // Named, so that a second provider in the tree cannot make the choice ambiguous.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default versions");
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(authorities(file)?, provider)
                .build()
                .map_err(|reason| TlsError::ClientAuthorities { file: file.clone(), reason })?,
        ),
    };
    let config = builder.with_single_cert(certificates, key).map_err(|reason| {
        let (cert, key) = (files.cert.clone(), files.key.clone());
        TlsError::Identity { cert, key, reason }
    })?;
    Ok(Application::ALL.map(|application| {
        let mut config = config.clone();
        config.alpn_protocols = application.names().iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const EXPECTED: &str = "certificates in PEM";
    let unreadable = |error| unreadable(file, EXPECTED, &error);
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .map_err(unreadable)?
        .collect::<Result<_, _>>()
        .map_err(unreadable)?;
    if certificates.is_empty() {
        let (file, found) = (file.to_owned(), "none".to_owned());
        return Err(TlsError::File { file, expected: EXPECTED, found });
    }
    Ok(certificates)
}

fn authorities(file: &Path) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(file)? {
        store.add(certificate).map_err(|error| TlsError::File {
            file: file.to_owned(),
            expected: "certificates of authorities",
            found: error.to_string(),
        })?;
    }
    Ok(Arc::new(store))
}

fn unreadable(file: &Path, expected: &'static str, error: &pem::Error) -> TlsError {
    let found = match error {
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "no file".to_owned(),
        pem::Error::NoItemsFound => "none".to_owned(),
        error => error.to_string(),
    };
    TlsError::File { file: file.to_owned(), expected, found }
}
