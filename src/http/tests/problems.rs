//! What goes wrong, and how it is told.

use std::{future::pending, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Request, header},
};
use futures_util::{FutureExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tower::ServiceExt as _;

use super::{Site, fake::WALL};
use crate::{
    backend::{Error, Fault},
    http::flight::{ViewsBeside, WHOLE_VIEWS, WHOLE_VIEWS_BESIDE},
    task::{IdSource, Millis, QueueName, Refusal, State},
};

#[tokio::test]
async fn every_refusal_has_its_status_and_name() {
    let id = IdSource::default().make(WALL, 1);
    let queue = QueueName::default();
    let table = [
        (Refusal::invalid("payload", "no"), 400, "invalid-field"),
        (
            Refusal::Malformed {
                line: 1,
                column: 2,
                reason: String::new(),
            },
            400,
            "malformed-json",
        ),
        (Refusal::NoSuchTask(id), 404, "no-such-task"),
        (Refusal::NoSuchQueue(queue.clone()), 404, "no-such-queue"),
        (Refusal::NoSuchFile("a".into()), 404, "no-such-file"),
        (
            Refusal::OutOfReach {
                what: "a".into(),
                reason: "b".into(),
            },
            503,
            "out-of-reach",
        ),
        (Refusal::FileInUse("a".into()), 409, "file-in-use"),
        (Refusal::StaleToken(id), 409, "stale-token"),
        (Refusal::Leased(id), 409, "leased"),
        (
            Refusal::WrongState {
                id,
                state: State::Ready,
                wanted: "no",
            },
            409,
            "wrong-state",
        ),
        (Refusal::IdInUse(id), 409, "id-in-use"),
        (Refusal::UniqueKeyInUse(id), 409, "unique-key-in-use"),
        (
            Refusal::TooLarge {
                field: "payload".into(),
                size: 2,
                limit: 1,
            },
            413,
            "too-large",
        ),
        (
            Refusal::TooMany {
                what: "queues",
                setting: "max_queues",
                limit: 1,
            },
            507,
            "too-many",
        ),
        (Refusal::Draining(Some(queue)), 503, "draining"),
        (Refusal::NoRoom, 507, "no-room"),
        (Refusal::QueueFull(QueueName::default()), 507, "no-room"),
        (Refusal::Busy, 503, "busy"),
        (Refusal::FilesLag, 503, "busy"),
        (Refusal::ExportRuns, 503, "busy"),
        (Refusal::Stopping, 503, "stopping"),
    ];
    for (refusal, status, name) in table {
        let site = Site::new();
        site.backend.refuse(refusal.clone());
        let got = site.post("/api/v1/tasks", r#"{"payload":1}"#).await;
        assert_eq!(got.problem(), (status, name.to_owned()));
        assert_eq!(got.json()["detail"], refusal.to_string());
        assert_eq!(got.json()["status"], status);
        let page = site.get(&format!("/problems/{name}")).await;
        assert_eq!(page.status, 200, "{name} is explained");
    }
}

#[tokio::test]
async fn a_fault_is_503_and_a_busy_daemon_says_when_to_come_again() {
    let site = Site::new();
    site.backend
        .refuse(Error::Fault(Fault("the disk is gone".into())));
    let got = site.get("/api/v1/queues").await;
    assert_eq!(got.problem(), (503, "fault".to_owned()));
    assert_eq!(got.json()["detail"], "the disk is gone");
    site.backend.refuse(Refusal::Busy);
    let got = site.get("/api/v1/queues").await;
    assert_eq!(got.header(header::RETRY_AFTER), "1");
}

#[tokio::test]
async fn what_is_not_json_is_placed_and_an_unknown_field_named() {
    let site = Site::new();
    let got = site.post("/api/v1/tasks", "{\n  \"payload\": tru }").await;
    assert_eq!(got.problem(), (400, "malformed-json".to_owned()));
    assert_eq!(got.json()["line"], 2);
    assert!(got.json()["column"].is_u64());
    let got = site
        .post("/api/v1/tasks", r#"{"payload":1,"prio":2}"#)
        .await;
    assert_eq!(got.problem(), (400, "invalid-field".to_owned()));
    assert_eq!(got.json()["field"], "prio");
    let got = site
        .post(
            "/api/v1/tasks",
            r#"[{"payload":1},{"payload":1,"delay":-1}]"#,
        )
        .await;
    assert_eq!(got.json()["field"], "[1].delay");
    assert_eq!(site.post("/api/v1/tasks", "[]").await.status, 400);
    assert!(site.backend.payloads().is_empty(), "nothing was taken");
}

#[tokio::test]
async fn a_body_that_is_not_utf8_is_refused() {
    let site = Site::new();
    let request = Request::post("/api/v1/tasks")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(&b"{\"payload\":\"\xff\"}"[..]))
        .unwrap();
    let got = site.ask(request).await;
    assert_eq!(got.problem(), (400, "malformed-text".to_owned()));
}

#[tokio::test]
async fn an_address_that_does_not_decode_to_text_is_refused_like_anything_else() {
    let site = Site::new();
    for (method, path) in [
        ("GET", "/api/v1/tasks/%FF"),
        ("POST", "/api/v1/tasks/a%C3/complete"),
        ("GET", "/api/v1/queues/%FF"),
        ("GET", "/tasks/%FF"),
        ("GET", "/queues/%FF"),
        ("GET", "/problems/%FF"),
    ] {
        let got = site.send(method, path, "application/json", "{}").await;
        assert_eq!(got.problem(), (400, "malformed-text".to_owned()), "{path}");
    }
    let request = Request::get("/tasks/%FF")
        .header(header::ACCEPT, "text/html")
        .body(Body::empty())
        .unwrap();
    let got = site.ask(request).await;
    assert_eq!(got.status, 400);
    assert!(got.header(header::CONTENT_TYPE).starts_with("text/html"));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_and_allow_lists_the_methods() {
    let site = Site::new();
    let got = site.get("/api/v2").await;
    assert_eq!(got.problem(), (404, "not-found".to_owned()));
    let got = site.send("PUT", "/api/v1/claim", "", "").await;
    assert_eq!(got.problem(), (405, "method-not-allowed".to_owned()));
    assert_eq!(got.header(header::ALLOW), "POST");
    assert_eq!(got.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
    assert_eq!(got.header(header::CACHE_CONTROL), "no-store");
}

#[tokio::test]
async fn a_body_of_another_type_is_refused_and_a_charset_is_not() {
    let site = Site::new();
    for wrong in [
        "",
        "text/plain",
        "application/jsonx",
        "application/x-www-form-urlencoded",
    ] {
        let got = site
            .send("POST", "/api/v1/tasks", wrong, r#"{"payload":1}"#)
            .await;
        assert_eq!(got.problem().0, 415, "{wrong}");
    }
    let packed = Request::post("/api/v1/tasks")
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(Body::from(r#"{"payload":1}"#));
    let got = site.ask(packed.unwrap()).await;
    assert_eq!(got.problem(), (415, "unsupported-media-type".to_owned()));
    assert!(
        got.body.contains("Content-Encoding is gzip"),
        "{}",
        got.body
    );
    let kind = "Application/JSON; charset=utf-8";
    let got = site
        .send("POST", "/api/v1/tasks", kind, r#"{"payload":1}"#)
        .await;
    assert_eq!(got.status, 201);
}

#[tokio::test]
async fn what_is_too_large_is_refused_with_a_length_and_without_one() {
    let site = Site::new();
    let payload = "x".repeat(5000);
    let body = format!(r#"{{"payload":"{payload}"}}"#);
    let got = site.post("/api/v1/tasks", &body).await;
    assert_eq!(got.problem(), (413, "too-large".to_owned()));

    let pieces: Vec<_> = body
        .as_bytes()
        .chunks(1000)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    let request = Request::post("/api/v1/tasks")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(stream::iter(pieces)))
        .unwrap();
    assert_eq!(site.ask(request).await.problem().0, 413);

    let body = format!(r#"{{"payload":"{}"}}"#, "x".repeat(2000));
    let got = site.post("/api/v1/tasks", &body).await;
    assert_eq!(got.problem().0, 413, "a payload has its own limit");
    assert_eq!(got.json()["field"], "payload");
}

#[tokio::test]
async fn a_body_that_stops_coming_times_out() {
    let site = Site::new();
    let request = Request::post("/api/v1/tasks")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from_stream(stream::pending::<
            Result<Bytes, std::io::Error>,
        >()))
        .unwrap();
    let got = site.ask(request).await;
    assert_eq!(got.problem(), (408, "request-timeout".to_owned()));
}

#[tokio::test]
async fn a_small_body_has_its_time_in_all_however_it_trickles_and_a_large_one_goes_on_as_it_comes()
{
    // The pace of the sender: no sleep stands for an event.
    let come = |bytes: &'static [u8]| {
        let pieces = stream::unfold((), move |()| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(bytes)), ()))
        });
        let request =
            Request::post("/api/v1/tasks").header(header::CONTENT_TYPE, "application/json");
        request.body(Body::from_stream(pieces)).unwrap()
    };
    let site = Site::with(|http| {
        http.limits.max_body = 1 << 20;
        http.limits.body_timeout = Millis(200);
    });
    let got = site.ask(come(b" ")).await;
    assert_eq!(got.problem(), (408, "request-timeout".to_owned()));
    assert!(
        got.body.contains("did not come within 0.2 s"),
        "{}",
        got.body
    );
    // More than 64 pieces, and so 300 ms at least.
    let got = site.ask(come(&[b' '; 16 << 10])).await;
    assert_eq!(got.problem(), (413, "too-large".to_owned()));
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing_and_reads_are_left_to_the_browser() {
    let site = Site::new();
    for (method, path) in [
        ("POST", "/new"),
        ("GET", "/api/next"),
        ("GET", "/api/v1/export"),
        ("HEAD", "/api/v1/export"),
        ("DELETE", "/api/v1/tasks/x"),
    ] {
        for (origin, refused) in [
            ("cross-site", true),
            ("same-site", true),
            ("same-origin", false),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("sec-fetch-site", origin)
                .body(Body::empty())
                .unwrap();
            let got = site.ask(request).await;
            assert_eq!(got.status == 403, refused, "{method} {path} {origin}");
        }
    }
    assert!(site.backend.payloads().is_empty());
}

/// Over http, from another machine, browsers say neither the site nor, of an image, the origin.
#[tokio::test]
async fn a_browser_that_does_not_say_whose_page_it_shows_gets_no_lease_and_no_export() {
    let site = Site::new();
    for (agent, refused) in [
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", true),
        (
            "Mozilla/5.0 (Linux; Debian 12; en-US) PowerShell/7.4.1",
            false,
        ),
        ("python-requests/2.31.0", false),
        ("curl/7.88.1", false),
    ] {
        let asked = |path: &str| {
            let request = Request::get(path).header(header::USER_AGENT, agent);
            request.body(Body::empty()).unwrap()
        };
        for path in ["/api/next", "/api/v1/export"] {
            let got = site.ask(asked(path)).await;
            assert_eq!(got.status == 403, refused, "{agent} {path}");
        }
        assert_eq!(site.ask(asked("/")).await.status, 200, "{agent}");
    }
}

#[tokio::test]
async fn an_unknown_query_parameter_is_named() {
    let site = Site::new();
    for (query, field) in [
        ("queu=a", "queu"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("state=done", "state"),
        ("after=x", "after"),
        ("queue=A", "queue"),
        ("limit=1&limit=2", "limit"),
    ] {
        let got = site.get(&format!("/api/v1/tasks?{query}")).await;
        assert_eq!(got.problem().0, 400, "{query}");
        assert_eq!(got.json()["field"], field, "{query}");
    }
}

#[tokio::test]
async fn a_panic_is_answered() {
    use axum::{Router, routing::get};
    let site = Site::new();
    let router = Router::new().route("/", get(async || -> () { panic!("planted") }));
    let router = crate::http::with_layers(router, &site.http);
    let got = Site { router, ..site }.get("/").await;
    assert_eq!(got.problem(), (500, "internal".to_owned()));
    assert!(!got.body.contains("planted"), "the log has it");
}

/// The turns of all views of everything.
async fn all_turns(site: &Site) -> Vec<OwnedSemaphorePermit> {
    let mut turns = Vec::new();
    for _ in 0..WHOLE_VIEWS {
        turns.push(site.http.flight.whole_view().await.unwrap());
    }
    turns
}

/// Else whoever asks for views over HTTP/2, and sends bodies with that, has them kept until it is their turn.
#[tokio::test]
async fn what_comes_of_a_body_is_let_go_while_a_view_waits_for_its_turn() {
    let site = Site::new();
    let mut turns = all_turns(&site).await;
    let (kept, let_go) = oneshot::channel::<()>();
    let endless = stream::unfold(kept, |kept| async move {
        pending::<()>().await;
        Some((Ok::<_, std::io::Error>(Bytes::new()), kept))
    });
    let request = Request::get("/metrics").body(Body::from_stream(endless));
    let answer = tokio::spawn(site.router.clone().oneshot(request.unwrap()));
    let_go.await.unwrap_err();
    assert!(!answer.is_finished());
    turns.clear();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_connection_with_many_requests_leaves_views_to_others() {
    let site = Site::new();
    let beside = ViewsBeside::default();
    let ask = || {
        let request = Request::get("/metrics").extension(beside.clone());
        site.router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
    };
    let mut held = Vec::new();
    for _ in 0..WHOLE_VIEWS_BESIDE {
        held.push(beside.begin().await.unwrap());
    }
    let mut waits = Box::pin(ask());
    assert!((&mut waits).now_or_never().is_none());
    // Another connection has its own, and all turns of everybody are free.
    assert_eq!(site.get("/metrics").await.status, 200);
    held.pop();
    assert_eq!(waits.await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_view_that_has_no_turn_for_long_is_refused() {
    let site = Site::new();
    let mut turns = all_turns(&site).await;
    let refused = site.get("/metrics").await;
    assert_eq!(refused.problem(), (503, "busy".to_owned()));
    turns.clear();
    assert_eq!(site.get("/metrics").await.status, 200);
}
