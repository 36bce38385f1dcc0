//! `submit`: one task, or a stream of them.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use jiff::tz::TimeZone;
use tokio::sync::mpsc;

use super::{
    call::{Body, Endpoint, call, read, refusal},
    cli::Submit,
    console::Console,
    error::CtlError,
    when,
};
use crate::{
    api,
    task::{Millis, Payload},
};

/// How much of a stream is read at once, and how many such pieces may wait for the network.
const PIECE: usize = 64 * 1024;
const PIECES: usize = 4;

pub(super) async fn run(
    submit: Submit,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    if let Some(file) = &submit.ndjson {
        return many(file, endpoint, json, console).await;
    }
    let path = "/api/v1/tasks";
    let body = Body::json(&task(submit, console)?)?;
    let (status, answer) = call(endpoint, Method::POST, path, Some(body)).await?;
    if !status.is_success() {
        return Err(refusal(endpoint, status, path, &answer));
    }
    if json {
        return Ok(console.raw(&answer)?);
    }
    let task: api::Task = read(&answer)?;
    if status == StatusCode::OK {
        console.note("it was there already; nothing was added")?;
    }
    Ok(console.line(&task.id)?)
}

fn task(submit: Submit, console: &mut Console) -> Result<api::NewTask, CtlError> {
    let exectime = match &submit.at {
        None => None,
        Some(text) => Some(
            when::parse(text, &TimeZone::system())
                .map_err(|reason| CtlError::Usage(format!("--at {text}: {reason}")))?,
        ),
    };
    let payload = payload(&submit, console)?;
    Ok(api::NewTask {
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

fn payload(submit: &Submit, console: &mut Console) -> Result<Payload, CtlError> {
    if let Some(text) = &submit.json_payload {
        let text = if text == "-" {
            text_of_input(console)?
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
            let text = text_of_input(console)?;
            // `echo hello |` means `hello`.
            Ok(Payload::from_text(text.strip_suffix('\n').unwrap_or(&text)))
        }
        Some(text) => Ok(Payload::from_text(text)),
    }
}

fn text_of_input(console: &mut Console) -> Result<String, CtlError> {
    if console.interactive {
        console.note("reading the payload from the terminal; end it with Ctrl-D")?;
    }
    let mut text = String::new();
    if let Some(mut input) = console.input.take() {
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

async fn many(
    file: &Path,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let input: Option<Box<dyn Read + Send>> = if file == Path::new("-") {
        console.input.take()
    } else {
        Some(Box::new(
            fs::File::open(file).map_err(|cause| file_error(file, cause))?,
        ))
    };
    let path = "/api/v1/tasks";
    let body = Body::ndjson(streamed(input));
    let (status, answer) = call(endpoint, Method::POST, path, Some(body)).await?;
    if !status.is_success() {
        return Err(refusal(endpoint, status, path, &answer));
    }
    if json {
        return Ok(console.raw(&answer)?);
    }
    for value in serde_json::Deserializer::from_slice(&answer).into_iter() {
        let value: serde_json::Value =
            value.map_err(|error| CtlError::Answer(error.to_string()))?;
        summary(&value, console)?;
    }
    Ok(())
}

/// The ids, where the answer has tasks; else what it says.
fn summary(value: &serde_json::Value, console: &mut Console) -> io::Result<()> {
    if let Some(values) = value.as_array() {
        return values.iter().try_for_each(|one| summary(one, console));
    }
    if let Some(id) = value.get("id").and_then(serde_json::Value::as_str) {
        return console.line(id);
    }
    for name in ["accepted", "submitted", "created", "count"] {
        if let Some(count) = value.get(name).and_then(serde_json::Value::as_u64) {
            return console.line(&format!("{count} tasks {name}"));
        }
    }
    console.line(&value.to_string())
}

/// A body that is read, piece by piece, on a thread that may wait.
fn streamed(input: Option<Box<dyn Read + Send>>) -> BoxBody<Bytes, io::Error> {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES);
    if let Some(mut input) = input {
        tokio::task::spawn_blocking(move || {
            loop {
                let mut piece = vec![0; PIECE];
                let read = match input.read(&mut piece) {
                    Ok(0) => return,
                    Ok(count) => {
                        piece.truncate(count);
                        Ok(Bytes::from(piece))
                    }
                    Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                    Err(cause) => Err(cause),
                };
                let failed = read.is_err();
                // Nobody takes it any more: the request has ended.
                if sender.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        });
    }
    let frames = stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((piece.map(Frame::data), receiver))
    });
    // `boxed` asks for `Sync`, which a reader on another thread makes cheap: only the receiver is in here.
    StreamBody::new(Box::pin(frames)).boxed()
}
