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
    backend::{Event, EventKind, MOST_EVENTS},
    task::{Millis, QueueName, State, Tick},
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

/// Waiting for tasks is another matter.
#[tokio::test]
async fn a_stream_of_lines_may_pause_also_where_no_claim_may_wait() {
    let site = Site::with(|http| http.limits.max_wait = Millis(0));
    let (send, pieces) = mpsc::channel::<Result<Bytes, Infallible>>(1);
    let pieces = stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    });
    let asked = site.ask(lines(Body::from_stream(pieces)));
    let sent = async move {
        // Whoever reads has found nothing by then.
        tokio::task::yield_now().await;
        let line = Bytes::from_static(b"{\"payload\":1}\n");
        send.send(Ok(line)).await.unwrap();
    };
    let (got, ()) = tokio::join!(asked, sent);
    assert_eq!(got.status, 201, "{}", got.body);
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
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("line 4"), "{detail}");
        assert!(!detail.contains("line 1"), "one position: {detail}");
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

fn event(kind: EventKind, queue: &str, state: Option<State>) -> Arc<Event> {
    Arc::new(Event {
        at: WALL,
        kind,
        id: None,
        queue: (!queue.is_empty()).then(|| QueueName::parse(queue).unwrap()),
        moved_from: None,
        state,
        worker: None,
        attempt: Some(2),
        error: Some("two\nlines".into()),
        result: None,
    })
}

/// A stream of events, its greeting read.
struct Heard {
    body: Body,
    greeting: String,
}

impl Heard {
    async fn at(site: &Site, query: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(format!("/api/v1/events{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = site.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let headers = answer.headers();
        assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream");
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers["x-accel-buffering"], "no");
        let mut heard = Self {
            body: answer.into_body(),
            greeting: String::new(),
        };
        heard.greeting = heard.piece().await.unwrap();
        heard
    }

    async fn piece(&mut self) -> Option<String> {
        let data = self.body.frame().await?.unwrap().into_data().unwrap();
        Some(String::from_utf8(data.to_vec()).unwrap())
    }

    /// The ids of the events of the next piece.
    async fn ids(&mut self) -> Vec<String> {
        let piece = self.piece().await.unwrap();
        let ids = piece.lines().filter_map(|line| line.strip_prefix("id: "));
        ids.map(str::to_owned).collect()
    }
}

fn tell(site: &Site, event: Arc<Event>) {
    site.backend.events.publish(Tick(0), event);
    site.backend.events.wake();
}

#[tokio::test]
async fn events_are_streamed_for_one_queue_and_end_with_the_daemon() {
    let site = Site::new();
    let mut heard = Heard::at(&site, "?queue=a", None).await;
    assert_eq!(
        heard.greeting,
        ": listening\nretry: 2000\nid: 5f3a9c01-0\n\n"
    );
    tell(&site, event(EventKind::Failed, "b", None));
    tell(&site, event(EventKind::Failed, "a", Some(State::Ready)));
    let sent = heard.piece().await.unwrap();
    assert!(
        sent.starts_with("id: 5f3a9c01-2\nevent: failed\ndata: {") && sent.ends_with("}\n\n"),
        "{sent}"
    );
    let data = sent
        .lines()
        .find_map(|line| line.strip_prefix("data: "))
        .unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(
        (&data["number"], &data["state"], &data["error"]),
        (&json!(2), &json!("ready"), &json!("two\nlines"))
    );
    site.http.stop.cancel();
    assert!(heard.piece().await.is_none(), "the stream ends");
}

#[tokio::test]
async fn events_are_filtered_by_queues_kinds_and_states() {
    let site = Site::new();
    let mut all = Heard::at(&site, "?follow=false", None).await;
    assert!(all.piece().await.is_none(), "nothing has happened");
    for (kind, queue, state) in [
        (EventKind::Submitted, "a", Some(State::Ready)),
        (EventKind::Submitted, "b", Some(State::Scheduled)),
        (EventKind::Dead, "a", Some(State::Dead)),
        (EventKind::Paused, "", None),
        (EventKind::Completed, "c", None),
    ] {
        tell(&site, event(kind, queue, state));
    }
    for (query, numbers) in [
        ("", "1 2 3 4 5"),
        ("&queue=a", "1 3 4"),
        ("&queue=b&queue=c", "2 4 5"),
        ("&kind=submitted&kind=completed", "1 2 5"),
        ("&state=dead&state=scheduled", "2 3"),
        ("&queue=a&state=ready", "1"),
        ("&queue=a&kind=completed", ""),
    ] {
        let query = format!("?follow=false&last_event_id=5f3a9c01-0{query}");
        let mut heard = Heard::at(&site, &query, None).await;
        let mut got = String::new();
        while let Some(piece) = heard.piece().await {
            got.push_str(&piece);
        }
        let got: Vec<_> = got
            .lines()
            .filter_map(|line| line.strip_prefix("id: 5f3a9c01-"))
            .collect();
        assert_eq!(got.join(" "), numbers, "{query}");
    }
    for (query, field) in [
        ("?queue=A", "queue"),
        ("?kind=done", "kind"),
        ("?state=new", "state"),
        ("?follow=maybe", "follow"),
        ("?last_event_id=7", "last_event_id"),
        (
            "?last_event_id=5f3a9c01-1&last_event_id=5f3a9c01-1",
            "last_event_id",
        ),
        ("?since=1", "since"),
    ] {
        let got = site.get(&format!("/api/v1/events{query}")).await;
        assert_eq!(got.problem(), (400, "invalid-field".to_owned()), "{query}");
        assert_eq!(got.json()["field"], field);
    }
}

#[tokio::test]
async fn whoever_comes_back_hears_what_it_missed_or_is_told_to_begin_anew() {
    let site = Site::new();
    let mut first = Heard::at(&site, "", None).await;
    tell(&site, event(EventKind::Submitted, "a", None));
    assert_eq!(first.ids().await, ["5f3a9c01-1"]);
    drop(first);
    tell(&site, event(EventKind::Submitted, "a", None));
    // The header is newer than the address with which a browser's stream was opened.
    let query = "?last_event_id=5f3a9c01-0";
    let mut back = Heard::at(&site, query, Some("5f3a9c01-1")).await;
    assert_eq!(back.ids().await, ["5f3a9c01-2"]);
    for (last, reason) in [
        ("5f3a9c00-1", "restarted"),
        ("5f3a9c01-9", "forgotten"),
        ("what?", "unknown"),
    ] {
        let heard = Heard::at(&site, "", Some(last)).await;
        let reset = heard
            .greeting
            .split_once("\n\n")
            .map(|(_, reset)| reset)
            .unwrap();
        let start = format!(
            "id: 5f3a9c01-2\nevent: reset\ndata: {{\"kind\":\"reset\",\"reason\":\"{reason}\""
        );
        assert!(reset.starts_with(&start), "{reset}");
    }
    let mut heard = Heard::at(&site, "", Some("what?")).await;
    tell(&site, event(EventKind::Submitted, "a", None));
    assert_eq!(heard.ids().await, ["5f3a9c01-3"], "it goes on");
}

#[tokio::test]
async fn silence_is_broken_by_the_place_that_the_stream_has_come_to() {
    let site = Site::with(|http| http.limits.heartbeat = Millis(1));
    let mut heard = Heard::at(&site, "?queue=b", None).await;
    tell(&site, event(EventKind::Submitted, "a", None));
    while heard.ids().await != ["5f3a9c01-1"] {}
}

#[tokio::test]
async fn a_listener_that_is_too_slow_is_told_so_and_its_stream_ends() {
    let site = Site::new();
    let mut heard = Heard::at(&site, "", None).await;
    for _ in 0..=MOST_EVENTS {
        tell(&site, event(EventKind::Submitted, "a", None));
    }
    assert_eq!(heard.piece().await.unwrap(), ": too slow, dropped\n\n");
    assert!(heard.piece().await.is_none());
    let metrics = site.get("/metrics").await.body;
    assert!(metrics.contains("workqueue_event_listeners_dropped_total 1"));
}

#[tokio::test]
async fn whoever_would_follow_a_daemon_that_stops_is_told_to_come_again() {
    let site = Site::new();
    site.http.stop.cancel();
    let got = site.get("/api/v1/events").await;
    assert_eq!(got.problem(), (503, "stopping".to_owned()));
    let got = site.get("/api/v1/events?follow=false").await;
    assert_eq!(got.status, 200);
}
