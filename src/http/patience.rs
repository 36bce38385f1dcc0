//! [`Patient`]: a stream that waits for its client only so long.
//!
//! One that sends a head byte by byte, or nothing, would hold its connection. Costs little while all goes well: one timer a
//! connection, moved on only when it fires. Clients that do not read are the matter of `outlet`.

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
    time::{Instant, Sleep, sleep_until},
};

use super::{
    flight::LightShare,
    gate::{Bounds, Gate, Tally},
    kept::Keep,
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
    /// Notes a request that is being answered until the guard is dropped, and keeps what is held for it, where that is counted.
    pub(super) fn begin(self: &Arc<Self>, share: Option<LightShare>) -> InFlight {
        self.busy.fetch_add(1, Ordering::Relaxed);
        InFlight {
            activity: Arc::clone(self),
            _share: share,
        }
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Whether anything was ever asked.
    pub(super) fn was_asked(&self) -> bool {
        self.is_busy() || self.ended.load(Ordering::Relaxed) > 0
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    _share: Option<LightShare>,
}

impl Keep for InFlight {}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.activity.ended.fetch_add(1, Ordering::Relaxed);
        self.activity.busy.fetch_sub(1, Ordering::Relaxed);
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
    /// Whether bytes of the next head are here.
    begun: bool,
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
    }

    fn is_busy(&self) -> bool {
        self.activity.is_busy()
    }

    /// Ready when the client has been waited for long enough. The timer also runs while a request is being answered: hyper
    /// does not read again when that has ended, so this is what notices the end, at the latest a quarter of `idle` after it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.notice_ends();
        let next_look = |until: Instant| until.min(Instant::now() + self.idle / 4);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(next_look(self.until))));
        loop {
            if timer.deadline() > self.until {
                timer.as_mut().reset(self.until);
            }
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= self.until {
                if !self.activity.is_busy() {
                    return Poll::Ready(());
                }
                self.until = Instant::now() + self.idle;
            }
            timer.as_mut().reset(next_look(self.until));
        }
    }
}

/// `inner`, whose reads fail when nothing comes.
#[derive(Debug)]
pub(super) struct Patient<S> {
    inner: S,
    silence: Silence,
    /// Whether the last word, and the shutdown behind it, are left to those who still have to say why: hyper's own would
    /// come before that.
    stays_open: bool,
    given_up: bool,
}

/// Where in `bytes` hyper's own answer to a head begins that it can't read: a status, and not a word about the reason. It comes
/// when no request is in flight, and nothing comes behind it. Only a whole one at the very end is taken for it: no answer of ours
/// ends so, whatever text of a task stands in it.
fn bare_refusal(bytes: &[u8]) -> Option<usize> {
    const LINES: [&[u8]; 3] = [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"HTTP/1.1 414 URI Too Long\r\n",
        b"HTTP/1.1 431 Request Header Fields Too Large\r\n",
    ];
    const FIELDS: &[u8] = b"connection: close\r\ncontent-length: 0\r\ndate: ";
    const DATE: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();
    let date = bytes.strip_suffix(b"\r\n\r\n")?.len().checked_sub(DATE)?;
    let head = bytes[..date].strip_suffix(FIELDS)?;
    let mut begins = LINES.iter().filter_map(|line| head.strip_suffix(*line));
    begins.next().map(<[u8]>::len)
}

impl<S> Patient<S> {
    /// How much of `bytes` is for the client.
    fn ours(&self, bytes: &[u8]) -> usize {
        if !self.stays_open || self.silence.is_busy() {
            return bytes.len();
        }
        bare_refusal(bytes).unwrap_or(bytes.len())
    }

    pub(super) fn new(
        inner: S,
        bounds: Bounds,
        gate: &Arc<Gate>,
        activity: &Arc<Activity>,
        speech: Speech,
    ) -> Self {
        let header = bounds.header_timeout.as_duration();
        Self {
            inner,
            silence: Silence {
                activity: Arc::clone(activity),
                gate: Arc::clone(gate),
                speech,
                header,
                idle: bounds.idle_timeout.as_duration(),
                seen: 0,
                begun: false,
                until: Instant::now() + header,
                timer: None,
            },
            stays_open: speech == Speech::Http1,
            given_up: false,
        }
    }

    /// From now on a shutdown is one.
    pub(super) fn let_go(&mut self) {
        self.stays_open = false;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
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
        // Whoever tells why it ends reads once more.
        if !self.given_up {
            self.given_up = true;
            Tally::count(&self.silence.gate.tally().timed_out);
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
        let ours = self.ours(buf);
        if ours == 0 {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, &buf[..ours])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let last = bufs.iter().rfind(|buf| !buf.is_empty());
        if let Some(last) = last.filter(|last| self.ours(last) < last.len()) {
            // One after the other, for once.
            let next = bufs.iter().find(|buf| !buf.is_empty()).unwrap_or(last);
            return self.poll_write(cx, next);
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stays_open {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn the_last_word_of_hyper_is_left_out_and_what_stands_before_it_is_not() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        let (near, mut far) = duplex(256);
        let (gate, activity) = (Arc::default(), Arc::default());
        let mut near = Patient::new(near, Bounds::default(), &gate, &activity, Speech::Http1);
        near.write_all(&[b"an answer".as_slice(), bare].concat())
            .await
            .unwrap();
        let bufs = [io::IoSlice::new(b", another"), io::IoSlice::new(bare)];
        let written = near.write_vectored(&bufs).await.unwrap();
        assert_eq!(written, ", another".len());
        assert_eq!(near.write_vectored(&bufs[1..]).await.unwrap(), bare.len());
        near.let_go();
        near.shutdown().await.unwrap();
        let mut got = String::new();
        far.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "an answer, another");
    }

    #[tokio::test]
    async fn an_answer_in_which_such_a_word_is_repeated_is_not_cut() {
        let bare = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        let answer = format!("<textarea>{bare}</textarea>");
        let (near, mut far) = duplex(256);
        let (gate, activity) = (Arc::default(), Arc::default());
        let mut near = Patient::new(near, Bounds::default(), &gate, &activity, Speech::Http1);
        near.write_all(answer.as_bytes()).await.unwrap();
        near.let_go();
        near.shutdown().await.unwrap();
        let mut got = String::new();
        far.read_to_string(&mut got).await.unwrap();
        assert_eq!(got, answer);
    }
}
