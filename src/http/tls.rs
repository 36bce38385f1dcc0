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
        self, HandshakeKind, ServerConfig,
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

    /// Uses these files for connections from now on; the authorities are for those that are open, too. Gives whether these are others
    /// than before.
    pub fn renew(&self, NewTls(mut new): NewTls) -> bool {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let are_others = new.authorities != present.authorities;
        new.edition = present.edition + u64::from(are_others);
        *present = Arc::new(new);
        are_others
    }

    /// What a handshake that begins now goes by.
    pub(super) fn present(&self) -> Arc<Present> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The certificate that a client showed in a handshake that went by `then`, its own first; none without a name. One that goes on
    /// with a session of before (resumption) brings its certificate from there, unasked: it may have run out meanwhile.
    pub(super) fn certificate(
        self: &Arc<Self>,
        then: &Present,
        kind: Option<HandshakeKind>,
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
                    is_good: kind != Some(HandshakeKind::Resumed) || then.trusts(chain),
                }),
            }),
        })
    }
}

/// Certificate, key and authorities that were read and can be used, and are not used yet.
pub struct NewTls(Present);

impl NewTls {
    /// Reads the files.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        read(files).map(Self)
    }
}

impl fmt::Debug for NewTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key is in it.
        f.write_str("NewTls")
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio_rustls::{
        TlsConnector,
        rustls::{
            ClientConfig, RootCertStore,
            pki_types::{PrivateKeyDer, ServerName, pem::PemObject as _},
        },
    };

    use super::*;

    /// More than the certificate is good for.
    const SOON: Duration = Duration::from_secs(20);

    /// A handshake with a client of `config`: its kind, and the certificate that came of it.
    async fn shake(tls: &Arc<Tls>, config: &Arc<ClientConfig>) -> (HandshakeKind, Certificate) {
        let (near, far) = duplex(1 << 16);
        let present = tls.present();
        let name = ServerName::try_from("localhost").unwrap();
        let client = async {
            let connector = TlsConnector::from(Arc::clone(config));
            let mut stream = connector.connect(name, far).await.unwrap();
            // With the first byte comes what the next handshake goes on with.
            stream.read_u8().await.unwrap();
        };
        let server = async {
            let mut stream = present.acceptor().accept(near).await.unwrap();
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
            let session = stream.get_ref().1;
            let kind = session.handshake_kind();
            let chain = session.peer_certificates().unwrap();
            (
                kind.unwrap(),
                tls.certificate(&present, kind, chain).unwrap(),
            )
        };
        tokio::join!(client, server).1
    }

    #[tokio::test]
    async fn a_certificate_that_has_run_out_is_not_good_again_by_a_session_of_before() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str, good_for: Duration| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            let now = Duration::from_secs(UnixTime::now().as_secs());
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + now + good_for;
            let key = KeyPair::generate().unwrap();
            let certificate = params.signed_by(&key, &authority).unwrap();
            (certificate.pem(), key.serialize_pem())
        };
        let (certificate, key) = issue("localhost", 10 * SOON);
        let ca = put("ca.pem", authority.pem());
        let files = TlsFiles {
            certificate: put("certificate.pem", certificate),
            key: put("key.pem", key),
            client_ca: Some(ca.clone()),
        };
        let tls = Arc::new(Tls::read(&files).unwrap());
        let (certificate, key) = issue("worker", Duration::from_secs(4));
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(&ca).unwrap())
            .unwrap();
        let shown = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![shown], key)
            .unwrap();
        let config = Arc::new(config);

        let (kind, certificate) = shake(&tls, &config).await;
        assert_eq!(kind, HandshakeKind::Full);
        assert!(certificate.validity.holds());
        let runs_out = async {
            loop {
                let (kind, certificate) = shake(&tls, &config).await;
                assert_eq!(kind, HandshakeKind::Resumed);
                if !certificate.validity.holds() {
                    break;
                }
            }
        };
        tokio::time::timeout(SOON, runs_out).await.unwrap();
    }
}
