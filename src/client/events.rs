//! [`Events`]: a stream of server-sent events, one at a time.

use std::sync::Arc;

use bytes::BytesMut;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{ClientError, Endpoint, error};
use crate::api;

/// The longest line of a stream, in bytes; an event holds an error of at most 4 KiB.
const LINE_LIMIT: usize = 1 << 20;

/// What happens at a daemon, as it happens.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    endpoint: Arc<Endpoint>,
    lines: Lines,
}

impl Events {
    pub(super) fn new(body: Incoming, endpoint: Arc<Endpoint>) -> Self {
        Self {
            body,
            endpoint,
            lines: Lines::default(),
        }
    }

    /// The next event; `None` when the daemon has ended the stream. Cancel-safe: a dropped future loses no event.
    pub async fn next(&mut self) -> Result<Option<api::Event>, ClientError> {
        loop {
            while let Some(line) = self.lines.next()? {
                if let Some(data) = data_of(&line) {
                    return super::parse(data.as_bytes()).map(Some);
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
                    });
                }
            }
        }
    }
}

/// The value of a `data:` line. The daemon writes each event's JSON on one line, so no other line is needed.
fn data_of(line: &str) -> Option<&str> {
    let value = line.strip_prefix("data:")?;
    Some(value.strip_prefix(' ').unwrap_or(value))
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
                return Err(ClientError::Unexpected {
                    status: 200,
                    body: "a line of the event stream is too long".to_owned(),
                });
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
    fn lines_are_whole_however_they_arrive() {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        for byte in ": keep-alive\n\nevent: submitted\r\ndata: {\"a\":1}\ndata:x\n".bytes() {
            lines.buffer.extend_from_slice(&[byte]);
            while let Some(line) = lines.next().unwrap() {
                seen.extend(data_of(&line).map(str::to_owned));
            }
        }
        assert_eq!(seen, ["{\"a\":1}", "x"]);
    }
}
