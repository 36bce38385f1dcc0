//! The client against servers that answer well, badly, or not at all.

use std::path::Path;

use axum::{
    Json, Router,
    http::{StatusCode, header},
    routing,
};

use super::*;

fn over_http(base: &str) -> Endpoint {
    Endpoint::Http(base.to_owned())
}

#[test]
fn urls_are_read_in_all_forms() {
    for (text, endpoint) in [
        ("http://localhost:5000", over_http("http://localhost:5000")),
        ("http://localhost:5000/", over_http("http://localhost:5000")),
        (
            "http://localhost:5000/api",
            over_http("http://localhost:5000"),
        ),
        (
            "http://localhost:5000/api/",
            over_http("http://localhost:5000"),
        ),
        ("https://q.example/wq", over_http("https://q.example/wq")),
        ("http://[::1]:5000/api", over_http("http://[::1]:5000")),
        ("http://api", over_http("http://api")),
        ("http://api/api/", over_http("http://api")),
        (
            "https://queue.example/work/api",
            over_http("https://queue.example/work"),
        ),
        ("unix:/run/a.sock", Endpoint::Unix("/run/a.sock".into())),
        ("unix:///run/a.sock", Endpoint::Unix("/run/a.sock".into())),
        ("unix:a.sock", Endpoint::Unix("a.sock".into())),
    ] {
        assert_eq!(Endpoint::parse(text), Ok(endpoint), "{text}");
    }
}

#[test]
fn a_wrong_url_says_what_would_be_right() {
    for text in [
        "",
        "localhost:5000",
        "ftp://x",
        "unix:",
        "http://",
        "http://x/?a=b",
        "/run/a.sock",
    ] {
        let error = Endpoint::parse(text).expect_err(text).to_string();
        assert!(error.contains("use http://HOST:PORT"), "{error}");
    }
}

#[test]
fn names_in_paths_are_escaped() {
    assert_eq!(v1::escaped("a.b-c_d~9"), "a.b-c_d~9");
    assert_eq!(v1::escaped("a/b?c d"), "a%2Fb%3Fc%20d");
}

#[tokio::test]
async fn an_absent_daemon_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    let client = Client::new(Endpoint::Unix(socket)).unwrap();
    let error = client.queues().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    let text = error.to_string();
    assert!(
        text.contains("none.sock") && text.contains("systemctl status workqueued"),
        "{text}"
    );
    assert!(text.contains("No such file"), "{text}");
}

#[tokio::test]
async fn what_was_not_sent_is_not_done_and_what_has_no_answer_may_be() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = Client::new(Endpoint::parse(&url).unwrap()).unwrap();
    let claim = api::Claim::default();
    let (error, ()) = tokio::join!(client.claim(&claim), async {
        drop(listener.accept().await.unwrap());
    });
    assert!(error.unwrap_err().may_be_done());
    drop(listener);
    assert!(!client.claim(&claim).await.unwrap_err().may_be_done());
}

fn serve_unix(path: &Path, router: Router) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
}

fn queue(name: &str) -> api::Queue {
    serde_json::from_value(serde_json::json!({
        "queue": name, "ready": 1, "scheduled": 0, "leased": 0, "dead": 0, "paused": false, "draining": false,
        "totals": api::Totals::default(), "submitted_per_second": 0.0, "completed_per_second": 0.0,
    }))
    .unwrap()
}

#[tokio::test]
async fn a_unix_socket_and_tcp_are_spoken_alike() {
    let router = || {
        Router::new().route(
            "/api/v1/queues/{queue}",
            routing::get(
                async |axum::extract::Path(name): axum::extract::Path<String>,
                       headers: http::HeaderMap| {
                    assert_eq!(headers["authorization"], "Bearer s3cret");
                    assert!(headers["host"].to_str().unwrap().starts_with(['l', '1']));
                    Json(queue(&name))
                },
            ),
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    serve_unix(&socket, router());
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", tcp.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(tcp, router()).await.unwrap() });
    for endpoint in [Endpoint::Unix(socket), Endpoint::parse(&url).unwrap()] {
        let client = Client::new(endpoint).unwrap().with_bearer("s3cret");
        assert_eq!(client.queue("emails").await.unwrap().queue, "emails");
    }
}

#[tokio::test]
async fn refusals_and_strangers_are_told_apart() {
    let router = Router::new()
        .route(
            "/api/v1/tasks/{id}",
            routing::delete(async || {
                let problem = serde_json::json!({"type": "/problems/leased", "title": "leased", "status": 409, "detail": "task 1 is leased"});
                (StatusCode::CONFLICT, Json(problem))
            }),
        )
        .route("/api/v1/workers", routing::get(async || "<html>\nhello"))
        .route("/api/v1/queues", routing::get(async || (StatusCode::BAD_GATEWAY, "<html>\nhello")));
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    serve_unix(&socket, router);
    let client = Client::new(Endpoint::Unix(socket)).unwrap();
    let refused = client.cancel("1").await.unwrap_err();
    assert_eq!(
        (refused.status(), refused.to_string().as_str()),
        (Some(409), "task 1 is leased")
    );
    assert!(refused.is_final());
    let stranger = client.queues().await.unwrap_err();
    assert_eq!(stranger.status(), Some(502));
    assert!(
        stranger.to_string().contains("<html>\\nhello"),
        "{stranger}"
    );
    assert!(!stranger.is_final());
    assert!(matches!(
        client.workers().await,
        Err(ClientError::Unexpected { status: 200, .. })
    ));
}

#[tokio::test]
async fn events_come_one_at_a_time_until_the_stream_ends() {
    let body = concat!(
        ": hello\n\n",
        "event: submitted\nid: 1\ndata: {\"number\":1,\"at\":1.5,\"kind\":\"submitted\",\"id\":\"a\"}\n\n",
        "event: paused\nid: 2\ndata: {\"number\":2,\"at\":2,\"kind\":\"paused\"}\n\n",
        "id: 3\n\n",
        "event: reset\nid: 4\ndata: {\"kind\":\"reset\",\"reason\":\"forgotten\",\"detail\":\"it is\"}\n\n",
    );
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    let stream = async move || (kind, body);
    let router = Router::new().route("/api/v1/events", routing::get(stream));
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    serve_unix(&socket, router);
    let client = Client::new(Endpoint::Unix(socket)).unwrap();
    let mut events = client.events(&EventQuery::default()).await.unwrap();
    let mut told = Vec::new();
    while let Some(one) = events.next().await.unwrap() {
        let place = events.place().unwrap().to_owned();
        told.push(match one {
            Told::Event(event) => (place, event.kind),
            Told::Reset(reset) => (place, reset.reason),
        });
    }
    let wanted = [("1", "submitted"), ("2", "paused"), ("4", "forgotten")];
    assert_eq!(
        told,
        wanted.map(|(place, kind)| (place.to_owned(), kind.to_owned()))
    );
}

/// A stand-in for a daemon that answers all that comes over a connection until it is told to swallow it.
async fn forgetful() -> (Client, tokio_util::sync::CancellationToken) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let forget = tokio_util::sync::CancellationToken::new();
    let forgotten = forget.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let lives = forgotten.is_cancelled();
            let forgotten = forgotten.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                    if lives || !forgotten.is_cancelled() {
                        let answer =
                            b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"workers\":[]}";
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
        }
    });
    let client = Client::new(Endpoint::parse(&url).unwrap()).unwrap();
    (client, forget)
}

/// Each that is kept may be as dead as the first, and would cost as much time.
#[tokio::test]
async fn after_one_silence_no_connection_of_before_is_used() {
    let (client, forget) = forgetful().await;
    // Two at once need two connections, which are kept.
    let (one, two) = tokio::join!(client.workers(), client.workers());
    one.and(two).unwrap();
    forget.cancel();
    let patience = tokio::time::sleep(Duration::from_millis(200));
    let error = client.until(patience, client.workers()).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    assert!(error.may_be_done());
    client.workers().await.unwrap();
}

#[tokio::test]
async fn a_claim_that_is_withdrawn_has_what_was_answered_until_then() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let client = Client::new(Endpoint::Unix(socket)).unwrap();
    for answers in [true, false] {
        let withdrawn = tokio_util::sync::CancellationToken::new();
        let claim = api::Claim::default();
        let claimed = client.claim_until(withdrawn.cancelled(), &claim);
        let (claimed, ()) = tokio::join!(claimed, async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let first = stream.read_u8().await.unwrap();
            assert_eq!(first, b'P');
            withdrawn.cancel();
            // All of the request, and its end.
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            if answers {
                let body = r#"{"tasks":[],"completed":[]}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                let answer = head + body;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        assert_eq!(claimed.is_ok(), answers, "{claimed:?}");
    }
}

/// Else a lease would be taken for extended that is not.
#[tokio::test]
async fn an_extension_of_another_task_is_no_good_answer() {
    const ID: &str = "01a22c8c-9100-7101-b91c-ab40b7fcd9d8";
    let answer = async || Json(serde_json::json!({"id": ID, "lease_expires": 9.0}));
    let router = Router::new().route("/api/v1/tasks/{id}/extend", routing::post(answer));
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    serve_unix(&socket, router);
    let client = Client::new(Endpoint::Unix(socket)).unwrap();
    for same in [ID, &ID.to_uppercase()] {
        assert_eq!(client.extend(same, "k", None).await.unwrap().id, ID);
    }
    let other = client.extend("01a22c8c-9100-7101-b91c-ab40b7fcd9d9", "k", None);
    let error = other.await.unwrap_err();
    assert!(matches!(error, ClientError::Unexpected { status: 200, .. }));
    assert!(error.may_be_done() && !error.is_final());
}
