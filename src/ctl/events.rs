//! `events`: what happens, a line each, until interrupted. And the interruption itself, which `top` shares.

use std::io;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::tz::TimeZone;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;

use super::{
    call::{Endpoint, open, read, refusal},
    cli::Events,
    console::{Colour, Console},
    error::CtlError,
    table::escaped,
    when,
};
use crate::api;

/// The first Ctrl-C or SIGTERM, as a value to wait for.
pub(super) struct Interrupt(Signals);

impl Interrupt {
    pub(super) fn new() -> io::Result<Self> {
        Signals::new([SIGINT, SIGTERM]).map(Self)
    }

    pub(super) async fn wait(&mut self) {
        self.0.next().await;
    }
}

pub(super) async fn run(
    events: Events,
    endpoint: &Endpoint,
    json: bool,
    console: &mut Console,
) -> Result<(), CtlError> {
    let path = "/api/v1/events";
    let mut interrupt = Interrupt::new()?;
    let answer = open(endpoint, Method::GET, path, None).await?;
    let status = answer.status();
    let mut body = answer.into_body();
    if !status.is_success() {
        let bytes = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        return Err(refusal(endpoint, status, path, &bytes));
    }
    let zone = TimeZone::system();
    let mut lines = Lines::default();
    loop {
        let piece = tokio::select! {
            () = interrupt.wait() => return Ok(()),
            piece = piece(&mut body) => piece,
        };
        let Some(piece) = piece.map_err(|cause| broken(endpoint, &cause))? else {
            // The daemon stops, or we were too slow for it; what came was whole.
            return Ok(console.note("the stream has ended")?);
        };
        for data in lines.feed(&piece) {
            show(&data, &events, json, &zone, console)?;
        }
        // Whoever reads a live stream wants each line at once, also through a pipe.
        console.out.flush()?;
    }
}

async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn broken(endpoint: &Endpoint, cause: &hyper::Error) -> CtlError {
    CtlError::Broken {
        place: endpoint.place(),
        cause: cause.to_string(),
    }
}

fn show(
    data: &str,
    events: &Events,
    json: bool,
    zone: &TimeZone,
    console: &mut Console,
) -> Result<(), CtlError> {
    let event: api::Event = read(data.as_bytes())?;
    if events.queue.is_some() && event.queue != events.queue {
        return Ok(());
    }
    if json {
        return Ok(console.raw(data.as_bytes())?);
    }
    let kind = console.paint(
        colour(&event.kind),
        &format!("{:<11}", escaped(&event.kind)),
    );
    let mut line = format!("{}  {kind}", when::show(event.at, zone));
    let attempt = event.attempt.map(|number| format!("attempt {number}"));
    let worker = event.worker.map(|name| format!("by {name}"));
    for part in [event.queue, event.id, worker, attempt, event.error]
        .into_iter()
        .flatten()
    {
        line.push_str("  ");
        line.push_str(&escaped(&part));
    }
    Ok(console.line(line.trim_end())?)
}

fn colour(kind: &str) -> Colour {
    match kind {
        "completed" => Colour::Green,
        "failed" | "expired" | "released" | "paused" | "draining" => Colour::Yellow,
        "dead" | "rejected" => Colour::Red,
        _ => Colour::Plain,
    }
}

/// Takes the bytes of a stream of server-sent events and gives the data of each whole event. HTML standard, section 9.2.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    data: Vec<String>,
}

impl Lines {
    fn feed(&mut self, piece: &[u8]) -> Vec<String> {
        self.rest.extend_from_slice(piece);
        let mut whole = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if line.is_empty() {
                if !self.data.is_empty() {
                    whole.push(std::mem::take(&mut self.data).join("\n"));
                }
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data
                    .push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_the_stream_is_cut() {
        let stream = b": hello\n\nevent: submitted\nid: 1\ndata: {\"a\":\ndata: 1}\n\ndata:2\r\n\r\ndata: cut";
        for size in 1..stream.len() {
            let mut lines = Lines::default();
            let whole: Vec<String> = stream
                .chunks(size)
                .flat_map(|piece| lines.feed(piece))
                .collect();
            assert_eq!(whole, ["{\"a\":\n1}", "2"], "in pieces of {size}");
        }
    }
}
