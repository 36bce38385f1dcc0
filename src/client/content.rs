//! [`Content`]: what a request carries, bytes at hand or a [`Feed`] of any length.

use std::io;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Either, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{ClientError, transport::Outgoing};

/// How many pieces of a feed may wait for the network.
const PIECES: usize = 4;

/// A request's body and its type.
#[derive(Debug)]
pub struct Content {
    pub(super) kind: &'static str,
    pub(super) outgoing: Outgoing,
}

impl Content {
    pub(super) fn json(body: &impl Serialize) -> Result<Self, ClientError> {
        let bytes =
            serde_json::to_vec(body).map_err(|error| ClientError::NotJson(error.to_string()))?;
        Ok(Self {
            kind: "application/json",
            outgoing: Either::Left(Full::new(bytes.into())),
        })
    }

    /// Lines of JSON that are all at hand.
    #[must_use]
    pub fn ndjson(lines: Bytes) -> Self {
        Self {
            kind: "application/x-ndjson",
            outgoing: Either::Left(Full::new(lines)),
        }
    }

    /// Lines of JSON, of any length: what is given to the feed is sent, and dropping the feed is their end.
    #[must_use]
    pub fn ndjson_feed() -> (Self, Feed) {
        let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES);
        let frames = stream::unfold(receiver, |mut receiver| async move {
            let piece = receiver.recv().await?;
            Some((piece.map(Frame::data), receiver))
        });
        let content = Self {
            kind: "application/x-ndjson",
            outgoing: Either::Right(StreamBody::new(Box::pin(frames)).boxed()),
        };
        (content, Feed(sender))
    }

    pub(super) fn nothing() -> Outgoing {
        Either::Left(Full::default())
    }
}

/// Where the bytes of a streamed request go in. Only a few pieces are held: whoever feeds waits for the network.
#[derive(Debug)]
pub struct Feed(mpsc::Sender<io::Result<Bytes>>);

impl Feed {
    /// Gives the next bytes, or the error that ends the request unfinished. For a thread that may block; false once the
    /// request has ended and takes no more.
    #[must_use]
    pub fn give(&self, piece: io::Result<Bytes>) -> bool {
        self.0.blocking_send(piece).is_ok()
    }
}
