//! [`Tls`]: certificate and key of the listeners that speak TLS, and who may show a certificate there.
//!
//! Knows files and rustls, no sockets. What was read last and is right holds until something else that is right is read:
//! a reload with a pair that does not fit changes nothing. A connection keeps what it began with.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::CertificateDer, server::WebPkiClientVerifier},
};

use crate::pem::{self, PemError};

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
#[error("{setting}: {file}")]
pub struct TlsError {
    setting: &'static str,
    file: PemError,
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
    let named = [
        ("tls.certificate", Some(&files.certificate)),
        ("tls.key", Some(&files.key)),
        ("tls.client_ca", files.client_ca.as_ref()),
    ];
    for (setting, path) in named {
        // A FIFO would be waited for, and a daemon that reads its files again serves nobody meanwhile.
        if let Some(path) = path
            && std::fs::metadata(path).is_ok_and(|about| !about.is_file())
        {
            return Err(of(setting)(PemError::new(path, "is no file")));
        }
    }
    let chain = pem::certificates(&files.certificate).map_err(of("tls.certificate"))?;
    let key = pem::private_key(&files.key).map_err(of("tls.key"))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            of("tls.certificate")(PemError::new(&files.certificate, error.to_string()))
        })?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = pem::authorities(path).map_err(of("tls.client_ca"))?;
            // Who shows none is asked for a token instead.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| of("tls.client_ca")(PemError::new(path, error.to_string())))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let reason = format!("does not fit {}: {error}", files.certificate.display());
        of("tls.key")(PemError::new(&files.key, reason))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What is wrong with the file of a setting.
fn of(setting: &'static str) -> impl Fn(PemError) -> TlsError {
    move |file| TlsError { setting, file }
}

/// The name in a client's certificate: the first DNS name among its subject's alternative names.
pub(super) fn name_of(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().next().map(Arc::from)
}
