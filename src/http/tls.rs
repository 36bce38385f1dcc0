//! [`Tls`]: certificate and key of the listeners that speak TLS, and who may show a certificate there.
//!
//! Knows files and rustls, no sockets. What was read last and is right holds until something else that is right is read:
//! a reload with a pair that does not fit changes nothing. A connection keeps the keys that it began with; the certificate that its
//! client showed is judged by the authorities of the moment.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tokio::time::{Duration, Instant};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, UnixTime},
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};

use super::caller::{Certificate, Validity};
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
pub struct Tls(RwLock<Arc<Present>>);

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

    /// Reads the files again, for connections from now on; the authorities are for those that are open, too. Gives whether
    /// these are others than before. An error, and nothing has changed.
    pub fn renew(&self, files: &TlsFiles) -> Result<bool, TlsError> {
        let mut new = read(files)?;
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let are_others = new.authorities != present.authorities;
        new.edition = present.edition + u64::from(are_others);
        *present = Arc::new(new);
        Ok(are_others)
    }

    /// Whether the files can be used, without using them.
    pub fn check(files: &TlsFiles) -> Result<(), TlsError> {
        read(files).map(drop)
    }

    /// What a handshake that begins now goes by.
    pub(super) fn present(&self) -> Arc<Present> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The certificate that a client showed in a handshake that went by `then`, its own first; none without a name.
    pub(super) fn certificate(
        self: &Arc<Self>,
        then: &Present,
        chain: &[CertificateDer<'static>],
    ) -> Option<Certificate> {
        Some(Certificate {
            name: name_of(chain.first()?)?,
            validity: Arc::new(Chain {
                tls: Arc::clone(self),
                shown: chain.to_vec(),
                judged: Mutex::new(Judged {
                    edition: then.edition,
                    at: Instant::now(),
                    is_good: true,
                }),
            }),
        })
    }
}

/// What was read last.
pub(super) struct Present {
    config: Arc<ServerConfig>,
    /// Those whose certificates clients may show; empty where nobody is asked for one.
    authorities: Vec<CertificateDer<'static>>,
    /// Which of all lists of authorities that were read: grows when they are others.
    edition: u64,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Present {
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Whether a client may show these.
    fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(verifier), Some((own, between))) = (&self.verifier, chain.split_first()) else {
            return false;
        };
        verifier
            .verify_client_cert(own, between, UnixTime::now())
            .inspect_err(|error| {
                tracing::debug!(%error, "a certificate is not good any more");
            })
            .is_ok()
    }
}

/// How long what was found is taken for true: a certificate that runs out is noticed that much later at most.
const TAKEN_FOR: Duration = Duration::from_secs(5);

/// What a client showed in its handshake, judged again when the authorities are others, and now and then, as it may run out.
struct Chain {
    tls: Arc<Tls>,
    shown: Vec<CertificateDer<'static>>,
    judged: Mutex<Judged>,
}

/// What was found, by which authorities, and when.
struct Judged {
    edition: u64,
    at: Instant,
    is_good: bool,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").finish_non_exhaustive()
    }
}

impl Validity for Chain {
    fn holds(&self) -> bool {
        let present = self.tls.present();
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if judged.edition != present.edition || judged.at.elapsed() >= TAKEN_FOR {
            *judged = Judged {
                edition: present.edition,
                at: Instant::now(),
                is_good: present.trusts(&self.shown),
            };
        }
        judged.is_good
    }
}

fn read(files: &TlsFiles) -> Result<Present, TlsError> {
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
    let mut authorities = Vec::new();
    let mut verifier = None;
    if let Some(path) = &files.client_ca {
        authorities = pem::certificates(path).map_err(of("tls.client_ca"))?;
        let roots = pem::roots(path, &authorities).map_err(of("tls.client_ca"))?;
        // Who shows none is asked for a token instead.
        let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| of("tls.client_ca")(PemError::new(path, error.to_string())))?;
        verifier = Some(built);
    }
    let builder = match &verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let reason = format!("does not fit {}: {error}", files.certificate.display());
        of("tls.key")(PemError::new(&files.key, reason))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Present {
        config: Arc::new(config),
        authorities,
        edition: 0,
        verifier,
    })
}

/// Whether a handshake failed for the certificate that the client showed.
pub(super) fn is_about_certificate(error: &io::Error) -> bool {
    let cause = error.get_ref();
    let cause = cause.and_then(|cause| cause.downcast_ref::<rustls::Error>());
    matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
}

/// What is wrong with the file of a setting.
fn of(setting: &'static str) -> impl Fn(PemError) -> TlsError {
    move |file| TlsError { setting, file }
}

/// The name in a client's certificate: the first DNS name among its subject's alternative names.
fn name_of(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    certificate.valid_dns_names().next().map(Arc::from)
}
