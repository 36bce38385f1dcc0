//! What the buttons of the pages do. Each is answered with a redirect to the page that shows what became of it.
//!
//! Knows which button calls what, not when it may.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{
    super::{Http, Pairs, Problem, Shared, pairs, path::Path},
    confirm::DeadAction,
    forms, frame, task as task_page,
};
use crate::{
    backend::{Backend, Change, Settlement},
    task::{Priority, QueueName, State as TaskState, TaskId},
};

/// `POST /delete`, the original's form: cancels one task, and goes back to `/list` or to the queue's page that sent it.
pub(super) async fn delete<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    let headers = request.headers().clone();
    match delete_one(&http, request).await {
        Ok(Some(queue)) => frame::see_other(&format!("/queues/{queue}?told=cancelled")),
        // What the original answers.
        Ok(None) => {
            let list = [(header::LOCATION, HeaderValue::from_static("/list"))];
            (StatusCode::FOUND, list).into_response()
        }
        Err(problem) => frame::refuse(problem, &headers, "/list"),
    }
}

async fn delete_one<B: Backend>(
    http: &Http<B>,
    request: Request,
) -> Result<Option<QueueName>, Problem> {
    let form = forms::read(request, http).await?;
    let id = form
        .filled("id")
        .ok_or_else(|| Problem::invalid("id", "missing: which task?"))?;
    http.backend.cancel(TaskId::parse(id)?).await?;
    // Only to pages of our own, whatever the form says.
    let queue = form
        .filled("back")
        .and_then(|back| back.strip_prefix("/queues/"));
    Ok(queue.and_then(|name| QueueName::parse(name).ok()))
}

/// `POST /queues/NAME/switch`: pauses, resumes, drains.
pub(super) async fn switch<B: Backend>(
    State(http): Shared<B>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let back = format!("/queues/{}", pairs::encode(&name));
    match switch_queue(&http, &name, request).await {
        Ok(told) => frame::see_other(&format!("{back}?told={told}")),
        Err(problem) => frame::refuse(problem, &headers, &back),
    }
}

async fn switch_queue<B: Backend>(
    http: &Http<B>,
    name: &str,
    request: Request,
) -> Result<&'static str, Problem> {
    let form = forms::read(request, http).await?;
    let queue = Some(QueueName::parse(name)?);
    match form.filled("to") {
        Some("pause") => http.backend.pause(queue, true).await.map(|()| "paused"),
        Some("resume") => http.backend.pause(queue, false).await.map(|()| "resumed"),
        Some("drain") => http.backend.drain(queue, true).await.map(|()| "draining"),
        Some("undrain") => http.backend.drain(queue, false).await.map(|()| "undrained"),
        _ => {
            return Err(Problem::invalid(
                "to",
                "not one of pause, resume, drain, undrain",
            ));
        }
    }
    .map_err(Problem::from)
}

/// `POST /queues/NAME/dead`: retries or purges all dead tasks of a queue.
pub(super) async fn dead<B: Backend>(
    State(http): Shared<B>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let back = format!("/queues/{}", pairs::encode(&name));
    match settle_dead(&http, &name, request).await {
        Ok(told) => frame::see_other(&format!("{back}?told={told}")),
        Err(problem) => frame::refuse(problem, &headers, &back),
    }
}

async fn settle_dead<B: Backend>(
    http: &Http<B>,
    name: &str,
    request: Request,
) -> Result<String, Problem> {
    let form = forms::read(request, http).await?;
    let what = DeadAction::parse(form.filled("do"))?;
    // A queue that does not exist is told of, rather than found empty.
    let queue = Some(http.backend.queue(QueueName::parse(name)?).await?.name);
    Ok(match what {
        DeadAction::Retry => {
            let retried = http.backend.retry_dead(queue).await?;
            let (count, left) = (retried.count, retried.left);
            format!("retried-dead&count={count}&left={left}")
        }
        DeadAction::Purge => {
            let count = http.backend.purge(queue, TaskState::Dead).await?;
            format!("purged-dead&count={count}")
        }
    })
}

/// `POST /tasks/ID`: what the buttons of a task's page do.
pub(super) async fn task<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let form = match forms::read(request, &http).await {
        Ok(form) => form,
        Err(problem) => {
            let back = format!("/tasks/{}", pairs::encode(&id));
            return frame::refuse(problem, &headers, &back);
        }
    };
    match change_task(&http, &id, &form).await {
        Ok(path) => frame::see_other(&path),
        Err(problem) => task_page::again(&http, &id, problem, &form, &headers).await,
    }
}

/// Gives the page to go to.
async fn change_task<B: Backend>(
    http: &Http<B>,
    id: &str,
    form: &Pairs,
) -> Result<String, Problem> {
    let id = TaskId::parse(id)?;
    let backend = &http.backend;
    match form.filled("do") {
        Some("cancel") => {
            let queue = backend.task(id).await?.queue;
            backend.cancel(id).await?;
            Ok(format!("/queues/{queue}?told=cancelled"))
        }
        Some("retry") => {
            backend.retry(id).await?;
            Ok(format!("/tasks/{id}?told=retried"))
        }
        Some("reschedule") => {
            let change = change(http, form)?;
            backend.reschedule(id, change).await?;
            Ok(format!("/tasks/{id}?told=rescheduled"))
        }
        _ => Err(Problem::invalid(
            "do",
            "not one of cancel, retry, reschedule",
        )),
    }
}

fn change<B>(http: &Http<B>, form: &Pairs) -> Result<Change, Problem> {
    let priority = form.filled("priority").map(Priority::parse).transpose()?;
    let exectime = match form.filled("when") {
        None | Some("same") => None,
        Some(_) => Some(forms::when(form, (http.clock)().wall)?),
    };
    let queue = form.filled("queue").map(QueueName::parse).transpose()?;
    if priority.is_none() && exectime.is_none() && queue.is_none() {
        return Err(Problem::invalid(
            "priority",
            "nothing to change: give a priority, a time or a queue",
        ));
    }
    Ok(Change {
        queue,
        priority,
        exectime,
    })
}

/// `POST /rejected`: retries or discards a rejected file.
pub(super) async fn rejected<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    let headers = request.headers().clone();
    match settle_rejected(&http, request).await {
        Ok(told) => frame::see_other(&format!("/rejected?told={told}")),
        Err(problem) => frame::refuse(problem, &headers, "/rejected"),
    }
}

async fn settle_rejected<B: Backend>(
    http: &Http<B>,
    request: Request,
) -> Result<&'static str, Problem> {
    let form = forms::read(request, http).await?;
    let name = form
        .get("name")
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Problem::invalid("name", "missing: which file?"))?;
    let (how, told) = match form.filled("do") {
        Some("retry") => (Settlement::Retry, "file-retried"),
        Some("discard") => (Settlement::Discard, "file-discarded"),
        _ => return Err(Problem::invalid("do", "not one of retry, discard")),
    };
    http.backend.settle_rejected(name.to_owned(), how).await?;
    Ok(told)
}
