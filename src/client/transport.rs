//! [`Transport`]: kept connections over TCP, TLS or a Unix socket.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, Error, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use hyperlocal::UnixConnector;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::{CONNECT_TIMEOUT, ClientError, Endpoint};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_mins(1);

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
    pub(super) fn for_endpoint(
        endpoint: &Endpoint,
        authority: Option<&Path>,
    ) -> Result<Self, ClientError> {
        match endpoint {
            Endpoint::Unix(_) => Ok(Self::Unix(builder().build(UnixConnector))),
            Endpoint::Http(_) => Self::for_http(endpoint.is_tls(), authority),
        }
    }

    /// For any `http://` address, or with `tls` for any `https://` one, checked against the certificates in the file
    /// `authority`, or where none is named against the machine's.
    pub(crate) fn for_http(tls: bool, authority: Option<&Path>) -> Result<Self, ClientError> {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_TIMEOUT.as_duration()));
        http.set_nodelay(true);
        if !tls {
            return Ok(Self::Plain(builder().build(http)));
        }
        http.enforce_http(false);
        let trusted = match authority {
            Some(file) => HttpsConnectorBuilder::new().with_tls_config(trusting(file)?),
            None => HttpsConnectorBuilder::new()
                .with_native_roots()
                .map_err(|error| ClientError::Tls(error.to_string()))?,
        };
        let connector = trusted.https_only().enable_http1().wrap_connector(http);
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

/// What trusts the certificates in `file` and no others.
fn trusting(file: &Path) -> Result<ClientConfig, ClientError> {
    let wrong = |reason: String| ClientError::Tls(format!("{}: {reason}", file.display()));
    let text = std::fs::read(file).map_err(|cause| wrong(cause.to_string()))?;
    let mut roots = RootCertStore::empty();
    for one in CertificateDer::pem_slice_iter(&text) {
        let one = one.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        roots.add(one).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("has no certificate in PEM".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Pool::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE);
    builder
}
