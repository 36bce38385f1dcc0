//! Exports and imports: their lines, what is wrong with them, and that an export ends with its reader.

use axum::{
    body::Body,
    http::{Request, header},
};
use serde_json::{Value, json};

use super::{Got, Site, fake::WALL};
use crate::{
    backend::ExportPiece,
    task::{NewTask, Past, Payload, Refusal, TaskId, Trace},
};

const ID: &str = "0198c0de-0000-7000-8000-000000000001";

async fn import(site: &Site, lines: &[&str]) -> Got {
    let request = Request::post("/api/v1/import")
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(Body::from(lines.join("\n")))
        .unwrap();
    site.ask(request).await
}

fn task(id: &str) -> String {
    format!(r#"{{"task":{{"payload":1,"id":"{id}"}},"attempts":2,"dead":true,"last_error":"no"}}"#)
}

#[tokio::test]
async fn an_export_is_written_in_lines_that_an_import_takes() {
    let site = Site::new();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut first = NewTask {
        id: Some(TaskId::parse(ID).unwrap()),
        ..NewTask::of(Payload::from_text("a"))
    };
    first.options.unique_key = Some("k".into());
    first.options.trace = Some(Box::new(Trace::parse(parent).unwrap()));
    first.past = Some(Box::new(Past {
        attempts: 2,
        dead: true,
        last_error: Some("no".into()),
    }));
    let pieces = [
        ExportPiece::Tasks(Vec::new()),
        ExportPiece::Tasks(vec![first.clone()]),
        ExportPiece::End {
            tasks: 1,
            left_out: 0,
        },
    ];
    site.backend.pieces.lock().unwrap().extend(pieces);
    let got = site.get("/api/v1/export").await;
    assert_eq!(got.header(header::CONTENT_TYPE), "application/x-ndjson");
    let lines: Vec<Value> = got
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        lines[0],
        json!({"export": {"format": 1, "version": version, "at": WALL.as_secs_f64(), "tasks": 2,
            "paused": ["default"], "draining": ["*"]}})
    );
    assert_eq!(
        lines[1],
        json!({"task": {"payload": "a", "queue": "default", "priority": 100, "exectime": 0, "id": ID, "unique_key": "k",
            "traceparent": parent}, "attempts": 2, "dead": true, "last_error": "no"})
    );
    assert_eq!(lines[2], json!({"end": {"tasks": 1, "left_out": 0}}));
    assert_eq!(lines.len(), 3);
    let other = Site::new();
    let text: Vec<&str> = got.body.lines().collect();
    let taken = import(&other, &text).await;
    assert_eq!(taken.json(), json!({"accepted": 1, "created": 1}));
    let submitted = other.backend.submitted.lock().unwrap();
    assert_eq!(*submitted, [first]);
    let asked = other.backend.asked.lock().unwrap();
    assert!(
        asked.iter().any(|asked| asked.contains("pause")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn an_export_that_was_given_up_says_so_and_one_that_nobody_reads_is_ended() {
    let site = Site::new();
    let got = site.get("/api/v1/export").await;
    let last = got.body.lines().last().unwrap();
    assert!(last.starts_with(r#"{"failed":"more has changed"#), "{last}");
    let request = Request::get("/api/v1/export").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(site.router.clone(), request)
        .await
        .unwrap();
    site.backend.asked.lock().unwrap().clear();
    drop(response);
    assert_eq!(*site.backend.asked.lock().unwrap(), ["export_end 7"]);
    site.backend.refuse(Refusal::Busy);
    assert_eq!(site.get("/api/v1/export").await.problem().0, 503);
}

#[tokio::test]
async fn what_is_no_export_is_refused_by_its_line_and_what_stood_before_is_taken() {
    let begin = r#"{"export":{"format":1}}"#;
    let end = r#"{"end":{"tasks":1}}"#;
    let other = "0198c0de-0000-7000-8000-000000000002";
    for (lines, line, accepted, field) in [
        (vec![task(ID)], 1, 0, "export"),
        (
            vec![r#"{"export":{"format":2}}"#.into()],
            1,
            0,
            "export.format",
        ),
        (
            vec![r#"{"export":[1,"",0,0,[],[]]}"#.into()],
            1,
            0,
            "export",
        ),
        (
            vec![r#"[{"format":1},null,null,null,null,null,null]"#.into()],
            1,
            0,
            "body",
        ),
        (
            vec![begin.into(), task(ID), r#"{"end":[1,0]}"#.into()],
            3,
            1,
            "end",
        ),
        (vec![begin.into(), task(ID), begin.into()], 3, 1, "export"),
        (vec![begin.into(), task(ID)], 2, 1, "end"),
        (
            vec![begin.into(), task(ID), task(other), end.into()],
            4,
            2,
            "end.tasks",
        ),
        (
            vec![begin.into(), task(ID), end.into(), task(other)],
            4,
            1,
            "end",
        ),
        (
            vec![begin.into(), task(ID), r#"{"failed":"x"}"#.into()],
            3,
            1,
            "failed",
        ),
        (
            vec![begin.into(), r#"{"task":{"payload":1}}"#.into()],
            2,
            0,
            "task.id",
        ),
        (
            vec![begin.into(), r#"{"task":{"payload":1,"prio":1}}"#.into()],
            2,
            0,
            "task.prio",
        ),
        (
            vec![begin.into(), task(ID).replace('2', "1000001")],
            2,
            0,
            "attempts",
        ),
        (
            vec![
                begin.into(),
                task(ID).replace("\"no\"", &format!("{:?}", "x".repeat(4097))),
            ],
            2,
            0,
            "last_error",
        ),
        (vec![begin.into(), "{}".into()], 2, 0, "task"),
        (vec![String::new()], 1, 0, "end"),
    ] {
        let site = Site::new();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let got = import(&site, &lines).await;
        assert_eq!(got.problem().1, "invalid-field", "{lines:?}");
        let problem = got.json();
        assert_eq!(problem["field"], field, "{problem}");
        assert_eq!(
            (&problem["line"], &problem["accepted"]),
            (&json!(line), &json!(accepted)),
            "{problem}"
        );
        assert_eq!(site.backend.payloads().len(), accepted);
    }
}
