//! `/new`: the form that submits a task, and what becomes of it.
//!
//! The original's form is understood as it was: `payload` as text, `priority`, `exectime`; its answer is 302 to `/`.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use maud::{Markup, html};

use super::{
    super::{Http, Pairs, Problem, Shared, problem},
    forms,
    frame::{self, Body, Place},
    notice,
};
use crate::{
    backend::{Backend, SubmitOutcome},
    task::{NewTask, Payload, Priority, QueueName, Refusal},
};

/// A form that came back: what was filled in, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Filled<'a> {
    /// The fields.
    pub(super) form: Option<&'a Pairs>,
    /// The name of the field that is wrong, empty where it is none of them, and why.
    pub(super) wrong: Option<(&'a str, &'a str)>,
}

impl Filled<'_> {
    fn value(&self, name: &str) -> &str {
        self.form.and_then(|form| form.get(name)).unwrap_or("")
    }

    fn is_wrong(&self, name: &str) -> bool {
        self.wrong.is_some_and(|(field, _)| field == name)
    }

    fn chosen(&self, name: &str, value: &str, default: &str) -> bool {
        let given = self.form.and_then(|form| form.filled(name));
        given.unwrap_or(default) == value
    }

    /// What is wrong with a field, beside it.
    fn complaint(&self, name: &str) -> Markup {
        html! {
            @if let Some((field, reason)) = self.wrong && field == name {
                span class="wrong" id={ "wrong-" (name) } { (reason) }
            }
        }
    }

    fn describes(&self, name: &str, hint: &str) -> String {
        if self.is_wrong(name) {
            format!("wrong-{name} {hint}")
        } else {
            hint.to_owned()
        }
    }

    fn invalid(&self, name: &str) -> Option<&'static str> {
        self.is_wrong(name).then_some("true")
    }
}

/// The page with the form.
pub(super) async fn show<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    let page = || {
        let mut known = vec!["queue"];
        known.extend(notice::KEYS);
        let pairs = Pairs::of_query(request.uri().query(), &known)?;
        let queue = pairs.filled("queue").map(QueueName::parse).transpose()?;
        let filled = Filled {
            form: Some(&pairs),
            wrong: None,
        };
        Ok(body(&filled, queue.as_ref()))
    };
    drop(http);
    frame::answer(page(), request.headers(), "/new")
}

fn body(filled: &Filled<'_>, queue: Option<&QueueName>) -> Body {
    let content = html! {
        h1 { "New task" }
        (form(filled, queue, "/new"))
    };
    Body::still("New task", Place::New, content)
}

/// The form. `queue` is set where the page is a queue's; `back` is the page that shows the task afterwards.
pub(super) fn form(filled: &Filled<'_>, queue: Option<&QueueName>, back: &str) -> Markup {
    html! {
        form class="submit" id="submit" method="post" action="/new" {
            @if let Some((field, reason)) = filled.wrong {
                p class="wrong" role="alert" {
                    "The task was not submitted: " @if !field.is_empty() { b { (field) } ": " } (reason)
                }
            }
            input type="hidden" name="back" value=(back);
            (payload_field(filled))
            div class="row" {
                (queue_field(filled, queue, "default"))
                (priority_field(filled, "100"))
            }
            (when_fields(filled, &["now", "in", "at"]))
            button type="submit" { "Submit" }
        }
    }
}

fn payload_field(filled: &Filled<'_>) -> Markup {
    html! {
        label {
            "Payload"
            textarea name="payload" required dir="auto" spellcheck="false" rows="5"
                aria-invalid=[filled.invalid("payload")] aria-describedby=[filled.is_wrong("payload").then_some("wrong-payload")]
                autofocus[filled.is_wrong("payload")] { "\n" (filled.value("payload")) }
            (filled.complaint("payload"))
        }
        fieldset class="choice" {
            legend { "The payload is" }
            @for (value, text) in [("text", "text"), ("json", "JSON")] {
                label { input type="radio" name="kind" value=(value) checked[filled.chosen("kind", value, "text")]; (text) }
            }
            (filled.complaint("kind"))
        }
    }
}

/// The queue, filled in with `queue` where the page is a queue's; `blank` is what nothing means.
pub(super) fn queue_field(filled: &Filled<'_>, queue: Option<&QueueName>, blank: &str) -> Markup {
    html! {
        label {
            "Queue"
            input name="queue" value=(queue.map_or_else(|| filled.value("queue"), QueueName::as_str))
                placeholder=(blank) maxlength="64" autocapitalize="none" autocomplete="off" spellcheck="false"
                aria-invalid=[filled.invalid("queue")] aria-describedby=(filled.describes("queue", "hint-queue"));
            (filled.complaint("queue"))
            small id="hint-queue" { "a new name makes a new queue" }
        }
    }
}

/// The priority; `blank` is what nothing means.
pub(super) fn priority_field(filled: &Filled<'_>, blank: &str) -> Markup {
    html! {
        label {
            "Priority"
            input name="priority" value=(filled.value("priority")) placeholder=(blank) inputmode="numeric"
                autocomplete="off" aria-invalid=[filled.invalid("priority")]
                aria-describedby=(filled.describes("priority", "hint-priority"));
            (filled.complaint("priority"))
            small id="hint-priority" { "higher is sooner" }
        }
    }
}

/// When the task is due: the `ways` to say it, with the field that the chosen one needs.
pub(super) fn when_fields(filled: &Filled<'_>, ways: &[&str]) -> Markup {
    let first = ways.first().copied().unwrap_or_default();
    let default = if filled.value("exectime").is_empty() {
        first
    } else {
        "at"
    };
    html! {
        fieldset class="choice when" {
            legend { "When" }
            @for way in ways {
                label {
                    input type="radio" name="when" value=(way) class={ "when-" (way) } checked[filled.chosen("when", way, default)];
                    (way)
                }
            }
            (filled.complaint("when"))
            label class="for-in" {
                "In how long"
                input name="in" value=(filled.value("in")) placeholder="10m" autocomplete="off" autocapitalize="none"
                    aria-invalid=[filled.invalid("in")] aria-describedby=(filled.describes("in", "hint-in"));
                (filled.complaint("in"))
                small id="hint-in" { "such as 90s, 10m, 2h30m or 1d" }
            }
            label class="for-at" {
                "Date and time"
                input type="datetime-local" step="1" name="exectime" value=(filled.value("exectime"))
                    aria-invalid=[filled.invalid("exectime")] aria-describedby=(filled.describes("exectime", "hint-at"));
                (filled.complaint("exectime"))
                small id="hint-at" { "in " span class="zone" { "UTC" } }
            }
            // The script fills in how far the browser's zone is from UTC.
            input type="hidden" name="offset" value=(filled.value("offset"));
            (filled.complaint("offset"))
        }
    }
}

/// Submits one task.
pub(super) async fn submit<B: Backend>(State(http): Shared<B>, request: Request) -> Response {
    let headers = request.headers().clone();
    let form = match forms::read(request, &http).await {
        Ok(form) => form,
        Err(problem) => return frame::refuse(problem, &headers, "/new"),
    };
    match taken(&http, &form).await {
        Ok(outcomes) => submitted(&form, &outcomes),
        Err(problem) => refuse(problem, &form, &headers),
    }
}

async fn taken<B: Backend>(http: &Http<B>, form: &Pairs) -> Result<Vec<SubmitOutcome>, Problem> {
    let task = task_of(form, http)?;
    Ok(http.backend.submit(vec![task]).await?)
}

fn submitted(form: &Pairs, outcomes: &[SubmitOutcome]) -> Response {
    let Some(back) = form.filled("back") else {
        // What the original answers.
        let home = [(header::LOCATION, HeaderValue::from_static("/"))];
        return (StatusCode::FOUND, home).into_response();
    };
    let Some(outcome) = outcomes.first() else {
        return problem::INTERNAL
            .problem("the task has no outcome")
            .into_response();
    };
    let task = &outcome.task;
    // Only to pages of our own, whatever the form says.
    let page = match back {
        "/" => "/".to_owned(),
        _ => format!("/queues/{}", task.queue),
    };
    frame::see_other(&format!("{page}?told=submitted&task={}", task.id))
}

/// The form again, with what is wrong, for browsers; a document for everyone else.
fn refuse(problem: Problem, form: &Pairs, headers: &HeaderMap) -> Response {
    if !frame::wants_page(headers) {
        return problem.into_response();
    }
    let filled = Filled {
        form: Some(form),
        wrong: Some(complaint(&problem)),
    };
    let page = body(&filled, None).into_html();
    problem.respond(frame::HTML, page)
}

/// The field that is wrong, and why. Not every refusal is about a field: a full disk isn't, and has none here.
pub(super) fn complaint(problem: &Problem) -> (&str, &str) {
    let document = problem.document();
    let field = document.field.as_deref().unwrap_or("");
    let detail = document.detail.as_str();
    let reason = detail
        .strip_prefix(field)
        .and_then(|rest| rest.strip_prefix(": "))
        .unwrap_or(detail);
    (field, reason)
}

fn task_of<B>(form: &Pairs, http: &Http<B>) -> Result<NewTask, Problem> {
    let payload = payload(form)?;
    http.limits.payloads.check("payload", &payload)?;
    Ok(NewTask {
        queue: form
            .filled("queue")
            .map_or_else(|| Ok(QueueName::default()), QueueName::parse)?,
        priority: form
            .filled("priority")
            .map_or(Ok(Priority::DEFAULT), Priority::parse)?,
        exectime: forms::when(form, (http.clock)().wall)?,
        ..NewTask::of(payload)
    })
}

fn payload(form: &Pairs) -> Result<Payload, Refusal> {
    let text = form
        .get("payload")
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Refusal::invalid("payload", "missing: what is to be done?"))?;
    match form.filled("kind") {
        None => Ok(Payload::from_text(text)),
        // Browsers send the lines of a text field with the line ends of the network.
        Some("text") => Ok(Payload::from_text(&text.replace("\r\n", "\n"))),
        Some("json") => Payload::from_json(text)
            .map_err(|error| Refusal::invalid("payload", format!("not JSON: {error}"))),
        Some(_) => Err(Refusal::invalid("kind", "not one of text, json")),
    }
}
