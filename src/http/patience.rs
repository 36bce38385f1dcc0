//! [`Patient`]: a stream that waits for its client only so long, and says why it waits no more.
//!
//! A client that asks and then reads nothing (a stream of events, a long list) would otherwise hold its connection and what
//! is buffered for it for ever; one that sends a head byte by byte, or nothing, would hold its connection. Costs little while
//! all goes well: one timer a connection, moved on only when it fires.
//!
//! A head that can't be read is refused by hyper itself, with an answer that has no body; what is sent in its place is a
//! problem document.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    gate::{Gate, Tally},
    problem::{self, Kind},
};

/// What a connection is doing: told by those who answer, read by the stream below.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests that are being answered.
    busy: AtomicU32,
    /// Requests that were answered to their end.
    ended: AtomicU64,
}

impl Activity {
    /// Notes a request that is being answered until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.busy.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Whether anything was ever asked.
    pub(super) fn was_asked(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0 || self.ended.load(Ordering::Relaxed) > 0
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection speaks, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// One request after another: between them, what comes is the next one's head.
    Http1,
    /// Frames of many requests, and of none.
    Http2,
}

/// When the next bytes must have come.
#[derive(Debug)]
struct Silence {
    activity: Arc<Activity>,
    gate: Arc<Gate>,
    speech: Speech,
    header: Duration,
    idle: Duration,
    /// How many requests had ended when `until` was set.
    seen: u64,
    /// Whether bytes of the next head are here, and whether a line of it is whole.
    begun: bool,
    line: bool,
    until: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// Another request has ended since this was last asked: the wait for the next begins.
    fn notice_ends(&mut self) {
        let ended = self.activity.ended.load(Ordering::Relaxed);
        if ended != self.seen {
            self.seen = ended;
            self.begun = false;
            self.line = false;
            self.until = Instant::now() + self.idle;
        }
    }

    fn heard(&mut self, bytes: &[u8]) {
        if self.speech == Speech::Http2 || self.is_busy() {
            return;
        }
        self.notice_ends();
        if !self.begun && !bytes.is_empty() {
            self.begun = true;
            if self.seen > 0 {
                self.until = Instant::now() + self.header;
            }
        }
        self.line = self.line || bytes.contains(&b'\n');
    }

    fn is_busy(&self) -> bool {
        self.activity.busy.load(Ordering::Relaxed) > 0
    }

    /// Ready when the client has been waited for long enough.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_busy() {
            return Poll::Pending;
        }
        self.notice_ends();
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(self.until)));
        loop {
            if timer.deadline() > self.until {
                timer.as_mut().reset(self.until);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= self.until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.until);
        }
    }
}

/// `inner`, whose writes fail when they have found no room for `most`, and whose reads fail when nothing comes.
#[derive(Debug)]
pub(super) struct Patient<S> {
    inner: S,
    most: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    silence: Silence,
    /// What is sent in place of hyper's answer to a head that it can't read, and how much of it is sent.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Patient<S> {
    pub(super) fn new(
        inner: S,
        most: Duration,
        gate: &Arc<Gate>,
        activity: &Arc<Activity>,
        speech: Speech,
    ) -> Self {
        let bounds = gate.bounds();
        let header = bounds.header_timeout.as_duration();
        Self {
            inner,
            most,
            waiting: None,
            silence: Silence {
                activity: Arc::clone(activity),
                gate: Arc::clone(gate),
                speech,
                header,
                idle: bounds.idle_timeout.as_duration(),
                seen: 0,
                begun: false,
                line: false,
                until: Instant::now() + header,
                timer: None,
            },
            instead: None,
        }
    }

    /// `written`, or the end of patience.
    fn bounded<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep(self.most)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not read",
        )))
    }

    /// Notes what is to be sent instead of `bytes`, where they are hyper's own refusal of a head.
    fn look_at(&mut self, bytes: &[u8]) {
        if self.instead.is_some() || self.silence.speech == Speech::Http2 {
            return;
        }
        let Some(kind) = refusal_in(bytes, self.silence.line) else {
            return;
        };
        Tally::count(&self.silence.gate.tally().heads_refused);
        self.instead = Some((kind.problem(kind.about).on_the_wire(), 0));
    }
}

impl<S: AsyncWrite + Unpin> Patient<S> {
    /// Writes what is to be sent instead; `len` bytes count as written then.
    fn poll_instead(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<io::Result<usize>> {
        while let Some((bytes, sent)) = &mut self.instead {
            if *sent == bytes.len() {
                self.instead = None;
                break;
            }
            match ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes[*sent..])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => *sent += count,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(len))
    }
}

/// Whether `bytes` are what hyper answers of its own to a head that it can't read, and the problem that they stand for. Our
/// own answers all have more fields than these. `line` says whether the first line of the head had come.
fn refusal_in(bytes: &[u8], line: bool) -> Option<&'static Kind> {
    const MOST: usize = 200;
    if bytes.len() > MOST || !bytes.starts_with(b"HTTP/1.") || !bytes.ends_with(b"\r\n\r\n") {
        return None;
    }
    let text = str::from_utf8(bytes).ok()?;
    let mut fields = text.trim_end().split("\r\n");
    let status = fields.next()?.split(' ').nth(1)?;
    let bare = fields.all(|field| {
        let name = field.split(':').next().unwrap_or_default();
        ["connection", "content-length", "date"]
            .iter()
            .any(|one| name.eq_ignore_ascii_case(one))
    });
    match status {
        _ if !bare => None,
        "400" => Some(&problem::MALFORMED_REQUEST),
        "414" => Some(&problem::URL_TOO_LONG),
        "431" if line => Some(&problem::HEAD_TOO_LARGE),
        "431" => Some(&problem::URL_TOO_LONG),
        _ => None,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.silence.heard(&buf.filled()[before..]);
            return read;
        }
        ready!(self.silence.poll_end(cx));
        Tally::count(&self.silence.gate.tally().timed_out);
        if self.silence.begun {
            let late = problem::HEAD_TIMEOUT.problem(problem::HEAD_TIMEOUT.about);
            // The socket's buffer is empty now, and who sends so slowly is owed no more than one try.
            if let Poll::Ready(Err(error)) =
                Pin::new(&mut self.inner).poll_write(cx, &late.on_the_wire())
            {
                tracing::debug!(%error, "a client that is too slow can't be told so");
            }
        }
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client sends no request",
        )))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.look_at(buf);
        let written = if self.instead.is_some() {
            self.poll_instead(cx, buf.len())
        } else {
            Pin::new(&mut self.inner).poll_write(cx, buf)
        };
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = bufs {
            self.look_at(one);
        }
        let written = if self.instead.is_some() {
            let len = bufs.iter().map(|one| one.len()).sum();
            self.poll_instead(cx, len)
        } else {
            Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
        };
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_given_up_and_one_that_does_is_not() {
        let (near, mut far) = duplex(8);
        let (gate, activity) = (Arc::default(), Arc::default());
        let patience = Duration::from_millis(5);
        let mut near = Patient::new(near, patience, &gate, &activity, Speech::Http1);
        let error = near.write_all(&[7; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

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
