//! Tasks as a table, filtered and paged: what the list of all tasks and the page of a queue have in common.
//!
//! Knows how tasks are shown, not where they come from.

use maud::{Markup, html};

use super::{
    super::{Pairs, Problem, pairs},
    notice, words,
};
use crate::{
    backend::{Cursor, Page, PageQuery, TaskView},
    task::{IdPrefix, QueueName, Refusal, State},
};

/// How many tasks a page shows: with long payloads still well below 60 KB.
const PAGE: usize = 50;
/// The most that may be asked for.
const MAX_PAGE: usize = 1000;
/// How much of a payload a row shows, in bytes of HTML.
const EXCERPT: usize = 120;

/// A payload of more bytes is not read for an excerpt: a page of the largest ones would take seconds.
const LONG: usize = 16 << 10;

/// A table's place: the page that it is in.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The page's path.
    pub(super) path: &'a str,
    /// Whether the page is one queue's, so that the queue isn't said in each row.
    pub(super) is_queue: bool,
    /// The beginning of ids that is asked for, as it was filled in.
    pub(super) id: &'a str,
}

/// What a query string asks of a page with a table; empty values (a form's) ask for nothing.
pub(super) fn query(
    query: Option<&str>,
    queue: Option<&QueueName>,
) -> Result<(PageQuery, Pairs), Problem> {
    let mut known = vec!["state", "id", "limit", "after"];
    known.extend(notice::KEYS);
    if queue.is_none() {
        known.push("queue");
    }
    let pairs = Pairs::of_query(query, &known)?;
    let limit = match pairs.filled("limit") {
        None => PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| Problem::invalid("limit", "not a whole number from 1 to 1000"))?,
    };
    let named = pairs.filled("queue").map(QueueName::parse).transpose()?;
    let query = PageQuery {
        queue: queue.cloned().or(named),
        state: pairs.filled("state").map(State::parse).transpose()?,
        id_prefix: pairs
            .filled("id")
            .map(IdPrefix::parse)
            .transpose()
            .map_err(|refusal| match refusal {
                Refusal::Invalid { reason, .. } => Problem::invalid("id", reason),
                other => other.into(),
            })?,
        limit,
        after: pairs.filled("after").map(Cursor::parse).transpose()?,
    };
    Ok((query, pairs))
}

/// The table, and the way to the next page.
pub(super) fn table(place: &Place<'_>, query: &PageQuery, page: &Page) -> Markup {
    html! {
        div id="tasks" {
            @if page.tasks.is_empty() {
                p class="empty" { (nothing(query)) }
            } @else {
                form method="post" action="/delete" {
                    @if place.is_queue { input type="hidden" name="back" value=(place.path); }
                    div class="scroll" tabindex="0" role="region" aria-label="Tasks" { table {
                        caption class="unseen" { "Tasks in the order in which they are handed out" }
                        thead { tr {
                            th scope="col" { "Payload" }
                            th scope="col" { "State" }
                            @if !place.is_queue { th scope="col" { "Queue" } }
                            th scope="col" class="number" { "Priority" }
                            th scope="col" { "Not before" }
                            th scope="col" class="number" { "Attempts" }
                            th scope="col" { "Id" }
                            th scope="col" { span class="unseen" { "Delete" } }
                        } }
                        tbody id="rows" { @for task in &page.tasks { (row(place, task)) } }
                    } }
                }
            }
            (ways(place, query, page))
        }
    }
}

fn nothing(query: &PageQuery) -> &'static str {
    if query.after.is_some() {
        "No more tasks."
    } else if query.state.is_some() || query.queue.is_some() || query.id_prefix.is_some() {
        "No task is like that."
    } else {
        "No tasks here."
    }
}

fn ways(place: &Place<'_>, query: &PageQuery, page: &Page) -> Markup {
    html! {
        nav class="ways" aria-label="Pages of tasks" {
            @if query.after.is_some() { a rel="first" href=(address(place, query, None)) { "First page" } }
            @if let Some(next) = &page.next {
                a rel="next" href=(address(place, query, Some(&next.to_string()))) { "Next page" }
            }
        }
    }
}

fn row(place: &Place<'_>, task: &TaskView) -> Markup {
    let id = task.id.to_string();
    html! {
        tr id={ "t" (id) } {
            td class="payload" data-name="Payload" { bdi { (excerpt(task)) } }
            td data-name="State" { (state(task.state)) }
            @if !place.is_queue { td data-name="Queue" { a href={ "/queues/" (task.queue) } { bdi { (task.queue) } } } }
            td class="number" data-name="Priority" { (task.priority) }
            td data-name="Not before" { (words::exectime(task.exectime)) }
            td class="number" data-name="Attempts" { (task.attempts) " of " (task.max_attempts) }
            td class="id" data-name="Id" { a href={ "/tasks/" (id) } title=(id) { (id) } }
            td class="act" { button class="small" name="id" value=(id) disabled[task.state == State::Leased] { "Delete" } }
        }
    }
}

/// The beginning of a payload, on one line.
fn excerpt(task: &TaskView) -> Markup {
    let json = task.payload.as_json();
    let shown = if json.len() > LONG {
        // Not read whole, so shown as it is written.
        words::visible(json, EXCERPT, false)
    } else {
        words::visible(&task.payload.to_display(), EXCERPT, false)
    };
    html! { (shown.markup) @if !shown.whole { "…" } }
}

/// A state, as a word with its colour.
pub(super) fn state(state: State) -> Markup {
    html! { span class={ "state " (state) } { (state) } }
}

/// The form that filters the table.
pub(super) fn filter(place: &Place<'_>, query: &PageQuery) -> Markup {
    let queue = query.queue.as_ref().map_or("", QueueName::as_str);
    html! {
        form class="filter" method="get" action=(place.path) role="search" aria-label="Filter the tasks" {
            @if !place.is_queue {
                label { "Queue" input name="queue" value=(queue) placeholder="all" autocapitalize="none" autocomplete="off"; }
            }
            label { "State"
                select name="state" {
                    option value="" { "any" }
                    @for state in State::ALL {
                        option value=(state) selected[query.state == Some(state)] { (state) }
                    }
                }
            }
            label { "Id begins with"
                input name="id" value=(place.id) autocapitalize="none" autocomplete="off" spellcheck="false";
            }
            button class="plain" type="submit" { "Show" }
        }
    }
}

/// The address of a page of the same table.
fn address(place: &Place<'_>, query: &PageQuery, after: Option<&str>) -> String {
    let state = query.state.map(State::as_str);
    let queue = query
        .queue
        .as_ref()
        .filter(|_| !place.is_queue)
        .map(QueueName::as_str);
    let limit = (query.limit != PAGE).then(|| query.limit.to_string());
    let parts: Vec<String> = [
        ("queue", queue),
        ("state", state),
        ("id", Some(place.id).filter(|id| !id.is_empty())),
        ("limit", limit.as_deref()),
        ("after", after),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| format!("{name}={}", pairs::encode(value))))
    .collect();
    if parts.is_empty() {
        place.path.to_owned()
    } else {
        format!("{}?{}", place.path, parts.join("&"))
    }
}
