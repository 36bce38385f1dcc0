//! [`Transport`]: kept connections over TCP, TLS or a Unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use hyperlocal::UnixConnector;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use super::{CONNECT_TIMEOUT, ClientError, Endpoint};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_mins(1);

/// The files, in PEM, by which a client and a daemon behind `https://` know each other. Without any, the daemon's certificate
/// must come from an authority that the machine trusts, and the client shows none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities to trust, and no others.
    pub authorities: Option<PathBuf>,
    /// The certificate to show, and those that lead from it to its authority.
    pub certificate: Option<PathBuf>,
    /// The private key of that certificate.
    pub key: Option<PathBuf>,
}

/// What is sent: bytes at hand, or a stream of any length.
pub(super) type Outgoing = Either<Full<Bytes>, BoxBody<Bytes, io::Error>>;

/// Kept connections. Clones share them.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    Plain(Pool<HttpConnector, Outgoing>),
    Tls(Pool<HttpsConnector<HttpConnector>, Outgoing>),
    Unix(Pool<UnixConnector, Outgoing>),
}

impl Transport {
    pub(super) fn for_endpoint(endpoint: &Endpoint, files: &TlsFiles) -> Result<Self, ClientError> {
        match endpoint {
            Endpoint::Unix(_) => Ok(Self::Unix(builder().build(UnixConnector))),
            Endpoint::Http(_) => Self::for_http(endpoint.is_tls(), files),
        }
    }

    /// For any `http://` address, or with `tls` for any `https://` one.
    pub(crate) fn for_http(tls: bool, files: &TlsFiles) -> Result<Self, ClientError> {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_TIMEOUT.as_duration()));
        http.set_nodelay(true);
        if !tls {
            return Ok(Self::Plain(builder().build(http)));
        }
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(config(files)?);
        let connector = connector.https_only().enable_http1().wrap_connector(http);
        Ok(Self::Tls(builder().build(connector)))
    }

    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        self.send_any(request.map(Either::Left)).await
    }

    pub(super) async fn send_any(
        &self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, Error> {
        match self {
            Self::Plain(pool) => pool.request(request).await,
            Self::Tls(pool) => pool.request(request).await,
            Self::Unix(pool) => pool.request(request).await,
        }
    }
}

fn config(files: &TlsFiles) -> Result<ClientConfig, ClientError> {
    let failed = |text: String| ClientError::Tls(text);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?;
    let builder = match &files.authorities {
        Some(file) => builder.with_root_certificates(roots(file)?),
        None => builder
            .with_native_roots()
            .map_err(|error| failed(error.to_string()))?,
    };
    match (&files.certificate, &files.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| {
                failed(format!(
                    "{} does not fit {}: {error}",
                    key.display(),
                    certificate.display()
                ))
            }),
        (Some(file), None) => Err(failed(format!(
            "{}: the file with the key of this certificate is to be named, too",
            file.display()
        ))),
        (None, Some(file)) => Err(failed(format!(
            "{}: the file with the certificate of this key is to be named, too",
            file.display()
        ))),
    }
}

/// The authorities whose certificates are in `file`.
fn roots(file: &Path) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    for one in certificates(file)? {
        roots
            .add(one)
            .map_err(|error| ClientError::Tls(format!("{}: {error}", file.display())))?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let wrong = |reason: String| ClientError::Tls(format!("{}: {reason}", file.display()));
    let text = std::fs::read(file).map_err(|cause| wrong(cause.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("is not PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong("has no certificate in PEM".to_owned()));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, ClientError> {
    let wrong = |reason: String| ClientError::Tls(format!("{}: {reason}", file.display()));
    let text = std::fs::read(file).map_err(|cause| wrong(cause.to_string()))?;
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| wrong(format!("has no private key in PEM: {error}")))
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Pool::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE);
    builder
}
