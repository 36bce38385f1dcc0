//! What the daemon holds for clients that bring no credential: many requests at once on each connection of HTTP/2, answers that
//! nobody takes out of TLS, bodies that are announced and do not come, and sessions of a token that was taken away.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream as Stream,
    process::Command,
    sync::Arc,
};

use axum::body::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{Request, body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

use crate::{
    common::{Daemon, PATIENCE, Way, until},
    out_of::{memory, memory_as},
    tls::Site,
};

const CONNECTIONS: usize = 6;
const STREAMS: usize = 100;

/// A connection over TLS that speaks `speech`, with little room for what it does not read.
async fn secure(site: &Site, speech: &str) -> TlsStream<TcpStream> {
    let config = site.client_config(speech);
    let name = ServerName::try_from("localhost").expect("a name");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(16 << 10).expect("a buffer");
    let address = site.secure().parse().expect("an address");
    let stream = socket.connect(address).await.expect("connected");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("a handshake")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Heads of 60 KiB, each before a body that has begun.
#[test]
fn requests_beside_others_on_their_connection_are_held_up_to_a_limit() {
    const LIMIT: u64 = 4 << 20;
    let site = Site::start(&[("MAX_IN_FLIGHT", "4MiB"), ("BODY_TIMEOUT", "60s")]);
    let before = memory(site.daemon.pid());
    runtime().block_on(async {
        let mut clients = Vec::new();
        let mut answers = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TokioIo::new(secure(&site, "h2").await);
            let (mut send, connection) = http2::Builder::new(TokioExecutor::new())
                .handshake(stream)
                .await
                .expect("HTTP/2");
            clients.push(tokio::spawn(connection));
            for _ in 0..STREAMS {
                send.ready().await.expect("room for a request");
                let mut request = Request::post("https://localhost/api/v1/tasks")
                    .header("content-type", "application/json");
                for number in 0..60 {
                    request = request.header(format!("x-{number}"), "a".repeat(980));
                }
                let begun = Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"{")));
                let body = stream::iter([begun]).chain(stream::pending());
                let request = request.body(StreamBody::new(body.boxed())).expect("one");
                answers.push(tokio::spawn(send.send_request(request)));
            }
            // What is answered now was refused; the others wait for the rest of their bodies.
            send.ready().await.expect("room for a request");
            let last = Request::get("https://localhost/healthz");
            let last = last.header("x-last", "a".repeat(60 << 10));
            let body = StreamBody::new(stream::empty().boxed());
            let answer = send.send_request(last.body(body).expect("one")).await;
            drop(answer.expect("an answer").into_body().collect().await);
        }
        let now = memory(site.daemon.pid());
        let held = site.metric("workqueue_in_flight_bytes");
        assert!(held <= LIMIT, "{held}");
        // Each connection may have one; of the others a head and what was begun takes more than 128 KiB.
        let let_in = CONNECTIONS + (LIMIT / (128 << 10)) as usize;
        let most_are_refused = async {
            while answers.iter().filter(|one| !one.is_finished()).count() > let_in {
                tokio::task::yield_now().await;
            }
        };
        let refused = tokio::time::timeout(PATIENCE, most_are_refused).await;
        refused.expect("more are held than may be");
        assert!(now < before + (32 << 20), "{before} bytes before, {now}");
        // Alone on its connection it has its place.
        assert_eq!(
            site.daemon
                .admin("POST", "/api/v1/tasks", r#"{"payload":1}"#)
                .0,
            201
        );
        for answer in answers.iter_mut().filter(|answer| answer.is_finished()) {
            let answer = answer.await.expect("no panic").expect("an answer");
            assert_eq!(answer.status(), 503);
        }
        for client in clients {
            client.abort();
        }
    });
    until("all is let go", || {
        (site.metric("workqueue_in_flight_bytes") == 0).then_some(())
    });
}

/// What TLS has taken is not read yet.
#[test]
fn who_sends_over_tls_and_reads_nothing_is_ended() {
    let site = Site::start(&[("READER_TIMEOUT", "1s")]);
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2000);
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], b"12345678"].concat();
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    runtime().block_on(async {
        for (speech, begin, more) in [
            ("http/1.1", &b""[..], get.into_bytes()),
            ("h2", begin, ping.repeat(4000)),
        ] {
            let mut stream = secure(&site, speech).await;
            let sending = async {
                stream.write_all(begin).await?;
                loop {
                    stream.write_all(&more).await?;
                }
            };
            let ended: Result<std::io::Result<()>, _> =
                tokio::time::timeout(PATIENCE, sending).await;
            ended.expect("the daemon ends it").expect_err(speech);
        }
    });
    assert_eq!(site.metric("workqueue_connections_unread_total"), 2);
}

/// How large the daemon ever was, with what it set aside and never used.
fn most_set_aside(daemon: &Daemon) -> u64 {
    memory_as(daemon.pid(), "VmPeak:")
}

#[test]
fn a_body_that_is_announced_costs_nothing_until_it_comes() {
    const BODY: usize = 16 << 20;
    const CLIENTS: usize = 64;
    let way = Way {
        environment: vec![("WORKQUEUE_BODY_TIMEOUT".to_owned(), "2s".to_owned())],
        ..Way::default()
    };
    let daemon = Daemon::start_so(tempfile::tempdir().expect("a scratch directory"), way);
    let before = most_set_aside(&daemon);
    let head = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {BODY}\r\n\r\n{{"
    );
    let senders: Vec<Stream> = (0..CLIENTS)
        .map(|_| {
            let mut stream = Stream::connect(&daemon.address).expect("connect");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            stream.write_all(head.as_bytes()).expect("the begin");
            stream
        })
        .collect();
    for mut stream in senders {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    let more = most_set_aside(&daemon) - before;
    assert!(more < (BODY * CLIENTS / 2) as u64, "{more} bytes");
}

#[test]
fn a_session_does_not_come_back_with_its_token() {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("tokens.toml");
    let ctl = |args: &[&str]| {
        let made = Command::new(env!("CARGO_BIN_EXE_workqueuectl"))
            .args(args)
            .arg("--file")
            .arg(&file)
            .output()
            .expect("it runs");
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout)
            .expect("text")
            .trim()
            .to_owned()
    };
    let token = ctl(&["token", "new", "ada", "--scope", "read"]);
    let way = Way {
        environment: vec![("WORKQUEUE_TOKENS".to_owned(), file.display().to_string())],
        ..Way::default()
    };
    let daemon = Daemon::start_so(scratch, way);
    let (_, head, _) = daemon.form("/login", &format!("token={token}"));
    let cookie = head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next())
        .expect("a cookie");
    let status = || {
        let ask = format!(
            "GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: {cookie}\r\n\r\n"
        );
        daemon.raw(&ask).0
    };
    let reload = || assert!(daemon.admin("POST", "/reload", "").0 < 300);
    reload();
    assert_eq!(status(), 200);
    let text = fs::read_to_string(&file).expect("read");
    ctl(&["token", "revoke", "ada"]);
    reload();
    assert_eq!(status(), 401);
    fs::write(&file, text).expect("write");
    reload();
    assert_eq!(status(), 401);
    let by_token = format!(
        "GET /api/v1/queues HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    assert_eq!(daemon.raw(&by_token).0, 200);
}
