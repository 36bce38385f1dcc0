//! Streams: lines in, events out.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use axum::{
    body::{Body, Bytes},
    http::{Request, header},
};
use futures_util::stream;
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::{Site, fake::WALL};
use crate::{
    backend::{Event, EventKind},
    task::QueueName,
};

fn lines(body: Body) -> Request<Body> {
    Request::post("/api/v1/tasks")
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn a_stream_of_lines_is_taken_in_pieces_wherever_it_is_cut() {
    let site = Site::new();
    let text: Vec<String> = (0..1000)
        .map(|number| format!("{{\"payload\":{number}}}\n"))
        .collect();
    let text = text.concat();
    assert!(
        text.len() > site.http.limits.max_body,
        "longer than a body may be"
    );
    let cuts: Vec<_> = text
        .as_bytes()
        .chunks(37)
        .map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece)))
        .collect();
    let got = site.ask(lines(Body::from_stream(stream::iter(cuts)))).await;
    assert_eq!(got.status, 201);
    assert_eq!(got.json(), json!({"accepted": 1000, "created": 1000}));
    let payloads = site.backend.payloads();
    assert_eq!((payloads.len(), &*payloads[999]), (1000, "999"));
    assert_eq!(
        site.backend.submits.load(Ordering::Relaxed),
        4,
        "256 at a time"
    );
}

#[tokio::test]
async fn a_bad_line_is_numbered_and_those_before_it_are_taken() {
    let site = Site::new();
    let id = "0198c0de-0000-7000-8000-000000000001";
    let long = "x".repeat(2000);
    for (bad, kind) in [
        ("{\"payload\":tru}".to_owned(), "malformed-json"),
        ("{\"payload\":1,\"prio\":2}".to_owned(), "invalid-field"),
        (format!("{{\"payload\":\"{long}\"}}"), "too-large"),
        (format!("{{\"payload\":2,\"id\":\"{id}\"}}"), "id-in-use"),
    ] {
        let site = Site::new();
        let first = format!("{{\"payload\":1,\"id\":\"{id}\"}}");
        let body = format!("{first}\n\n{first}\r\n{bad}\n{{\"payload\":3}}");
        let got = site.ask(lines(Body::from(body))).await;
        assert_eq!(got.problem().1, kind);
        let problem = got.json();
        assert_eq!(
            (&problem["line"], &problem["accepted"]),
            (&json!(4), &json!(2)),
            "{problem}"
        );
        assert!(problem["detail"].as_str().unwrap().starts_with("line 4: "));
        assert_eq!(site.backend.payloads(), ["1"]);
    }
    let got = site
        .ask(lines(Body::from(&b"{\"payload\":1}\n\xff\n"[..])))
        .await;
    assert_eq!(
        (got.problem().1.as_str(), &got.json()["line"]),
        ("malformed-text", &json!(2))
    );
}

#[tokio::test]
async fn a_line_without_an_end_is_not_kept_in_memory() {
    let site = Site::new();
    let piece = Bytes::from_static(&[b' '; 8192]);
    let endless = stream::repeat_with(move || Ok::<_, Infallible>(piece.clone()));
    let got = site.ask(lines(Body::from_stream(endless))).await;
    assert_eq!(got.problem().0, 413);
}

#[tokio::test]
async fn a_sender_that_pauses_has_its_tasks_taken_and_a_stop_ends_the_stream() {
    let site = Site::new();
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    let pieces = stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok::<_, Infallible>(piece), receiver))
    });
    let answer = tokio::spawn(
        site.router
            .clone()
            .oneshot(lines(Body::from_stream(Box::pin(pieces)))),
    );
    sender
        .send(Bytes::from_static(b"{\"payload\":1}\n{\"pay"))
        .await
        .unwrap();
    site.backend.taken.notified().await;
    assert_eq!(site.backend.payloads(), ["1"]);
    site.http.stop.cancel();
    let answer = answer.await.unwrap().unwrap();
    drop(sender);
    assert_eq!(answer.status(), 503);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["accepted"], 1);
}

fn event(number: u64, queue: &str) -> Arc<Event> {
    Arc::new(Event {
        number,
        at: WALL,
        kind: EventKind::Failed,
        id: None,
        queue: Some(QueueName::parse(queue).unwrap()),
        worker: None,
        attempt: Some(2),
        error: Some("two\nlines".into()),
    })
}

#[tokio::test]
async fn events_are_streamed_for_one_queue_and_end_with_the_daemon() {
    let site = Site::new();
    let request = Request::get("/api/v1/events?queue=a")
        .body(Body::empty())
        .unwrap();
    let answer = site.router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = answer.into_body();
    let greeting = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(greeting, ": listening\n\n");
    site.backend.events.send(event(1, "b")).unwrap();
    site.backend.events.send(event(2, "a")).unwrap();
    let sent = body.frame().await.unwrap().unwrap().into_data().unwrap();
    let sent = str::from_utf8(&sent).unwrap();
    assert!(
        sent.contains("id: 2\n") && sent.contains("event: failed\n"),
        "{sent}"
    );
    let data = sent
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        (&data["number"], &data["error"]),
        (&json!(2), &json!("two\nlines"))
    );
    site.http.stop.cancel();
    assert!(body.frame().await.is_none(), "the stream ends");
}
