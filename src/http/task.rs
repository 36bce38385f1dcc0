//! `/api/v1/tasks/{id}`: one task, seen and changed by those who do not hold it.
//!
//! Knows how a change is written, not when it may be made.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use super::{Answer, NoQuery, Problem, Shared, answer, body, caller::Caller, path::Path, view};
use crate::{
    api::{self, schemas},
    backend::{Backend, Change, TaskView},
    task::{ExecTime, Priority, QueueName, TaskId, seconds},
};

/// A task as JSON, 200.
pub(crate) fn respond(task: &TaskView) -> Answer {
    let mut out = Vec::new();
    view::write_task(&mut out, task)?;
    Ok(answer::json(StatusCode::OK, out))
}

/// One task.
#[utoipa::path(
    get, path = "/api/v1/tasks/{id}", tag = "tasks", operation_id = "show",
    params(("id" = schemas::TaskId, Path, description = "The task's UUID")),
    responses(
        (status = 200, description = "The task", body = api::Task),
        (status = 400, description = "invalid-field"),
        (status = 404, description = "no-such-task"),
    )
)]
pub(crate) async fn show<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    caller: Caller,
    _: NoQuery,
) -> Answer {
    let id = TaskId::parse(&id)?;
    let (mut task, _share) = http.one(id).await?;
    caller.may_see(&task)?;
    for one in task.history.iter_mut().flat_map(|all| &mut all.happenings) {
        one.queue = one.queue.take().filter(|queue| caller.sees(queue));
    }
    respond(&task)
}

/// Give a task a new place in the order, or move it to another queue.
///
/// The queue is made where it is new. A leased task can't be changed; of a dead one only the queue can.
#[utoipa::path(
    patch, path = "/api/v1/tasks/{id}", tag = "tasks", operation_id = "reschedule",
    params(("id" = schemas::TaskId, Path, description = "The task's UUID")),
    request_body = api::Patch,
    responses(
        (status = 200, description = "The task as it stands now", body = api::Task),
        (status = 400, description = "invalid-field, malformed-json"),
        (status = 404, description = "no-such-task"),
        (status = 409, description = "leased, wrong-state, unique-key-in-use"),
        (status = 415, description = "unsupported-media-type"),
        (status = 507, description = "no-room, too-many"),
    )
)]
pub(crate) async fn reschedule<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    caller: Caller,
    request: Request,
) -> Answer {
    let id = TaskId::parse(&id)?;
    let patch: api::Patch = body::json(request, &http).await?;
    let exectime = match (patch.exectime, patch.delay) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid(
                "delay",
                "give exectime or delay, not both",
            ));
        }
        (Some(secs), None) => Some(ExecTime::new(secs)?),
        (None, Some(secs)) => Some(ExecTime::after(
            (http.clock)().wall,
            seconds("delay", secs)?,
        )?),
        (None, None) => None,
    };
    let change = Change {
        queue: patch.queue.as_deref().map(QueueName::parse).transpose()?,
        priority: patch.priority.map(Priority::new),
        exectime,
    };
    if change == Change::default() {
        return Err(Problem::invalid(
            "body",
            "nothing to change: give queue, priority, exectime or delay",
        ));
    }
    caller.reach_all(&change.queue)?;
    let backend = &*http.backend;
    let changed = caller.change(backend, id, |task| backend.reschedule(task, change.clone()));
    respond(&changed.await?)
}

/// Cancel a task.
#[utoipa::path(
    delete, path = "/api/v1/tasks/{id}", tag = "tasks", operation_id = "cancel",
    params(("id" = schemas::TaskId, Path, description = "The task's UUID")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 400, description = "invalid-field"),
        (status = 404, description = "no-such-task"),
        (status = 409, description = "leased"),
        (status = 507, description = "no-room"),
    )
)]
pub(crate) async fn cancel<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    caller: Caller,
) -> Result<Response, Problem> {
    let id = TaskId::parse(&id)?;
    let backend = &*http.backend;
    let cancelled = caller.change(backend, id, |task| backend.cancel(task));
    cancelled.await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Bring a dead task back, all its attempts before it.
#[utoipa::path(
    post, path = "/api/v1/tasks/{id}/retry", tag = "tasks", operation_id = "retry",
    params(("id" = schemas::TaskId, Path, description = "The task's UUID")),
    responses(
        (status = 200, description = "The task as it stands now", body = api::Task),
        (status = 400, description = "invalid-field"),
        (status = 404, description = "no-such-task"),
        (status = 409, description = "wrong-state"),
        (status = 507, description = "no-room, too-many"),
    )
)]
pub(crate) async fn retry<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    caller: Caller,
) -> Answer {
    let id = TaskId::parse(&id)?;
    let backend = &*http.backend;
    let retried = caller.change(backend, id, |task| backend.retry(task));
    respond(&retried.await?)
}
