//! `POST /api/v1/import`: takes back what `GET /api/v1/export` wrote.
//!
//! Knows what the lines of an export mean, and in which order they come; how lines arrive, and how tasks go to the backend, is the
//! matter of `lines`.

use std::collections::BTreeSet;

use axum::extract::{Request, State};

use super::{Answer, Http, Shared, body::MediaType, caller::Caller, lines, problem::Problem};
use crate::{
    api::{
        self,
        export::{ALL_QUEUES, ExportHead, ExportLine, FORMAT},
    },
    backend::Backend,
    task::{NewTask, Object, Options, Past, QueueName, Refusal, TaskObject, from_json},
};

/// The longest error of a last attempt, in bytes: as long as one that a worker tells.
const MOST_ERROR: usize = 4096;

/// Take back what an export wrote, with ids, attempts and errors, and dead tasks as dead.
///
/// The body is taken in pieces as it comes. A task that is here already is passed over, so importing again changes nothing; one
/// whose id is here with other content, or whose unique key another task holds, ends the import with its line, and what stood
/// before it is taken. Queues that were paused are paused; draining is not carried over.
#[utoipa::path(
    post, path = "/api/v1/import", tag = "tasks", operation_id = "import",
    request_body(content = String, content_type = "application/x-ndjson",
        example = "{\"export\":{\"format\":1}}\n{\"task\":{\"payload\":\"hello\",\"id\":\"0198c0de-7c1e-7000-8000-000000000001\"}}\n{\"end\":{\"tasks\":1}}\n"),
    responses(
        (status = 201, description = "Taken", body = api::Accepted),
        (status = 200, description = "Nothing new", body = api::Accepted),
        (status = 400, description = "invalid-field, malformed-json"),
        (status = 408, description = "request-timeout"),
        (status = 409, description = "id-in-use, unique-key-in-use"),
        (status = 413, description = "too-large"),
        (status = 415, description = "unsupported-media-type"),
        (status = 507, description = "no-memory, no-room, too-many"),
    )
)]
pub(crate) async fn import<B: Backend>(
    State(http): Shared<B>,
    caller: Caller,
    request: Request,
) -> Answer {
    MediaType::of(request.headers(), &[MediaType::Lines])?;
    lines::import(&http, caller, request).await
}

/// What is to be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pauses {
    /// Nothing more.
    Nothing,
    /// The queue whose task has come.
    This,
    /// All queues.
    All,
}

/// How far the reading of an export has come.
#[derive(Debug, Default)]
pub(super) struct Import {
    begun: bool,
    ended: bool,
    tasks: u64,
    pause_all: bool,
    pause: BTreeSet<QueueName>,
}

impl Import {
    /// Reads one line; gives its task, if it has one.
    pub(super) fn line<B>(
        &mut self,
        http: &Http<B>,
        text: &str,
    ) -> Result<Option<NewTask>, Refusal> {
        let Object(line): Object<ExportLine<'_>> = from_json(text)?;
        if self.ended {
            return Err(Refusal::invalid(
                "end",
                "lines follow the one that ends the export",
            ));
        }
        match line {
            ExportLine {
                export: Some(head),
                task: None,
                end: None,
                failed: None,
                ..
            } if !self.begun => {
                self.begin(&head)?;
                Ok(None)
            }
            ExportLine {
                export: Some(_), ..
            } => Err(Refusal::invalid("export", "stands in the first line alone")),
            _ if !self.begun => Err(Refusal::invalid(
                "export",
                "missing: the first line of an export says {\"export\": {\"format\": 1}}",
            )),
            ExportLine {
                failed: Some(why), ..
            } => Err(Refusal::invalid(
                "failed",
                format!("the export was given up: {why}"),
            )),
            ExportLine {
                end: Some(end),
                task: None,
                ..
            } => {
                self.ended = true;
                if end.tasks == self.tasks {
                    Ok(None)
                } else {
                    let text = format!("{} tasks are told of, and {} came", end.tasks, self.tasks);
                    Err(Refusal::invalid("end.tasks", text))
                }
            }
            ExportLine {
                task: Some(task),
                end: None,
                attempts,
                dead,
                last_error,
                ..
            } => {
                self.tasks += 1;
                let new = TaskObject::parse(task.get())
                    .and_then(|object| object.check((http.clock)().wall, http.limits.payloads))
                    .map_err(|refusal| refusal.within("task"))?;
                if new.id.is_none() {
                    return Err(Refusal::invalid("task.id", "missing"));
                }
                with_past(new, attempts, dead, last_error).map(Some)
            }
            _ => Err(Refusal::invalid(
                "task",
                "missing: a line has export, task or end",
            )),
        }
    }

    fn begin(&mut self, head: &ExportHead) -> Result<(), Refusal> {
        if head.format != FORMAT {
            let text = format!(
                "{}: this program reads format {FORMAT}; was it written by a newer one?",
                head.format
            );
            return Err(Refusal::invalid("export.format", text));
        }
        for name in &head.paused {
            if name == ALL_QUEUES {
                self.pause_all = true;
            } else {
                let name =
                    QueueName::parse(name).map_err(|refusal| refusal.within("export.paused"))?;
                self.pause.insert(name);
            }
        }
        self.begun = true;
        Ok(())
    }

    /// What is to be paused now that the first task of `queue` has come.
    pub(super) fn pauses(&mut self, queue: &QueueName) -> Pauses {
        if std::mem::take(&mut self.pause_all) {
            Pauses::All
        } else if self.pause.remove(queue) {
            Pauses::This
        } else {
            Pauses::Nothing
        }
    }

    /// Whether the whole of it has come.
    pub(super) fn ended(&self) -> Result<(), Problem> {
        if self.ended {
            Ok(())
        } else {
            Err(Problem::invalid(
                "end",
                "missing: the export is cut; what it has is taken, and more of it can be imported again",
            ))
        }
    }
}

fn with_past(
    mut task: NewTask,
    attempts: Option<u32>,
    dead: Option<bool>,
    last_error: Option<String>,
) -> Result<NewTask, Refusal> {
    let past = Past {
        attempts: attempts.unwrap_or(0),
        dead: dead.unwrap_or(false),
        last_error: last_error.map(Into::into),
    };
    if past.attempts > Options::MAX_ATTEMPTS {
        return Err(Refusal::invalid("attempts", "must be 0 to 1000000"));
    }
    if past
        .last_error
        .as_ref()
        .is_some_and(|error| error.len() > MOST_ERROR)
    {
        return Err(Refusal::invalid("last_error", "must be at most 4096 bytes"));
    }
    task.past = (past != Past::default()).then(|| Box::new(past));
    Ok(task)
}
