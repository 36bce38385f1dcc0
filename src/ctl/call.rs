//! The one way to the daemon: a request over a Unix socket or TCP, its answer whole or as a stream.
//!
//! One connection for each request: a command lives for one or two of them, and its errors stay plain `io::Error`s by
//! which the hint is chosen. No TLS: the daemon has none.

use std::{convert::Infallible, io, path::PathBuf, pin::Pin};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::error::CtlError;
use crate::api;

/// Where the daemon is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// A Unix socket: the admin API and v1.
    Socket(PathBuf),
    /// `host:port`, and the path before the API's paths.
    Tcp {
        /// Host and port.
        authority: String,
        /// Empty, or a path without a slash at its end.
        base: String,
    },
}

impl Endpoint {
    /// Reads `http://host:port`, also with the `/api` that the original's worker wants, and `unix:PATH`.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::Socket(path.into()));
        }
        let Some(rest) = url.strip_prefix("http://") else {
            return Err("must begin with http:// or unix:".to_owned());
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let parsed: http::uri::Authority = authority
            .parse()
            .map_err(|_| format!("{authority:?} is no host and port"))?;
        let authority = match parsed.port() {
            Some(_) => authority.to_owned(),
            None => format!("{authority}:80"),
        };
        let path = path.trim_end_matches('/');
        let base = match path
            .strip_suffix("api")
            .unwrap_or(path)
            .trim_end_matches('/')
        {
            "" => String::new(),
            base => format!("/{base}"),
        };
        Ok(Self::Tcp { authority, base })
    }

    /// How people are told of it.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Tcp { authority, base } => format!("http://{authority}{base}"),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Socket(path) => Box::new(UnixStream::connect(path).await?),
            Self::Tcp { authority, .. } => {
                let stream = TcpStream::connect(authority.as_str()).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
        })
    }

    fn unreachable(&self, cause: io::Error) -> CtlError {
        let hint = match (self, cause.kind()) {
            (Self::Socket(_), io::ErrorKind::PermissionDenied) => {
                "join the group that may use it, and log in again: usermod -aG workqueue $USER"
            }
            (Self::Socket(_), _) => {
                "is workqueued running? try: systemctl status workqueued, or --url http://127.0.0.1:5000"
            }
            (Self::Tcp { .. }, _) => {
                "is workqueued running, and does it listen there? try: systemctl status workqueued"
            }
        };
        CtlError::Unreachable {
            place: self.place(),
            cause,
            hint: hint.to_owned(),
        }
    }

    fn broken(&self, cause: &dyn std::error::Error) -> CtlError {
        CtlError::Broken {
            place: self.place(),
            cause: cause.to_string(),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a request carries.
pub(super) struct Body {
    kind: &'static str,
    content: BoxBody<Bytes, io::Error>,
}

impl Body {
    /// JSON.
    pub(super) fn json(value: &impl serde::Serialize) -> Result<Self, CtlError> {
        let text = serde_json::to_vec(value).map_err(|error| CtlError::Usage(error.to_string()))?;
        Ok(Self {
            kind: "application/json",
            content: Full::new(Bytes::from(text)).map_err(infallible).boxed(),
        })
    }

    /// Lines of JSON, of any length.
    pub(super) fn ndjson(content: BoxBody<Bytes, io::Error>) -> Self {
        Self {
            kind: "application/x-ndjson",
            content,
        }
    }
}

fn infallible(never: Infallible) -> io::Error {
    match never {}
}

/// Sends a request and gives the answer's head; its body is still to come.
pub(super) async fn open(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    body: Option<Body>,
) -> Result<http::Response<Incoming>, CtlError> {
    let stream = endpoint
        .connect()
        .await
        .map_err(|cause| endpoint.unreachable(cause))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|cause| endpoint.broken(&cause))?;
    let (host, base) = match endpoint {
        Endpoint::Socket(_) => ("localhost", ""),
        Endpoint::Tcp { authority, base } => (authority.as_str(), base.as_str()),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{base}{path}"))
        .header(header::HOST, host)
        .header(
            header::USER_AGENT,
            concat!("workqueuectl/", env!("CARGO_PKG_VERSION")),
        );
    let content = match body {
        None => Full::new(Bytes::new()).map_err(infallible).boxed(),
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, body.kind);
            body.content
        }
    };
    let request = request
        .body(content)
        .map_err(|cause| CtlError::Usage(cause.to_string()))?;
    // The connection's own error comes back through the request that it breaks.
    tokio::spawn(async move { drop(connection.await) });
    let answer: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(sender.send_request(request));
    answer.await.map_err(|cause| endpoint.broken(&cause))
}

/// Sends a request and gives the whole answer.
pub(super) async fn call(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    body: Option<Body>,
) -> Result<(StatusCode, Bytes), CtlError> {
    let answer = open(endpoint, method, path, body).await?;
    let status = answer.status();
    let bytes = answer
        .into_body()
        .collect()
        .await
        .map_err(|cause| endpoint.broken(&cause))?;
    Ok((status, bytes.to_bytes()))
}

/// Sends a request and gives its answer's bytes, or the refusal that came instead.
pub(super) async fn ask_raw(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    body: Option<Body>,
) -> Result<Bytes, CtlError> {
    let (status, bytes) = call(endpoint, method, path, body).await?;
    if status.is_success() {
        return Ok(bytes);
    }
    Err(refusal(endpoint, status, path, &bytes))
}

/// Sends a request and reads its answer.
pub(super) async fn ask<T: DeserializeOwned>(
    endpoint: &Endpoint,
    method: Method,
    path: &str,
    body: Option<Body>,
) -> Result<T, CtlError> {
    read(&ask_raw(endpoint, method, path, body).await?)
}

/// Reads an answer.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CtlError> {
    serde_json::from_slice(bytes).map_err(|error| CtlError::Answer(error.to_string()))
}

/// What an answer says that is no success. Not every 404 is a problem document: a path that TCP does not serve is none.
pub(super) fn refusal(
    endpoint: &Endpoint,
    status: StatusCode,
    path: &str,
    bytes: &[u8],
) -> CtlError {
    let admin = !path.starts_with("/api/");
    if admin && matches!(endpoint, Endpoint::Tcp { .. }) && status == StatusCode::NOT_FOUND {
        return CtlError::Usage(format!(
            "{} does not serve this; the admin API is on the Unix socket: leave --url out, or give --socket PATH",
            endpoint.place()
        ));
    }
    match serde_json::from_slice::<api::Problem>(bytes) {
        Ok(problem) => CtlError::Refused(Box::new(problem)),
        Err(_) => CtlError::Answer(format!("HTTP status {status} at {path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_the_originals_api() {
        let tcp = |authority: &str, base: &str| Endpoint::Tcp {
            authority: authority.to_owned(),
            base: base.to_owned(),
        };
        for (url, wanted) in [
            ("http://127.0.0.1:5000", tcp("127.0.0.1:5000", "")),
            ("http://localhost:5000/api", tcp("localhost:5000", "")),
            ("http://localhost:5000/api/", tcp("localhost:5000", "")),
            ("http://[::1]:5000/", tcp("[::1]:5000", "")),
            (
                "http://example.org/queue/api",
                tcp("example.org:80", "/queue"),
            ),
            ("unix:/run/q.sock", Endpoint::Socket("/run/q.sock".into())),
            ("unix:///run/q.sock", Endpoint::Socket("/run/q.sock".into())),
        ] {
            assert_eq!(Endpoint::parse(url), Ok(wanted), "{url}");
        }
        for url in ["", "localhost:5000", "https://example.org", "http://"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }
}
