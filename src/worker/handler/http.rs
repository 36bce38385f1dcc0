//! `http`: the payload is posted to a URL.
//!
//! Any 2xx completes. Everything else is a failed attempt, a 4xx too: it counts, and the task is dead when its attempts are
//! used up, so that a mistake at the other end can be mended in the meantime. `Retry-After` of a 429 or 503 says when the
//! next attempt comes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::{Failure, Outcome};
use crate::{
    api,
    client::{Lookups, TlsFiles, Transport},
    runtime,
    worker::{HttpConfig, WorkerError},
};

/// How many lookups of the target's name may run at once: a resolver that hangs is to leave threads for the way to the daemon.
const LOOKUPS: usize = runtime::MOST_BLOCKING / 2;
/// How much of an answer is read, in bytes: for the error's text, and so that its connection can be used again.
const READ: usize = 64 << 10;
/// How long the answer's body is waited for: the status has told how the attempt ended.
const BODY_PATIENCE: Duration = Duration::from_secs(1);
/// How much of it stands in an error's text.
const SHOWN: usize = 1 << 10;

/// Posts payloads.
#[derive(Debug)]
pub(in crate::worker) struct Http {
    transport: Transport,
    config: HttpConfig,
}

impl Http {
    pub(super) fn new(config: HttpConfig) -> Result<Self, WorkerError> {
        let transport = Transport::for_http(
            config.url.scheme_str() == Some("https"),
            &TlsFiles::default(),
            Lookups::at_once(LOOKUPS),
        )?;
        Ok(Self { transport, config })
    }

    pub(super) async fn run(&self, task: &api::ClaimedTask, stop: &CancellationToken) -> Outcome {
        let limit = self.config.timeout;
        tokio::select! {
            answer = tokio::time::timeout(limit.as_duration(), self.post(task)) => match answer {
                Ok(Ok(response)) => outcome(response).await,
                Ok(Err(failed)) => failed,
                Err(_) => Outcome::failed(format!("timeout after {limit}")),
            },
            () = stop.cancelled() => Outcome::Stopped,
        }
    }

    /// Posts it, and waits for the head of the answer.
    async fn post(&self, task: &api::ClaimedTask) -> Result<Response<Incoming>, Outcome> {
        let mut request = Request::post(self.config.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("workqueue-worker/", env!("CARGO_PKG_VERSION")),
            )
            .header("Workqueue-Task-Id", &task.task.id)
            .header("Workqueue-Queue", &task.task.queue)
            .header("Workqueue-Attempt", task.attempt)
            .header("Workqueue-Priority", task.task.priority);
        for (name, value) in [
            ("traceparent", &task.task.traceparent),
            ("tracestate", &task.task.tracestate),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(
            task.task.payload.as_json().as_bytes(),
        )));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Err(Outcome::failed(format!("cannot be posted: {error}"))),
        };
        self.transport.send(request).await.map_err(|error| {
            let cause = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
            Outcome::failed(format!("cannot reach {}: {cause}", self.config.url))
        })
    }
}

async fn outcome(response: Response<Incoming>) -> Outcome {
    let status = response.status();
    let retry_in = matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
    .then(|| retry_after(response.headers()))
    .flatten();
    let start = read_start(response.into_body()).await;
    if status.is_success() {
        return Outcome::Completed(None);
    }
    let text = String::from_utf8_lossy(&start[..start.len().min(SHOWN)]).into_owned();
    Outcome::Failed(Failure {
        error: format!("status {status}: {}", text.trim()),
        retry_in,
        dead: false,
    })
}

/// The start of the body. That it breaks off or does not come changes nothing: the status has said how the attempt ended.
async fn read_start(mut body: Incoming) -> Vec<u8> {
    let mut start = Vec::new();
    let reading = async {
        while start.len() < READ {
            match body.frame().await {
                Some(Ok(frame)) => {
                    start.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                }
                Some(Err(_)) | None => break,
            }
        }
    };
    match tokio::time::timeout(BODY_PATIENCE, reading).await {
        Ok(()) | Err(_) => start,
    }
}

/// The longest wait that an answer may ask for: what is wrong at the other end is not to put a task off for years.
const LONGEST_RETRY: Duration = Duration::from_hours(24);

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<f64> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let secs = if let Ok(secs) = text.parse::<u32>() {
        f64::from(secs)
    } else {
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        at.duration_since(jiff::Timestamp::now()).as_secs_f64()
    };
    Some(secs.clamp(0.0, LONGEST_RETRY.as_secs_f64()))
}
