//! Speaks the daemon's HTTP API, over TCP or a Unix socket: what `workqueue-worker` and `workqueuectl` are built on.
//!
//! One method per request, named as the API names it; they carry values to the daemon and back and hold no rules. This
//! floor may not know the engine, the daemon's files, or what its callers do with an answer.
//!
//! ```no_run
//! use workqueue::{api, client::{Client, Endpoint}, task::Payload};
//!
//! # async fn example() -> Result<(), workqueue::client::ClientError> {
//! let client = Client::new(Endpoint::parse("http://127.0.0.1:5000")?)?;
//! let task = api::NewTask {
//!     queue: Some("emails".to_owned()),
//!     ..api::NewTask::of(Payload::from_text("to ada"))
//! };
//! let submitted = client.submit(&task).await?;
//! println!("{} is {}", submitted.task.id, submitted.task.state);
//!
//! let claim = api::Claim {
//!     queues: vec!["emails".to_owned()],
//!     wait: 30.0,
//!     ..api::Claim::default()
//! };
//! for claimed in client.claim(&claim).await?.tasks {
//!     println!("attempt {} at {}", claimed.attempt, claimed.task.payload.to_display());
//!     client.complete(&claimed.task.id, &claimed.token, None).await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `tests/client.rs` runs this and the rest against a daemon.

mod admin;
mod alone;
mod content;
mod endpoint;
mod error;
mod events;
mod export;
mod halves;
mod lookups;
mod transport;
mod v1;

pub use content::{Content, Feed};
pub use endpoint::Endpoint;
pub use error::ClientError;
pub use events::{EventQuery, Events, Told};
pub use export::Export;
pub use v1::{Submitted, TaskQuery};

pub use transport::TlsFiles;

pub(crate) use lookups::Lookups;
pub(crate) use transport::Transport;
pub(crate) use v1::same_task;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Limited};
use hyper::body::Incoming;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{api, task::Millis};
use transport::{Connections, Outgoing};

/// How long an answer may take beyond the time that the request itself asks the daemon to wait.
pub const ANSWER_TIMEOUT: Millis = Millis::from_secs(30);
/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Millis = Millis::from_secs(10);
/// The largest answer that is read into memory, in bytes: a claim of 1000 tasks with the default payload limit is larger,
/// but no caller here asks for that; a daemon that says more is cut off instead of filling our memory.
const ANSWER_LIMIT: usize = 256 << 20;
/// How much of an answer that is no problem document an error shows, in bytes.
const SHOWN: usize = 200;

/// A client of one daemon. Cheap to clone; clones share their connections, which are kept alive between requests.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Arc<Endpoint>,
    connections: Connections,
    bearer: Option<Arc<str>>,
}

impl Client {
    /// A client for `endpoint`. Nothing is connected yet.
    pub fn new(endpoint: Endpoint) -> Result<Self, ClientError> {
        Self::over(endpoint, &TlsFiles::default())
    }

    /// A client for `endpoint`; where that begins with `https://`, with these certificates. An error names the file that can't
    /// be used.
    pub fn over(endpoint: Endpoint, files: &TlsFiles) -> Result<Self, ClientError> {
        Ok(Self {
            connections: Connections::over(Transport::for_endpoint(&endpoint, files)?),
            endpoint: Arc::new(endpoint),
            bearer: None,
        })
    }

    /// The same client, which shows `token` with each request (`Authorization: Bearer`).
    #[must_use]
    pub fn with_bearer(mut self, token: &str) -> Self {
        self.bearer = Some(token.into());
        self
    }

    /// Which daemon it speaks to.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `GET` of `path` (with its query), the answer as JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        parse(&self.exchange(Method::GET, path, None).await?)
    }

    /// `POST` of `body` to `path`, the answer as JSON.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        parse(
            &self
                .exchange(Method::POST, path, Some(Content::json(body)?))
                .await?,
        )
    }

    /// `POST` of `body` to `path`, whose answer has nothing to tell but that it was good, in the daemon's own words: something else
    /// that answers there, and calls it good, has done nothing.
    pub async fn post_only(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<(), ClientError> {
        self.post::<api::Done>(path, body).await.map(drop)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Content>,
    ) -> Result<Bytes, ClientError> {
        self.exchange_within(method, path, body, ANSWER_TIMEOUT.as_duration())
            .await
    }

    /// One request and its whole answer, within `limit`.
    async fn exchange_within(
        &self,
        method: Method,
        path: &str,
        body: Option<Content>,
        limit: Duration,
    ) -> Result<Bytes, ClientError> {
        let answer = self.answer_within(method, path, body, limit).await;
        answer.map(|(_, bytes)| bytes)
    }

    /// The same, with the status: some requests have two good ones.
    async fn answer_within(
        &self,
        method: Method,
        path: &str,
        body: Option<Content>,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        // It is large, and is a part of whatever waits for it.
        let whole = Box::pin(async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            Ok((status, self.read(response.into_body()).await?))
        });
        self.until(tokio::time::sleep(limit), whole).await
    }

    /// What `requests` of this client lead to, unless `given_up` ends before: that is a [`ClientError::Timeout`]. No connection that
    /// there was until then carries another request: one that swallows what it is given may not be the only one.
    pub async fn until<T>(
        &self,
        given_up: impl Future<Output = ()>,
        requests: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let (begin, age) = (Instant::now(), self.connections.age());
        tokio::select! {
            biased;
            answer = requests => answer,
            () = given_up => {
                self.connections.leave(age);
                // A limit that is over is so by some fraction.
                let tenths = begin.elapsed().as_millis() / 100;
                Err(self.timed_out(Duration::from_millis(100 * tenths as u64)))
            }
        }
    }

    /// Sends a request; an answer that is not good becomes an error here.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Content>,
    ) -> Result<http::Response<Incoming>, ClientError> {
        self.carry(self.request(method, path, body)?).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Content>,
    ) -> Result<Request<Outgoing>, ClientError> {
        let uri = self.endpoint.uri(path)?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                concat!("workqueue/", env!("CARGO_PKG_VERSION")),
            );
        if matches!(*self.endpoint, Endpoint::Unix(_)) {
            // Without it the host would be the socket's path in hexadecimal.
            request = request.header(header::HOST, "localhost");
        }
        if let Some(token) = &self.bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let outgoing = match body {
            Some(content) => {
                request = request.header(header::CONTENT_TYPE, content.kind);
                content.outgoing
            }
            None => Content::nothing(),
        };
        request
            .body(outgoing)
            .map_err(|error| ClientError::BadUrl(format!("{path}: {error}")))
    }

    async fn carry(
        &self,
        request: Request<Outgoing>,
    ) -> Result<http::Response<Incoming>, ClientError> {
        let is_stream = matches!(request.body(), Either::Right(_));
        let response = if is_stream && !self.endpoint.is_tls() {
            alone::send(&self.endpoint, request)
                .await
                .map_err(|error| self.unreachable(&*error))?
        } else {
            let transport = self.connections.transport();
            transport
                .send_any(request)
                .await
                .map_err(|error| self.unreachable(&error))?
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = self.read(response.into_body()).await?;
        Err(problem(status, &body))
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, ClientError> {
        Limited::new(body, ANSWER_LIMIT)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .map_err(|error| self.unreachable(&*error))
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        ClientError::Unreachable {
            endpoint: self.endpoint.to_string(),
            reason: error::chain(error),
            hint: self.endpoint.hint(error::io_kind(error)),
            unsent: error::is_unsent(error),
        }
    }

    fn timed_out(&self, after: Duration) -> ClientError {
        ClientError::Timeout {
            endpoint: self.endpoint.to_string(),
            after,
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body)
        .map_err(|error| unexpected(StatusCode::OK, format!("{error}: {}", shown(body))))
}

/// An answer that is not good: a problem document, or what stands in its place when something else answers the port.
fn problem(status: u16, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<api::Problem>(body) {
        Ok(problem) => ClientError::Problem(Box::new(problem)),
        Err(_) => ClientError::Unexpected {
            status,
            body: shown(body),
        },
    }
}

/// An answer that is called good, and is none of this API's.
fn unexpected(status: StatusCode, body: String) -> ClientError {
    ClientError::Unexpected {
        status: status.as_u16(),
        body,
    }
}

fn shown(body: &[u8]) -> String {
    let start = &body[..body.len().min(SHOWN)];
    String::from_utf8_lossy(start).escape_debug().to_string()
}

#[cfg(test)]
mod tests;
