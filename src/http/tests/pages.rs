//! The pages: what each says, what its buttons do, and what its answers allow a browser.

use axum::{
    body::Body,
    http::{Request, header},
};

use super::{Got, Site};
use crate::{
    api,
    backend::Fault,
    http::{About, Facts},
    task::{PayloadLimits, QueueName, State, WallMillis},
};

struct Process;

impl About for Process {
    fn facts(&self) -> Facts {
        Facts {
            version: "1".to_owned(),
            pid: 42,
            started: WallMillis(0),
            data_dir: "/data".to_owned(),
            listen: vec!["127.0.0.1:5000".to_owned()],
            admin_socket: None,
            durability: "sync".to_owned(),
        }
    }

    fn settings(&self) -> Vec<api::Setting> {
        vec![api::Setting {
            key: "max_wait".to_owned(),
            value: "<5m>".to_owned(),
            source: "the file".to_owned(),
            in_effect: Some("<4m>".to_owned()),
        }]
    }
}

fn site() -> Site {
    Site::with(|http| http.about = Some(std::sync::Arc::new(Process)))
}

async fn submit(site: &Site, task: &str) -> String {
    let got = site.post("/api/v1/tasks", task).await;
    got.json()["id"].as_str().unwrap().to_owned()
}

/// A form as a browser sends it.
async fn browser_form(site: &Site, path: &str, body: &str) -> Got {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "text/html,*/*")
        .body(Body::from(body.to_owned()))
        .unwrap();
    site.ask(request).await
}

fn goes_to(got: &Got) -> &str {
    assert_eq!(got.status, 303, "{got:?}");
    got.header(header::LOCATION)
}

#[tokio::test]
async fn every_page_has_its_frame_and_allows_nothing_of_others() {
    let site = site();
    let id = submit(&site, r#"{"payload":"x"}"#).await;
    for path in [
        "/",
        "/?span=day",
        "/list",
        "/new",
        "/queues",
        "/queues/default",
        "/queues/default/dead?do=purge",
        "/workers",
        "/rejected",
        "/config",
        &format!("/tasks/{id}"),
        &format!("/tasks/{id}/cancel"),
        "/problems/leased",
    ] {
        let got = site.get(path).await;
        assert_eq!(got.status, 200, "{path}: {}", got.body);
        for part in [
            "<!DOCTYPE html><html lang=\"en\">",
            "<main id=\"main\"",
            "class=\"skip\" href=\"#main\"",
            "id=\"connection\" role=\"status\"",
        ] {
            assert!(got.body.contains(part), "{path}: {part}");
        }
        assert_eq!(got.body.matches("<h1").count(), 1, "{path}");
        assert!(
            !got.body.contains(" style=") && !got.body.contains(" onclick="),
            "{path}"
        );
        assert_eq!(got.header(header::CACHE_CONTROL), "no-store", "{path}");
        assert_eq!(got.header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        let policy = got.header(header::CONTENT_SECURITY_POLICY);
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(got.body.len() < 40_000, "{path}: {} bytes", got.body.len());
    }
}

#[tokio::test]
async fn what_a_page_loads_is_small_and_may_be_kept() {
    let site = site();
    let page = site.get("/").await.body;
    let mut sum = page.len();
    for (attribute, start) in [
        ("href", "/style.css?"),
        ("src", "/live.js?"),
        ("href", "/icon.svg?"),
    ] {
        let from = page.find(&format!("{attribute}=\"{start}")).expect(start) + attribute.len() + 2;
        let path = &page[from..from + page[from..].find('"').unwrap()];
        let got = site.get(path).await;
        assert!(
            got.header(header::CACHE_CONTROL).contains("immutable"),
            "{path}"
        );
        assert!(
            start != "/live.js?" || got.body.len() < 8192,
            "{} bytes",
            got.body.len()
        );
        sum += got.body.len();
        let again = Request::get(path)
            .header(header::IF_NONE_MATCH, got.header(header::ETAG))
            .body(Body::empty())
            .unwrap();
        assert_eq!(site.ask(again).await.status, 304, "{path}");
    }
    assert!(sum < 60 << 10, "{sum} bytes");
}

#[tokio::test]
async fn the_overview_says_what_is_wrong_also_when_writes_have_stopped() {
    let site = site();
    let got = site.get("/").await;
    assert!(
        got.body.contains("class=\"rejected-files\""),
        "{}",
        got.body
    );
    assert!(
        got.body.contains("Tasks a second, the last hour: "),
        "{}",
        got.body
    );
    assert_eq!(site.get("/?span=week").await.status, 400);
    *site.backend.fault.lock().unwrap() = Some(Fault("fsync failed".into()));
    let got = site.get("/").await;
    assert_eq!(got.status, 200);
    assert!(
        got.body.contains("writes have stopped: fsync failed"),
        "{}",
        got.body
    );
}

#[tokio::test]
async fn our_own_form_goes_back_to_its_queue_and_takes_json() {
    let site = site();
    let sent =
        "back=/queues/mails&kind=json&payload=%7B%22a%22%3A1.50%7D&queue=mails&when=in&in=1h";
    let got = browser_form(&site, "/new", sent).await;
    let task = site.backend.tasks.lock().unwrap()[0].clone();
    assert_eq!(
        goes_to(&got),
        format!("/queues/mails?told=submitted&task={}", task.id)
    );
    assert_eq!(task.payload.as_json(), r#"{"a":1.50}"#);
    assert_eq!(task.exectime.get(), super::fake::WALL.0 / 1000 + 3600);
    // A form that was made elsewhere does not choose where the browser goes.
    let got = browser_form(
        &site,
        "/new",
        "back=https://example.org/&payload=x&kind=text",
    )
    .await;
    assert!(goes_to(&got).starts_with("/queues/default?"));
    let got = browser_form(&site, "/new", "back=/&payload=a%0D%0Ab&kind=text").await;
    assert!(goes_to(&got).starts_with("/?told=submitted&task="));
    assert_eq!(site.backend.payloads()[2], r#""a\nb""#);
}

#[tokio::test]
async fn a_form_that_is_wrong_comes_back_filled_in_with_its_field_named() {
    let site = site();
    for (sent, field) in [
        ("kind=json&payload=%7B%22", "payload"),
        ("kind=yaml&payload=%7B%22", "kind"),
        ("payload=%7B%22&queue=No", "queue"),
        ("payload=%7B%22&when=in&in=soon", "in"),
        ("payload=%7B%22&when=at", "exectime"),
    ] {
        let got = browser_form(&site, "/new", &format!("back=/&{sent}")).await;
        assert_eq!(got.status, 400, "{sent}");
        assert!(
            got.body.contains(&format!("id=\"wrong-{field}\"")),
            "{sent}: {}",
            got.body
        );
        assert!(
            got.body.contains("\n{&quot;</textarea>"),
            "{sent}: {}",
            got.body
        );
    }
    assert!(site.backend.payloads().is_empty());
}

#[tokio::test]
async fn a_task_shows_all_and_offers_what_its_state_allows() {
    let site = site();
    let id = submit(
        &site,
        r#"{"payload":{"z":[1.50,"<b>"],"a":null},"delay":3600,"unique_key":"k<1>"}"#,
    )
    .await;
    let path = format!("/tasks/{id}");
    let page = site.get(&path).await.body;
    for part in [
        "\n    1.50,\n    &quot;&lt;b&gt;&quot;\n",
        "k&lt;1&gt;",
        "/data/tasks/20",
        "(in 1 h 0 min)",
        "Cancel the task",
        "Give it another place",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert!(!page.contains("value=\"retry\""), "it is not dead");
    let got = browser_form(&site, &path, "do=reschedule&priority=7&when=same").await;
    assert_eq!(goes_to(&got), format!("{path}?told=rescheduled"));
    assert_eq!(site.backend.tasks.lock().unwrap()[0].priority.get(), 7);
    let got = browser_form(&site, &path, "do=reschedule&priority=high&when=same").await;
    assert_eq!(got.status, 400);
    assert!(got.body.contains("id=\"wrong-priority\"") && got.body.contains("value=\"high\""));
    assert_eq!(browser_form(&site, &path, "do=retry").await.status, 409);

    site.backend.tasks.lock().unwrap()[0].state = State::Dead;
    assert!(site.get(&path).await.body.contains("value=\"retry\""));
    assert_eq!(
        goes_to(&browser_form(&site, &path, "do=retry").await),
        format!("{path}?told=retried")
    );
    let got = browser_form(&site, &path, "do=cancel").await;
    assert_eq!(goes_to(&got), "/queues/default?told=cancelled");
    assert_eq!(site.get(&path).await.status, 404);
}

#[tokio::test]
async fn a_long_payload_is_cut_and_its_whole_is_a_link() {
    let site = Site::with(|http| http.limits.payloads = PayloadLimits::bytes(1 << 20));
    let long = "<".repeat(200_000);
    let backend = &site.backend;
    let task = crate::task::NewTask::of(crate::task::Payload::from_text(&long));
    let outcome = crate::backend::Backend::submit(&**backend, vec![task])
        .await
        .unwrap();
    let id = outcome[0].task.id;
    let page = site.get(&format!("/tasks/{id}")).await.body;
    assert!(page.len() < 40_000, "{}", page.len());
    assert!(
        page.contains("only its beginning is shown")
            && page.contains(&format!("/api/v1/tasks/{id}"))
    );
    let list = site.get("/list").await.body;
    assert!(list.len() < 10_000, "{}", list.len());
}

#[tokio::test]
async fn what_can_not_be_undone_is_asked_first_and_names_the_count() {
    let site = site();
    submit(&site, r#"{"payload":1}"#).await;
    site.backend.tasks.lock().unwrap()[0].state = State::Dead;
    for (what, asked, told) in [
        ("retry", "retry_dead", "retried-dead&count=3&left=2"),
        ("purge", "purge", "purged-dead&count=4"),
    ] {
        let page = site
            .get(&format!("/queues/default/dead?do={what}"))
            .await
            .body;
        assert!(page.contains("1 dead task?"), "{page}");
        assert!(
            !site
                .backend
                .asked
                .lock()
                .unwrap()
                .iter()
                .any(|one| one.starts_with(asked))
        );
        let got = browser_form(&site, "/queues/default/dead", &format!("do={what}")).await;
        assert_eq!(goes_to(&got), format!("/queues/default?told={told}"));
        assert!(
            site.backend
                .asked
                .lock()
                .unwrap()
                .iter()
                .any(|one| one.starts_with(asked))
        );
    }
    assert_eq!(
        browser_form(&site, "/queues/default/dead", "do=all")
            .await
            .status,
        400
    );
    assert_eq!(
        browser_form(&site, "/queues/other/dead", "do=purge")
            .await
            .status,
        404
    );
    let page = site
        .get("/queues/default?told=purged-dead&count=4")
        .await
        .body;
    assert!(page.contains("4 tasks purged."), "{page}");
}

#[tokio::test]
async fn a_queue_is_switched_and_a_rejected_file_is_settled() {
    let site = site();
    submit(&site, r#"{"payload":1}"#).await;
    for (to, told, asked) in [
        ("pause", "paused", "pause"),
        ("resume", "resumed", "pause"),
        ("drain", "draining", "drain"),
        ("undrain", "undrained", "drain"),
    ] {
        let got = browser_form(&site, "/queues/default/switch", &format!("to={to}")).await;
        assert_eq!(goes_to(&got), format!("/queues/default?told={told}"));
        let name = QueueName::default();
        let on = matches!(to, "pause" | "drain");
        assert_eq!(
            site.backend.asked.lock().unwrap().last().unwrap(),
            &format!("{asked} {:?} {on}", Some(name))
        );
    }
    let page = site.get("/rejected").await.body;
    assert!(
        page.contains("{&lt;") && page.contains("not JSON"),
        "{page}"
    );
    let got = browser_form(&site, "/rejected", "name=x.json&do=retry").await;
    assert_eq!(goes_to(&got), "/rejected?told=file-retried");
    assert_eq!(
        site.backend.asked.lock().unwrap().last().unwrap(),
        "settle_rejected x.json Retry"
    );
    assert_eq!(
        browser_form(&site, "/rejected", "do=retry").await.status,
        400
    );
    assert_eq!(
        browser_form(&site, "/rejected", "name=x.json").await.status,
        400
    );
}

#[tokio::test]
async fn settings_are_shown_with_where_they_come_from() {
    let page = site().get("/config").await.body;
    for part in ["max_wait", "&lt;5m&gt;", "the file", "/data", "42"] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!(Site::new().get("/config").await.status, 404);
}

#[tokio::test]
async fn a_form_of_another_origin_is_refused_where_no_site_is_said() {
    let site = site();
    for (origin, status) in [
        ("http://queue.lan:5000", 303),
        ("http://evil.example", 403),
        ("null", 403),
    ] {
        let request = Request::post("/new")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::HOST, "queue.lan:5000")
            .header(header::ORIGIN, origin)
            .body(Body::from("back=/&payload=x"))
            .unwrap();
        assert_eq!(site.ask(request).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn what_people_read_is_compressed_for_those_who_ask_and_a_page_is_small_in_all() {
    let site = site();
    for number in 0..120 {
        submit(&site, &format!(r#"{{"payload":"a payload {number}"}}"#)).await;
    }
    let (plain, assets) = (site.get("/").await, ["/style.css", "/live.js", "/icon.svg"]);
    assert!(plain.headers.get(header::CONTENT_ENCODING).is_none());
    let mut beside = 0;
    for path in assets {
        beside += compressed(&site, path).await.0;
    }
    for path in ["/", "/queues/default", "/list", "/config", "/api/docs"] {
        let (length, text) = compressed(&site, path).await;
        assert!(
            length + beside < 60 << 10,
            "{path}: {length} + {beside} bytes"
        );
        assert!(text.contains("</html>"), "{path}");
    }
    let (length, text) = compressed(&site, "/api/openapi.json").await;
    assert_eq!(text, site.get("/api/openapi.json").await.body);
    assert!(length * 5 < text.len(), "{length} of {}", text.len());
}

/// How many bytes come, and what they say.
async fn compressed(site: &Site, path: &str) -> (usize, String) {
    let request = Request::get(path)
        .header(header::ACCEPT_ENCODING, "br, gzip")
        .body(Body::empty())
        .unwrap();
    let response = tower::ServiceExt::oneshot(site.router.clone(), request)
        .await
        .unwrap();
    let packed = response.headers().get(header::CONTENT_ENCODING).cloned();
    let body = http_body_util::BodyExt::collect(response.into_body());
    let bytes = body.await.unwrap().to_bytes();
    let mut text = String::new();
    match packed {
        Some(kind) => {
            assert_eq!(kind, "gzip", "{path}");
            std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bytes), &mut text)
                .unwrap();
        }
        None => text = String::from_utf8(bytes.to_vec()).unwrap(),
    }
    (bytes.len(), text)
}

#[tokio::test]
async fn what_was_done_is_told_even_to_one_who_accepts_no_coding() {
    for accepts in [
        "*;q=0",
        "identity;q=0",
        "br;q=1.0, *;q=0",
        "gzip;q=0, identity;q=0",
        "gzip;Q=0, identity;q=0",
        "gzip;q=32768.0, identity;q=0",
        "gzip;q=0.1234, identity;q=0",
    ] {
        let site = site();
        let request = Request::post("/new")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT_ENCODING, accepts)
            .body(Body::from("payload=once"))
            .unwrap();
        let got = site.ask(request).await;
        assert_eq!(got.status, 302, "{accepts}");
    }
}

#[tokio::test]
async fn a_browser_that_lost_its_way_gets_a_page_and_a_program_a_problem() {
    let site = site();
    let request = Request::get("/nothing-here")
        .header(header::ACCEPT, "text/html,*/*;q=0.8")
        .body(Body::empty())
        .unwrap();
    let got = site.ask(request).await;
    assert_eq!(got.status, 404);
    assert!(got.header(header::CONTENT_TYPE).starts_with("text/html"));
    assert!(got.body.contains("href=\"/\""), "{}", got.body);
    let got = site.get("/nothing-here").await;
    assert_eq!(got.problem(), (404, "not-found".to_owned()));
}
