//! `/tasks/ID`: everything that is known of one task, and what its state allows.

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use maud::{Markup, html};

use super::{
    super::{Http, Pairs, Problem, Shared, pairs, path::Path},
    frame::{self, Body, Place},
    notice, past, submit, table, words,
};
use crate::{
    backend::{Backend, TaskView},
    task::{Area, FileName, LeaseKind, Location, State as TaskState, TaskId, WallMillis},
};

/// How much of a payload is shown, in bytes of HTML: the page stays below 60 KB with everything around it.
const PAYLOAD: usize = 24 << 10;
/// How much of an error.
const ERROR: usize = 6 << 10;

/// The page.
pub(super) async fn show<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    frame::answer(
        page(&http, &id, request.uri().query()).await,
        request.headers(),
        "/list",
    )
}

async fn page<B: Backend>(http: &Http<B>, id: &str, query: Option<&str>) -> Result<Body, Problem> {
    let pairs = Pairs::of_query(query, &notice::KEYS)?;
    let (task, _share) = http.one(TaskId::parse(id)?).await?;
    Ok(body(
        http,
        &task,
        &notice::of(&pairs),
        &submit::Filled::default(),
    ))
}

/// The page again after a form on it was wrong.
pub(super) async fn again<B: Backend>(
    http: &Http<B>,
    id: &str,
    problem: Problem,
    form: &Pairs,
    headers: &HeaderMap,
) -> Response {
    let back = format!("/tasks/{}", pairs::encode(id));
    let task = match TaskId::parse(id) {
        Ok(id) if frame::wants_page(headers) => http.one(id).await.ok(),
        _ => None,
    };
    let Some((task, _share)) = task.filter(|_| problem.document().field.is_some()) else {
        return frame::refuse(problem, headers, &back);
    };
    let (field, reason) = submit::complaint(&problem);
    let filled = submit::Filled {
        form: Some(form),
        wrong: Some((field, reason)),
    };
    let wrong = html! {
        p class="wrong" role="alert" { "Nothing has changed: " b { (field) } ": " (reason) }
    };
    let page = body(http, &task, &wrong, &filled).into_html();
    problem.respond(frame::HTML, page)
}

fn body<B>(http: &Http<B>, task: &TaskView, notice: &Markup, filled: &submit::Filled<'_>) -> Body {
    let now = (http.clock)().wall;
    let data_dir = http.about.as_ref().map(|about| about.facts().data_dir);
    let content = html! {
        (notice)
        p class="trail" { a href={ "/queues/" (task.queue) } { "Queue " bdi { (task.queue) } } }
        div class="heading" id="heading" {
            h1 { "Task " span class="id" { (task.id) } " " (table::state(task.state)) }
        }
        (error(task))
        (payload(task))
        (facts(task, now, data_dir.as_deref()))
        (past::history(task, now))
        (actions(task, filled))
    };
    Body {
        title: format!("Task {}", task.id),
        place: Place::Other,
        live: Some(format!("queue={}", pairs::encode(task.queue.as_str()))),
        content,
    }
}

fn error(task: &TaskView) -> Markup {
    html! {
        div id="error" {
            @if let Some(error) = &task.last_error {
                section aria-labelledby="error-title" {
                    h2 id="error-title" { "Why the last attempt failed" }
                    @let shown = words::visible(error, ERROR, true);
                    pre class="text wrong" dir="auto" tabindex="0" role="group" aria-labelledby="error-title" { (shown.markup) @if !shown.whole { "…" } }
                }
            }
        }
    }
}

fn payload(task: &TaskView) -> Markup {
    let json = task.payload.as_json();
    let text = json.starts_with('"').then(|| task.payload.to_display());
    let kind = if text.is_some() { "text" } else { "JSON" };
    let shown = match &text {
        Some(text) => words::visible(text, PAYLOAD, true),
        None => words::visible(&words::indented(json, PAYLOAD), PAYLOAD, true),
    };
    html! {
        section aria-labelledby="payload-title" id="payload" {
            h2 id="payload-title" { "Payload" }
            pre class="text" dir="auto" tabindex="0" role="group" aria-labelledby="payload-title" { (shown.markup) @if !shown.whole { "…" } }
            p class="quiet" {
                (kind) ", " (words::bytes(json.len() as u64)) @if !shown.whole { ", only its beginning is shown" } ". "
                a href={ "/api/v1/tasks/" (task.id) } { "The whole task as JSON" }
            }
        }
    }
}

fn facts(task: &TaskView, now: WallMillis, data_dir: Option<&str>) -> Markup {
    let options = &task.options;
    html! {
        section aria-labelledby="facts-title" id="facts" {
            h2 id="facts-title" { "What is known" }
            dl class="facts wide" {
                div { dt { "Priority" } dd { (task.priority) } }
                div { dt { "Not before" } dd { (words::exectime(task.exectime)) (until(task, now)) } }
                @if let Some(made) = task.id.made_at() {
                    div { dt { "Id made" } dd { (words::moment_and_distance(made, now)) } }
                }
                div { dt { "Attempts" } dd { (task.attempts) " of " (task.max_attempts) } }
                (lease(task, now))
                @if let Some(key) = &options.unique_key {
                    div { dt { "Unique key" } dd { bdi { (words::visible(key, 1000, false).markup) } } }
                }
                @if let Some(length) = options.lease { div { dt { "Lease of a claim" } dd { (words::length(length)) } } }
                @if let Some(backoff) = options.backoff {
                    div {
                        dt { "Wait between attempts" }
                        dd { (words::length(backoff.base)) ", doubled each time up to " (words::length(backoff.max)) }
                    }
                }
                @if let Some(trace) = &options.trace {
                    div class="long" { dt { "Trace" } dd { code { (trace.id()) } } }
                }
                div class="long" { dt { "File" } dd { code { (file(task, data_dir)) } } }
            }
        }
    }
}

fn until(task: &TaskView, now: WallMillis) -> Markup {
    let at = task.exectime.as_wall();
    html! { @if at > now { " " span class="quiet" { "(" (words::distance(at, now)) ")" } } }
}

fn lease(task: &TaskView, now: WallMillis) -> Markup {
    html! {
        @if let Some(lease) = &task.lease {
            div {
                dt { "Leased by" }
                dd {
                    @match &lease.worker {
                        Some(worker) => bdi { (words::visible(worker.as_str(), 300, false).markup) },
                        None => "a worker without a name",
                    }
                    @if lease.kind == LeaseKind::Legacy { " (through the original's API)" }
                }
            }
            div { dt { "Leased since" } dd { (words::moment_and_distance(lease.since, now)) } }
            div { dt { "Lease ends" } dd { (words::moment_and_distance(lease.expires, now)) } }
        }
    }
}

/// Where the task's file is, or will be as soon as the directory has caught up with the journal.
fn file(task: &TaskView, data_dir: Option<&str>) -> String {
    let place = Location {
        area: if task.state == TaskState::Dead {
            Area::Dead
        } else {
            Area::Tasks
        },
        queue: task.queue.clone(),
        name: FileName {
            exectime: task.exectime,
            priority: task.priority,
            id: task.id,
        },
    };
    match data_dir {
        Some(data_dir) => format!("{}/{place}", data_dir.trim_end_matches('/')),
        None => place.to_string(),
    }
}

/// What may be done with a task in its state; what may not is not offered.
fn actions(task: &TaskView, filled: &submit::Filled<'_>) -> Markup {
    let path = format!("/tasks/{}", task.id);
    html! {
        section aria-labelledby="actions-title" id="actions" {
            h2 id="actions-title" { "What can be done" }
            @if task.state == TaskState::Leased {
                p { "Its worker decides now. It can be changed when the lease has ended." }
            } @else {
                div class="actions" {
                    @if task.state == TaskState::Dead {
                        form method="post" action=(path) { button name="do" value="retry" { "Retry" } }
                    }
                    a class="button danger" href={ (path) "/cancel" } { "Cancel the task…" }
                }
            }
            @if task.state == TaskState::Dead {
                details class="panel" open[filled.wrong.is_some()] {
                    summary { "Move it to another queue" }
                    form class="submit" method="post" action=(path) {
                        input type="hidden" name="do" value="reschedule";
                        (submit::queue_field(filled, None, "stays where it is"))
                        button type="submit" { "Move" }
                    }
                }
            }
            @if matches!(task.state, TaskState::Ready | TaskState::Scheduled) {
                details class="panel" open[filled.wrong.is_some()] {
                    summary { "Give it another place" }
                    form class="submit" method="post" action=(path) {
                        input type="hidden" name="do" value="reschedule";
                        div class="row" {
                            (submit::priority_field(filled, "stays as it is"))
                            (submit::queue_field(filled, None, "stays where it is"))
                        }
                        (submit::when_fields(filled, &["same", "now", "in", "at"]))
                        button type="submit" { "Change" }
                    }
                }
            }
        }
    }
}
