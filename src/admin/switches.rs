//! What is done to queues, or to all of them.
//!
//! Which queue: the body's `queue` or the query's, not both; neither is all of them.

use axum::extract::{Request, State};

use super::{Control, Shared};
use crate::{
    api,
    backend::Backend,
    http::{Answer, HttpLimits, Pairs, Problem, json, json_or_default, nothing_to_tell, ok},
    task::{QueueName, Refusal, Settlement, State as TaskState},
};

async fn choice(request: Request, limits: &HttpLimits) -> Result<Option<QueueName>, Problem> {
    let pairs = Pairs::of_query(request.uri().query(), &["queue"])?;
    let body: api::QueueChoice = json_or_default(request, limits).await?;
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

/// `POST /pause`.
pub(super) async fn pause<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http.limits).await?;
    admin.http.backend.pause(queue, true).await?;
    Ok(nothing_to_tell())
}

/// `POST /resume`.
pub(super) async fn resume<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http.limits).await?;
    admin.http.backend.pause(queue, false).await?;
    Ok(nothing_to_tell())
}

/// `POST /drain`.
pub(super) async fn drain<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http.limits).await?;
    admin.http.backend.drain(queue, true).await?;
    Ok(nothing_to_tell())
}

/// `POST /undrain`.
pub(super) async fn undrain<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http.limits).await?;
    admin.http.backend.drain(queue, false).await?;
    Ok(nothing_to_tell())
}

/// `POST /retry-dead`.
pub(super) async fn retry_dead<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let queue = choice(request, &admin.http.limits).await?;
    ok(&api::Count {
        count: admin.http.backend.retry_dead(queue).await?,
    })
}

/// `POST /rejected/retry`.
pub(super) async fn retry_rejected<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    settle(
        &*admin.http.backend,
        request,
        &admin.http.limits,
        Settlement::Retry,
    )
    .await
}

/// `POST /rejected/discard`.
pub(super) async fn discard_rejected<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    settle(
        &*admin.http.backend,
        request,
        &admin.http.limits,
        Settlement::Discard,
    )
    .await
}

async fn settle<B: Backend>(
    backend: &B,
    request: Request,
    limits: &HttpLimits,
    how: Settlement,
) -> Answer {
    let wanted: api::RejectedName = json(request, limits).await?;
    if wanted.name.is_empty() {
        return Err(Problem::invalid("name", "missing: which file?"));
    }
    backend.settle_rejected(wanted.name, how).await?;
    Ok(nothing_to_tell())
}

/// `POST /purge`.
pub(super) async fn purge<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let pairs = Pairs::of_query(request.uri().query(), &["queue", "state"])?;
    let body: api::Purge = json_or_default(request, &admin.http.limits).await?;
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

/// `POST /rescan`.
pub(super) async fn rescan<B: Backend, C: Control>(State(admin): Shared<B, C>) -> Answer {
    admin.http.backend.rescan().await?;
    Ok(nothing_to_tell())
}

/// `POST /checkpoint`.
pub(super) async fn checkpoint<B: Backend, C: Control>(State(admin): Shared<B, C>) -> Answer {
    admin.http.backend.checkpoint().await?;
    Ok(nothing_to_tell())
}
