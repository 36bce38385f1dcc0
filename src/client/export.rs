//! [`Export`]: all tasks as they were at one moment, as bytes that come, and whether all of them came.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{ClientError, Endpoint, error};
use crate::api::export::{ExportCounts, ExportEnd, ExportFailed};

/// The most of a last line that is looked at, in bytes.
const LAST_LINE: usize = 4096;

/// An export as it comes. Lines of JSON, as [`crate::api::export`] describes them.
#[derive(Debug)]
pub struct Export {
    body: Incoming,
    endpoint: Arc<Endpoint>,
    /// The line that is arriving, or the last one when all have come.
    last: Vec<u8>,
    complete: bool,
}

impl Export {
    pub(super) const fn new(body: Incoming, endpoint: Arc<Endpoint>) -> Self {
        Self {
            body,
            endpoint,
            last: Vec::new(),
            complete: false,
        }
    }

    /// The next bytes; `None` when no more come. Whether they were all is told by [`Export::end`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.note(bytes);
                        return Ok(Some(bytes.clone()));
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

    /// What the export has, when all of it has come.
    ///
    /// # Errors
    ///
    /// Why it is not whole: the daemon gave it up, or it is cut.
    pub fn end(&self) -> Result<ExportCounts, String> {
        if self.complete {
            if let Ok(end) = serde_json::from_slice::<ExportEnd>(&self.last) {
                return Ok(end.end);
            }
            if let Ok(failed) = serde_json::from_slice::<ExportFailed>(&self.last) {
                return Err(failed.failed);
            }
        }
        Err("it is cut: its last line is missing".to_owned())
    }

    fn note(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if std::mem::take(&mut self.complete) {
                self.last.clear();
            }
            let room = LAST_LINE.saturating_sub(self.last.len());
            self.last.extend_from_slice(&piece[..piece.len().min(room)]);
            self.complete = piece.ends_with(b"\n");
        }
    }
}
