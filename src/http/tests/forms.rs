//! Pages and forms.

use axum::{
    body::Body,
    http::{Request, header},
};

use super::Site;
use crate::task::QueueName;

#[tokio::test]
async fn a_form_submits_a_string_with_the_defaults_where_it_is_blank() {
    let site = Site::new();
    let got = site
        .form("/new", "payload=1+%26+2&priority=&exectime=&queue=")
        .await;
    assert_eq!(
        (got.status.as_u16(), got.header(header::LOCATION)),
        (302, "/")
    );
    for (when, secs) in [
        ("1700000000", 1_700_000_000),
        ("2023-11-14T22:13", 1_699_999_980),
        ("2023-11-14T22:13:20", 1_700_000_000),
    ] {
        let got = site
            .form(
                "/new",
                &format!("payload=x&priority=-5&queue=emails&exectime={when}"),
            )
            .await;
        assert_eq!(got.status, 302, "{when}: {got:?}");
        let task = site.backend.tasks.lock().unwrap().last().unwrap().clone();
        assert_eq!(
            (task.exectime.get(), task.priority.get()),
            (secs, -5),
            "{when}"
        );
        assert_eq!(task.queue, QueueName::parse("emails").unwrap());
    }
    assert_eq!(site.backend.payloads()[0], r#""1 & 2""#);
}

#[tokio::test]
async fn a_form_that_is_wrong_names_the_field_in_a_page_for_browsers() {
    let site = Site::new();
    for (body, field) in [
        ("priority=1", "payload"),
        ("payload=", "payload"),
        ("payload=x&priority=high", "priority"),
        ("payload=x&exectime=tomorrow", "exectime"),
        ("payload=x&queue=A", "queue"),
        ("payload=x&payload=y", "payload"),
        ("payload=x&queue=&queue=b", "queue"),
    ] {
        let got = site.form("/new", body).await;
        assert_eq!(got.problem().0, 400, "{body}");
        assert_eq!(got.json()["field"], field, "{body}");
    }
    let request = Request::post("/new")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "text/html,*/*")
        .body(Body::from("payload=x&priority=high"))
        .unwrap();
    let got = site.ask(request).await;
    assert_eq!(got.status, 400);
    assert!(got.header(header::CONTENT_TYPE).starts_with("text/html"));
    assert!(
        got.body.contains("<b>priority</b>: not a whole number")
            && got.body.contains(r#"id="wrong-priority""#)
    );
    assert!(site.backend.payloads().is_empty());
}

#[tokio::test]
async fn a_form_cancels_a_task() {
    let site = Site::new();
    site.form("/new", "payload=x").await;
    let id = site.backend.tasks.lock().unwrap()[0].id;
    let got = site.form("/delete", &format!("id={id}")).await;
    assert_eq!(
        (got.status.as_u16(), got.header(header::LOCATION)),
        (302, "/list")
    );
    assert!(site.backend.payloads().is_empty());
    assert_eq!(
        site.form("/delete", &format!("id={id}")).await.problem().0,
        404
    );
    assert_eq!(site.form("/delete", "").await.problem().0, 400);
}

#[tokio::test]
async fn a_page_escapes_what_tasks_say() {
    let site = Site::new();
    let script = "<script>alert(1)</script>\"'";
    site.post(
        "/api/v1/tasks",
        &serde_json::json!({ "payload": script }).to_string(),
    )
    .await;
    let got = site.get("/list").await;
    assert_eq!(got.status, 200);
    assert!(
        got.body
            .contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;")
    );
    assert!(!got.body.contains("<script>"));
    let policy = got.header(header::CONTENT_SECURITY_POLICY);
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}

#[tokio::test]
async fn a_list_links_to_its_next_page_and_keeps_its_filter() {
    let site = Site::new();
    site.post("/api/v1/tasks", r#"[{"payload":1},{"payload":2}]"#)
        .await;
    let got = site.get("/list?queue=default&state=&limit=1").await;
    let from = got.body.find("/list?queue=default&amp;limit=1&amp;after=");
    let link = &got.body[from.unwrap()..];
    let link = link[..link.find('"').unwrap()].replace("&amp;", "&");
    let next = site.get(&link).await;
    assert_eq!(next.status, 200, "{link}");
    assert!(next.body.contains("First page") && !next.body.contains("Next page"));
    assert_eq!(site.get("/list?state=done").await.status, 400);
}

#[tokio::test]
async fn the_first_page_has_the_queues_and_the_form() {
    let site = Site::new();
    let got = site.get("/").await;
    assert_eq!(got.header(header::CACHE_CONTROL), "no-store");
    for part in [
        "1 min 30 s",
        "draining",
        "name=\"payload\"",
        "action=\"/new\"",
        "UTC",
    ] {
        assert!(got.body.contains(part), "{part}");
    }
    let path = got
        .body
        .split("href=\"")
        .find(|part| part.starts_with("/style.css"));
    let path = path.unwrap().split('"').next().unwrap();
    let style = site.get(path).await;
    assert!(style.header(header::CONTENT_TYPE).starts_with("text/css"));
    assert!(
        style
            .header(header::CACHE_CONTROL)
            .contains("max-age=31536000")
    );
    let request = Request::get(path)
        .header(header::IF_NONE_MATCH, style.header(header::ETAG))
        .body(Body::empty())
        .unwrap();
    assert_eq!(site.ask(request).await.status, 304);
}
