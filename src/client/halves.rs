//! Connections whose sending half can be closed while their answer is read.
//!
//! A claim that waits is withdrawn by closing its connection. Closed as a whole, an answer that is on its way is lost, and its tasks
//! stay leased to nobody. With the sending half alone closed the daemon takes its client for gone, too; but what it has answered by
//! then still comes, and after it the end. A connection pool gives no connection out, so each comes with a [`Half`] that reaches it
//! from outside.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::{TryFutureExt as _, future::MapOk, task::AtomicWaker};
use http::{Extensions, Request, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{
    CaptureConnection, Connected, Connection, capture_connection,
};
use tower::Service;

/// The sending half of one connection.
#[derive(Debug, Clone, Default)]
struct Half(Arc<Wish>);

#[derive(Default)]
struct Wish {
    is_closed: AtomicBool,
    reader: AtomicWaker,
}

impl fmt::Debug for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wish")
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

impl Half {
    fn close(&self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.reader.wake();
    }
}

/// The connection that a request goes over, as soon as it has one.
pub(super) struct Way(CaptureConnection);

impl Way {
    pub(super) fn of<B>(request: &mut Request<B>) -> Self {
        Self(capture_connection(request))
    }

    /// Closes the half that sends. `false`: there is no connection yet, so nothing was sent.
    pub(super) fn close(&self) -> bool {
        let mut extras = Extensions::new();
        if let Some(connected) = &*self.0.connection_metadata() {
            connected.get_extras(&mut extras);
            // It takes no further request: the next one would go nowhere.
            connected.poison();
        }
        let half = extras.get::<Half>();
        half.inspect(|half| half.close()).is_some()
    }
}

/// A connection with its [`Half`].
#[derive(Debug)]
pub(crate) struct Halved<T> {
    io: T,
    half: Half,
    is_shut: bool,
}

impl<T: Connection> Connection for Halved<T> {
    fn connected(&self) -> Connected {
        self.io.connected().extra(self.half.clone())
    }
}

impl<T: Read + Write + Unpin> Read for Halved<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Who waits for an answer reads, so this is where the wish arrives.
        this.half.0.reader.register(cx.waker());
        if !this.is_shut && this.half.0.is_closed.load(Ordering::Acquire) {
            // Where it fails the connection has ended, as reading tells, too.
            this.is_shut = Pin::new(&mut this.io).poll_shutdown(cx).is_ready();
        }
        Pin::new(&mut this.io).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for Halved<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

/// Makes connections as `C` does, each with its [`Half`].
#[derive(Debug, Clone)]
pub(crate) struct Halving<C>(pub(super) C);

impl<C: Service<Uri>> Service<Uri> for Halving<C> {
    type Response = Halved<C::Response>;
    type Error = C::Error;
    type Future = MapOk<C::Future, fn(C::Response) -> Halved<C::Response>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.0.call(uri).map_ok(|io| Halved {
            io,
            half: Half::default(),
            is_shut: false,
        })
    }
}
