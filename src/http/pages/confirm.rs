//! Questions before what can't be undone: pages, so that they are asked without a script too.

use axum::{
    extract::{Request, State},
    response::Response,
};
use maud::{Markup, html};

use super::{
    super::{Http, Pairs, Problem, Shared, pairs, path::Path},
    frame::{self, Body, Place},
    words,
};
use crate::{
    backend::Backend,
    task::{QueueName, State as TaskState, TaskId},
};

/// A question, the button that says yes, and the way back.
struct Question<'a> {
    title: String,
    text: Markup,
    /// Where yes goes, and what it sends.
    action: &'a str,
    send: &'a [(&'static str, &'a str)],
    yes: String,
    is_dangerous: bool,
    back: &'a str,
}

impl Question<'_> {
    fn page(self) -> Body {
        let content = html! {
            h1 { (self.title) }
            (self.text)
            form method="post" action=(self.action) class="actions" id="confirm" {
                @for (name, value) in self.send { input type="hidden" name=(name) value=(value); }
                button class=[self.is_dangerous.then_some("danger")] { (self.yes) }
                a class="button" href=(self.back) { "No, go back" }
            }
        };
        Body::still(self.title, Place::Other, content)
    }
}

/// `/queues/NAME/dead?do=retry|purge`: the dead tasks of a queue, all of them.
pub(super) async fn dead<B: Backend>(
    State(http): Shared<B>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let back = format!("/queues/{}", pairs::encode(&name));
    let page = dead_page(&http, &name, request.uri().query(), &back).await;
    frame::answer(page, request.headers(), &back)
}

async fn dead_page<B: Backend>(
    http: &Http<B>,
    name: &str,
    query: Option<&str>,
    back: &str,
) -> Result<Body, Problem> {
    let pairs = Pairs::of_query(query, &["do"])?;
    let what = DeadAction::parse(pairs.filled("do"))?;
    let queue = http.backend.queue(QueueName::parse(name)?).await?;
    let dead = queue.count(TaskState::Dead);
    let tasks = words::counted(dead, "dead task", "dead tasks");
    let name = queue.name.as_str();
    let (title, text) = match what {
        DeadAction::Retry => (
            format!("Retry {tasks}?"),
            html! { p { "They get all their attempts again, and become due in the queue " bdi { b { (name) } } "." } },
        ),
        DeadAction::Purge => (
            format!("Purge {tasks}?"),
            html! { p { "They and their files are deleted from the queue " bdi { b { (name) } } ". This can't be undone." } },
        ),
    };
    Ok(Question {
        yes: match what {
            DeadAction::Retry => format!("Retry {tasks}"),
            DeadAction::Purge => format!("Purge {tasks}"),
        },
        title,
        text,
        action: &format!("{back}/dead"),
        send: &[("do", what.as_str())],
        is_dangerous: what == DeadAction::Purge,
        back,
    }
    .page())
}

/// What can be done with all dead tasks of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeadAction {
    /// They live again.
    Retry,
    /// They are deleted.
    Purge,
}

impl DeadAction {
    /// Reads the field `do`.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            Some("retry") => Ok(Self::Retry),
            Some("purge") => Ok(Self::Purge),
            _ => Err(Problem::invalid("do", "not one of retry, purge")),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Purge => "purge",
        }
    }
}

/// `/tasks/ID/cancel`.
pub(super) async fn cancel<B: Backend>(
    State(http): Shared<B>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let back = format!("/tasks/{}", pairs::encode(&id));
    frame::answer(
        cancel_page(&http, &id, &back).await,
        request.headers(),
        &back,
    )
}

async fn cancel_page<B: Backend>(http: &Http<B>, id: &str, back: &str) -> Result<Body, Problem> {
    let (task, _share) = http.one(TaskId::parse(id)?).await?;
    let shown = words::visible(&task.payload.to_display(), 600, true);
    Ok(Question {
        title: "Cancel this task?".to_owned(),
        text: html! {
            p { "Task " span class="id" { (task.id) } " of the queue " bdi { b { (task.queue) } }
                " and its file are deleted. This can't be undone." }
            pre class="text" dir="auto" tabindex="0" role="group" aria-label="Payload" { (shown.markup) @if !shown.whole { "…" } }
        },
        action: back,
        send: &[("do", "cancel")],
        yes: "Cancel the task".to_owned(),
        is_dangerous: true,
        back,
    }
    .page())
}
