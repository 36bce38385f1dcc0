//! The API of the original: `GET /api/next` and `POST /api/complete`, for its workers as they are.
//!
//! Its answers carry `"status"`, `ok` or `error`. Leases are implicit here, and no token ends them.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{Answer, Http, Shared, answer, body, caller::Caller, claim, problem};
use crate::{
    api,
    backend::{Backend, ClaimRequest},
    task::{LeaseKind, Millis, QueueName, TaskId},
};

/// The next due task of the queue `default`, or null.
///
/// Gives an implicit lease, of 60 seconds unless configured otherwise.
#[utoipa::path(
    get, path = "/api/next", tag = "original", operation_id = "original_next",
    responses(
        (status = 200, description = "The task, or null", body = api::OriginalNext),
        (status = 507, description = "no-room"),
    )
)]
pub(crate) async fn next<B: Backend>(State(http): Shared<B>, caller: Caller) -> Response {
    claim_one(&http, &caller)
        .await
        .unwrap_or_else(|problem| problem.into_original().into_response())
}

/// `HEAD` would take a lease and show nobody the task.
pub(crate) async fn no_head() -> Response {
    let problem = problem::METHOD_NOT_ALLOWED.problem("HEAD is not allowed at /api/next");
    let allow = [(header::ALLOW, HeaderValue::from_static("GET"))];
    (allow, problem.into_original()).into_response()
}

async fn claim_one<B: Backend>(http: &Http<B>, caller: &Caller) -> Answer {
    use std::io::Write as _;
    caller.reach(&QueueName::default())?;
    let answer = http
        .backend
        .claim(ClaimRequest {
            queues: vec![QueueName::default()],
            max: 1,
            wait: Millis(0),
            lease: Some(http.limits.legacy_lease),
            kind: LeaseKind::Legacy,
            worker: None,
            complete: Vec::new(),
        })
        .await?;
    let (answer, _share) = claim::while_there_is_room(http, answer).await?;
    let mut out = br#"{"status":"ok","task":"#.to_vec();
    match answer.tasks.first() {
        None => out.extend_from_slice(b"null"),
        Some((task, _)) => {
            out.extend_from_slice(br#"{"payload":"#);
            out.extend_from_slice(task.payload.as_json().as_bytes());
            write!(
                out,
                r#","priority":{},"exectime":{},"id":"{}"}}"#,
                task.priority, task.exectime, task.id
            )
            .map_err(serde_json::Error::io)?;
        }
    }
    out.push(b'}');
    Ok(answer::json(StatusCode::OK, out))
}

/// Ends a task that is ready, scheduled, or handed out by `GET /api/next`.
#[utoipa::path(
    post, path = "/api/complete", tag = "original", operation_id = "original_complete",
    request_body = api::OriginalComplete,
    responses(
        (status = 200, description = "It is finished", body = api::Done),
        (status = 404, description = "no-such-task"),
        (status = 409, description = "leased, wrong-state"),
        (status = 507, description = "no-room"),
    )
)]
pub(crate) async fn complete<B: Backend>(
    State(http): Shared<B>,
    caller: Caller,
    request: Request,
) -> Response {
    complete_one(&http, &caller, request)
        .await
        .unwrap_or_else(|problem| problem.into_original().into_response())
}

async fn complete_one<B: Backend>(http: &Http<B>, caller: &Caller, request: Request) -> Answer {
    let completed: api::OriginalComplete = body::json(request, http).await?;
    let id = TaskId::parse(&completed.id)?;
    let backend = &*http.backend;
    let completed = caller.change(backend, id, |task| backend.complete(task, None, None));
    completed.await?;
    Ok(answer::nothing_to_tell())
}
