//! `/queues/NAME`: one queue, its tasks, and what can be done with it.

use axum::{
    extract::{Request, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    super::{Http, Problem, Shared, pairs, path::Path},
    frame::{self, Body},
    history, notice, overview, submit,
    table::{self, Place},
    words,
};
use crate::{
    backend::{Backend, PageQuery, QueueView, Span},
    task::{QueueName, State as TaskState},
};

/// The page.
pub(super) async fn show<B: Backend>(
    State(http): Shared<B>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    frame::answer(
        page(&http, &name, request.uri().query()).await,
        request.headers(),
        "/",
    )
}

async fn page<B: Backend>(
    http: &Http<B>,
    name: &str,
    query: Option<&str>,
) -> Result<Body, Problem> {
    let name = QueueName::parse(name)?;
    let (query, pairs) = table::query(query, Some(&name))?;
    let queue = http.backend.queue(name.clone()).await?;
    let (page, _share) = http.page(query.clone()).await?;
    let history = http.backend.history(Some(name.clone()), Span::Hour).await?;
    let path = format!("/queues/{name}");
    let place = Place {
        path: &path,
        is_queue: true,
        id: pairs.filled("id").unwrap_or_default(),
    };
    let content = html! {
        (notice::of(&pairs))
        (head(&queue, &path, &query))
        (table::filter(&place, &query))
        (table::table(&place, &query, &page))
        section aria-labelledby="history-title" id="history" {
            h2 id="history-title" { "Lately" }
            (history::throughput(&history))
        }
        section class="panel" aria-labelledby="new" {
            h2 id="new" { "New task in " bdi { (name) } }
            (submit::form(&submit::Filled::default(), Some(&name), &path))
        }
    };
    Ok(Body {
        title: format!("Queue {name}"),
        place: frame::Place::Other,
        live: Some(format!("queue={}", pairs::encode(name.as_str()))),
        content,
    })
}

/// The name, the numbers, and the switches.
fn head(queue: &QueueView, path: &str, query: &PageQuery) -> Markup {
    html! {
        p class="trail" { a href="/queues" { "Queues" } }
        div class="heading" id="heading" {
            h1 { bdi { (queue.name) } (overview::marks(queue)) }
            (switches(queue, path))
        }
        nav aria-label="Tasks by state" id="totals" {
            ul class="tiles" {
                @for (state, count) in TaskState::ALL.iter().zip(queue.counts) {
                    li {
                        a href={ (path) "?state=" (state) } class={ "tile " (state) @if count == 0 { " none" } }
                            aria-current=[(query.state == Some(*state)).then_some("true")] {
                            span class="what" { (state) } " " b { (words::count(count)) }
                        }
                    }
                }
            }
        }
        dl class="facts" id="facts" {
            div {
                dt { "Oldest due" }
                dd { (queue.oldest_due.map_or_else(|| "none waits".to_owned(), words::length)) }
            }
            div { dt { "In" } dd { (words::rate(queue.submitted_rate)) " /s" } }
            div { dt { "Out" } dd { (words::rate(queue.completed_rate)) " /s" } }
            div { dt { "Completed since the start" } dd { (words::count(queue.counters.completed)) } }
            div { dt { "Failed attempts" } dd { (words::count(queue.counters.failed + queue.counters.expired)) } }
        }
    }
}

fn switches(queue: &QueueView, path: &str) -> Markup {
    let dead = queue.count(TaskState::Dead);
    html! {
        div class="actions" {
            a class="button" href="#new" { "New task" }
            form method="post" action={ (path) "/switch" } {
                @if queue.paused {
                    button class="plain" name="to" value="resume" { "Resume" }
                } @else {
                    button class="plain" name="to" value="pause" { "Pause" }
                }
                @if queue.draining {
                    button class="plain" name="to" value="undrain" { "Take new tasks again" }
                } @else {
                    button class="plain" name="to" value="drain" { "Drain" }
                }
            }
            @if dead > 0 {
                a class="button" href={ (path) "/dead?do=retry" } { "Retry the dead…" }
                a class="button danger" href={ (path) "/dead?do=purge" } { "Purge the dead…" }
            }
        }
    }
}
