//! [`Kept`]: the body of an answer, and what is to be kept as long as it is there, or as long as its bytes are.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

/// What is kept with a body.
pub(super) trait Keep: Unpin {
    /// `bytes` of the body on their way. Whoever sends takes them long before they are sent, and lets the body go.
    fn carry(&self, bytes: Bytes) -> Bytes {
        bytes
    }
}

/// See the [module](self).
pub(super) struct Kept<T> {
    body: Body,
    kept: T,
}

impl<T> Kept<T> {
    pub(super) const fn new(body: Body, kept: T) -> Self {
        Self { body, kept }
    }
}

impl<T: Keep> HttpBody for Kept<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let carry = |bytes| self.kept.carry(bytes);
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(carry))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
