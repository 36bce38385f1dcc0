//! The transport against a backend that only remembers: what is parsed, what is rendered, what is told when it goes wrong.

mod access;
mod connections;
pub(crate) mod documents;
mod export;
pub(crate) mod fake;
mod forms;
mod pages;
mod problems;
mod stream;
mod v1;

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{Http, HttpLimits, router};
use crate::task::{Millis, Now, PayloadLimits, Tick};
use fake::{FakeBackend, WALL};

/// A server in memory.
pub(crate) struct Site {
    pub(crate) backend: Arc<FakeBackend>,
    pub(crate) http: Http<FakeBackend>,
    pub(crate) router: Router,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The status and the last part of the problem's type.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(
            self.header(header::CONTENT_TYPE),
            "application/problem+json",
            "{self:?}"
        );
        let kind = self.json()["type"].as_str().unwrap().to_owned();
        let name = kind.strip_prefix("/problems/").unwrap().to_owned();
        (self.status.as_u16(), name)
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut Http<FakeBackend>)) -> Self {
        let backend = Arc::new(FakeBackend::default());
        let limits = HttpLimits {
            max_body: 4096,
            payloads: PayloadLimits::bytes(1024),
            body_timeout: Millis(20),
            ..HttpLimits::default()
        };
        let now = Now {
            wall: WALL,
            tick: Tick(0),
        };
        let mut http = Http::new(
            Arc::clone(&backend),
            limits,
            Arc::new(move || now),
            CancellationToken::new(),
        );
        adjust(&mut http);
        let router = router(http.clone());
        Self {
            backend,
            http,
            router,
        }
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Got {
        let (parts, body) = self
            .router
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Got {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        self.send("GET", path, "", "").await
    }

    pub(crate) async fn post(&self, path: &str, json: &str) -> Got {
        self.send("POST", path, "application/json", json).await
    }

    pub(crate) async fn form(&self, path: &str, body: &str) -> Got {
        self.send("POST", path, "application/x-www-form-urlencoded", body)
            .await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &str,
    ) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        self.ask(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }
}
