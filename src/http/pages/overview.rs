//! `/`: whether all is well, at a glance; and `/queues`: all of them in a table.

use axum::{
    extract::{Request, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    super::{Http, Pairs, Problem, Shared, pairs},
    banner,
    frame::{self, Body, Place},
    history, notice, submit,
    words::{self, counted},
};
use crate::{
    api,
    backend::{Backend, Error, HistoryView, QueueView, Span, StatusView, WorkerView},
    task::{QueueName, Refusal, State as TaskState},
};

/// How many queues have a card. With more of them those with the most to do come first, and the rest is in a table.
const CARDS: usize = 24;
/// How many workers are named.
const WORKERS: usize = 12;
/// How many queues a page of the table has.
const PAGE: usize = 100;

/// The overview.
pub(super) async fn show<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    frame::answer(
        page(&http, request.uri().query()).await,
        request.headers(),
        "/",
    )
}

async fn page<B: Backend>(http: &Http<B>, query: Option<&str>) -> Result<Body, Problem> {
    let mut known = vec!["span"];
    known.extend(notice::KEYS);
    let pairs = Pairs::of_query(query, &known)?;
    let span = pairs.filled("span").map(Span::parse).transpose()?;
    let status = http.backend.status().await?;
    if status.fault.is_some() {
        return Ok(stopped(http, &status));
    }
    let queues = http.backend.queues().await?;
    let workers = http.backend.workers().await?;
    let history = http.backend.history(None, span.unwrap_or_default()).await?;
    let cards = cards(http, &queues).await?;
    let content = html! {
        (notice::of(&pairs))
        h1 { "Overview" }
        (banner::banner(&api::troubles(&status, &queues, &workers, http.url().as_deref())))
        (totals(&status))
        (cards)
        (history::charts(&history))
        (self::workers(&workers))
        (machine(http, &status))
        section class="panel" aria-labelledby="new" {
            h2 id="new" { "New task" }
            (submit::form(&submit::Filled::default(), None, "/"))
        }
    };
    Ok(Body {
        title: "Overview".to_owned(),
        place: Place::Overview,
        live: Some(String::new()),
        content,
    })
}

/// What can be said when writes have stopped: why, and how the disk is. The backend shows nothing else then.
fn stopped<B>(http: &Http<B>, status: &StatusView) -> Body {
    let content = html! {
        h1 { "Overview" }
        (banner::banner(&api::troubles(status, &[], &[], http.url().as_deref())))
        (totals(status))
        (machine(http, status))
    };
    Body {
        title: "Writes have stopped".to_owned(),
        place: Place::Overview,
        live: Some(String::new()),
        content,
    }
}

/// All tasks by state, each number the way to its list.
fn totals(status: &StatusView) -> Markup {
    html! {
        ul class="tiles" id="totals" aria-label="Tasks by state" {
            @for (state, count) in TaskState::ALL.iter().zip(status.counts) {
                li { a href={ "/list?state=" (state) } class={ "tile " (state) @if count == 0 { " none" } } {
                    span class="what" { (state) } " " b { (words::count(count)) }
                } }
            }
        }
    }
}

async fn cards<B: Backend>(http: &Http<B>, queues: &[QueueView]) -> Result<Markup, Problem> {
    let mut shown: Vec<&QueueView> = queues.iter().collect();
    if shown.len() > CARDS {
        shown.sort_by_key(|queue| std::cmp::Reverse(queue.counts.iter().sum::<u64>()));
        shown.truncate(CARDS);
    }
    let mut cards = Vec::with_capacity(shown.len());
    for queue in &shown {
        match http
            .backend
            .history(Some(queue.name.clone()), Span::Hour)
            .await
        {
            Ok(history) => cards.push(card(queue, &history)),
            // It was there a moment ago, and is gone: it has no card.
            Err(Error::Refused(Refusal::NoSuchQueue(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(html! {
        section aria-labelledby="queues-title" id="queues" {
            h2 id="queues-title" { "Queues" }
            @if queues.is_empty() {
                p class="empty" { "No task has come yet. A queue exists from its first task on." }
            }
            ul class="cards" {
                @for card in &cards { (card) }
            }
            @if shown.len() < queues.len() {
                p {
                    "These are the " (shown.len()) " with the most tasks of "
                    a href="/queues" { "all " (counted(queues.len() as u64, "queue", "queues")) } "."
                }
            }
        }
    })
}

fn card(queue: &QueueView, history: &HistoryView) -> Markup {
    html! {
        li class="card" id={ "queue-" (queue.name) } {
            h3 {
                a href={ "/queues/" (queue.name) } { bdi { (queue.name) } }
                (marks(queue))
            }
            dl class="numbers" {
                @for (state, count) in TaskState::ALL.iter().zip(queue.counts) {
                    div class={ (state) @if count == 0 { " none" } } { dt { (state) } dd { (words::count(count)) } }
                }
            }
            dl class="facts" {
                div {
                    dt { "Oldest due" }
                    dd { (queue.oldest_due.map_or_else(|| "none waits".to_owned(), words::length)) }
                }
                div { dt { "In" } dd { (words::rate(queue.submitted_rate)) " /s" } }
                div { dt { "Out" } dd { (words::rate(queue.completed_rate)) " /s" } }
            }
            (history::sparklines(history))
        }
    }
}

/// What is unusual about a queue, as words.
pub(super) fn marks(queue: &QueueView) -> Markup {
    html! {
        @if queue.paused { " " span class="mark" { "paused" } }
        @if queue.draining { " " span class="mark" { "draining" } }
    }
}

fn workers(workers: &[WorkerView]) -> Markup {
    let mut busy: Vec<&WorkerView> = workers.iter().filter(|one| !one.holds.is_empty()).collect();
    busy.sort_by_key(|one| std::cmp::Reverse(one.holds.len()));
    let waiting = workers.iter().filter(|one| one.waiting).count() as u64;
    html! {
        section aria-labelledby="workers-title" id="workers" {
            h2 id="workers-title" { a href="/workers" { "Workers" } }
            p {
                @if workers.is_empty() {
                    "No worker has asked for a task since the daemon started."
                } @else {
                    (words::count(busy.len() as u64)) " at work, " (words::count(waiting)) " waiting for a task."
                }
            }
            @if !busy.is_empty() {
                ul class="plain-list" {
                    @for worker in busy.iter().take(WORKERS) {
                        li {
                            bdi { (words::visible(worker.name.as_str(), 300, false).markup) } ": "
                            (super::workers::holds(worker, 3))
                        }
                    }
                }
                @if busy.len() > WORKERS { p { a href="/workers" { "All workers" } } }
            }
        }
    }
}

/// The disk and the journal.
fn machine<B>(http: &Http<B>, status: &StatusView) -> Markup {
    let facts = http.about.as_ref().map(|about| about.facts());
    html! {
        section aria-labelledby="machine-title" id="machine" {
            h2 id="machine-title" { "Disk" }
            dl class="facts wide" {
                div { dt { "Durability" } dd { (durability(status.durability)) } }
                @if let Some(facts) = &facts { div { dt { "Data directory" } dd { code { (facts.data_dir) } } } }
                div {
                    dt { "Room on the disk" }
                    dd { (status.disk.map_or_else(|| "not known".to_owned(), |disk| {
                        format!("{} free of {}", words::bytes(disk.free), words::bytes(disk.size))
                    })) }
                }
                div {
                    dt { "Files behind the journal" }
                    dd {
                        @if status.spool_pending == 0 { "none" } @else {
                            (counted(status.spool_pending, "file", "files")) ", " (words::length(status.spool_lag))
                        }
                    }
                }
                div { dt { "Journal since the checkpoint" } dd { (words::bytes(status.journal_bytes)) } }
                div {
                    dt { "Rejected files" }
                    dd { a href="/rejected" { (counted(status.rejected, "file", "files")) " since the start" } }
                }
            }
        }
    }
}

/// What a durability mode can lose, beside its name.
fn durability(mode: &str) -> Markup {
    let meaning = match mode {
        "sync" => "an answer is given when it is on the disk",
        "interval" => "a crash of the machine can lose the last moments",
        "none" => "a crash of the machine can lose what the system had not written",
        _ => "",
    };
    html! { (mode) @if !meaning.is_empty() { ": " (meaning) } }
}

/// All queues in a table.
pub(super) async fn all_queues<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    frame::answer(
        queues_page(&http, request.uri().query()).await,
        request.headers(),
        "/queues",
    )
}

async fn queues_page<B: Backend>(http: &Http<B>, query: Option<&str>) -> Result<Body, Problem> {
    let pairs = Pairs::of_query(query, &["after", "name"])?;
    let after = pairs.filled("after").map(QueueName::parse).transpose()?;
    let part = pairs.filled("name").unwrap_or_default();
    let queues = http.backend.queues().await?;
    let rest: Vec<&QueueView> = queues
        .iter()
        .filter(|queue| queue.name.as_str().contains(part))
        .filter(|queue| after.as_ref().is_none_or(|after| queue.name > *after))
        .take(PAGE + 1)
        .collect();
    let (page, more) = rest.split_at(rest.len().min(PAGE));
    let content = html! {
        h1 { "Queues" }
        form class="filter" method="get" action="/queues" role="search" aria-label="Filter the queues" {
            label { "Name contains" input name="name" value=(part) autocapitalize="none" autocomplete="off"; }
            button class="plain" type="submit" { "Show" }
        }
        div id="queues" {
            @if page.is_empty() { p class="empty" { "No queue is like that." } } @else { (queues_table(page)) }
            nav class="ways" aria-label="Pages of queues" {
                @if after.is_some() { a rel="first" href={ "/queues?name=" (pairs::encode(part)) } { "First page" } }
                @if !more.is_empty() && let Some(last) = page.last() {
                    a rel="next" href={ "/queues?name=" (pairs::encode(part)) "&after=" (last.name) } { "Next page" }
                }
            }
        }
    };
    Ok(Body {
        title: "Queues".to_owned(),
        place: Place::Overview,
        live: Some(String::new()),
        content,
    })
}

fn queues_table(queues: &[&QueueView]) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Queues" {
            table {
                caption class="unseen" { "Queues by name" }
                thead { tr {
                    th scope="col" { "Queue" }
                    @for state in TaskState::ALL { th scope="col" class="number" { (state) } }
                    th scope="col" class="number" { "In /s" }
                    th scope="col" class="number" { "Out /s" }
                    th scope="col" { "Oldest due" }
                } }
                tbody {
                    @for queue in queues {
                        tr id={ "queue-" (queue.name) } {
                            th scope="row" { a href={ "/queues/" (queue.name) } { bdi { (queue.name) } } (marks(queue)) }
                            @for (state, count) in TaskState::ALL.iter().zip(queue.counts) {
                                td class="number" data-name=(state) { (words::count(count)) }
                            }
                            td class="number" data-name="In /s" { (words::rate(queue.submitted_rate)) }
                            td class="number" data-name="Out /s" { (words::rate(queue.completed_rate)) }
                            td data-name="Oldest due" { (queue.oldest_due.map_or_else(|| "–".to_owned(), words::length)) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{TaskId, WallMillis, WorkerName};

    #[test]
    fn what_can_not_be_seen_in_a_workers_name_is_shown() {
        let worker = WorkerView {
            name: WorkerName::parse("a\u{202e}b<i>").unwrap(),
            holds: vec![TaskId::parse("0198c0de-0000-7000-8000-000000000001").unwrap()],
            waiting: false,
            last_seen: WallMillis(0),
            claimed: 1,
            completed: 0,
            failed: 0,
        };
        let page = workers(&[worker]).into_string();
        let name = "<bdi>a<span class=\"code\">U+202E</span>b&lt;i&gt;</bdi>";
        assert!(page.contains(name), "{page}");
    }
}
