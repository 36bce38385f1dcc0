//! `GET /api/v1/export`: all unfinished tasks as they were at one moment, a line each, while work goes on.
//!
//! Knows the lines. What is consistent with what, and how much may wait for a slow reader, is the backend's matter.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
};
use futures_util::stream;

use super::{Answer, Http, Pairs, Shared, answer, caller::Caller, entry::Entry, view};
use crate::{
    api::{self, export as lines},
    backend::{Backend, ExportHead, ExportPiece},
    task::{Millis, NewTask, QueueName},
};

/// Every unfinished task, dead ones too, as all of them were at one moment, whatever happens meanwhile.
///
/// Lines of JSON (`application/x-ndjson`): first `{"export": {...}}` (an `ExportHead`), then for each task an `ExportTask`, last
/// `{"end": {...}}` (`ExportCounts`). An answer without that line is cut. `POST /api/v1/import` takes it back. A task that is
/// leased is written as one that waits: its lease is not carried.
///
/// One export runs at a time. What changes before it is written is kept in memory for it, up to 64 MiB; beyond that the export
/// is given up, and its last line is `{"failed": "..."}`.
#[utoipa::path(
    get, path = "/api/v1/export", tag = "tasks", operation_id = "export",
    responses(
        (status = 200, description = "The lines", body = String, content_type = "application/x-ndjson",
            example = "{\"export\":{\"format\":1,\"version\":\"0.1.0\",\"at\":1800000000.25,\"tasks\":1}}\n{\"task\":{\"payload\":\"hello\",\"queue\":\"default\",\"priority\":100,\"exectime\":0,\"id\":\"0198c0de-7c1e-7000-8000-000000000001\"},\"attempts\":2,\"last_error\":\"exit status 1\"}\n{\"end\":{\"tasks\":1,\"left_out\":0}}\n"),
        (status = 503, description = "busy: another export runs"),
    )
)]
pub(crate) async fn export<B: Backend>(
    State(http): Shared<B>,
    caller: Caller,
    request: Request,
) -> Answer {
    Pairs::of_query(request.uri().query(), &[])?;
    let entry = Entry::of(&http, caller, &request);
    let head = http.backend.export().await?;
    let running = Running {
        number: head.number,
        entry,
        http,
        over: false,
    };
    let first = begin(&head)?;
    let pieces = stream::unfold((running, Some(first)), async |(mut running, first)| {
        let piece = match first {
            Some(first) => first,
            None => running.next().await?,
        };
        Some((Ok::<_, Infallible>(piece), (running, None)))
    });
    Ok(answer::of_type(
        "application/x-ndjson",
        StatusCode::OK,
        Body::from_stream(pieces),
    ))
}

fn begin(head: &ExportHead) -> serde_json::Result<Bytes> {
    let names = |queues: &[Option<QueueName>]| {
        let name = |queue: &Option<QueueName>| match queue {
            Some(queue) => queue.to_string(),
            None => lines::ALL_QUEUES.to_owned(),
        };
        queues.iter().map(name).collect()
    };
    let line = lines::ExportBegin {
        export: lines::ExportHead {
            format: lines::FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: head.at.as_secs_f64(),
            tasks: head.tasks,
            paused: names(&head.paused),
            draining: names(&head.draining),
        },
    };
    let mut out = Vec::new();
    write_line(&mut out, &line)?;
    Ok(out.into())
}

fn write_line<T: serde::Serialize>(out: &mut Vec<u8>, line: &T) -> serde_json::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.push(b'\n');
    Ok(())
}

/// An export that is being read. Dropped before its end, it is ended.
struct Running<B: Backend> {
    number: u64,
    entry: Entry,
    http: Arc<Http<B>>,
    over: bool,
}

impl<B: Backend> Drop for Running<B> {
    fn drop(&mut self) {
        if !self.over {
            self.http.backend.export_end(self.number);
        }
    }
}

impl<B: Backend> Running<B> {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut out = Vec::new();
        while out.is_empty() && !self.over {
            // It lasts as long as its reader likes.
            if let Err(problem) = self.entry.check() {
                self.fail(&mut out, problem.into_document().detail);
                break;
            }
            let piece = self.http.backend.export_next(self.number).await;
            let failed = match piece {
                Ok(ExportPiece::Tasks(tasks)) => {
                    let written = tasks.iter().try_for_each(|task| write_task(&mut out, task));
                    written.err().map(|error| error.to_string())
                }
                Ok(ExportPiece::End { tasks, left_out }) => {
                    self.over = true;
                    let end = lines::ExportCounts { tasks, left_out };
                    let written = write_line(&mut out, &lines::ExportEnd { end });
                    written.err().map(|error| error.to_string())
                }
                Ok(ExportPiece::GivenUp) => Some(
                    "more has changed meanwhile than is kept for an export; try again, with a faster reader"
                        .to_owned(),
                ),
                Err(error) => Some(error.to_string()),
            };
            if let Some(failed) = failed {
                self.fail(&mut out, failed);
            }
        }
        Some(out.into())
    }

    fn fail(&mut self, out: &mut Vec<u8>, failed: String) {
        self.http.backend.export_end(self.number);
        self.over = true;
        tracing::warn!(error = failed, "an export was given up");
        // Text always has a JSON form; a reader of nothing sees that the end is missing.
        write_line(out, &lines::ExportFailed { failed }).unwrap_or_default();
    }
}

fn write_task(out: &mut Vec<u8>, task: &NewTask) -> serde_json::Result<()> {
    let options = &task.options;
    let object = api::NewTask {
        queue: Some(task.queue.to_string()),
        priority: Some(task.priority.get()),
        exectime: Some(task.exectime.get()),
        id: task.id.map(|id| id.to_string()),
        unique_key: options.unique_key.as_deref().map(str::to_owned),
        max_attempts: options.max_attempts,
        lease: options.lease.map(Millis::as_secs_f64),
        backoff: options.backoff.map(view::backoff),
        traceparent: options.trace.as_ref().map(|trace| trace.parent()),
        tracestate: options
            .trace
            .as_ref()
            .and_then(|trace| trace.state())
            .map(str::to_owned),
        ..api::NewTask::of(task.payload.clone())
    };
    let past = task.past.as_deref();
    let line = lines::ExportTask {
        task: object,
        attempts: past.map(|past| past.attempts).filter(|count| *count > 0),
        dead: past.map(|past| past.dead).filter(|dead| *dead),
        last_error: past.and_then(|past| past.last_error.as_deref().map(str::to_owned)),
    };
    write_line(out, &line)
}
