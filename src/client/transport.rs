//! [`Transport`]: kept connections over TCP, TLS or a Unix socket.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

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
use tokio_rustls::rustls::{ClientConfig, crypto::ring};

use super::{CONNECT_TIMEOUT, ClientError, Endpoint};
use crate::pem::{self, PemError};

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
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Tls(error.to_string()))?;
    let builder = match &files.authorities {
        Some(file) => builder.with_root_certificates(pem::authorities(file)?),
        None => builder
            .with_native_roots()
            .map_err(|error| ClientError::Tls(error.to_string()))?,
    };
    match (&files.certificate, &files.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(pem::certificates(certificate)?, pem::private_key(key)?)
            .map_err(|error| {
                let reason = format!("does not fit {}: {error}", certificate.display());
                PemError::new(key, reason).into()
            }),
        (Some(file), None) | (None, Some(file)) => Err(PemError::new(
            file,
            "a certificate and its key are to be named both, and only one is",
        )
        .into()),
    }
}

/// How much of an answer's head is taken, in bytes. Heads of 1xx answers are read on and on: where a server sends nothing else, the
/// thread that reads them comes to other work only after some bufferfuls.
const HEAD: usize = 32 << 10;

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Pool::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .http1_max_buf_size(HEAD);
    builder
}
