//! A connection for one request whose body is a stream.
//!
//! A daemon that refuses such a request in the middle answers, and then closes. What we still write then fails, often
//! before we have seen that there is an answer; but the answer is there to be read, and says why. So a write that fails
//! because the daemon reads no more counts as done, and reading tells how the request ended.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response, header};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::{CONNECT_TIMEOUT, Endpoint, transport::Outgoing};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Sends `request` to `endpoint` (a Unix socket, or TCP without TLS) over a connection of its own.
pub(super) async fn send(
    endpoint: &Endpoint,
    mut request: Request<Outgoing>,
) -> Result<Response<Incoming>, BoxError> {
    let connected = async {
        Ok::<_, io::Error>(match endpoint {
            Endpoint::Unix(path) => Link::of(UnixStream::connect(path).await?),
            Endpoint::Http(_) => {
                let host = request.uri().host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let port = request.uri().port_u16().unwrap_or(80);
                let stream = TcpStream::connect((host, port)).await?;
                stream.set_nodelay(true)?;
                Link::of(stream)
            }
        })
    };
    let link = tokio::time::timeout(CONNECT_TIMEOUT.as_duration(), connected)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    if let (Endpoint::Http(_), Some(authority)) = (endpoint, request.uri().authority()) {
        let host = authority.as_str().parse()?;
        request.headers_mut().insert(header::HOST, host);
    }
    // A connection to the daemon itself is asked for a path, not for a whole URL.
    if let Some(path) = request.uri().path_and_query() {
        *request.uri_mut() = path.as_str().parse()?;
    }
    let (mut sender, connection) = http1::handshake(TokioIo::new(link)).await?;
    // The connection's own error comes back through the request that it breaks.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender.send_request(request).await?)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection on which a write to one who reads no more counts as done.
struct Link(Box<dyn Stream>);

impl Link {
    fn of(stream: impl Stream + 'static) -> Self {
        Self(Box::new(stream))
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.0).poll_write(cx, buf) {
            Poll::Ready(Err(cause)) if reads_no_more(&cause) => Poll::Ready(Ok(buf.len())),
            other => other,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_shutdown(cx) {
            Poll::Ready(Err(cause)) if reads_no_more(&cause) => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

fn reads_no_more(cause: &io::Error) -> bool {
    matches!(
        cause.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}
