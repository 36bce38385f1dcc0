//! A router on listening sockets: accept, carry, stop.
//!
//! Knows connections, not requests. A connection costs one tokio task; a silent one is closed by the header timeout.
//!
//! # How it stops
//!
//! A client that keeps its connection may be writing a request at the very moment at which it is closed, and then does not
//! know what became of it. So a stop accepts nothing new (where a service manager owns the socket, those who connect
//! wait for the next daemon), and from then on each answer carries `Connection: close`: who is busy is gone after one more
//! request. Connections that have brought none within `LAST_REQUESTS` are closed then.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderValue, header},
};
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, unix::UCred},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::patience::Patient;
use crate::task::Millis;

/// How long accepting rests after an error that the next call would meet again (no descriptors left): short enough to go
/// on soon, long enough not to spin.
const REST: Duration = Duration::from_millis(100);
/// How long a connection without a request stays open after a stop: enough for a request that is on its way on one machine
/// or one network, and short beside what a stop takes anyway.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// How long a client may read nothing of an answer that is too long for the kernel's buffers.
const READER_TIMEOUT: Duration = Duration::from_secs(30);

/// The router of the moment: a reload of the settings sends another, which takes the next request of each connection.
pub type Routed = watch::Receiver<Router>;

/// Serves `router` on a TCP socket until `stop`, then until all connections have ended: requests in flight are answered,
/// idle connections closed after `LAST_REQUESTS`. The caller bounds that time.
pub async fn serve_tcp(
    listener: TcpListener,
    router: Routed,
    stop: CancellationToken,
    header_timeout: Millis,
) {
    let accept = async move || {
        let (stream, peer) = listener.accept().await?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, %peer, "TCP_NODELAY could not be set");
        }
        Ok(Some(stream))
    };
    serve(accept, router, stop, header_timeout).await;
}

/// Serves `router` on a Unix socket like [`serve_tcp`], to those peers that `admit` lets in by their credentials; the others'
/// connections are closed without a word.
pub async fn serve_unix(
    listener: UnixListener,
    router: Routed,
    stop: CancellationToken,
    header_timeout: Millis,
    admit: impl Fn(UCred) -> bool,
) {
    let accept = async move || {
        let (stream, _) = listener.accept().await?;
        match stream.peer_cred() {
            Ok(peer) if admit(peer) => Ok(Some(stream)),
            Ok(peer) => {
                tracing::warn!(uid = peer.uid(), gid = peer.gid(), "a peer was turned away");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "a peer without credentials was turned away");
                Ok(None)
            }
        }
    };
    serve(accept, router, stop, header_timeout).await;
}

/// `accept` owns the listener: when it is dropped, nobody is accepted any more.
async fn serve<S>(
    accept: impl AsyncFn() -> io::Result<Option<S>>,
    router: Routed,
    stop: CancellationToken,
    header_timeout: Millis,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout.as_duration())
        .keep_alive(true)
        .pipeline_flush(true);
    let connections = TaskTracker::new();
    let mut stopped = pin!(stop.cancelled());
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok(Some(stream)) => {
                let carried = carry(builder.clone(), stream, router.clone(), stop.clone());
                connections.spawn(carried);
            }
            Ok(None) => {}
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted; trying again");
                tokio::select! {
                    () = tokio::time::sleep(REST) => {}
                    () = &mut stopped => break,
                }
            }
        }
    }
    drop(accept);
    connections.close();
    connections.wait().await;
}

/// Serves one connection to its end.
async fn carry<S>(builder: http1::Builder, stream: S, router: Routed, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = Arc::new(AtomicBool::new(false));
    let service = answering(router, stop.clone(), Arc::clone(&begun));
    let mut connection =
        pin!(builder.serve_connection(TokioIo::new(Patient::new(stream, READER_TIMEOUT)), service));
    let last_requests = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_REQUESTS).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = last_requests => {
            if !begun.load(Ordering::Relaxed) {
                // Nothing was asked on it, ever: hyper would wait for that.
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // The client's matter: it went away, was silent, or does not speak HTTP.
        tracing::debug!(%error, "a connection broke off");
    }
}

/// The router, which notes that it was asked, and says in its answers after `stop` that no further one will come.
fn answering(
    router: Routed,
    stop: CancellationToken,
    begun: Arc<AtomicBool>,
) -> impl hyper::service::HttpService<
    hyper::body::Incoming,
    ResBody = axum::body::Body,
    Error = Infallible,
    Future: Send,
> {
    service_fn(move |request| {
        begun.store(true, Ordering::Relaxed);
        let current = router.borrow().clone();
        let answer = TowerToHyperService::new(current).call(request);
        let stop = stop.clone();
        async move {
            let mut answer = answer.await?;
            if stop.is_cancelled() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(header::CONNECTION, close);
            }
            Ok(answer)
        }
    })
}

/// Whether an error of accepting is only about the connection that would have come (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
