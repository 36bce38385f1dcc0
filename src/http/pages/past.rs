//! What happened to a task, oldest first: a part of its page.

use maud::{Markup, html};

use super::words;
use crate::{
    backend::{EventKind, Happening, TaskView},
    task::WallMillis,
};

/// How many happenings are shown from the end; the first is always shown.
const SHOWN: usize = 30;
/// How much of an error, in bytes of HTML.
const ERROR: usize = 300;

/// The history of `task`, if it was asked for.
pub(super) fn history(task: &TaskView, now: WallMillis) -> Markup {
    let Some(history) = &task.history else {
        return html! {};
    };
    let Some((first, rest)) = history.happenings.split_first() else {
        return html! {};
    };
    let hidden = rest.len().saturating_sub(SHOWN);
    let left_out = history.left_out + hidden as u64;
    html! {
        section aria-labelledby="past-title" id="past" {
            h2 id="past-title" { "What happened" }
            ol class="past" {
                (one(first, now))
                @if left_out > 0 { li class="quiet" { (words::counted(left_out, "more thing", "more things")) " that are not shown" } }
                @for happening in &rest[hidden..] { (one(happening, now)) }
            }
        }
    }
}

fn one(happening: &Happening, now: WallMillis) -> Markup {
    html! {
        li {
            span class="at" {
                @match happening.at { Some(at) => (words::moment(at)), None => "before a restart" }
            }
            div {
                b { (words_of(happening.kind)) }
                @if let Some(queue) = &happening.queue { " to " a href={ "/queues/" (queue) } { bdi { (queue) } } }
                @if let Some(worker) = &happening.worker {
                    " by " bdi { (words::visible(worker.as_str(), 300, false).markup) }
                }
                @if let Some(attempt) = happening.attempt { ", attempt " (attempt) }
                @if let Some(priority) = happening.priority { ", priority " (priority) }
                @if let Some(exectime) = happening.exectime { ", not before " (words::exectime(exectime)) }
                @if let Some(at) = happening.at { " " span class="quiet" { "(" (words::distance(at, now)) ")" } }
                @if let Some(error) = &happening.error {
                    @let shown = words::visible(error, ERROR, false);
                    p class="why" dir="auto" { (shown.markup) @if !shown.whole { "…" } }
                }
            }
        }
    }
}

/// What the kinds that a history has are called on the page.
const fn words_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Claimed => "claimed",
        EventKind::Failed => "failed",
        EventKind::Expired => "lease expired",
        EventKind::Released => "given back",
        EventKind::Dead => "failed for good",
        EventKind::Rescheduled => "given another place",
        EventKind::Retried => "brought back",
        other => other.as_str(),
    }
}
