//! [`Transport`]: kept connections over TCP, TLS or a Unix socket.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client as Pool, Error,
        connect::{Connect, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use hyperlocal::UnixConnector;
use tokio_rustls::rustls::{ClientConfig, crypto::ring};

use super::{CONNECT_TIMEOUT, ClientError, Endpoint, halves::Halving, lookups::Lookups};
use crate::pem::{self, PemError};

/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_mins(1);
/// How many lookups of the daemon's name may run at once: it is one name.
const LOOKUPS: usize = 2;

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
    Plain(Kept<HttpConnector<Lookups>>),
    Tls(Kept<HttpsConnector<HttpConnector<Lookups>>>),
    Unix(Kept<UnixConnector>),
}

/// Connections, and what makes more of them.
#[derive(Debug, Clone)]
pub(crate) struct Kept<C> {
    connector: C,
    pool: Pool<Halving<C>, Outgoing>,
}

impl<C: Clone> Kept<C>
where
    Halving<C>: Connect,
{
    fn by(connector: C) -> Self {
        Self {
            pool: builder().build(Halving(connector.clone())),
            connector,
        }
    }
}

impl Transport {
    pub(super) fn for_endpoint(endpoint: &Endpoint, files: &TlsFiles) -> Result<Self, ClientError> {
        match endpoint {
            Endpoint::Unix(_) => Ok(Self::Unix(Kept::by(UnixConnector))),
            Endpoint::Http(_) => {
                let lookups = Lookups::at_once(LOOKUPS).remembering();
                Self::for_http(endpoint.is_tls(), files, lookups)
            }
        }
    }

    /// For any `http://` address, or with `tls` for any `https://` one.
    pub(crate) fn for_http(
        tls: bool,
        files: &TlsFiles,
        lookups: Lookups,
    ) -> Result<Self, ClientError> {
        let mut http = HttpConnector::new_with_resolver(lookups);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT.as_duration()));
        http.set_nodelay(true);
        if !tls {
            return Ok(Self::Plain(Kept::by(http)));
        }
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(config(files)?);
        let connector = connector.https_only().enable_http1().wrap_connector(http);
        Ok(Self::Tls(Kept::by(connector)))
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
            Self::Plain(kept) => kept.pool.request(request).await,
            Self::Tls(kept) => kept.pool.request(request).await,
            Self::Unix(kept) => kept.pool.request(request).await,
        }
    }

    /// The same without its connections.
    fn fresh(&self) -> Self {
        match self {
            Self::Plain(kept) => Self::Plain(Kept::by(kept.connector.clone())),
            Self::Tls(kept) => Self::Tls(Kept::by(kept.connector.clone())),
            Self::Unix(kept) => Self::Unix(Kept::by(kept.connector)),
        }
    }
}

/// The connections that requests go over from now on. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connections(Arc<Mutex<Current>>);

#[derive(Debug)]
struct Current {
    transport: Transport,
    age: Age,
}

/// How often connections were left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Age(u64);

impl Connections {
    pub(super) fn over(transport: Transport) -> Self {
        let age = Age(0);
        Self(Arc::new(Mutex::new(Current { transport, age })))
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn transport(&self) -> Transport {
        self.lock().transport.clone()
    }

    pub(super) fn age(&self) -> Age {
        self.lock().age
    }

    /// Leaves the connections of `age` behind: they end with the requests that they carry. What was left behind already is.
    pub(super) fn leave(&self, age: Age) {
        let mut current = self.lock();
        if current.age == age {
            current.transport = current.transport.fresh();
            current.age = Age(age.0 + 1);
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
