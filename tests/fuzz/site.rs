//! [`Site`]: the real router over a real engine on a real directory, with tasks in every state, and begun anew now and then.

use std::{path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, header},
};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use workqueue::{
    access::Tokens,
    admin::{self, Control},
    api::Setting,
    engine::{
        Durability, Settings, clock,
        driver::{Opening, Running, open},
    },
    http::{About, Door, Facts, Http, HttpLimits, Keys, router},
    store::DropLimits,
    task::{Millis, PayloadLimits, WallMillis},
};

use crate::answer::Answer;

/// What a request writes where it means the token of the task that is leased.
pub(crate) const TOKEN: &str = "70ce0000000000000000000000000001";

/// Tasks with ids of their own: ready, scheduled, leased, and dead.
const READY: &str = "0198c0de-0000-7000-8000-00000000000a";
const SCHEDULED: &str = "0198c0de-0000-7000-8000-00000000000b";
const LEASED: &str = "0198c0de-0000-7000-8000-00000000000c";
const DEAD: &str = "0198c0de-0000-7000-8000-00000000000d";

/// The token `test` of a reader, which the corpus shows.
const TOKENS: &str = r#"
[[token]]
name = "reader"
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
scopes = ["read"]
queues = ["default"]
"#;

/// The longest that anything is waited for.
const SOON: Duration = Duration::from_secs(9);

/// After so many inputs all begins anew: memory and pages are to stay small.
pub(crate) const LIFE: u64 = 400;
/// After so many, what ended is there again.
const AGAIN: u64 = 25;

/// The process as the pages and the admin API see it.
struct Process;

impl About for Process {
    fn facts(&self) -> Facts {
        Facts {
            version: "0".to_owned(),
            pid: 1,
            started: WallMillis(0),
            data_dir: "/data".to_owned(),
            listen: Vec::new(),
            admin_socket: None,
            durability: "none".to_owned(),
        }
    }

    fn settings(&self) -> Vec<Setting> {
        Vec::new()
    }
}

impl Control for Process {
    fn set_log_level(&self, directives: &str) -> Result<(), String> {
        workqueue::systemd::logging::check(directives).map_err(|error| error.to_string())
    }

    fn reload(&self) -> Result<(), String> {
        Ok(())
    }

    fn shutdown(&self) {}
}

/// One life of a server.
struct Life {
    running: Running,
    tcp: Router,
    admin: Router,
    /// As `tcp`, where a token is asked for, and a name of the server.
    guarded: Router,
    /// The token of the task that is leased.
    token: String,
}

/// See the [module](self).
pub(crate) struct Site {
    scratch: tempfile::TempDir,
    pub(crate) runtime: tokio::runtime::Runtime,
    life: Option<Life>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            scratch: tempfile::tempdir().expect("a scratch directory"),
            runtime: runtime.enable_all().build().expect("a runtime"),
            life: None,
        }
    }

    /// Sees to it that the input of this number meets what it may be about. Gives whether a new life begins with it.
    pub(crate) fn prepare(&mut self, number: u64) -> bool {
        let begins = self.life.is_none() || number.is_multiple_of(LIFE);
        if begins {
            self.end();
            self.scratch = tempfile::tempdir().expect("a scratch directory");
            self.life = Some(begin(self.scratch.path()));
            // What is made once for all answers is not an input's.
            for router in [&self.life().tcp, &self.life().admin] {
                self.ask(router, get("/api/docs"));
                self.ask(router, get("/api/openapi.json"));
            }
        }
        if begins || number.is_multiple_of(AGAIN) {
            self.arm();
        }
        begins
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("it was prepared")
    }

    /// Ends a life: what was asked in it has left a directory that a start reads, with as many tasks in it.
    pub(crate) fn end(&mut self) {
        let Some(life) = &self.life else { return };
        let before = self.count(life);
        let life = self.life.take().expect("it is there");
        assert_eq!(life.running.close(SOON), None, "a fault");
        let again = begin(self.scratch.path());
        let after = self.count(&again);
        assert_eq!(again.running.close(SOON), None, "a fault");
        assert_eq!(before, after, "tasks before and after a restart");
    }

    fn count(&self, life: &Life) -> u64 {
        let got = self.ask(&life.admin, get("/status"));
        let status = got.json();
        let states = ["ready", "scheduled", "leased", "dead"];
        let counts = states.map(|state| status[state].as_u64().expect("a count"));
        counts.iter().sum()
    }

    /// The routers: that of TCP listeners, and that of the admin socket.
    pub(crate) fn routers(&self) -> (Router, Router) {
        (self.life().tcp.clone(), self.life().admin.clone())
    }

    /// The bytes of a request with the token of now.
    pub(crate) fn with_token(&self, input: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        let mut from = 0;
        while let Some(at) = bytes[from..]
            .windows(TOKEN.len())
            .position(|window| window == TOKEN.as_bytes())
        {
            from += at + TOKEN.len();
            bytes[from - TOKEN.len()..from].copy_from_slice(self.life().token.as_bytes());
        }
        bytes
    }

    /// Asks the router that a path is served by.
    pub(crate) fn send(&self, request: Request<Body>) -> Answer {
        let life = self.life();
        let fields = request.headers();
        let router = if is_admin(request.uri().path()) {
            &life.admin
        } else if fields.contains_key(header::AUTHORIZATION) || fields.contains_key(header::COOKIE)
        {
            &life.guarded
        } else {
            &life.tcp
        };
        self.ask(router, request)
    }

    fn ask(&self, router: &Router, request: Request<Body>) -> Answer {
        let is_stream = |answer: &Response<Body>| {
            let kind = answer.headers().get(header::CONTENT_TYPE);
            kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
        };
        let asked = async {
            let answer = router.clone().oneshot(request).await;
            let answer = answer.expect("a router always answers");
            if is_stream(&answer) {
                // It has no end.
                return Answer::new(answer.into_parts().0, Vec::new());
            }
            let (head, body) = answer.into_parts();
            let body = body.collect().await.expect("the answer has an end");
            Answer::new(head, body.to_bytes().to_vec())
        };
        self.runtime.block_on(async {
            tokio::time::timeout(SOON, asked)
                .await
                .expect("an answer in time")
        })
    }

    /// Brings the tasks back that requests are about.
    fn arm(&mut self) {
        let life = self.life();
        for (queue, on) in [("", "resume"), ("?queue=held", "resume"), ("", "undrain")] {
            self.ask(&life.admin, post(&format!("/{on}{queue}"), &Value::Null));
        }
        let tasks = [
            json!({"id": READY, "payload": "ready", "unique_key": "key"}),
            json!({"id": SCHEDULED, "payload": {"scheduled": true}, "exectime": 4_000_000_000_u64}),
            json!({"id": LEASED, "payload": ["leased"], "queue": "held"}),
            json!({"id": DEAD, "payload": null, "queue": "dying"}),
        ];
        for task in tasks {
            self.ask(&life.tcp, post("/api/v1/tasks", &task));
        }
        let claim = |queue: &str| {
            let body = json!({"queues": [queue], "max": 1, "lease": 600, "worker": "host:1"});
            let got = self.ask(&life.tcp, post("/api/v1/claim", &body)).json();
            got["tasks"][0].clone()
        };
        let dying = claim("dying");
        if let (Some(id), Some(token)) = (dying["id"].as_str(), dying["token"].as_str()) {
            let body = json!({"token": token, "error": "as it was to be", "dead": true});
            self.ask(&life.tcp, post(&format!("/api/v1/tasks/{id}/fail"), &body));
        }
        let token = claim("held")["token"].as_str().map(str::to_owned);
        if let (Some(token), Some(life)) = (token, &mut self.life) {
            life.token = token;
        }
    }
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a request")
}

fn post(path: &str, body: &Value) -> Request<Body> {
    let body = if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    };
    Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .expect("a request")
}

/// Whether only the admin socket serves a path.
pub(crate) fn is_admin(path: &str) -> bool {
    let first = path.trim_start_matches('/').split(['/', '?']).next();
    matches!(
        first,
        Some(
            "status"
                | "leases"
                | "pause"
                | "resume"
                | "drain"
                | "undrain"
                | "retry-dead"
                | "purge"
                | "rescan"
                | "checkpoint"
                | "reload"
                | "log-level"
                | "shutdown"
        )
    ) || path.starts_with("/rejected/")
}

fn begin(root: &Path) -> Life {
    let settings = Settings {
        durability: Durability::None,
        segment_bytes: 64 << 10,
        payload_cache: 1 << 20,
        ..Settings::default()
    };
    let drops = DropLimits {
        payloads: PayloadLimits::bytes(64 << 10),
        max_file: 128 << 10,
    };
    let opening = Opening {
        root: root.to_owned(),
        settings,
        drops,
        rescan_every: None,
    };
    let running = open(opening, &mut |_| {}).expect("the directory opens");
    let limits = HttpLimits {
        max_body: 128 << 10,
        payloads: PayloadLimits::bytes(64 << 10),
        // No claim is to hold up the others.
        max_wait: Millis(5),
        body_timeout: Millis(50),
        // Streams whose reader is gone end soon.
        heartbeat: Millis(200),
        ..HttpLimits::default()
    };
    let stop = CancellationToken::new();
    let mut http = Http::new(running.handle(), limits, Arc::new(clock::now), stop);
    http.about = Some(Arc::new(Process));
    let keys = Keys {
        tokens: Tokens::parse(TOKENS).expect("a file of tokens"),
        ..Keys::default()
    };
    let mut guarded = http.clone();
    guarded.door = Door::Tokens(Arc::new(keys));
    guarded.hosts = Some(Arc::from(["queue.example.org".into()]));
    Life {
        tcp: router(http.clone()),
        guarded: router(guarded),
        admin: admin::router(http, Arc::new(Process)),
        running,
        token: TOKEN.to_owned(),
    }
}
