//! `/api/v1/tasks/{id}/…`: what a worker says of a task that it holds, with the token of its lease.
//!
//! Knows how it is said, not whether the token is good.

use axum::extract::{Request, State};

use super::{Answer, HttpLimits, Shared, answer, body, caller::Caller, path::Path, task};
use crate::{
    api::{self, schemas},
    backend::{Backend, Failure},
    task::{Millis, Options, Payload, Refusal, TaskId, Token, seconds},
};

/// The error of an attempt whose worker named none: an empty text would look as if nothing had failed.
const NO_REASON: &str = "failed without a reason given";

/// Complete a task.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/complete", tag = "leases", operation_id = "complete",
    params(("id" = schemas::TaskId, Path, description = "The task's UUID")),
    request_body = api::Complete,
    responses(
        (status = 200, description = "It is finished", body = api::Done),
        (status = 400, description = "invalid-field, malformed-json"),
        (status = 404, description = "no-such-task"),
        (status = 409, description = "stale-token"),
        (status = 413, description = "too-large"),
        (status = 415, description = "unsupported-media-type"),
        (status = 507, description = "no-room"),
    )
)]
pub(crate) async fn complete<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    caller: Caller,
    request: Request,
) -> Answer {
    let id = TaskId::parse(&id)?;
    caller.reach_held(&*http.backend, id).await?;
    let complete: api::Complete = body::json(request, &http).await?;
    let token = Token::parse(&complete.token)?;
    check_result(complete.result.as_ref(), &http.limits)?;
    http.backend
        .complete(id, Some(token), complete.result)
        .await?;
    Ok(answer::nothing_to_tell())
}

/// Tell of a failed attempt.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/fail", tag = "leases", operation_id = "fail",
    params(("id" = schemas::TaskId, Path, description = "The task's UUID")),
    request_body = api::Fail,
    responses(
        (status = 200, description = "The task as it stands now", body = api::Task),
        (status = 400, description = "invalid-field, malformed-json"),
        (status = 404, description = "no-such-task"),
        (status = 409, description = "stale-token"),
        (status = 415, description = "unsupported-media-type"),
        (status = 507, description = "no-room"),
    )
)]
pub(crate) async fn fail<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    caller: Caller,
    request: Request,
) -> Answer {
    let id = TaskId::parse(&id)?;
    caller.reach_held(&*http.backend, id).await?;
    let fail: api::Fail = body::json(request, &http).await?;
    let token = Token::parse(&fail.token)?;
    let failure = Failure {
        error: if fail.error.is_empty() {
            NO_REASON.to_owned()
        } else {
            fail.error
        },
        retry_in: fail
            .retry_in
            .map(|secs| seconds("retry_in", secs))
            .transpose()?,
        dead: fail.dead,
    };
    task::respond(&http.backend.fail(id, token, failure).await?)
}

/// Give a task back; the attempt does not count.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/release", tag = "leases", operation_id = "release",
    params(("id" = schemas::TaskId, Path, description = "The task's UUID")),
    request_body = api::Release,
    responses(
        (status = 200, description = "It is ready again", body = api::Done),
        (status = 400, description = "invalid-field, malformed-json"),
        (status = 404, description = "no-such-task"),
        (status = 409, description = "stale-token"),
        (status = 415, description = "unsupported-media-type"),
        (status = 507, description = "no-room"),
    )
)]
pub(crate) async fn release<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    caller: Caller,
    request: Request,
) -> Answer {
    let id = TaskId::parse(&id)?;
    caller.reach_held(&*http.backend, id).await?;
    let release: api::Release = body::json(request, &http).await?;
    http.backend
        .release(id, Token::parse(&release.token)?)
        .await?;
    Ok(answer::nothing_to_tell())
}

/// Make a lease longer.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/extend", tag = "leases", operation_id = "extend",
    params(("id" = schemas::TaskId, Path, description = "The task's UUID")),
    request_body = api::Extend,
    responses(
        (status = 200, description = "When it ends now", body = api::Extended),
        (status = 400, description = "invalid-field, malformed-json"),
        (status = 404, description = "no-such-task"),
        (status = 409, description = "stale-token"),
        (status = 415, description = "unsupported-media-type"),
        (status = 507, description = "no-room"),
    )
)]
pub(crate) async fn extend<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    caller: Caller,
    request: Request,
) -> Answer {
    let id = TaskId::parse(&id)?;
    caller.reach_held(&*http.backend, id).await?;
    let extend: api::Extend = body::json(request, &http).await?;
    let token = Token::parse(&extend.token)?;
    let length = lease_length(extend.lease)?;
    let expires = http.backend.extend(id, token, length).await?;
    answer::ok(&api::Extended {
        id: id.to_string(),
        lease_expires: expires.as_secs_f64(),
    })
}

/// A lease's length as a request has it: its range is that of a task's option.
pub(crate) fn lease_length(secs: Option<f64>) -> Result<Option<Millis>, Refusal> {
    let lease = secs.map(|secs| seconds("lease", secs)).transpose()?;
    let options = Options {
        lease,
        ..Options::default()
    };
    options.check()?;
    Ok(lease)
}

/// A result is held against the limit of payloads: both are kept in the same places.
pub(crate) fn check_result(result: Option<&Payload>, limits: &HttpLimits) -> Result<(), Refusal> {
    result.map_or(Ok(()), |result| limits.payloads.check("result", result))
}
