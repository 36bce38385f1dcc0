//! The v1 API when all goes well, and the original's.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use super::{
    Site,
    fake::{TOKEN, WALL},
};
use crate::{
    api,
    http::view,
    task::{LeaseKind, Millis},
};

const ID: &str = "0198c0de-0000-7000-8000-000000000001";

async fn leased(site: &Site) -> Value {
    let got = site
        .post("/api/v1/tasks", &format!(r#"{{"payload":1,"id":"{ID}"}}"#))
        .await;
    assert_eq!(got.status, 201);
    let got = site
        .post("/api/v1/claim", r#"{"worker":"host:1","lease":2.5}"#)
        .await;
    assert_eq!(got.status, 200, "{got:?}");
    got.json()
}

#[tokio::test]
async fn a_task_is_submitted_shown_rescheduled_and_cancelled() {
    let site = Site::new();
    let got = site
        .post(
            "/api/v1/tasks",
            r#"{"payload":{"a": [1, "<x>"]},"priority":-3,"delay":1.5,"unique_key":"k\"","max_attempts":2,"lease":2.5,"backoff":{"base":1}}"#,
        )
        .await;
    assert_eq!(got.status, 201);
    let location = got.header(header::LOCATION).to_owned();
    let task: api::Task = serde_json::from_str(&got.body).unwrap();
    assert_eq!(location, format!("/api/v1/tasks/{}", task.id));
    assert_eq!(task.payload.as_json(), r#"{"a": [1, "<x>"]}"#);
    assert_eq!((task.priority, task.exectime), (-3, WALL.0 / 1000 + 2));
    assert_eq!(task.unique_key.as_deref(), Some("k\""));
    assert_eq!(task.lease, Some(2.5));
    assert_eq!(site.get(&location).await.body, got.body);
    assert_eq!(site.send("HEAD", &location, "", "").await.body, "");

    let patch = site
        .send(
            "PATCH",
            &location,
            "application/json",
            r#"{"priority":9,"exectime":0}"#,
        )
        .await;
    assert_eq!(patch.json()["priority"], 9);
    let moved = site
        .send("PATCH", &location, "application/json", r#"{"queue":"b"}"#)
        .await;
    assert_eq!(
        (&moved.json()["queue"], &moved.json()["priority"]),
        (&"b".into(), &9.into())
    );
    let odd = site
        .send("PATCH", &location, "application/json", r#"{"queue":"B"}"#)
        .await;
    assert_eq!(odd.json()["field"], "queue");
    let empty = site
        .send("PATCH", &location, "application/json", "{}")
        .await;
    assert_eq!(empty.status, 400);

    assert_eq!(site.send("DELETE", &location, "", "").await.status, 204);
    assert_eq!(site.get(&location).await.problem().1, "no-such-task");
}

#[tokio::test]
async fn a_written_task_is_what_the_api_type_writes() {
    let site = Site::new();
    leased(&site).await;
    let mut task = site.backend.tasks.lock().unwrap()[0].clone();
    task.last_error = Some("a \"quoted\" error\n".into());
    let mut out = Vec::new();
    view::write_task(&mut out, &task).unwrap();
    let read: api::Task = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        serde_json::to_vec(&read).unwrap(),
        out,
        "same members, same order"
    );
    assert_eq!(read.worker.as_deref(), Some("host:1"));
}

#[tokio::test]
async fn submitting_again_is_answered_200_and_an_array_in_its_order() {
    let site = Site::new();
    let body = format!(r#"{{"payload":1,"id":"{ID}"}}"#);
    assert_eq!(site.post("/api/v1/tasks", &body).await.status, 201);
    assert_eq!(site.post("/api/v1/tasks", &body).await.status, 200);
    assert_eq!(
        site.post("/api/v1/tasks", &format!("[{body}]"))
            .await
            .status,
        200
    );
    let got = site
        .post("/api/v1/tasks", &format!(r#"[{{"payload":"new"}},{body}]"#))
        .await;
    assert_eq!(got.status, 201);
    assert_eq!(got.json()[0]["payload"], "new");
    assert_eq!(got.json()[1]["id"], ID);
}

#[tokio::test]
async fn a_claim_gives_tokens_and_tells_what_became_of_completions() {
    let site = Site::new();
    let claimed = leased(&site).await;
    let task = &claimed["tasks"][0];
    assert_eq!(task["token"], TOKEN.to_string());
    assert_eq!(task["attempt"], 1);
    assert_eq!(task["state"], "leased");
    assert_eq!(task["lease_expires"], json!(WALL.0 as f64 / 1000.0 + 60.5));
    let request = site.backend.claims.lock().unwrap()[0].clone();
    assert_eq!(request.kind, LeaseKind::V1);
    assert_eq!(request.lease, Some(Millis(2500)));

    let completions = json!({"max": 0, "complete": [
        {"id": ID, "token": TOKEN.to_string(), "result": {"n": 1}},
        {"id": ID, "token": TOKEN.to_string()},
    ]});
    let got = site.post("/api/v1/claim", &completions.to_string()).await;
    let completed = &got.json()["completed"];
    let typed: api::ClaimAnswer = serde_json::from_str(&got.body).unwrap();
    assert_eq!(typed.completed.len(), 2);
    assert_eq!(completed[0], json!({"id": ID}));
    assert_eq!(completed[1]["problem"]["type"], "/problems/no-such-task");
    assert_eq!(completed[1]["problem"]["status"], 404);
    assert_eq!(got.json()["tasks"], json!([]));
}

#[tokio::test]
async fn a_wrong_field_of_a_claim_is_named() {
    let site = Site::new();
    let long =
        json!({"complete": [{"id": ID, "token": TOKEN.to_string(), "result": "x".repeat(1100)}]});
    let many = json!({"queues": vec!["a"; 101]});
    for (body, field) in [
        (
            r#"{"complete":[{"id":"0198c0de-0000-7000-8000-000000000001","token":"x"}]}"#,
            "complete[0].token",
        ),
        (r#"{"complete":[{"id":"1","token":"x"}]}"#, "complete[0].id"),
        (
            r#"{"complete":[["0198c0de-0000-7000-8000-000000000001","x"]]}"#,
            "complete[0]",
        ),
        (&long.to_string(), "complete[0].result"),
        (&many.to_string(), "queues"),
        (r#"{"queues":[]}"#, "queues"),
        (r#"{"queues":["a","B"]}"#, "queues[1]"),
        (r#"{"max":1001}"#, "max"),
        (r#"{"max":-1}"#, "max"),
        (r#"{"wait":301}"#, "wait"),
        (r#"{"wait":-1}"#, "wait"),
        (r#"{"lease":0}"#, "lease"),
        (r#"{"worker":""}"#, "worker"),
        (r#"{"wurker":""}"#, "wurker"),
        ("[]", "body"),
    ] {
        let got = site.post("/api/v1/claim", body).await;
        assert_eq!(got.json()["field"], field, "{body}: {got:?}");
    }
    assert!(site.backend.claims.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_worker_extends_fails_releases_and_completes_with_its_token() {
    let site = Site::new();
    leased(&site).await;
    let path = |verb: &str| format!("/api/v1/tasks/{ID}/{verb}");
    let token = format!(r#""token":"{TOKEN}""#);
    let got = site
        .post(&path("extend"), &format!(r#"{{{token},"lease":10}}"#))
        .await;
    assert_eq!(
        got.json()["lease_expires"],
        json!(WALL.0 as f64 / 1000.0 + 10.0)
    );
    let stale = site
        .post(
            &path("complete"),
            r#"{"token":"00000000000000000000000000000001"}"#,
        )
        .await;
    assert_eq!(stale.problem(), (409, "stale-token".to_owned()));
    let got = site
        .post(
            &path("fail"),
            &format!(r#"{{{token},"error":"broke","dead":true}}"#),
        )
        .await;
    assert_eq!(
        (&got.json()["state"], &got.json()["last_error"]),
        (&json!("dead"), &json!("broke"))
    );
    assert_eq!(
        site.send("POST", &path("retry"), "", "").await.json()["state"],
        "ready"
    );
    let again = site.send("POST", &path("retry"), "", "").await;
    assert_eq!(again.problem().1, "wrong-state");
    site.post("/api/v1/claim", "{}").await;
    assert_eq!(
        site.post(&path("release"), &format!("{{{token}}}"))
            .await
            .status,
        200
    );
    site.post("/api/v1/claim", "{}").await;
    let got = site.post(&path("complete"), &format!("{{{token}}}")).await;
    assert_eq!(
        (got.status.as_u16(), &*got.body),
        (200, r#"{"status":"ok"}"#)
    );
    assert!(site.backend.payloads().is_empty());
}

#[tokio::test]
async fn a_list_is_paged_by_its_cursor() {
    let site = Site::new();
    site.post(
        "/api/v1/tasks",
        r#"[{"payload":1},{"payload":2},{"payload":3}]"#,
    )
    .await;
    let got = site
        .get("/api/v1/tasks?limit=2&queue=default&state=ready")
        .await
        .json();
    assert_eq!(got["tasks"].as_array().unwrap().len(), 2);
    let next = got["next"].as_str().unwrap();
    let got = site
        .get(&format!("/api/v1/tasks?limit=2&after={next}"))
        .await
        .json();
    assert_eq!(got["tasks"][0]["payload"], 3);
    assert_eq!(got["next"], Value::Null);
}

#[tokio::test]
async fn queues_and_workers_are_shown() {
    let site = Site::new();
    let got = site.get("/api/v1/queues").await.json();
    assert_eq!(got["queues"][0]["oldest_due_age"], 90.0);
    assert_eq!(
        site.get("/api/v1/queues/default").await.json()["totals"]["submitted"],
        3
    );
    assert_eq!(
        site.get("/api/v1/queues/no").await.problem().1,
        "no-such-queue"
    );
    assert_eq!(
        site.get("/api/v1/workers").await.json()["workers"][0]["waiting"],
        true
    );
}

#[tokio::test]
async fn the_history_is_shown_in_arrays_of_one_length() {
    let site = Site::new();
    let got = site.get("/api/v1/history?span=minute").await.json();
    assert_eq!(
        (&got["span"], &got["step"], &got["elapsed"]),
        (&json!("minute"), &json!(1.0), &json!(0.5))
    );
    for name in ["submitted", "completed", "failed", "dead"] {
        assert_eq!(got[name].as_array().unwrap().len(), 60, "{name}");
    }
    assert_eq!(
        (&got["submitted"][59], &got["dead"][59]),
        (&json!(4), &json!(1))
    );
    assert_eq!(
        (&got["wait"]["p99"][59], &got["run"]["p50"][59]),
        (&json!(1.5), &json!(null))
    );
    let got = site.get("/api/v1/queues/default/history").await.json();
    assert_eq!(got["queue"], "default");
    assert_eq!(got["span"], "hour");
    assert!(got.get("wait").is_none());
    for (query, field) in [
        ("span=week", "span"),
        ("queue=default", "queue"),
        ("since=1", "since"),
    ] {
        let got = site.get(&format!("/api/v1/history?{query}")).await;
        assert_eq!(got.problem(), (400, "invalid-field".to_owned()));
        assert_eq!(got.json()["field"], field);
    }
}

#[tokio::test]
async fn troubles_are_told_also_when_writes_have_stopped() {
    let site = Site::new();
    let got = site.get("/api/v1/troubles").await.json();
    assert_eq!(got["troubles"][0]["kind"], "rejected-files");
    assert_eq!(got["troubles"][0]["severity"], "warning");
}

#[tokio::test]
async fn the_originals_worker_is_served_as_it_was() {
    let site = Site::new();
    let empty = site.get("/api/next").await;
    assert_eq!(empty.body, r#"{"status":"ok","task":null}"#);
    let body = format!(r#"{{"payload":"x","id":"{ID}"}}"#);
    site.post("/api/v1/tasks", &body).await;
    assert_eq!(site.send("HEAD", "/api/next", "", "").await.status, 405);
    let got = site.get("/api/next").await.json();
    assert_eq!(
        got,
        json!({"status": "ok", "task": {"payload": "x", "priority": 100, "exectime": 0, "id": ID}})
    );
    let request = site.backend.claims.lock().unwrap()[0].clone();
    assert_eq!(
        (request.kind, request.lease),
        (LeaseKind::Legacy, Some(Millis(60_000)))
    );

    let task = got["task"].to_string();
    let done = site.post("/api/complete", &task).await;
    assert_eq!(
        done.body, r#"{"status":"ok"}"#,
        "more than the id may stand there"
    );
    let again = site.post("/api/complete", &task).await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["status"]),
        (404, &json!("error"))
    );
    assert_eq!(again.json()["type"], "/problems/no-such-task");
    let wrong = site.post("/api/complete", r#"{"id":7}"#).await;
    assert_eq!(
        (wrong.status.as_u16(), &wrong.json()["field"]),
        (400, &json!("id"))
    );
}

#[tokio::test]
async fn what_a_query_asks_for_and_is_not_looked_at_is_refused_by_its_name() {
    let site = Site::new();
    for path in [
        "/api/v1/tasks",
        "/api/v1/tasks/0198c0de-0000-4000-8000-000000000001",
        "/api/v1/queues",
        "/api/v1/queues/default",
        "/api/v1/workers",
        "/api/v1/history",
        "/api/v1/troubles",
        "/api/v1/events",
    ] {
        let got = site.get(&format!("{path}?stat=ready")).await;
        assert_eq!(got.status, 400, "{path}");
        assert_eq!(got.json()["field"], "stat", "{path}");
    }
    let got = site.get("/api/v1/tasks?id_prefix=0198c0dex").await;
    assert_eq!(
        (got.status.as_u16(), got.json()["field"].clone()),
        (400, "id_prefix".into())
    );
}

#[tokio::test]
async fn a_trace_comes_by_header_or_field_and_is_shown() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OTHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let site = Site::new();
    let submit = async |headers: &[(&str, &str)], content_type: &str, body: &str| {
        let mut request = Request::post("/api/v1/tasks").header("content-type", content_type);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Body::from(body.to_owned());
        site.ask(request.body(body).unwrap()).await
    };
    let parent = ("traceparent", PARENT);
    let one = r#"{"payload":1}"#;
    let json = "application/json";
    let got = submit(
        &[parent, ("tracestate", "a=1"), ("tracestate", "b=2")],
        json,
        one,
    )
    .await;
    assert_eq!(got.json()["traceparent"], PARENT);
    assert_eq!(got.json()["tracestate"], "a=1,b=2");
    // The state is not passed on when it is malformed; the parent is.
    let got = submit(&[parent, ("tracestate", "A")], json, one).await;
    assert_eq!(got.json()["traceparent"], PARENT);
    assert_eq!(got.json().get("tracestate"), None);
    for malformed in [
        &[("traceparent", "00-1-2-3")][..],
        &[parent, parent],
        &[("tracestate", "a=1")],
    ] {
        let got = submit(malformed, json, one).await;
        assert_eq!(got.status, 201);
        assert_eq!(got.json().get("traceparent"), None, "{malformed:?}");
    }
    // What the task says itself goes before the header.
    let two = format!(r#"[{one},{{"payload":2,"traceparent":"{OTHER}","tracestate":"c=\"3\""}}]"#);
    let got = submit(&[parent], json, &two).await.json();
    assert_eq!(got[0]["traceparent"], PARENT);
    assert_eq!(got[1]["traceparent"], OTHER);
    assert_eq!(got[1]["tracestate"], "c=\"3\"");
    for (body, field) in [
        (r#"{"payload":1,"traceparent":"x"}"#, "traceparent"),
        (r#"{"payload":1,"tracestate":"a=1"}"#, "tracestate"),
    ] {
        let got = submit(&[parent], json, body).await;
        assert_eq!(got.problem(), (400, "invalid-field".to_owned()));
        assert_eq!(got.json()["field"], field);
    }
    let lines = submit(&[parent], "application/x-ndjson", one).await;
    assert_eq!(lines.status, 201);
    let claimed = site.post("/api/v1/claim", r#"{"max":9}"#).await.json();
    let traces: Vec<&Value> = claimed["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["traceparent"])
        .collect();
    assert!(traces.contains(&&json!(PARENT)), "{traces:?}");
}
