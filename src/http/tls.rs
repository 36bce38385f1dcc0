//! [`Tls`]: certificate and key of the listeners that speak TLS, and who may show a certificate there.
//!
//! Knows files and rustls, no sockets. What was read last and is right holds until something else that is right is read:
//! a reload with a pair that does not fit changes nothing. A connection keeps what it began with.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
        server::WebPkiClientVerifier,
    },
};

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those between it and its authority, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// The authorities whose certificates clients may show, in PEM.
    pub client_ca: Option<PathBuf>,
}

/// Why certificate and key can't be used: names the setting and the file.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: {}: {reason}", path.display())]
pub struct TlsError {
    setting: &'static str,
    path: PathBuf,
    reason: String,
}

/// What listeners that speak TLS show.
pub struct Tls(RwLock<Arc<ServerConfig>>);

impl fmt::Debug for Tls {
    /// A key is a secret: not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self(RwLock::new(Arc::new(read(files)?))))
    }

    /// Reads the files again, for connections from now on. An error, and nothing has changed.
    pub fn renew(&self, files: &TlsFiles) -> Result<(), TlsError> {
        let new = Arc::new(read(files)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Whether the files can be used, without using them.
    pub fn check(files: &TlsFiles) -> Result<(), TlsError> {
        read(files).map(drop)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let config = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        TlsAcceptor::from(config)
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let chain = certificates("tls.certificate", &files.certificate)?;
    let key = key(&files.key)?;
    let provider = Arc::new(ring::default_provider());
    let wrong = |setting, path: &Path, reason: String| TlsError {
        setting,
        path: path.to_owned(),
        reason,
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("tls.certificate", &files.certificate, error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for one in certificates("tls.client_ca", path)? {
                roots
                    .add(one)
                    .map_err(|error| wrong("tls.client_ca", path, error.to_string()))?;
            }
            // Who shows none is asked for a token instead.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| wrong("tls.client_ca", path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        wrong(
            "tls.key",
            &files.key,
            format!("does not fit {}: {error}", files.certificate.display()),
        )
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |reason: String| TlsError {
        setting,
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read(path).map_err(|cause| wrong(cause.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong("has no certificate in PEM".to_owned()));
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |reason: String| TlsError {
        setting: "tls.key",
        path: path.to_owned(),
        reason,
    };
    let text = std::fs::read(path).map_err(|cause| wrong(cause.to_string()))?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| wrong(format!("has no private key in PEM: {error}")))
}

/// The name in a client's certificate: the first DNS name among its subject's alternative names.
pub(super) fn name_of(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().next().map(Arc::from)
}
