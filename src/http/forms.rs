//! The forms of the pages, which are the original's: `POST /new` and `POST /delete`.
//!
//! Knows fields of forms, not what becomes of a task.

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::{
    Http, HttpLimits, Pairs, Problem, Shared,
    body::{self, MediaType},
    page,
};
use crate::{
    backend::Backend,
    task::{ExecTime, NewTask, Payload, Priority, QueueName, Refusal, TaskId},
};

/// Submits one task whose payload is a string.
pub(crate) async fn new<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    let headers = request.headers().clone();
    match submit(&http, request).await {
        Ok(()) => found("/"),
        Err(problem) => page::refuse(problem, &headers, "/"),
    }
}

/// Cancels one task.
pub(crate) async fn delete<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    let headers = request.headers().clone();
    match cancel(&http, request).await {
        Ok(()) => found("/list"),
        Err(problem) => page::refuse(problem, &headers, "/list"),
    }
}

async fn submit<B: Backend>(http: &Http<B>, request: Request) -> Result<(), Problem> {
    let form = read(request, &http.limits).await?;
    let task = task_of(&form, http.limits.max_payload)?;
    http.backend.submit(vec![task]).await?;
    Ok(())
}

async fn cancel<B: Backend>(http: &Http<B>, request: Request) -> Result<(), Problem> {
    let form = read(request, &http.limits).await?;
    let id = form
        .filled("id")
        .ok_or_else(|| Problem::invalid("id", "missing: which task?"))?;
    http.backend.cancel(TaskId::parse(id)?).await?;
    Ok(())
}

async fn read(request: Request, limits: &HttpLimits) -> Result<Pairs, Problem> {
    MediaType::of(request.headers(), &[MediaType::Form])?;
    let bytes = body::read(request, limits).await?;
    Pairs::parse(body::text(&bytes)?)
}

fn task_of(form: &Pairs, max_payload: usize) -> Result<NewTask, Refusal> {
    let text = form
        .get("payload")
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refusal::invalid("payload", "missing: what is to be done?"))?;
    let payload = Payload::from_text(text);
    if payload.len() > max_payload {
        return Err(Refusal::TooLarge {
            field: "payload".to_owned(),
            size: payload.len() as u64,
            limit: max_payload as u64,
        });
    }
    Ok(NewTask {
        queue: form
            .filled("queue")
            .map_or_else(|| Ok(QueueName::default()), QueueName::parse)?,
        priority: form
            .filled("priority")
            .map_or(Ok(Priority::DEFAULT), Priority::parse)?,
        exectime: form
            .filled("exectime")
            .map_or(Ok(ExecTime::ASAP), exectime)?,
        ..NewTask::of(payload)
    })
}

/// Unix seconds, or what a browser's field for date and time sends, taken as UTC.
fn exectime(text: &str) -> Result<ExecTime, Refusal> {
    if let Ok(secs) = text.parse() {
        return ExecTime::new(secs);
    }
    ExecTime::from_civil(text)
        .or_else(|| ExecTime::from_civil(&format!("{text}:00")))
        .ok_or_else(|| {
            Refusal::invalid(
                "exectime",
                "not a number of Unix seconds, and not YYYY-MM-DDTHH:MM or YYYY-MM-DDTHH:MM:SS (UTC)",
            )
        })
}

/// 302, which the original answers.
fn found(path: &'static str) -> Response {
    (
        StatusCode::FOUND,
        [(header::LOCATION, HeaderValue::from_static(path))],
    )
        .into_response()
}
