//! [`Outlet`]: a stream whose client must take something of what is sent, now and then.
//!
//! A client that asks and then reads nothing (a stream of events, a long list) would otherwise hold its connection and what
//! is buffered for it for ever. It stands right on the socket, below TLS: that takes what is written into a buffer of its own,
//! and its flush and its shutdown wait as long as the socket has no room.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::gate::{Bounds, Gate, Tally};

/// `inner`, whose writes fail when they have found no room for `most`.
#[derive(Debug)]
pub(super) struct Outlet<S> {
    inner: S,
    gate: Arc<Gate>,
    most: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    given_up: bool,
}

impl<S> Outlet<S> {
    pub(super) fn new(inner: S, bounds: Bounds, gate: &Arc<Gate>) -> Self {
        Self {
            inner,
            gate: Arc::clone(gate),
            most: bounds.reader_timeout.as_duration(),
            waiting: None,
            given_up: false,
        }
    }

    /// `written`, or the end of patience.
    fn bounded(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep(self.most)));
        ready!(waiting.as_mut().poll(cx));
        if !self.given_up {
            self.given_up = true;
            Tally::count(&self.gate.tally().unread);
        }
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Outlet<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Outlet<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket's flush never waits, and is no sign that a write found room.
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::task::Millis;

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_given_up_and_one_that_does_is_not() {
        let (near, mut far) = duplex(8);
        let gate = Arc::<Gate>::default();
        let bounds = Bounds {
            reader_timeout: Millis(5),
            ..Bounds::default()
        };
        let mut near = Outlet::new(near, bounds, &gate);
        // Whoever ends it tries once more.
        for _ in 0..2 {
            let error = near.write_all(&[7; 64]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(gate.tally().unread.load(Ordering::Relaxed), 1);

        let mut bytes = [0; 8];
        far.read_exact(&mut bytes).await.unwrap();
        let reading = async {
            let mut bytes = [0; 64];
            far.read_exact(&mut bytes).await.unwrap();
        };
        let (written, ()) = tokio::join!(near.write_all(&[7; 64]), reading);
        written.unwrap();
    }
}
