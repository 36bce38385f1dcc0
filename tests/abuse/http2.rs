//! Clients of HTTP/2 that open no window for what they ask: the socket has room, and pings are answered, and yet nothing is read.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt as _;
use hyper::{Request, StatusCode, body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{
    common::{PATIENCE, until},
    out_of::memory,
    tls::Site,
    told::Told,
};

const CONNECTIONS: usize = 6;
const STREAMS: usize = 100;

/// A connection whose streams have no window, and its end.
struct Deaf {
    send: http2::SendRequest<String>,
    end: JoinHandle<()>,
}

async fn connect(site: &Site, window: u32) -> Deaf {
    let config = site.client_config("h2");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(site.secure()).await.expect("connected");
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("a handshake");
    let (send, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    let end = tokio::spawn(async move {
        // It ends by an error: that is what the test waits for.
        drop(connection.await);
    });
    Deaf { send, end }
}

impl Deaf {
    async fn ask(&mut self, path: &str) -> (StatusCode, Incoming) {
        self.send.ready().await.expect("room for a request");
        let request = Request::get(format!("https://localhost{path}"))
            .header("accept-encoding", "gzip")
            .body(String::new())
            .expect("a request");
        let answer = self.send.send_request(request).await.expect("a head");
        (answer.status(), answer.into_body())
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn unread(site: &Site) -> u64 {
    site.metric("workqueue_connections_unread_total")
}

/// As over HTTP/1.1: with a whole answer, and counted.
#[test]
fn heads_of_more_fields_or_bytes_than_may_be_are_answered_431() {
    let mut site = Site::start(&[]);
    let mut told = Told::begin(&site.daemon);
    let refused = || site.metric("workqueue_heads_refused_total");
    let before = refused();
    runtime().block_on(async {
        let (fields, long) = ((0..150, 10), (0..1, 100_000));
        for (numbers, length) in [fields, long] {
            let mut client = connect(&site, 65_535).await;
            client.send.ready().await.expect("room for a request");
            let request = Request::get("https://localhost/healthz");
            let request = numbers.fold(request, |request, number| {
                request.header(format!("x-{number}"), "a".repeat(length))
            });
            let request = request.body(String::new()).expect("a request");
            let answer = client.send.send_request(request).await.expect("a head");
            assert_eq!(answer.status(), 431);
            for name in ["content-security-policy", "x-content-type-options"] {
                assert!(answer.headers().contains_key(name), "{name}");
            }
            let body = answer.into_body().collect().await.expect("a body");
            let text = String::from_utf8(body.to_bytes().to_vec()).expect("a text");
            assert!(text.contains("head-too-large"), "{text}");
            told.submit(&site.daemon);
        }
    });
    assert_eq!(refused(), before + 2);
    told.hold(&mut site.daemon);
}

#[test]
fn answers_that_have_no_window_cost_little_memory_and_their_connections_are_ended() {
    let mut site = Site::start(&[("READER_TIMEOUT", "6s")]);
    let mut told = Told::begin(&site.daemon);
    let before = memory(site.daemon.pid());
    runtime().block_on(async {
        let mut clients = Vec::new();
        let mut bodies = Vec::new();
        for number in 0..CONNECTIONS {
            let mut client = connect(&site, 0).await;
            for _ in 0..STREAMS {
                let path = ["/style.css", "/"][number % 2];
                let (status, body) = client.ask(path).await;
                assert_eq!(status, 200);
                bodies.push(body);
            }
            clients.push(client);
        }
        let most = before + (64 << 20);
        let now = memory(site.daemon.pid());
        assert!(
            now < most,
            "{before} bytes before, {now} with {STREAMS} each"
        );
        told.submit(&site.daemon);
        for client in clients {
            tokio::time::timeout(PATIENCE, client.end)
                .await
                .expect("the daemon ends it")
                .expect("no panic");
        }
        drop(bodies);
    });
    assert_eq!(unread(&site), CONNECTIONS as u64);
    until("all is let go", || {
        (site.metric("workqueue_in_flight_bytes") == 0).then_some(())
    });
    told.hold(&mut site.daemon);
}

/// One connection must not keep the room of all large answers for as long as it likes.
#[test]
fn large_answers_without_a_window_give_their_room_back() {
    let site = Site::start(&[("READER_TIMEOUT", "2s"), ("MAX_IN_FLIGHT", "1MiB")]);
    let payload = "x".repeat(300 << 10);
    let body = json!({"payload": payload}).to_string();
    let (status, task) = site.daemon.admin("POST", "/api/v1/tasks", &body);
    assert_eq!(status, 201, "{task}");
    let id = task["id"].as_str().expect("an id").to_owned();
    runtime().block_on(async {
        let mut deaf = connect(&site, 0).await;
        let path = format!("/api/v1/tasks/{id}");
        let mut held_back = Vec::new();
        let refused = loop {
            let (status, body) = deaf.ask(&path).await;
            if status != 200 {
                break status;
            }
            held_back.push(body);
        };
        assert_eq!(refused, 503);
        tokio::time::timeout(PATIENCE, deaf.end)
            .await
            .expect("the daemon ends it")
            .expect("no panic");
        // One that reads, if slowly, is not ended.
        let mut reader = connect(&site, 16 << 10).await;
        let (status, body) = reader.ask(&path).await;
        assert_eq!(status, 200);
        let mut body = body;
        let mut got = 0;
        while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
            got += frame
                .expect("a frame")
                .into_data()
                .map_or(0, |data| data.len());
            if got < 160 << 10 {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        assert!(got > payload.len(), "{got}");
    });
    assert_eq!(unread(&site), 1);
    let (_, claimed) = site.daemon.admin("POST", "/api/v1/claim", "{}");
    assert_eq!(claimed["tasks"][0]["id"], id, "{claimed}");
}
