//! The examples do what their guide says: each language's worker does 200 tasks, one of them longer than its lease, each
//! once, though it is stopped in the middle and the daemon restarts under it; a failed attempt says why.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use common::{Daemon, mount::say, until, wait};
use serde_json::{Value, json};

/// Tasks that each worker does.
const TASKS: usize = 200;

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(path)
}

/// Whether these programs are here; says so where one isn't.
fn have(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .stdout(Stdio::null())
            .status();
        !found.expect("sh runs").success()
    });
    if let Some(missing) = missing {
        say(&format!("SKIPPED: an example: {missing} is not installed"));
    }
    missing.is_none()
}

/// A worker of an example, what it writes kept in a file.
struct Worker {
    child: Child,
    out: PathBuf,
}

impl Worker {
    fn start(command: &[String], daemon: &Daemon, name: &str, lease: &str) -> Self {
        let out = daemon.scratch.path().join(name);
        let child = Command::new(&command[0])
            .args(&command[1..])
            .env("WORKQUEUE_URL", format!("http://{}", daemon.address))
            .env("WORKQUEUE_LEASE", lease)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).expect("a file for its output"))
            .spawn()
            .expect("the worker starts");
        Self { child, out }
    }

    fn done(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.out).expect("its output");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines = whole.lines();
        lines
            .map(|line| serde_json::from_str(line).expect("a payload"))
            .collect()
    }

    fn wait_for(&self, count: usize) {
        for count in 1..=count {
            until(&format!("{count} tasks are done"), || {
                (self.done().len() >= count).then_some(())
            });
        }
    }

    /// SIGTERM: it ends in peace.
    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").arg(pid).status().expect("kill runs");
        assert!(status.success());
        let status = wait(&mut self.child);
        assert!(status.success(), "it ended with {status}");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A daemon that comes back on the same port.
fn daemon() -> Daemon {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("its address").to_string();
    drop(free);
    Daemon::start(&["--listen", &address])
}

fn counts(daemon: &Daemon) -> Value {
    let (status, queue) = daemon.get("/api/v1/queues/default");
    assert_eq!(status, 200, "{queue}");
    queue
}

/// The life of an example's worker.
fn works(worker: &[String]) {
    let mut daemon = daemon();
    let tasks: Vec<Value> = (0..TASKS)
        .map(|number| match number {
            // Longer than its lease.
            20 => json!({"payload": {"number": number, "seconds": 12}}),
            _ => json!({"payload": {"number": number}}),
        })
        .collect();
    let (status, answer) = daemon.post("/api/v1/tasks", &json!(tasks).to_string());
    assert_eq!(status, 201, "{answer}");

    // Not shorter: a worker keeps a lease alive at each third of it, and a busy machine may hold it up.
    let mut first = Worker::start(worker, &daemon, "first", "9");
    first.wait_for(TASKS / 3);
    first.stop();
    let done = first.done().len();
    assert!(done < TASKS, "it was to be stopped in the middle");

    // Longer than the restart takes: what it has done meanwhile is still its own.
    let mut second = Worker::start(worker, &daemon, "second", "20");
    second.wait_for(TASKS / 3);
    assert!(daemon.stop().success());
    daemon.restart();
    second.wait_for(TASKS - done);
    let failing = daemon.submit(r#"{"payload":{"fail":"no such address"},"max_attempts":1}"#);
    until("only the dead task is left", || {
        let queue = counts(&daemon);
        let open = ["ready", "leased", "scheduled"].map(|state| queue[state].as_u64());
        (open == [Some(0); 3] && queue["dead"] == 1).then_some(())
    });
    // It waits for the next task now.
    second.stop();

    let mut times = BTreeMap::<u64, usize>::new();
    for payload in first.done().iter().chain(&second.done()) {
        *times
            .entry(payload["number"].as_u64().expect("a number"))
            .or_default() += 1;
    }
    assert_eq!(times.len(), TASKS);
    assert!(times.values().all(|&count| count == 1), "{times:?}");
    let (_, task) = daemon.get(&format!("/api/v1/tasks/{failing}"));
    let error = task["last_error"].as_str().expect("its error");
    assert!(error.contains("no such address"), "{error}");
}

/// What an example's submit does.
fn submits(submit: &[String]) {
    let daemon = daemon();
    let run = |payload: &str, queue: &str| {
        let output = Command::new(&submit[0])
            .args(&submit[1..])
            .args([queue, payload])
            .env("WORKQUEUE_URL", format!("http://{}", daemon.address))
            .output()
            .expect("it runs");
        (output.status.success(), common::out(&output), output.stderr)
    };
    for (given, meant) in [
        (r#"{"to":"ada"}"#, json!({"to": "ada"})),
        ("good \"day\"", json!("good \"day\"")),
    ] {
        let (well, id, _) = run(given, "emails");
        assert!(well);
        let (status, task) = daemon.get(&format!("/api/v1/tasks/{}", id.trim()));
        assert_eq!(status, 200, "{task}");
        assert_eq!(task["payload"], meant);
        assert_eq!(task["queue"], "emails");
    }
    let (well, out, error) = run("1", "No such name");
    assert!(!well);
    let said = out + &String::from_utf8_lossy(&error);
    assert!(said.contains("queue"), "the field is named: {said}");
}

fn command(parts: &[&str], file: &str) -> Vec<String> {
    let mut command: Vec<String> = parts.iter().map(ToString::to_string).collect();
    command.push(example(file).display().to_string());
    command
}

#[test]
fn the_python_worker_does_each_task_once() {
    if have(&["python3"]) {
        works(&command(&["python3"], "python/worker.py"));
        submits(&command(&["python3"], "python/submit.py"));
    }
}

#[test]
fn the_shell_worker_does_each_task_once() {
    if have(&["bash", "curl", "jq"]) {
        works(&command(&["bash"], "shell/worker.sh"));
        submits(&command(&["bash"], "shell/submit.sh"));
    }
}

#[test]
fn the_node_worker_does_each_task_once() {
    if have(&["node"]) {
        works(&command(&["node"], "node/worker.mjs"));
        submits(&command(&["node"], "node/submit.mjs"));
    }
}

#[test]
fn the_go_worker_does_each_task_once() {
    if have(&["go"]) {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        works(&built(scratch.path(), "go/worker.go"));
        submits(&built(scratch.path(), "go/submit.go"));
    }
}

/// Go's programs are built first: `go run` does not pass SIGTERM on.
fn built(scratch: &Path, file: &str) -> Vec<String> {
    let program = scratch.join(file.replace('/', "-"));
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(example(file))
        .env(
            "GOCACHE",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"),
        )
        .env("GOPATH", scratch.join("go-path"))
        .status()
        .expect("go runs");
    assert!(status.success(), "{file} does not compile");
    vec![program.display().to_string()]
}
