//! `submit`: one task, or a stream of them.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;

use super::{cli::Submit, error::CtlError, progress::Progress, session::Session, wait, when};
use crate::{
    api,
    client::{ClientError, Content, Feed},
    task::{Millis, Payload, Trace},
};

/// How much of a stream is read at once.
const PIECE: usize = 64 * 1024;

pub(super) async fn run(submit: Submit, session: &mut Session<'_>) -> Result<(), CtlError> {
    if let Some(file) = &submit.ndjson {
        return stream(file, Stream::Tasks, session).await;
    }
    let (wait, timeout) = (submit.wait, submit.timeout);
    let task = task(submit, session)?;
    if wait {
        return wait::run(&task, timeout, session).await;
    }
    let submitted = session.client.submit(&task).await?;
    if session.told(&submitted.task)? {
        return Ok(());
    }
    tell(&submitted, session)?;
    Ok(session.console.line(&submitted.task.id)?)
}

/// What a person wants to know beside the id.
pub(super) fn tell(
    submitted: &crate::client::Submitted,
    session: &mut Session<'_>,
) -> io::Result<()> {
    if !submitted.created {
        session
            .console
            .note("it was there already; nothing was added")?;
    }
    let exectime = submitted.task.exectime;
    if session.console.watched && exectime != 0 {
        let at = when::show(exectime as f64, &session.zone);
        let due = when::due(exectime, when::now());
        session.console.note(&format!("due {at} ({due})"))?;
    }
    Ok(())
}

fn task(submit: Submit, session: &mut Session<'_>) -> Result<api::NewTask, CtlError> {
    let exectime = match &submit.at {
        None => None,
        Some(text) => Some(moment(text, session)?),
    };
    let payload = payload(&submit, session)?;
    let trace = match &submit.traceparent {
        Some(parent) => Trace::parse(parent).ok(),
        None => trace_of_environment(),
    };
    Ok(api::NewTask {
        traceparent: trace.as_ref().map(Trace::parent),
        tracestate: trace.as_ref().and_then(Trace::state).map(str::to_owned),
        queue: submit.queue,
        priority: submit.priority,
        exectime,
        delay: submit.delay.map(Millis::as_secs_f64),
        id: submit.id,
        unique_key: submit.unique_key,
        max_attempts: submit.max_attempts,
        lease: submit.lease.map(Millis::as_secs_f64),
        ..api::NewTask::of(payload)
    })
}

/// The trace that this command was started in. Nobody asked for it by name, so what is malformed is passed over, as the
/// recommendation wants it.
fn trace_of_environment() -> Option<Trace> {
    let trace = Trace::parse(&std::env::var("TRACEPARENT").ok()?).ok()?;
    let state = std::env::var("TRACESTATE").unwrap_or_default();
    Some(trace.clone().with_state(&state).unwrap_or(trace))
}

/// What `--at` says, in Unix seconds; tells what is to be told about it.
pub(super) fn moment(text: &str, session: &mut Session<'_>) -> Result<i64, CtlError> {
    let moment = when::parse(text, &session.zone, when::now())
        .map_err(|reason| CtlError::Usage(format!("--at {text}: {reason}")))?;
    if let Some(note) = moment.note {
        session.console.note(&note)?;
    }
    Ok(moment.secs)
}

fn payload(submit: &Submit, session: &mut Session<'_>) -> Result<Payload, CtlError> {
    if let Some(text) = &submit.json_payload {
        let text = if text == "-" {
            text_of_input(session)?
        } else {
            text.clone()
        };
        return Payload::from_json(&text)
            .map_err(|error| CtlError::Usage(format!("--json-payload: not JSON: {error}")));
    }
    if let Some(path) = &submit.file {
        let text = fs::read_to_string(path).map_err(|cause| file_error(path, cause))?;
        return Ok(Payload::from_text(&text));
    }
    match submit.payload.as_deref() {
        None | Some("-") => {
            let text = text_of_input(session)?;
            // `echo hello |` means `hello`.
            Ok(Payload::from_text(text.strip_suffix('\n').unwrap_or(&text)))
        }
        Some(text) => Ok(Payload::from_text(text)),
    }
}

fn text_of_input(session: &mut Session<'_>) -> Result<String, CtlError> {
    if session.console.interactive {
        session
            .console
            .note("reading the payload from the terminal; end it with Ctrl-D")?;
    }
    let mut text = String::new();
    if let Some(mut input) = session.console.input.take() {
        input.read_to_string(&mut text)?;
    }
    Ok(text)
}

fn file_error(path: &Path, cause: io::Error) -> CtlError {
    CtlError::File {
        path: path.to_owned(),
        cause,
    }
}

/// What the lines of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    /// Task objects.
    Tasks,
    /// An export.
    Export,
}

/// Sends the lines of a file.
pub(super) async fn stream(
    file: &Path,
    lines: Stream,
    session: &mut Session<'_>,
) -> Result<(), CtlError> {
    let (input, total) = source(file, session)?;
    let (content, feed) = Content::ndjson_feed();
    let progress = Progress::new(session.console.watched, total);
    let reading = tokio::task::spawn_blocking(move || read(input, &feed, progress));
    let answer = match lines {
        Stream::Tasks => session.client.submit_ndjson(content).await,
        Stream::Export => session.client.import(content).await,
    };
    if answer.is_ok() {
        // All was read, or there would be no good answer; so the line of the progress is gone before the outcome comes.
        drop(reading.await);
    }
    let accepted = answer.map_err(|error| match lines {
        Stream::Tasks => hinted(error, file),
        Stream::Export => import_hinted(error),
    })?;
    if session.told(&accepted)? {
        return Ok(());
    }
    let plural = if accepted.accepted == 1 {
        "task"
    } else {
        "tasks"
    };
    let known = accepted.accepted - accepted.created.min(accepted.accepted);
    let known = match known {
        0 => String::new(),
        known => format!(", {known} of them were there already"),
    };
    let done = match lines {
        Stream::Tasks => "accepted",
        Stream::Export => "imported",
    };
    Ok(session
        .console
        .line(&format!("{} {plural} {done}{known}", accepted.accepted))?)
}

/// Where lines are read from, and how many bytes there are of them, where that is known.
fn source(
    file: &Path,
    session: &mut Session<'_>,
) -> Result<(Box<dyn Read + Send>, Option<u64>), CtlError> {
    if file == Path::new("-") {
        let input = session.console.input.take();
        return Ok((input.unwrap_or_else(|| Box::new(io::empty())), None));
    }
    let opened = fs::File::open(file).map_err(|cause| file_error(file, cause))?;
    let about = opened.metadata().map_err(|cause| file_error(file, cause))?;
    if about.is_dir() {
        let cause = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(file_error(file, cause));
    }
    let total = about.is_file().then_some(about.len());
    Ok((Box::new(opened), total))
}

/// Reads, piece by piece, on a thread that may wait, until all is read or the request has ended.
fn read(mut input: Box<dyn Read + Send>, feed: &Feed, mut progress: Progress) {
    loop {
        let mut piece = vec![0; PIECE];
        match input.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                piece.truncate(count);
                // A terminal that can't be drawn on keeps no task from its queue.
                drop(progress.add(&piece));
                if !feed.give(Ok(Bytes::from(piece))) {
                    return;
                }
            }
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => {
                // That the request has ended already is told by its answer.
                let _taken = feed.give(Err(cause));
                return;
            }
        }
    }
}

/// How to go on after a stream that ended in the middle.
fn hinted(cause: ClientError, file: &Path) -> CtlError {
    let hint = match &cause {
        ClientError::Problem(problem) if problem.accepted.is_some() => match problem.line {
            Some(line) if file != Path::new("-") => format!(
                "correct line {line}, and go on from there: tail -n +{line} {} | workqueuectl submit --ndjson -",
                file.display()
            ),
            _ => "correct it, and go on from that line".to_owned(),
        },
        ClientError::Unreachable { .. } => {
            "how many tasks were taken is not known; lines with an id of their own can be submitted again safely".to_owned()
        }
        _ => return cause.into(),
    };
    CtlError::Hinted { cause, hint }
}

/// How to go on after an import that ended in the middle: what was taken is known by its ids.
fn import_hinted(cause: ClientError) -> CtlError {
    match &cause {
        ClientError::Problem(problem) if problem.accepted.is_some() => CtlError::Hinted {
            cause,
            hint: "what stands before that line is imported; set it right and import all of it again: what is there already is passed over"
                .to_owned(),
        },
        ClientError::Unreachable { .. } => CtlError::Hinted {
            cause,
            hint: "import it again: what is there already is passed over".to_owned(),
        },
        _ => cause.into(),
    }
}
