//! Queues and workers in numbers.
//!
//! Knows paths, not how anything is counted.

use axum::extract::{Path, State};

use super::{Answer, Shared, answer, view};
use crate::{
    api::{self, schemas},
    backend::Backend,
    task::QueueName,
};

/// All queues, by name.
#[utoipa::path(
    get, path = "/api/v1/queues", tag = "queues", operation_id = "queues",
    responses((status = 200, description = "The queues", body = api::Queues))
)]
pub(crate) async fn queues<B: Backend>(State(http): Shared<B>) -> Answer {
    let queues = http.backend.queues().await?;
    answer::ok(&api::Queues {
        queues: queues.iter().map(view::queue).collect(),
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
pub(crate) async fn queue<B: Backend>(State(http): Shared<B>, Path(name): Path<String>) -> Answer {
    let queue = http.backend.queue(QueueName::parse(&name)?).await?;
    answer::ok(&view::queue(&queue))
}

/// Who claims, by name.
#[utoipa::path(
    get, path = "/api/v1/workers", tag = "queues", operation_id = "workers",
    responses((status = 200, description = "The workers", body = api::Workers))
)]
pub(crate) async fn workers<B: Backend>(State(http): Shared<B>) -> Answer {
    let workers = http.backend.workers().await?;
    answer::ok(&api::Workers {
        workers: workers.iter().map(view::worker).collect(),
    })
}
