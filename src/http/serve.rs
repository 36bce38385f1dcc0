//! A router on listening sockets: accept, carry, stop.
//!
//! Knows connections, not requests. A connection costs one tokio task; a silent one is closed by the header timeout.

use std::{future::Future, io, pin::pin, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener, unix::UCred},
};
use tokio_util::sync::CancellationToken;

use crate::task::Millis;

/// How long accepting rests after an error that the next call would meet again (no descriptors left): short enough to go
/// on soon, long enough not to spin.
const REST: Duration = Duration::from_millis(100);

/// Serves `router` on a TCP socket until `stop`, then until all connections have ended: requests in flight are answered,
/// idle connections closed at once. The caller bounds that time.
pub async fn serve_tcp(
    listener: TcpListener,
    router: Router,
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
    router: Router,
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

/// `accept` owns the listener: when it is dropped, nobody connects any more.
async fn serve<S>(
    accept: impl AsyncFn() -> io::Result<Option<S>>,
    router: Router,
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
    let connections = GracefulShutdown::new();
    let mut stopped = pin!(stop.cancelled());
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok(Some(stream)) => {
                let service = TowerToHyperService::new(router.clone());
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                tokio::spawn(carry(connections.watch(connection)));
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
    connections.shutdown().await;
}

async fn carry(connection: impl Future<Output = Result<(), hyper::Error>>) {
    if let Err(error) = connection.await {
        // The client's matter: it went away, was silent, or does not speak HTTP.
        tracing::debug!(%error, "a connection broke off");
    }
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
