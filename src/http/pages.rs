//! The pages `/` and `/list`: plain HTML that works without scripts.
//!
//! All text of tasks is escaped by `maud`, and stands where its direction can't turn the text around it.

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use maud::{Markup, html};

use super::{Http, Problem, Shared, page, pairs, tasks};
use crate::{
    backend::{Backend, Page, PageQuery, QueueView, TaskView},
    task::{ExecTime, Millis, QueueName, State as TaskState},
};

/// How much of a payload a list shows, in characters.
const SHOWN: usize = 200;

/// The queues, and the form.
pub(crate) async fn home<B: Backend>(State(http): Shared<B>, headers: HeaderMap) -> Response {
    match http.backend.queues().await {
        Ok(queues) => page::respond("Queues", &render_home(&queues)),
        Err(error) => page::refuse(error.into(), &headers, "/"),
    }
}

/// A table of tasks.
pub(crate) async fn list<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    match list_page(&http, request.uri().query()).await {
        Ok(content) => page::respond("Tasks", &content),
        Err(problem) => page::refuse(problem, request.headers(), "/list"),
    }
}

async fn list_page<B: Backend>(http: &Http<B>, query: Option<&str>) -> Result<Markup, Problem> {
    let query = tasks::page_query(query)?;
    let page = http.backend.tasks(query.clone()).await?;
    Ok(render_list(&query, &page))
}

fn render_home(queues: &[QueueView]) -> Markup {
    html! {
        h1 { "Queues" }
        @if queues.is_empty() {
            p { "No task has come yet." }
        }
        ul class="cards" {
            @for queue in queues { li { (card(queue)) } }
        }
        h2 id="new" { "New task" }
        (submit_form())
    }
}

fn card(queue: &QueueView) -> Markup {
    let name = queue.name.as_str();
    html! {
        section class="card" {
            h3 {
                a href={ "/list?queue=" (pairs::encode(name)) } { bdi { (name) } }
                @if queue.paused { span class="mark" { "paused" } }
                @if queue.draining { span class="mark" { "draining" } }
            }
            dl {
                @for (state, count) in TaskState::ALL.iter().zip(queue.counts) {
                    dt { (state) } dd { (count) }
                }
                @if let Some(age) = queue.oldest_due {
                    dt { "oldest due" } dd { (length(age)) }
                }
                dt { "completed" } dd { (queue.counters.completed) }
            }
        }
    }
}

fn submit_form() -> Markup {
    html! {
        form class="submit" method="post" action="/new" {
            label { "Payload" textarea name="payload" required dir="auto" spellcheck="false" {} }
            div class="row" {
                label { "Queue" input name="queue" placeholder="default" maxlength="64" autocapitalize="none"; }
                label { "Priority" input name="priority" placeholder="100" inputmode="numeric"; small { "higher is sooner" } }
                label { "Not before (UTC)" input type="datetime-local" step="1" name="exectime"; small { "empty: as soon as possible" } }
            }
            button type="submit" { "Submit" }
        }
    }
}

fn render_list(query: &PageQuery, page: &Page) -> Markup {
    html! {
        h1 { "Tasks" }
        (filter(query))
        @if page.tasks.is_empty() {
            p { "No tasks here." }
        } @else {
            div class="scroll" { table {
                thead { tr {
                    th scope="col" { "Payload" } th scope="col" { "State" } th scope="col" { "Queue" }
                    th scope="col" { "Priority" } th scope="col" { "Not before (UTC)" } th scope="col" { "Attempts" }
                    th scope="col" { "Id" } th scope="col" { "Delete" }
                } }
                tbody { @for task in &page.tasks { (row(task)) } }
            } }
        }
        div class="pages" {
            @if query.after.is_some() { a href=(address(query, None)) { "First page" } }
            @if let Some(next) = &page.next { a rel="next" href=(address(query, Some(&next.to_string()))) { "Next page" } }
        }
    }
}

fn filter(query: &PageQuery) -> Markup {
    let queue = query.queue.as_ref().map_or("", QueueName::as_str);
    html! {
        form class="filter" method="get" action="/list" {
            label { "Queue" input name="queue" value=(queue) placeholder="all" autocapitalize="none"; }
            label { "State"
                select name="state" {
                    option value="" { "any" }
                    @for state in TaskState::ALL {
                        option value=(state) selected[query.state == Some(state)] { (state) }
                    }
                }
            }
            button type="submit" { "Show" }
        }
    }
}

fn row(task: &TaskView) -> Markup {
    let id = task.id.to_string();
    html! {
        tr {
            td class="payload" data-name="Payload" { span dir="auto" { (shortened(&task.payload.to_display())) } }
            td data-name="State" { (task.state) }
            td data-name="Queue" { bdi { (task.queue) } }
            td class="number" data-name="Priority" { (task.priority) }
            td data-name="Not before" { (when(task.exectime)) }
            td class="number" data-name="Attempts" { span { (task.attempts) " of " (task.max_attempts) } }
            td class="id" data-name="Id" { a href={ "/api/v1/tasks/" (id) } { (id) } }
            td data-name="" {
                form method="post" action="/delete" {
                    input type="hidden" name="id" value=(id);
                    button class="small" type="submit" aria-label={ "Delete task " (id) } { "Delete" }
                }
            }
        }
    }
}

/// The address of a page of the same list.
fn address(query: &PageQuery, after: Option<&str>) -> String {
    let state = query.state.map(TaskState::as_str);
    let queue = query.queue.as_ref().map(QueueName::as_str);
    let limit = query.limit.to_string();
    let parts: Vec<String> = [
        ("queue", queue),
        ("state", state),
        ("limit", Some(limit.as_str())),
        ("after", after),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| format!("{name}={}", pairs::encode(value))))
    .collect();
    format!("/list?{}", parts.join("&"))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn when(exectime: ExecTime) -> Markup {
    if exectime == ExecTime::ASAP {
        return html! { span class="quiet" { "as soon as possible" } };
    }
    let civil = exectime.to_civil();
    html! { time datetime={ (civil) "Z" } { (civil.replace('T', " ")) } }
}

/// A length of time in its two largest units.
fn length(millis: Millis) -> String {
    let secs = millis.0 / 1000;
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, _) => format!("{minutes} min {} s", secs % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
