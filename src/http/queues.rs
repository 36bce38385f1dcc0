//! Queues and workers in numbers.
//!
//! Knows paths, not how anything is counted.

use axum::extract::{Request, State};

use super::{Answer, Http, NoQuery, Pairs, Shared, answer, caller::Caller, path::Path, view};
use crate::{
    api::{self, schemas},
    backend::Backend,
    task::{QueueName, Span},
};

/// All queues, by name.
#[utoipa::path(
    get, path = "/api/v1/queues", tag = "queues", operation_id = "queues",
    responses(
        (status = 200, description = "The queues", body = api::Queues),
        (status = 400, description = "invalid-field"),
    )
)]
pub(crate) async fn queues<B: Backend>(
    State(http): Shared<B>,
    caller: Caller,
    _: NoQuery,
) -> Answer {
    let queues = http.backend.queues().await?;
    answer::ok(&api::Queues {
        queues: queues
            .iter()
            .filter(|one| caller.sees(&one.name))
            .map(view::queue)
            .collect(),
    })
}

/// One queue.
#[utoipa::path(
    get, path = "/api/v1/queues/{queue}", tag = "queues", operation_id = "queue",
    params(("queue" = schemas::QueueName, Path, description = "The queue's name")),
    responses(
        (status = 200, description = "The queue", body = api::Queue),
        (status = 400, description = "invalid-field"),
        (status = 404, description = "no-such-queue"),
    )
)]
pub(crate) async fn queue<B: Backend>(
    State(http): Shared<B>,
    Path(name): Path<String>,
    _: NoQuery,
) -> Answer {
    let queue = http.backend.queue(QueueName::parse(&name)?).await?;
    answer::ok(&view::queue(&queue))
}

/// Who claims, by name.
#[utoipa::path(
    get, path = "/api/v1/workers", tag = "queues", operation_id = "workers",
    responses(
        (status = 200, description = "The workers", body = api::Workers),
        (status = 400, description = "invalid-field"),
    )
)]
pub(crate) async fn workers<B: Backend>(State(http): Shared<B>, _: NoQuery) -> Answer {
    let workers = http.backend.workers().await?;
    answer::ok(&api::Workers {
        workers: workers.iter().map(view::worker).collect(),
    })
}

/// What happened lately in all queues together, for charts: the last minute, hour or day.
#[utoipa::path(
    get, path = "/api/v1/history", tag = "queues", operation_id = "history",
    params((
        "span" = Option<schemas::Span>, Query,
        description = "How far back: `minute` by seconds, `hour` by minutes (the default), `day` by quarters of an hour",
    )),
    responses(
        (status = 200, description = "What happened", body = api::History),
        (status = 400, description = "invalid-field"),
    )
)]
pub(crate) async fn history<B: Backend>(State(http): Shared<B>, request: Request) -> Answer {
    let pairs = Pairs::of_query(request.uri().query(), &["span"])?;
    let span = pairs.filled("span").map(Span::parse).transpose()?;
    let view = http.backend.history(None, span.unwrap_or_default()).await?;
    answer::ok(&view::history(None, &view))
}

/// What happened in one queue in the last hour, by minutes, for charts.
#[utoipa::path(
    get, path = "/api/v1/queues/{queue}/history", tag = "queues", operation_id = "queue_history",
    params(("queue" = schemas::QueueName, Path, description = "The queue's name")),
    responses(
        (status = 200, description = "What happened", body = api::History),
        (status = 400, description = "invalid-field"),
        (status = 404, description = "no-such-queue"),
    )
)]
pub(crate) async fn queue_history<B: Backend>(
    State(http): Shared<B>,
    Path(name): Path<String>,
) -> Answer {
    let name = QueueName::parse(&name)?;
    let view = http.backend.history(Some(name.clone()), Span::Hour).await?;
    answer::ok(&view::history(Some(&name), &view))
}

/// What is not well, in words, and what to do next. The worst comes first; empty when all is well.
#[utoipa::path(
    get, path = "/api/v1/troubles", tag = "operation", operation_id = "troubles",
    responses(
        (status = 200, description = "What is not well", body = api::Troubles),
        (status = 400, description = "invalid-field"),
    )
)]
pub(crate) async fn troubles<B: Backend>(State(http): Shared<B>, _: NoQuery) -> Answer {
    let troubles = find_troubles(&http).await?;
    answer::ok(&api::Troubles { troubles })
}

/// What is not well, by what the backend shows. When writes have stopped it shows its status only, and that says so.
pub(crate) async fn find_troubles<B: Backend>(
    http: &Http<B>,
) -> Result<Vec<api::Trouble>, crate::backend::Error> {
    let url = http.url();
    let status = http.backend.status().await?;
    if status.fault.is_some() {
        return Ok(api::troubles(&status, &[], &[], url.as_deref()));
    }
    let queues = http.backend.queues().await?;
    let workers = http.backend.workers().await?;
    Ok(api::troubles(&status, &queues, &workers, url.as_deref()))
}
