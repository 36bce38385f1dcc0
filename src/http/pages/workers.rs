//! `/workers`: who claims, and what they hold.

use axum::{
    extract::{Request, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    super::{Http, Pairs, Problem, Shared},
    frame::{self, Body, Place},
    words,
};
use crate::{
    backend::{Backend, WorkerView},
    task::WallMillis,
};

/// How many workers a page has.
const PAGE: usize = 100;
/// How many of a worker's tasks are linked to.
const HOLDS: usize = 3;

/// The page.
pub(super) async fn show<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    frame::answer(
        page(&http, request.uri().query()).await,
        request.headers(),
        "/workers",
    )
}

async fn page<B: Backend>(http: &Http<B>, query: Option<&str>) -> Result<Body, Problem> {
    let pairs = Pairs::of_query(query, &["after"])?;
    let after = pairs.filled("after").unwrap_or_default();
    let workers = http.backend.workers().await?;
    let rest: Vec<&WorkerView> = workers
        .iter()
        .filter(|worker| worker.name.as_str() > after)
        .take(PAGE + 1)
        .collect();
    let (page, more) = rest.split_at(rest.len().min(PAGE));
    let now = (http.clock)().wall;
    let content = html! {
        h1 { "Workers" }
        div id="workers" {
            @if page.is_empty() {
                p class="empty" {
                    "No worker has asked for a task since the daemon started. Start one with "
                    code { "workqueue-worker" } "."
                }
            } @else {
                (table(page, now))
            }
            nav class="ways" aria-label="Pages of workers" {
                @if !after.is_empty() { a rel="first" href="/workers" { "First page" } }
                @if !more.is_empty() && let Some(last) = page.last() {
                    a rel="next" href={ "/workers?after=" (super::super::pairs::encode(last.name.as_str())) } { "Next page" }
                }
            }
        }
    };
    Ok(Body {
        title: "Workers".to_owned(),
        place: Place::Workers,
        live: Some(String::new()),
        content,
    })
}

fn table(workers: &[&WorkerView], now: WallMillis) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Workers" {
            table {
                caption class="unseen" { "Workers by name" }
                thead { tr {
                    th scope="col" { "Worker" }
                    th scope="col" { "Does" }
                    th scope="col" { "Holds" }
                    th scope="col" { "Last seen" }
                    th scope="col" class="number" { "Claimed" }
                    th scope="col" class="number" { "Completed" }
                    th scope="col" class="number" { "Failed" }
                } }
                tbody { @for worker in workers { (row(worker, now)) } }
            }
        }
    }
}

fn row(worker: &WorkerView, now: WallMillis) -> Markup {
    html! {
        tr {
            th scope="row" class="name" { bdi { (words::visible(worker.name.as_str(), 300, false).markup) } }
            td data-name="Does" { (does(worker)) }
            td data-name="Holds" { (holds(worker, HOLDS)) }
            td class="when" data-name="Last seen" { (words::moment_and_distance(worker.last_seen, now)) }
            td class="number" data-name="Claimed" { (words::count(worker.claimed)) }
            td class="number" data-name="Completed" { (words::count(worker.completed)) }
            td class="number" data-name="Failed" { (words::count(worker.failed)) }
        }
    }
}

fn does(worker: &WorkerView) -> &'static str {
    if !worker.holds.is_empty() {
        "works"
    } else if worker.waiting {
        "waits for a task"
    } else {
        "idle"
    }
}

/// The tasks that a worker holds, the first `most` of them as links.
pub(super) fn holds(worker: &WorkerView, most: usize) -> Markup {
    let rest = worker.holds.len().saturating_sub(most);
    html! {
        @if worker.holds.is_empty() { span class="quiet" { "nothing" } }
        @for (index, id) in worker.holds.iter().take(most).enumerate() {
            @if index > 0 { ", " }
            a class="id" href={ "/tasks/" (id) } { (id) }
        }
        @if rest > 0 { " and " (words::count(rest as u64)) " more" }
    }
}
