//! Certificates and keys from files in PEM (RFC 7468).
//!
//! May not know who shows them to whom: that is the matter of the client and of the transports.

use std::path::{Path, PathBuf};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Why a file can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct PemError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl PemError {
    /// That `path` can't be used for this reason.
    pub fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// All certificates in the file, at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PemError::new(path, format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(PemError::new(path, "has no certificate in PEM"));
    }
    Ok(found)
}

/// The authorities whose certificates are in the file.
pub fn authorities(path: &Path) -> Result<RootCertStore, PemError> {
    roots(path, &certificates(path)?)
}

/// The same of certificates that were read from the file already.
pub fn roots(
    path: &Path,
    certificates: &[CertificateDer<'static>],
) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for one in certificates {
        roots
            .add(one.clone())
            .map_err(|error| PemError::new(path, error.to_string()))?;
    }
    Ok(roots)
}

/// The first private key in the file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|error| PemError::new(path, format!("has no private key in PEM: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(path).map_err(|cause| PemError::new(path, cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pem");
        let said = |error: PemError| error.to_string();
        assert!(said(certificates(&path).unwrap_err()).contains("a.pem: No such file"));
        std::fs::write(&path, "hello").unwrap();
        assert!(said(certificates(&path).unwrap_err()).ends_with("has no certificate in PEM"));
        assert!(said(private_key(&path).unwrap_err()).contains("a.pem: has no private key"));
        std::fs::write(
            &path,
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(said(certificates(&path).unwrap_err()).contains("is not PEM"));
    }
}
