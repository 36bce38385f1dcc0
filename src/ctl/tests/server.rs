//! A small server on a Unix socket that answers like the daemon, and keeps what it was asked.

use std::{
    io::{self, Cursor, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use super::super::*;
use crate::config::Surroundings;

pub(super) const ID: &str = "0198c0de-0000-7000-8000-000000000001";
pub(super) const GONE: &str = "0198c0de-0000-7000-8000-000000000404";

/// What one request asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) kind: String,
    pub(super) body: String,
}

#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Asked>>>);

pub(super) struct Daemon {
    pub(super) dir: tempfile::TempDir,
    log: Log,
    server: tokio::task::JoinHandle<io::Result<()>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Daemon {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = tokio::net::UnixListener::bind(dir.path().join("admin.sock")).unwrap();
        let log = Log::default();
        let app = Router::new().fallback(answer).with_state(log.clone());
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        Self { dir, log, server }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.log.0.lock().unwrap())
    }

    pub(super) async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, "", false).await
    }

    pub(super) async fn run_with(&self, args: &[&str], input: &str, interactive: bool) -> Ran {
        let socket = self.socket();
        let mut all = vec!["--socket", socket.to_str().unwrap()];
        all.extend(args);
        run_plain(&all, input, interactive).await
    }
}

fn task(id: &str, payload: &Value) -> Value {
    json!({"id": id, "queue": "default", "state": "ready", "payload": payload, "priority": 100, "exectime": 0,
        "attempts": 0, "max_attempts": 5})
}

pub(in crate::ctl) fn task_of(payload: &str) -> api::Task {
    let mut task: api::Task = serde_json::from_value(task(ID, &Value::Null)).unwrap();
    task.payload = crate::task::Payload::from_json(payload).unwrap();
    task
}

pub(in crate::ctl) fn status_of() -> api::Status {
    serde_json::from_value(status()).unwrap()
}

pub(in crate::ctl) fn queue_of(name: &str, ready: u64, completed: u64) -> api::Queue {
    let mut queue: api::Queue = serde_json::from_value(queue()).unwrap();
    name.clone_into(&mut queue.queue);
    queue.ready = ready;
    queue.totals.completed = completed;
    queue
}

pub(in crate::ctl) fn worker_of(name: &str) -> api::Worker {
    serde_json::from_value(
        json!({"worker": name, "holds": [], "waiting": true, "last_seen": 0.0, "claimed": 1,
        "completed": 1, "failed": 0}),
    )
    .unwrap()
}

pub(super) fn status() -> Value {
    json!({"status": "ok", "version": "0.1.0", "pid": 7, "started": 1_795_551_048.0, "uptime": 61.0,
    "data_dir": "/var/lib/workqueue", "listen": ["127.0.0.1:5000"], "admin_socket": null, "durability": "sync",
    "ready": 3, "scheduled": 0, "leased": 0, "dead": 2, "queues": 1, "paused": false, "draining": false,
    "waiting_claims": 0, "totals": totals(), "spool_lag_seconds": 0.0, "spool_pending": 0, "spool_failing": 0, "drops_waiting": 0, "left_behind": 0,
    "journal_bytes": 0, "journal_syncs": 0, "journal_records": 0, "rejected": 0,
    "troubles": [
        {"kind": "dead-tasks", "severity": "warning", "what": "2 dead tasks", "next": "workqueuectl retry --dead"},
        {"kind": "paused", "severity": "notice", "what": "\u{1b}[2J is paused", "next": "workqueuectl resume"},
    ]})
}

pub(super) fn totals() -> Value {
    json!({"submitted": 5, "claimed": 0, "completed": 0, "failed": 0, "released": 0, "expired": 0, "cancelled": 0,
        "died": 2, "retried": 0})
}

fn queue() -> Value {
    json!({"queue": "default", "ready": 3, "scheduled": 0, "leased": 0, "dead": 2, "paused": false, "draining": false,
        "oldest_due_age": 12.0, "totals": totals(), "submitted_per_second": 1.5, "completed_per_second": 0.0, "unasked_seconds": 0.0, "died_last_hour": 0})
}

fn problem(status: u16, detail: &str) -> Response {
    let body = json!({"type": "/problems/x", "title": "No", "status": status, "detail": detail});
    (StatusCode::from_u16(status).unwrap(), body.to_string()).into_response()
}

/// Of the queue emails all are back; of all queues, some.
fn retried_dead(body: &[u8]) -> Value {
    if body.is_empty() || body == b"{}" {
        let problem = json!({"type": "/problems/too-many", "title": "A limit", "status": 507,
            "detail": "unique keys: the limit of 7 (max_unique_keys) is reached"});
        json!({"count": 3, "left": 2, "problem": problem})
    } else {
        json!({"count": 2, "left": 0})
    }
}

async fn answer(
    State(log): State<Log>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let kind = headers
        .get("content-type")
        .map(|kind| kind.to_str().unwrap().to_owned());
    log.0.lock().unwrap().push(Asked {
        method: method.to_string(),
        path: uri.to_string(),
        kind: kind.clone().unwrap_or_default(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let found = task(ID, &json!("pay\u{1b}[2Jload"));
    match (method.as_str(), uri.path()) {
        ("POST", "/api/v1/tasks") if kind.as_deref() == Some("application/x-ndjson") => {
            let lines = body
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .count();
            json!({"accepted": lines, "created": lines})
                .to_string()
                .into_response()
        }
        ("POST", "/api/v1/tasks") => {
            let object: Value = serde_json::from_slice(&body).unwrap();
            let known = object["id"] == ID;
            let status = if known {
                StatusCode::OK
            } else {
                StatusCode::CREATED
            };
            (status, task(ID, &object["payload"]).to_string()).into_response()
        }
        ("GET", "/api/v1/tasks") if !uri.to_string().contains("defualt") => {
            let second = uri.query().unwrap_or_default().contains("after=");
            let next = if second {
                Value::Null
            } else {
                json!("ready,100,0,x")
            };
            json!({"tasks": [found], "next": next})
                .to_string()
                .into_response()
        }
        ("GET", _) if uri.to_string().contains("defualt") => problem(404, "no queue defualt"),
        (_, path) if path.contains(GONE) => problem(404, &format!("no task {GONE}")),
        ("DELETE", _) => StatusCode::NO_CONTENT.into_response(),
        ("GET", "/api/v1/queues") => json!({"queues": [queue()]}).to_string().into_response(),
        ("GET", "/api/v1/queues/default") => queue().to_string().into_response(),
        ("GET", "/api/v1/workers") => json!({"workers": []}).to_string().into_response(),
        ("GET", "/api/v1/events") => {
            let kind = [(header::CONTENT_TYPE, "text/event-stream")];
            let event = "id: 1\nevent: dead\ndata: {\"number\":1,\"at\":0.0,\"kind\":\"dead\",\"id\":\"x\",\"error\":\"a\\nb\"}\n\n";
            (kind, event).into_response()
        }
        ("GET", "/status") => status().to_string().into_response(),
        ("GET", "/config") => {
            json!({"settings": [{"key": "listen", "value": "none", "source": "/q.toml:3"}]})
                .to_string()
                .into_response()
        }
        ("GET", "/rejected") => {
            json!({"rejected": [{"name": "a.json", "reason": "no payload", "size": 2,
            "modified": 0.0, "moved": true, "beginning": "{}\u{1b}[2J"},
            {"name": "tasks/fifo", "reason": "a FIFO", "moved": false}]})
            .to_string()
            .into_response()
        }
        ("POST", "/rejected/retry" | "/rejected/discard")
            if String::from_utf8_lossy(&body).contains("a.json") =>
        {
            json!({"status": "ok"}).to_string().into_response()
        }
        ("POST", "/rejected/retry" | "/rejected/discard") => {
            problem(404, "no rejected file of this name")
        }
        ("POST", "/purge") => json!({"count": 2}).to_string().into_response(),
        ("POST", "/retry-dead") => retried_dead(&body).to_string().into_response(),
        ("POST", "/drain") => problem(409, "the daemon is stopping"),
        ("POST", "/pause" | "/resume" | "/undrain" | "/rescan" | "/checkpoint") => {
            json!({"status": "ok"}).to_string().into_response()
        }
        ("GET" | "POST" | "PATCH", path) if path.contains(ID) => found.to_string().into_response(),
        _ => problem(404, "no such path"),
    }
}

#[derive(Clone, Default)]
pub(super) struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: u8,
    pub(super) out: String,
    pub(super) err: String,
}

/// A console without a terminal, which nobody types into.
pub(super) fn console(out: impl Write + Send + 'static, err: &Written) -> Console {
    Console {
        out: Box::new(out),
        err: Box::new(err.clone()),
        input: None,
        interactive: false,
        terminal: false,
        watched: false,
        columns: None,
        colour: false,
        outlet: None,
        surroundings: Surroundings::new(|_| None, 0),
    }
}

pub(super) async fn run_plain(args: &[&str], input: &str, interactive: bool) -> Ran {
    let (out, err) = (Written::default(), Written::default());
    let mut console = Console {
        input: Some(Box::new(Cursor::new(input.to_owned()))),
        interactive,
        ..console(out.clone(), &err)
    };
    let args = std::iter::once("workqueuectl")
        .chain(args.iter().copied())
        .map(OsString::from);
    let code = run(args, &mut console).await;
    Ran {
        code,
        out: out.text(),
        err: err.text(),
    }
}
