//! What a page says after a form was sent: the redirect carries a word and a number, the page says the sentence.
//!
//! Only what is listed here is said: an address that somebody else made can't put words into a page.

use maud::{Markup, html};

use super::{super::Pairs, words};
use crate::task::TaskId;

/// The query parameters of a notice.
pub(super) const KEYS: [&str; 4] = ["told", "count", "left", "task"];

/// The sentence that `pairs` ask for, if they ask for one.
pub(super) fn of(pairs: &Pairs) -> Markup {
    let number = |name| {
        let text = pairs.filled(name);
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let (count, left) = (number("count"), number("left"));
    let tasks = words::counted(count, "task", "tasks");
    let text = match pairs.filled("told").unwrap_or_default() {
        "submitted" => "The task was submitted.".to_owned(),
        "there-first" => "Nothing new: this task was there already.".to_owned(),
        "cancelled" => "The task was cancelled.".to_owned(),
        "retried" => "The task lives again, all its attempts before it.".to_owned(),
        "rescheduled" => "The task has its new place.".to_owned(),
        "moved" => "The task was moved to this queue.".to_owned(),
        "paused" => "The queue is paused: nothing is handed out.".to_owned(),
        "resumed" => "The queue goes on.".to_owned(),
        "draining" => "The queue is draining: nothing new is taken.".to_owned(),
        "undrained" => "The queue takes new tasks again.".to_owned(),
        "retried-dead" if left > 0 => format!(
            "{tasks} brought back, {left} left dead: unique keys are in use, or a limit is reached."
        ),
        "retried-dead" => format!("{tasks} brought back."),
        "purged-dead" => format!("{tasks} purged."),
        "file-retried" => {
            "The file was moved back into the task directory. If it is still no task, it comes back here."
                .to_owned()
        }
        "file-discarded" => "The file was deleted.".to_owned(),
        _ => return html! {},
    };
    let task = pairs
        .filled("task")
        .and_then(|text| TaskId::parse(text).ok());
    html! {
        p class="notice" role="status" {
            (text)
            @if let Some(id) = task { " " a href={ "/tasks/" (id) } { "Show it" } }
        }
    }
}
