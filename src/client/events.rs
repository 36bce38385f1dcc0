//! [`Events`]: a stream of server-sent events, one at a time.

use std::sync::Arc;

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{ClientError, Endpoint, error, v1::with_query};
use crate::api;

/// The longest line of a stream, in bytes; an event holds an error of at most 4 KiB.
const LINE_LIMIT: usize = 1 << 20;

/// What a stream tells, and from where: `GET /api/v1/events`. Empty: everything, from now on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventQuery {
    /// Only events of these queues, and what is done to all queues.
    pub queues: Vec<String>,
    /// Only events of these kinds.
    pub kinds: Vec<String>,
    /// Only events that bring a task to one of these states.
    pub states: Vec<String>,
    /// Begin behind this place: the [`Events::place`] of a stream that has ended.
    pub after: Option<String>,
}

impl EventQuery {
    pub(super) fn path(&self) -> String {
        let repeated = [
            ("queue", &self.queues),
            ("kind", &self.kinds),
            ("state", &self.states),
        ];
        let pairs = repeated
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value.as_str())));
        let after = self.after.iter().map(|id| ("last_event_id", id.as_str()));
        with_query("/api/v1/events", pairs.chain(after))
    }
}

/// What a stream tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Something happened.
    Event(Box<api::Event>),
    /// Something was missed: the state is to be read anew.
    Reset(api::Reset),
}

/// What happens at a daemon, as it happens.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    endpoint: Arc<Endpoint>,
    lines: Lines,
    /// The fields of the event that is arriving.
    kind: String,
    id: Option<String>,
    place: Option<String>,
}

impl Events {
    pub(super) fn new(body: Incoming, endpoint: Arc<Endpoint>) -> Self {
        Self {
            body,
            endpoint,
            lines: Lines::default(),
            kind: String::new(),
            id: None,
            place: None,
        }
    }

    /// Where the stream is: with this as [`EventQuery::after`], another stream tells what comes behind it.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }

    /// What comes next; `None` when the daemon has ended the stream. Cancel-safe: a dropped future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Told>, ClientError> {
        loop {
            while let Some(line) = self.lines.next()? {
                if let Some(told) = self.take(&line)? {
                    return Ok(Some(told));
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.lines.buffer.extend_from_slice(bytes);
                    }
                }
                Some(Err(error)) => {
                    return Err(ClientError::Unreachable {
                        endpoint: self.endpoint.to_string(),
                        reason: error::chain(&error),
                        hint: self.endpoint.hint(error::io_kind(&error)),
                        unsent: false,
                    });
                }
            }
        }
    }

    /// Reads a line. The daemon writes each event's JSON on one line, the last of the event, so that is where it is whole.
    fn take(&mut self, line: &str) -> Result<Option<Told>, ClientError> {
        if line.is_empty() {
            self.kind.clear();
            if let Some(id) = self.id.take() {
                self.place = Some(id);
            }
            return Ok(None);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                if let Some(id) = self.id.take() {
                    self.place = Some(id);
                }
                let data = value.as_bytes();
                return Ok(Some(if self.kind == "reset" {
                    Told::Reset(super::parse(data)?)
                } else {
                    Told::Event(Box::new(super::parse(data)?))
                }));
            }
            // A comment, or what a later version has to say.
            _ => {}
        }
        Ok(None)
    }
}

/// Cuts what arrives into lines.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// How much of the buffer is known to hold no end of a line.
    searched: usize,
}

impl Lines {
    fn next(&mut self) -> Result<Option<String>, ClientError> {
        let fresh = &self.buffer[self.searched..];
        let Some(at) = fresh.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            if self.searched > LINE_LIMIT {
                let why = "a line of the event stream is too long".to_owned();
                return Err(super::unexpected(http::StatusCode::OK, why));
            }
            return Ok(None);
        };
        let line = self.buffer.split_to(self.searched + at + 1);
        self.searched = 0;
        let line = line.trim_ascii_end();
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_is_wanted() {
        assert_eq!(EventQuery::default().path(), "/api/v1/events");
        let query = EventQuery {
            queues: vec!["a".into(), "b".into()],
            kinds: vec!["dead".into()],
            after: Some("5f-41".into()),
            ..EventQuery::default()
        };
        let path = "/api/v1/events?queue=a&queue=b&kind=dead&last_event_id=5f-41";
        assert_eq!(query.path(), path);
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for byte in ": keep-alive\n\nevent: submitted\r\ndata: {\"a\":1}\ndata:x\n".bytes() {
            lines.buffer.extend_from_slice(&[byte]);
            while let Some(line) = lines.next().unwrap() {
                seen.push(line);
            }
        }
        let lines = [
            ": keep-alive",
            "",
            "event: submitted",
            "data: {\"a\":1}",
            "data:x",
        ];
        assert_eq!(seen, lines);
    }
}
