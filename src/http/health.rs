//! `/healthz` and `/readyz`: for whoever restarts and balances.
//!
//! Neither asks the engine, so both answer when it is stuck.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{Shared, answer};
use crate::backend::Backend;

const TEXT: &str = "text/plain; charset=utf-8";

/// Whether the daemon is well: 200, or 503 and why not.
#[utoipa::path(
    get, path = "/healthz", tag = "operation", operation_id = "healthz",
    responses(
        (status = 200, description = "`ok`; where the disk does not answer, that too", body = String, content_type = "text/plain"),
        (status = 503, description = "Writes have stopped; the text says why", body = String, content_type = "text/plain"),
    )
)]
pub(crate) async fn alive<B: Backend>(State(http): Shared<B>) -> Response {
    let health = http.backend.health();
    match (health.silence(), health.fault) {
        (None, None) => answer::of_type(TEXT, StatusCode::OK, "ok\n"),
        // Whoever restarts what is not well would not help the disk by that.
        (Some(silence), None) => {
            answer::of_type(TEXT, StatusCode::OK, format!("ok, but {silence}\n"))
        }
        (_, Some(fault)) => {
            answer::of_type(TEXT, StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n"))
        }
    }
}

/// Whether requests are served: 200, or 503 and why not.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", operation_id = "readyz",
    responses(
        (status = 200, description = "`ready`", body = String, content_type = "text/plain"),
        (status = 503, description = "Loading, stopping, failed, or waiting for a disk that does not answer; the text says which", body = String, content_type = "text/plain"),
    )
)]
pub(crate) async fn ready<B: Backend>(State(http): Shared<B>) -> Response {
    let health = http.backend.health();
    let silence = health.silence();
    if health.ready && health.fault.is_none() && silence.is_none() && !http.stop.is_cancelled() {
        return answer::of_type(TEXT, StatusCode::OK, "ready\n");
    }
    let why = match (health.fault, silence) {
        (Some(fault), _) => format!("{fault}\n"),
        (None, Some(silence)) => format!("{silence}\n"),
        (None, None) => "loading or stopping\n".to_owned(),
    };
    answer::of_type(TEXT, StatusCode::SERVICE_UNAVAILABLE, why)
}
