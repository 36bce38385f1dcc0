//! Real connections: pipelining, clients that go away, and the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{Site, access::standing};
use crate::{
    access::Grant,
    http::{Bounds, Gate, NoStanding, Serving, serve_tcp, serve_unix},
    task::Millis,
};

/// More than anything here takes.
const SOON: Duration = Duration::from_secs(10);

struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    end: JoinHandle<()>,
}

fn serving(site: &Site, stop: &CancellationToken, header_timeout: Millis) -> Serving {
    let bounds = Bounds {
        header_timeout,
        ..Bounds::default()
    };
    Serving {
        router: watch::channel(site.router.clone()).1,
        stop: stop.clone(),
        gate: Gate::new(bounds, Arc::default()),
    }
}

async fn start(site: &Site, header_timeout: Millis) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = serve_tcp(listener, serving(site, &stop, header_timeout), None);
    Server {
        address,
        stop,
        end: tokio::spawn(served),
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap()
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), text: &str, times: usize) -> String {
    let mut got = String::new();
    while got.matches(text).count() < times {
        let mut buffer = [0; 4096];
        let count = soon(stream.read(&mut buffer)).await.unwrap();
        assert!(count > 0, "the connection ended: {got}");
        got.push_str(str::from_utf8(&buffer[..count]).unwrap());
    }
    got
}

fn claim(body: &str) -> String {
    format!(
        "POST /api/v1/claim HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn requests_may_be_pipelined_on_one_connection() {
    let site = Site::new();
    let server = start(&site, Millis(30_000)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let one = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(one.repeat(3).as_bytes()).await.unwrap();
    read_until(&mut stream, "ok\n", 3).await;
    stream.write_all(one.as_bytes()).await.unwrap();
    read_until(&mut stream, "ok\n", 1).await;
}

#[tokio::test]
async fn a_claim_is_withdrawn_when_its_client_goes_away() {
    let site = Site::new();
    let server = start(&site, Millis(30_000)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream
        .write_all(claim(r#"{"wait":300}"#).as_bytes())
        .await
        .unwrap();
    soon(site.backend.waiting.notified()).await;
    drop(stream);
    soon(site.backend.withdrawn.notified()).await;
}

#[tokio::test]
async fn a_stop_answers_what_is_in_flight_and_closes_what_is_idle() {
    let site = Site::new();
    let server = start(&site, Millis(30_000)).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    idle.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut idle, "ok\n", 1).await;
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(claim(r#"{"wait":300}"#).as_bytes())
        .await
        .unwrap();
    soon(site.backend.waiting.notified()).await;

    server.stop.cancel();
    let mut rest = Vec::new();
    soon(idle.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "an idle connection is closed");
    assert!(!server.end.is_finished(), "one request is in flight");
    let refused = TcpStream::connect(server.address).await;
    assert!(refused.is_err(), "nobody listens");
    site.backend.wake.notify_one();
    let mut answer = String::new();
    soon(busy.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    soon(server.end).await.unwrap();
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_holds_up_nobody() {
    let site = Site::new();
    let server = start(&site, Millis(50)).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent
        .write_all(b"GET /healthz HTTP/1.1\r\nho")
        .await
        .unwrap();
    let mut quick = TcpStream::connect(server.address).await.unwrap();
    quick
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut quick, "ok\n", 1).await;
    let mut rest = Vec::new();
    soon(silent.read_to_end(&mut rest)).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_was_answered_is_kept_as_long_as_idle_ones_are_and_not_as_a_head_may_take()
 {
    let site = Site::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = serving(&site, &CancellationToken::new(), Millis(30_000));
    serving.gate.set(Bounds {
        idle_timeout: Millis(20),
        ..serving.gate.bounds()
    });
    tokio::spawn(serve_tcp(listener, serving, None));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut stream, "ok\n", 1).await;
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_client_that_sends_too_much_gets_to_read_why() {
    let site = Site::new();
    let server = start(&site, Millis(30_000)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /api/v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 6000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b' '; 6000]).await.unwrap();
    let got = read_until(&mut stream, "/problems/too-large", 1).await;
    assert!(got.starts_with("HTTP/1.1 413"), "{got}");
}

#[tokio::test]
async fn a_peer_is_let_in_by_its_credentials_only() {
    let site = Site::new();
    let folder = tempfile::tempdir().unwrap();
    for let_in in [true, false] {
        let path = folder.path().join(let_in.to_string());
        let listener = UnixListener::bind(&path).unwrap();
        let own = rustix::process::getuid().as_raw();
        tokio::spawn(serve_unix(
            listener,
            serving(&site, &CancellationToken::new(), Millis(30_000)),
            move |peer| {
                let is_let_in = peer.uid() == own && let_in;
                let standing = is_let_in.then(|| standing(Grant::all("own")));
                std::future::ready(standing.ok_or(NoStanding::MayNothing))
            },
        ));
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let mut got = String::new();
        let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let sent = stream.write_all(request).await;
        let read = soon(stream.read_to_string(&mut got)).await;
        if let_in {
            sent.unwrap();
            read.unwrap();
        }
        assert_eq!(got.starts_with("HTTP/1.1 200"), let_in, "{got}");
    }
}

#[tokio::test]
async fn who_is_being_looked_up_keeps_nobody_else_waiting() {
    let site = Site::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let (tell, told) = watch::channel(None);
    let first = AtomicBool::new(true);
    let served = serve_unix(
        listener,
        serving(&site, &CancellationToken::new(), Millis(30_000)),
        move |_| {
            let is_first = first.swap(false, Ordering::Relaxed);
            let mut told = told.clone();
            async move {
                if !is_first {
                    return Ok(standing(Grant::all("own")));
                }
                let no: Option<NoStanding> = told.wait_for(Option::is_some).await.unwrap().clone();
                Err(no.unwrap())
            }
        },
    );
    tokio::spawn(served);
    let mut slow = UnixStream::connect(&path).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    slow.write_all(request).await.unwrap();
    let mut other = UnixStream::connect(&path).await.unwrap();
    other.write_all(request).await.unwrap();
    read_until(&mut other, "ok\n", 1).await;
    tell.send_replace(Some(NoStanding::NotAsked("no answer".to_owned())));
    let got = read_until(&mut slow, "/problems/users-out-of-reach", 1).await;
    assert!(got.starts_with("HTTP/1.1 503"), "{got}");
    assert!(got.contains("retry-after: 5"), "{got}");
}

#[tokio::test]
async fn a_head_that_can_not_be_served_is_told_why_and_ends_its_connection() {
    let site = Site::new();
    let server = start(&site, Millis(30_000)).await;
    let submit = "POST /api/v1/tasks HTTP/1.1\r\nhost: a\r\ncontent-type: application/json";
    let heads = [
        (
            "GET /healthz HTTP/1.1".to_owned(),
            "400",
            "malformed-request",
        ),
        (
            format!("{submit}\r\ntransfer-encoding: gzip, chunked"),
            "501",
            "unknown-coding",
        ),
        (
            format!("{submit}\r\ncontent-length: {}", u64::MAX),
            "413",
            "too-large",
        ),
        (
            format!("{submit}\r\ncontent-length: {}0", u64::MAX),
            "400",
            "malformed-request",
        ),
        (
            format!("{submit}{}", "\r\nx: 1".repeat(200)),
            "431",
            "head-too-large",
        ),
    ];
    for (head, status, name) in heads {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!("{head}\r\n\r\n0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut got = String::new();
        soon(stream.read_to_string(&mut got)).await.unwrap();
        assert!(got.starts_with(&format!("HTTP/1.1 {status}")), "{got}");
        assert!(
            got.contains("content-type: application/problem+json"),
            "{got}"
        );
        assert!(got.contains(&format!("/problems/{name}")), "{got}");
    }
    let mut old = TcpStream::connect(server.address).await.unwrap();
    old.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut old, "ok\n", 1).await;
}
