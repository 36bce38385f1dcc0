//! Who is let in, to what: tokens, scopes, queues, users, sessions, names of the server.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    body::Body,
    http::{Request, header},
};

use super::{
    super::{Certificate, Door, Keys, Peer, Standing, User, Validity},
    Got, Site,
};
use crate::{
    access::{Fingerprint, Grant, Scope, Tokens, entry},
    task::{QueueName, State},
};

/// A daemon that knows the tokens `submit`, `work`, `read` and `admin`, each with the scope of its name, and `some`, which has
/// all four for the queues `mail-*`.
fn site() -> Site {
    let mut text = String::new();
    let mut add = |name: &str, scopes: &[&str], queues: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let print = Fingerprint::of(name);
        text += &entry(name, &print, &owned(scopes), &owned(queues)).unwrap();
    };
    for scope in Scope::ALL {
        add(scope.as_str(), &[scope.as_str()], &[]);
    }
    add("some", &["submit", "work", "read", "admin"], &["mail-*"]);
    let tokens = Tokens::parse(&text).unwrap();
    Site::with(|http| {
        http.door = Door::Tokens(Arc::new(Keys {
            tokens,
            ..Keys::default()
        }));
    })
}

async fn ask(site: &Site, method: &str, path: &str, token: &str, json: &str) -> Got {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if !json.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    site.ask(request.body(Body::from(json.to_owned())).unwrap())
        .await
}

#[tokio::test]
async fn a_token_that_is_known_must_be_shown() {
    let site = site();
    let got = site.get("/api/v1/queues").await;
    assert_eq!(got.problem(), (401, "unauthorized".to_owned()));
    assert_eq!(
        got.header(header::WWW_AUTHENTICATE),
        "Bearer realm=\"workqueue\""
    );
    assert!(
        got.header(header::CONTENT_SECURITY_POLICY)
            .contains("frame-ancestors 'none'")
    );
    for (value, status) in [
        ("Bearer read", 200),
        ("bearer admin", 200),
        ("Bearer rea", 401),
        ("Bearer readx", 401),
        ("Basic read", 401),
        ("Bearer", 401),
        ("", 401),
    ] {
        let request = Request::get("/api/v1/queues")
            .header(header::AUTHORIZATION, value)
            .body(Body::empty())
            .unwrap();
        assert_eq!(site.ask(request).await.status, status, "{value}");
    }
    for open in [
        "/healthz",
        "/readyz",
        "/login",
        "/style.css",
        "/problems/busy",
    ] {
        assert_eq!(site.get(open).await.status, 200, "{open}");
    }
}

/// Nothing in the API's description, and no page, is there for those who show nothing; what changes something is not there
/// for a reader.
#[tokio::test]
async fn no_path_is_forgotten() {
    let site = site();
    let document: serde_json::Value = serde_json::from_str(&super::super::openapi_json()).unwrap();
    let mut paths: Vec<(String, String)> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            if ["get", "post", "patch", "delete", "put"].contains(&method.as_str()) {
                paths.push((method.to_uppercase(), path.clone()));
            }
        }
    }
    assert!(paths.len() > 20, "{paths:?}");
    for page in [
        "/",
        "/list",
        "/new",
        "/queues",
        "/workers",
        "/rejected",
        "/config",
        "/no/such",
    ] {
        paths.push(("GET".to_owned(), page.to_owned()));
    }
    for (method, path) in paths {
        if ["/healthz", "/readyz", "/problems/{name}"].contains(&path.as_str()) {
            continue;
        }
        let path = path
            .replace("{id}", "0198c0de-7c1e-7000-8000-000000000001")
            .replace("{queue}", "default");
        let got = ask(&site, &method, &path, "", "").await;
        assert_eq!(got.status, 401, "{method} {path}");
        if method != "GET" || path == "/api/next" {
            let got = ask(&site, &method, &path, "read", "{}").await;
            assert_eq!(
                got.problem(),
                (403, "forbidden".to_owned()),
                "{method} {path}"
            );
            let challenge = got.header(header::WWW_AUTHENTICATE);
            assert!(challenge.contains("insufficient_scope"), "{challenge}");
        }
    }
}

#[tokio::test]
async fn a_scope_allows_what_it_says_and_admin_everything() {
    let site = site();
    let task = r#"{"payload":1,"queue":"default"}"#;
    let claim = r#"{"queues":["default"]}"#;
    for (method, path, json, scope) in [
        ("POST", "/api/v1/tasks", task, "submit"),
        ("POST", "/api/v1/claim", claim, "work"),
        ("GET", "/api/next", "", "work"),
        ("GET", "/api/v1/tasks", "", "read"),
        ("GET", "/metrics", "", "read"),
        ("GET", "/", "", "read"),
        ("GET", "/new", "", "submit"),
    ] {
        for token in ["submit", "work", "read", "admin"] {
            let got = ask(&site, method, path, token, json).await;
            let allowed = token == scope || token == "admin";
            let told = format!("{token}: {method} {path}: {got:?}");
            assert_eq!(got.status != 403, allowed, "{told}");
            assert_eq!(got.status.is_success(), allowed, "{told}");
        }
    }
    let id = ask(&site, "POST", "/api/v1/tasks", "admin", task)
        .await
        .json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/api/v1/tasks/{id}");
    for token in ["submit", "work", "read"] {
        assert_eq!(ask(&site, "DELETE", &path, token, "").await.status, 403);
    }
    assert_eq!(ask(&site, "DELETE", &path, "admin", "").await.status, 204);
}

#[tokio::test]
async fn a_token_of_some_queues_reaches_no_other() {
    let site = site();
    let submit = async |token: &str, queue: &str| {
        let task = format!(r#"{{"payload":1,"queue":"{queue}"}}"#);
        ask(&site, "POST", "/api/v1/tasks", token, &task).await
    };
    assert_eq!(submit("some", "mail-eu").await.status, 201);
    let got = submit("some", "default").await;
    assert_eq!(got.problem(), (403, "forbidden".to_owned()));
    let two = r#"[{"payload":1,"queue":"mail-eu"},{"payload":1}]"#;
    assert_eq!(
        ask(&site, "POST", "/api/v1/tasks", "some", two)
            .await
            .status,
        403
    );

    let other = submit("admin", "default").await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let own = submit("admin", "mail-us").await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let of = |id: &str| format!("/api/v1/tasks/{id}");
    for (method, path, json, status) in [
        ("GET", of(&own), "", 200),
        ("GET", of(&other), "", 403),
        ("PATCH", of(&other), r#"{"priority":1}"#, 403),
        ("PATCH", of(&own), r#"{"queue":"default"}"#, 403),
        ("PATCH", of(&own), r#"{"priority":1}"#, 200),
        ("DELETE", of(&other), "", 403),
        ("POST", format!("{}/retry", of(&other)), "", 403),
        (
            "POST",
            "/api/complete".to_owned(),
            &*format!(r#"{{"id":"{other}"}}"#),
            403,
        ),
        ("GET", "/api/next".to_owned(), "", 403),
        (
            "POST",
            "/api/v1/claim".to_owned(),
            r#"{"queues":["mail-eu","default"]}"#,
            403,
        ),
        (
            "POST",
            "/api/v1/claim".to_owned(),
            r#"{"queues":["mail-eu"]}"#,
            200,
        ),
        ("GET", "/api/v1/tasks".to_owned(), "", 403),
        ("GET", "/api/v1/tasks?queue=default".to_owned(), "", 403),
        ("GET", "/api/v1/tasks?queue=mail-eu".to_owned(), "", 200),
        (
            "GET",
            "/api/v1/events?queue=mail-eu&queue=default&follow=false".to_owned(),
            "",
            403,
        ),
        ("GET", "/api/v1/queues/default".to_owned(), "", 403),
        ("GET", "/api/v1/queues/%64efault".to_owned(), "", 403),
        ("GET", "/api/v1/queues/mail-us".to_owned(), "", 404),
        ("GET", "/metrics".to_owned(), "", 403),
        ("GET", "/api/v1/export".to_owned(), "", 403),
        ("POST", "/api/v1/import".to_owned(), "", 403),
        ("GET", "/".to_owned(), "", 403),
    ] {
        let got = ask(&site, method, &path, "some", json).await;
        assert_eq!(got.status, status, "{method} {path}: {got:?}");
    }
    // A lease's token opens no other queue either: who holds it may have been let into fewer since.
    let held = ask(&site, "POST", "/api/v1/claim", "admin", "{}")
        .await
        .json();
    let (id, token) = (&held["tasks"][0]["id"], &held["tasks"][0]["token"]);
    assert_eq!(id, &*other);
    for (what, more) in [
        ("extend", r#","lease":5"#),
        ("fail", ""),
        ("release", ""),
        ("complete", ""),
    ] {
        let path = format!("{}/{what}", of(&other));
        let json = format!(r#"{{"token":{token}{more}}}"#);
        let got = ask(&site, "POST", &path, "some", &json).await;
        assert_eq!(got.problem(), (403, "forbidden".to_owned()), "{what}");
        let gone = of("00000000-0000-4000-8000-000000000000");
        let got = ask(&site, "POST", &format!("{gone}/{what}"), "some", &json).await;
        assert_eq!(got.status, 404, "{what}");
    }
    let json = format!(r#"{{"queues":["mail-eu"],"complete":[{{"id":{id},"token":{token}}}]}}"#);
    let got = ask(&site, "POST", "/api/v1/claim", "some", &json).await;
    assert_eq!(got.problem(), (403, "forbidden".to_owned()));
    // The backend here knows the queue `default` only.
    for (token, count) in [("some", 0), ("admin", 1)] {
        let queues = ask(&site, "GET", "/api/v1/queues", token, "").await.json();
        assert_eq!(queues["queues"].as_array().unwrap().len(), count, "{token}");
    }
}

/// Between the look at a task's queue and its change, somebody moves it.
#[tokio::test]
async fn a_token_of_some_queues_changes_no_task_that_has_just_gone_to_another() {
    let site = site();
    let changes = [
        ("DELETE", "/api/v1/tasks/ID", ""),
        ("PATCH", "/api/v1/tasks/ID", r#"{"priority":7}"#),
        ("POST", "/api/v1/tasks/ID/retry", ""),
        ("POST", "/api/complete", r#"{"id":"ID"}"#),
    ];
    for (method, path, json) in changes {
        for (to, is_done) in [("secret", false), ("mail-eu", true)] {
            let task = r#"{"payload":1,"queue":"mail-us"}"#;
            let task = ask(&site, "POST", "/api/v1/tasks", "admin", task).await;
            let task = task.json()["id"].as_str().unwrap().to_owned();
            let id = crate::task::TaskId::parse(&task).unwrap();
            if path.ends_with("retry") {
                let dead = |task: &mut crate::backend::TaskView| task.state = State::Dead;
                site.backend.change(id, dead).unwrap();
            }
            *site.backend.moving.lock().unwrap() = Some(QueueName::parse(to).unwrap());
            let (path, json) = (path.replace("ID", &task), json.replace("ID", &task));
            let got = ask(&site, method, &path, "some", &json).await;
            assert_eq!(got.status.is_success(), is_done, "{method} {path}");
            if !is_done {
                assert_eq!(got.status, 403, "{method} {path}");
                let left = site.backend.find(id).unwrap();
                assert_eq!(left.queue.as_str(), to);
            }
        }
    }
}

#[tokio::test]
async fn a_token_may_be_shown_only_so_often() {
    let mut text = String::new();
    for name in ["one", "two"] {
        text += &entry(name, &Fingerprint::of(name), &["read".to_owned()], &[]).unwrap();
    }
    let site = Site::with(|http| {
        http.door = Door::Tokens(Arc::new(Keys {
            tokens: Tokens::parse(&text).unwrap(),
            rate: 1,
            burst: 3,
            ..Keys::default()
        }));
    });
    for _ in 0..3 {
        assert_eq!(
            ask(&site, "GET", "/api/v1/queues", "one", "").await.status,
            200
        );
    }
    let got = ask(&site, "GET", "/api/v1/queues", "one", "").await;
    assert_eq!(got.problem(), (429, "too-many-with-token".to_owned()));
    assert_eq!(got.header(header::RETRY_AFTER), "1");
    assert_eq!(
        ask(&site, "GET", "/api/v1/queues", "two", "").await.status,
        200
    );
}

#[tokio::test]
async fn a_certificate_stands_for_the_token_of_its_name() {
    let site = site();
    for (name, status) in [("read", 200), ("submit", 403), ("stranger", 401)] {
        let peer = Peer {
            certificate: Some(Certificate {
                name: name.into(),
                validity: Arc::new(Good(AtomicBool::new(true))),
            }),
            ..Peer::default()
        };
        let request = Request::get("/api/v1/queues")
            .extension(Arc::new(peer))
            .body(Body::empty())
            .unwrap();
        assert_eq!(site.ask(request).await.status, status, "{name}");
    }
}

/// A certificate that is good as long as this says so.
#[derive(Debug)]
struct Good(AtomicBool);

impl Validity for Good {
    fn holds(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_certificate_whose_authority_is_trusted_no_more_is_an_unknown_credential() {
    let site = site();
    let validity = Arc::new(Good(AtomicBool::new(true)));
    let peer = Arc::new(Peer {
        certificate: Some(Certificate {
            name: "read".into(),
            validity: Arc::clone(&validity) as Arc<dyn Validity>,
        }),
        ..Peer::default()
    });
    let ask = || {
        let request = Request::get("/api/v1/queues").extension(Arc::clone(&peer));
        site.ask(request.body(Body::empty()).unwrap())
    };
    assert_eq!(ask().await.status, 200);
    validity.0.store(false, Ordering::Relaxed);
    let got = ask().await;
    assert_eq!(got.problem(), (401, "unauthorized".to_owned()));
}

#[tokio::test]
async fn a_user_of_the_socket_may_do_what_is_granted_and_nobody_else_anything() {
    let site = Site::with(|http| http.door = Door::Users);
    assert_eq!(site.get("/api/v1/queues").await.status, 401);
    let may = |scope: Scope| {
        Some(Arc::new(Grant {
            name: "backup".into(),
            scopes: [scope].into_iter().collect(),
            queues: None,
        }))
    };
    let granted = Arc::new(Granted(Mutex::new(may(Scope::Read))));
    let peer = Arc::new(Peer {
        user: Some(User {
            uid: 34,
            standing: Arc::clone(&granted) as Arc<dyn Standing>,
        }),
        ..Peer::default()
    });
    let ask = |method: &str, path: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .extension(Arc::clone(&peer));
        site.ask(request.body(Body::empty()).unwrap())
    };
    for (method, path, status) in [
        ("GET", "/api/v1/export", 200),
        ("POST", "/api/v1/import", 403),
        ("POST", "/api/v1/tasks", 403),
    ] {
        assert_eq!(ask(method, path).await.status, status, "{method} {path}");
    }
    // On the same connection: what is granted as of now counts.
    *granted.0.lock().unwrap() = may(Scope::Submit);
    assert_eq!(ask("GET", "/api/v1/export").await.status, 403);
    *granted.0.lock().unwrap() = None;
    let got = ask("GET", "/api/v1/queues").await;
    assert_eq!(got.problem(), (403, "forbidden".to_owned()));
    assert!(got.body.contains("admin.users"), "{}", got.body);
}

/// A user who may do what this says.
#[derive(Debug)]
struct Granted(Mutex<Option<Arc<Grant>>>);

/// The standing of a user who may always do that.
pub(super) fn standing(grant: Grant) -> Arc<dyn Standing> {
    Arc::new(Granted(Mutex::new(Some(Arc::new(grant)))))
}

impl Standing for Granted {
    fn grant(&self) -> Option<Arc<Grant>> {
        self.0.lock().unwrap().clone()
    }
}

/// The cookie of a new session of `token`.
async fn log_in(site: &Site, token: &str) -> String {
    let got = site
        .form("/login", &format!("token={token}&next=%2Flist"))
        .await;
    assert_eq!(
        (got.status.as_u16(), got.header(header::LOCATION)),
        (303, "/list")
    );
    let cookie = got.header(header::SET_COOKIE);
    assert!(
        cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict"),
        "{cookie}"
    );
    cookie.split(';').next().unwrap().to_owned()
}

async fn with_cookie(site: &Site, method: &str, path: &str, fields: &[(&str, &str)]) -> Got {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:5000")
        .header(header::ACCEPT, "text/html")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    site.ask(request.body(Body::from("payload=x")).unwrap())
        .await
}

#[tokio::test]
async fn a_login_gives_a_cookie_that_is_no_token_and_ends_with_a_logout() {
    let site = site();
    let cookie = log_in(&site, "admin").await;
    assert!(!cookie.contains("admin"), "{cookie}");
    let shown = [("cookie", cookie.as_str())];
    assert_eq!(with_cookie(&site, "GET", "/list", &shown).await.status, 200);
    let other = format!("a=b; {cookie}; c=d");
    assert_eq!(
        with_cookie(&site, "GET", "/", &[("cookie", &other)])
            .await
            .status,
        200
    );
    assert!(
        with_cookie(&site, "GET", "/login", &shown)
            .await
            .body
            .contains("<b>admin</b>")
    );
    // Another server of the same name, on another port, has set a cookie of the same name.
    let both = format!("workqueue_session=theirs; {cookie}");
    let got = with_cookie(&site, "GET", "/list", &[("cookie", &both)]).await;
    assert_eq!(got.status, 200);

    let ours = [shown[0], ("sec-fetch-site", "same-origin")];
    let got = with_cookie(&site, "POST", "/logout", &ours).await;
    assert_eq!(got.header(header::LOCATION), "/login");
    assert!(got.header(header::SET_COOKIE).contains("Max-Age=0"));
    let got = with_cookie(&site, "GET", "/list?queue=a", &shown).await;
    assert_eq!(
        (got.status.as_u16(), got.header(header::LOCATION)),
        (303, "/login?next=%2Flist%3Fqueue%3Da")
    );
    let guessed = Request::get("/api/v1/queues").header("cookie", "workqueue_session=wq_guessed");
    let got = site.ask(guessed.body(Body::empty()).unwrap()).await;
    assert_eq!(got.problem(), (401, "unauthorized".to_owned()));
    assert!(got.body.contains("not known here"), "{}", got.body);
    // Nobody knows yet who sends it: whoever it is takes no room from those who are known.
    let large = format!("token={}", "a".repeat(20_000));
    assert_eq!(site.form("/login", &large).await.status, 413);
    let got = site.form("/login", "token=a&next=%2F&next=%2Flist").await;
    assert_eq!(
        (got.status.as_u16(), got.body.contains("given twice")),
        (400, true)
    );
    let got = site.form("/login", "token=wrong").await;
    assert_eq!(got.status, 401);
    assert!(got.body.contains("not known here"), "{}", got.body);
}

#[tokio::test]
async fn a_change_by_cookie_must_come_from_a_page_of_this_server() {
    let site = site();
    let cookie = log_in(&site, "admin").await;
    for (fields, status) in [
        (vec![("sec-fetch-site", "same-origin")], 302),
        (vec![("origin", "http://localhost:5000")], 302),
        (vec![], 403),
        (vec![("sec-fetch-site", "cross-site")], 403),
        (vec![("sec-fetch-site", "same-site")], 403),
        (vec![("origin", "http://evil.example")], 403),
        (vec![("origin", "null")], 403),
    ] {
        let shown = [vec![("cookie", cookie.as_str())], fields.clone()].concat();
        let got = with_cookie(&site, "POST", "/new", &shown).await;
        assert_eq!(got.status, status, "{fields:?}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_the_servers_is_turned_away() {
    let site = Site::with(|http| http.hosts = Some(["queue.example".into()].into()));
    for (host, status) in [
        ("localhost:5000", 200),
        ("127.0.0.1:5000", 200),
        ("[::1]:5000", 200),
        ("Queue.Example", 200),
        ("queue.example.", 200),
        ("evil.example:5000", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("", 421),
    ] {
        let request = Request::get("/api/v1/queues")
            .header(header::HOST, host)
            .body(Body::empty())
            .unwrap();
        assert_eq!(site.ask(request).await.status, status, "{host}");
    }
    // As HTTP/2 has it, and what is sent to a proxy.
    let request = Request::get("http://evil.example/api/v1/queues")
        .header(header::HOST, "localhost")
        .body(Body::empty())
        .unwrap();
    assert_eq!(site.ask(request).await.status, 421);
    // Programs of HTTP/1.0 name none.
    assert_eq!(site.get("/api/v1/queues").await.status, 200);
    let any = Site::with(|http| http.hosts = Some(["*".into()].into()));
    let request = Request::get("/api/v1/queues")
        .header(header::HOST, "whatever")
        .body(Body::empty())
        .unwrap();
    assert_eq!(any.ask(request).await.status, 200);
}
