//! [`Transport`]: kept connections over TCP, TLS or a Unix socket.

use std::{io, time::Duration};

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
    pub(super) fn for_endpoint(endpoint: &Endpoint) -> Result<Self, ClientError> {
        match endpoint {
            Endpoint::Unix(_) => Ok(Self::Unix(builder().build(UnixConnector))),
            Endpoint::Http(_) => Self::for_http(endpoint.is_tls()),
        }
    }

    /// For any `http://` address, or with `tls` for any `https://` one, checked against the machine's certificates.
    pub(crate) fn for_http(tls: bool) -> Result<Self, ClientError> {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_TIMEOUT.as_duration()));
        http.set_nodelay(true);
        if !tls {
            return Ok(Self::Plain(builder().build(http)));
        }
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|error| ClientError::Tls(error.to_string()))?
            .https_only()
            .enable_http1()
            .wrap_connector(http);
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

fn builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Pool::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE);
    builder
}
