//! What is done to queues, or to all of them.
//!
//! Which queue: the body's `queue` or the query's, not both; neither is all of them.

use axum::extract::{Request, State};

use super::{Control, Shared};
use crate::{
    api::{self, schemas},
    backend::Backend,
    http::{Answer, Http, Pairs, Problem, json, json_or_default, nothing_to_tell, ok},
    task::{QueueName, Refusal, Settlement, State as TaskState},
};

async fn choice<B>(request: Request, http: &Http<B>) -> Result<Option<QueueName>, Problem> {
    let pairs = Pairs::of_query(request.uri().query(), &["queue"])?;
    pairs.none_blank()?;
    let body: api::QueueChoice = json_or_default(request, http).await?;
    one_of("queue", pairs.filled("queue"), body.queue.as_deref())?
        .map(QueueName::parse)
        .transpose()
        .map_err(Into::into)
}

/// A value that may stand in the query or in the body.
fn one_of<'a>(
    name: &str,
    query: Option<&'a str>,
    body: Option<&'a str>,
) -> Result<Option<&'a str>, Refusal> {
    match (query, body) {
        (Some(_), Some(_)) => Err(Refusal::invalid(
            name,
            "give it in the query or in the body, not in both",
        )),
        (query, body) => Ok(query.or(body)),
    }
}

/// Stop handing out, from one queue or all.
#[utoipa::path(
    post, path = "/pause", tag = "admin", operation_id = "pause",
    params(("queue" = Option<schemas::QueueName>, Query, description = "One queue, in the query or in the body")),
    request_body = Option<api::QueueChoice>,
    responses(
        (status = 200, description = "It is so", body = api::Done),
        (status = 404, description = "no-such-queue"),
        (status = 507, description = "no-room"),
    )
)]
pub(super) async fn pause<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http).await?;
    admin.http.backend.pause(queue, true).await?;
    Ok(nothing_to_tell())
}

/// Hand out again.
#[utoipa::path(
    post, path = "/resume", tag = "admin", operation_id = "resume",
    params(("queue" = Option<schemas::QueueName>, Query, description = "One queue, in the query or in the body")),
    request_body = Option<api::QueueChoice>,
    responses(
        (status = 200, description = "It is so", body = api::Done),
        (status = 404, description = "no-such-queue"),
        (status = 507, description = "no-room"),
    )
)]
pub(super) async fn resume<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http).await?;
    admin.http.backend.pause(queue, false).await?;
    Ok(nothing_to_tell())
}

/// Take no new tasks, for one queue or all.
#[utoipa::path(
    post, path = "/drain", tag = "admin", operation_id = "drain",
    params(("queue" = Option<schemas::QueueName>, Query, description = "One queue, in the query or in the body")),
    request_body = Option<api::QueueChoice>,
    responses(
        (status = 200, description = "It is so", body = api::Done),
        (status = 404, description = "no-such-queue"),
        (status = 507, description = "no-room"),
    )
)]
pub(super) async fn drain<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http).await?;
    admin.http.backend.drain(queue, true).await?;
    Ok(nothing_to_tell())
}

/// Take new tasks again.
#[utoipa::path(
    post, path = "/undrain", tag = "admin", operation_id = "undrain",
    params(("queue" = Option<schemas::QueueName>, Query, description = "One queue, in the query or in the body")),
    request_body = Option<api::QueueChoice>,
    responses(
        (status = 200, description = "It is so", body = api::Done),
        (status = 404, description = "no-such-queue"),
        (status = 507, description = "no-room"),
    )
)]
pub(super) async fn undrain<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http).await?;
    admin.http.backend.drain(queue, false).await?;
    Ok(nothing_to_tell())
}

/// Bring all dead tasks back, of one queue or all.
///
/// One whose unique key is in use, or that a limit keeps from coming back, stays dead and keeps no other from it.
#[utoipa::path(
    post, path = "/retry-dead", tag = "admin", operation_id = "retry_dead",
    params(("queue" = Option<schemas::QueueName>, Query, description = "One queue, in the query or in the body")),
    request_body = Option<api::QueueChoice>,
    responses(
        (status = 200, description = "How many, and why the others were not", body = api::RetriedDead),
        (status = 404, description = "no-such-queue"),
    )
)]
pub(super) async fn retry_dead<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http).await?;
    let retried = admin.http.backend.retry_dead(queue).await?;
    ok(&api::RetriedDead {
        count: retried.count,
        left: retried.left,
        problem: retried
            .reason
            .map(|refusal| Problem::from(refusal).into_document()),
    })
}

/// Take a file in `rejected/` back into the task directory.
#[utoipa::path(
    post, path = "/rejected/retry", tag = "admin", operation_id = "retry_rejected",
    request_body = api::RejectedName,
    responses(
        (status = 200, description = "Done", body = api::Done),
        (status = 404, description = "no-such-file"),
        (status = 409, description = "file-in-use"),
    )
)]
pub(super) async fn retry_rejected<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    settle(&admin.http, request, Settlement::Retry).await
}

/// Delete a file in `rejected/`.
#[utoipa::path(
    post, path = "/rejected/discard", tag = "admin", operation_id = "discard_rejected",
    request_body = api::RejectedName,
    responses(
        (status = 200, description = "Done", body = api::Done),
        (status = 404, description = "no-such-file"),
    )
)]
pub(super) async fn discard_rejected<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    settle(&admin.http, request, Settlement::Discard).await
}

async fn settle<B: Backend>(http: &Http<B>, request: Request, how: Settlement) -> Answer {
    let wanted: api::RejectedName = json(request, http).await?;
    if wanted.name.is_empty() {
        return Err(Problem::invalid("name", "missing: which file?"));
    }
    http.backend.settle_rejected(wanted.name, how).await?;
    Ok(nothing_to_tell())
}

/// Cancel all tasks of one queue, or all, that are in a state.
#[utoipa::path(
    post, path = "/purge", tag = "admin", operation_id = "purge",
    params(
        ("queue" = Option<schemas::QueueName>, Query, description = "One queue, in the query or in the body"),
        ("state" = Option<schemas::Purgeable>, Query, description = "In the query or in the body. Default: `dead`"),
    ),
    request_body = Option<api::Purge>,
    responses(
        (status = 200, description = "How many", body = api::Count),
        (status = 404, description = "no-such-queue"),
        (status = 507, description = "no-room"),
    )
)]
pub(super) async fn purge<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let pairs = Pairs::of_query(request.uri().query(), &["queue", "state"])?;
    pairs.none_blank()?;
    let body: api::Purge = json_or_default(request, &admin.http).await?;
    let queue = one_of("queue", pairs.filled("queue"), body.queue.as_deref())?
        .map(QueueName::parse)
        .transpose()?;
    let state = one_of("state", pairs.filled("state"), body.state.as_deref())?
        .map_or(Ok(TaskState::Dead), TaskState::parse)?;
    if state == TaskState::Leased {
        return Err(Problem::invalid(
            "state",
            "leased tasks are their workers': one of dead, ready, scheduled",
        ));
    }
    ok(&api::Count {
        count: admin.http.backend.purge(queue, state).await?,
    })
}

/// Look through the task directory now.
#[utoipa::path(
    post, path = "/rescan", tag = "admin", operation_id = "rescan",
    responses((status = 200, description = "It is done", body = api::Done))
)]
pub(super) async fn rescan<B: Backend, C: Control>(State(admin): Shared<B, C>) -> Answer {
    admin.http.backend.rescan().await?;
    Ok(nothing_to_tell())
}

/// Write a checkpoint now; the answer comes when it is durable.
#[utoipa::path(
    post, path = "/checkpoint", tag = "admin", operation_id = "checkpoint",
    responses(
        (status = 200, description = "It is done", body = api::Done),
        (status = 507, description = "no-room"),
    )
)]
pub(super) async fn checkpoint<B: Backend, C: Control>(State(admin): Shared<B, C>) -> Answer {
    admin.http.backend.checkpoint().await?;
    Ok(nothing_to_tell())
}
