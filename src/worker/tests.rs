//! The worker against a daemon that is played by the test, request by request, on a real socket.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use axum::{Router, http::StatusCode, http::Uri};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::{client::Endpoint, task::Millis};

mod refused;
mod silent;
mod until_empty;

/// One request as it came in; it waits until it is answered.
struct Call {
    path: String,
    body: Value,
    reply: oneshot::Sender<(StatusCode, String)>,
}

impl Call {
    fn answer(self, status: u16, body: &Value) {
        let status = StatusCode::from_u16(status).unwrap();
        self.reply.send((status, body.to_string())).unwrap();
    }

    fn refuse(self, status: u16) {
        let problem = problem(status);
        self.answer(status, &problem);
    }

    /// Answers a claim with these tasks; all that it completes is taken.
    fn give(self, ids: &[&str]) {
        let tasks: Vec<_> = ids.iter().map(|id| claimed(id)).collect();
        let completed: Vec<_> = self
            .completes()
            .iter()
            .map(|id| json!({"id": id}))
            .collect();
        self.answer(200, &json!({"tasks": tasks, "completed": completed}));
    }

    /// Answers an extension.
    fn extend(self) {
        let id = self.path.split('/').nth(4).unwrap().to_owned();
        self.answer(200, &json!({"id": id, "lease_expires": 1.0}));
    }

    fn completes(&self) -> Vec<String> {
        let list = self.body["complete"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        list.iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn problem(status: u16) -> Value {
    json!({"type": "/problems/x", "title": "x", "status": status, "detail": "no"})
}

fn claimed(id: &str) -> Value {
    json!({
        "id": id, "queue": "default", "state": "leased", "payload": id, "priority": 100, "exectime": 0,
        "attempts": 1, "max_attempts": 5, "attempt": 1, "token": format!("token-{id}"),
    })
}

/// A server whose requests the test answers. Its connections die with it.
struct Server {
    address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    fn start() -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into())
    }

    fn start_at(address: SocketAddr) -> Self {
        let (seen, calls) = mpsc::unbounded_channel();
        let router = Router::new().fallback(async move |uri: Uri, body: String| {
            let (reply, answer) = oneshot::channel();
            let body = serde_json::from_str(&body).unwrap();
            let path = uri.path().to_owned();
            seen.send(Call { path, body, reply }).unwrap();
            answer.await.unwrap()
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            address,
            calls,
            runtime: Some(runtime),
        }
    }

    async fn next(&mut self) -> Call {
        // A failure is to be told, and not to hang.
        let call = tokio::time::timeout(Duration::from_mins(1), self.calls.recv());
        call.await.expect("a request within a minute").unwrap()
    }

    async fn claim(&mut self) -> Call {
        let call = self.next().await;
        assert_eq!(call.path, "/api/v1/claim");
        call
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A worker under test, its daemon, and the site that its `http` handler posts to.
struct Stage {
    daemon: Server,
    site: Server,
    stop: CancellationToken,
    hurry: CancellationToken,
    worker: JoinHandle<Result<Counts, WorkerError>>,
}

impl Stage {
    /// The daemon is there no more. Gives where it was.
    async fn daemon_goes(&mut self) -> SocketAddr {
        let runtime = self.daemon.runtime.take();
        // Only off the runtime that runs this test may another end.
        tokio::task::spawn_blocking(move || drop(runtime))
            .await
            .unwrap();
        self.daemon.address
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let (daemon, site) = (Server::start(), Server::start());
        let url = format!("http://{}/hook", site.address).parse().unwrap();
        let mut config = Config {
            url: Endpoint::Http(format!("http://{}", daemon.address)),
            shutdown_grace: Millis::from_secs(3600),
            handler: HandlerConfig::Http(HttpConfig {
                url,
                timeout: Millis::from_secs(3600),
            }),
            ..Config::default()
        };
        change(&mut config);
        let (stop, hurry) = (CancellationToken::new(), CancellationToken::new());
        let worker = tokio::spawn(run(config, stop.clone(), hurry.clone()));
        Self {
            daemon,
            site,
            stop,
            hurry,
            worker,
        }
    }

    /// The handler of a task has begun.
    async fn begun(&mut self, id: &str) -> Call {
        let call = self.site.next().await;
        assert_eq!(call.body, json!(id));
        call
    }

    async fn counts(self) -> Counts {
        self.worker.await.unwrap().unwrap()
    }
}

fn sleeper(config: &mut Config) {
    config.handler = HandlerConfig::Exec(ExecConfig {
        command: ["sleep", "1000"].map(str::to_owned).to_vec(),
        timeout: None,
        environment: BTreeMap::new(),
    });
}

fn speaker(config: &mut Config) {
    sleeper(config);
    if let HandlerConfig::Exec(exec) = &mut config.handler {
        exec.command = ["echo", "7"].map(str::to_owned).to_vec();
    }
}

#[tokio::test]
async fn a_completion_rides_on_the_next_claim() {
    let mut stage = Stage::with(|config| config.concurrency = 2);
    let first = stage.daemon.claim().await;
    assert_eq!(
        (
            &first.body["max"],
            &first.body["wait"],
            &first.body["lease"]
        ),
        (&json!(2), &json!(30.0), &json!(60.0))
    );
    assert!(
        first.body["worker"]
            .as_str()
            .unwrap()
            .ends_with(&format!(":{}", std::process::id()))
    );
    first.give(&["a", "b"]);
    let (one, two) = (stage.site.next().await, stage.site.next().await);
    one.answer(200, &json!(null));
    let second = stage.daemon.claim().await;
    assert_eq!(
        (&second.body["max"], second.completes().len()),
        (&json!(1), 1)
    );
    assert!(
        second.body["complete"][0]["token"]
            .as_str()
            .unwrap()
            .starts_with("token-")
    );
    second.give(&["c"]);
    stage.begun("c").await.answer(200, &json!(null));
    let third = stage.daemon.claim().await;
    assert_eq!(third.completes(), ["c"]);
    stage.stop.cancel();
    two.answer(200, &json!(null));
    third.give(&[]);
    let last = stage.daemon.claim().await;
    assert_eq!((last.completes().len(), &last.body["max"]), (1, &json!(0)));
    last.give(&[]);
    assert_eq!(stage.counts().await.completed, 3);
}

#[tokio::test]
async fn what_completes_while_a_claim_waits_is_reported_at_once() {
    let mut stage = Stage::with(|config| config.concurrency = 2);
    stage.daemon.claim().await.give(&["a"]);
    let waiting = stage.daemon.claim().await;
    stage.begun("a").await.answer(204, &json!(null));
    let report = stage.daemon.claim().await;
    assert_eq!(
        (&report.body["max"], &report.body["wait"]),
        (&json!(0), &json!(0.0))
    );
    assert_eq!(report.completes(), ["a"]);
    report.give(&[]);
    waiting.give(&["b"]);
    stage.begun("b").await;
}

#[tokio::test]
async fn a_delay_holds_the_next_claim_and_no_report() {
    let mut stage = Stage::with(|config| config.delay = Millis::from_secs(3600));
    stage.daemon.claim().await.give(&["a"]);
    stage.begun("a").await.answer(200, &json!(null));
    let report = stage.daemon.claim().await;
    assert_eq!(
        (&report.body["max"], report.completes().len()),
        (&json!(0), 1)
    );
    report.give(&[]);
    stage.stop.cancel();
    assert_eq!(stage.counts().await.completed, 1);
}

#[tokio::test]
async fn the_lease_of_a_slow_task_is_extended_until_it_is_lost() {
    let mut stage = Stage::with(|config| config.lease = Millis(150));
    stage.daemon.claim().await.give(&["a"]);
    let mut handler = stage.begun("a").await;
    for _ in 0..3 {
        let call = stage.daemon.next().await;
        assert_eq!(call.path, "/api/v1/tasks/a/extend");
        assert_eq!(call.body, json!({"token": "token-a", "lease": 0.15}));
        call.answer(200, &json!({"id": "a", "lease_expires": 1.0}));
    }
    // An answer that is no word on the lease changes nothing.
    stage.daemon.next().await.refuse(503);
    let call = stage.daemon.next().await;
    assert_eq!(call.path, "/api/v1/tasks/a/extend");
    call.refuse(409);
    handler.reply.closed().await;
    let next = stage.daemon.claim().await;
    assert!(next.completes().is_empty());
    next.give(&[]);
    stage.stop.cancel();
    let counts = stage.counts().await;
    assert_eq!((counts.lost, counts.completed), (1, 0));
}

#[tokio::test]
async fn an_extension_that_gets_no_answer_is_asked_for_again_while_the_lease_lasts() {
    let mut stage = Stage::with(|config| config.lease = Millis::from_secs(3));
    stage.daemon.claim().await.give(&["a"]);
    let handler = stage.begun("a").await;
    let mut silent = stage.daemon.next().await;
    assert_eq!(silent.path, "/api/v1/tasks/a/extend");
    let again = stage.daemon.next().await;
    assert_eq!(again.path, "/api/v1/tasks/a/extend");
    silent.reply.closed().await;
    again.answer(200, &json!({"id": "a", "lease_expires": 1.0}));
    handler.answer(200, &json!(null));
    // On a busy machine it may be extended once more before that is seen.
    let mut call = stage.daemon.next().await;
    while call.path == "/api/v1/tasks/a/extend" {
        call.answer(200, &json!({"id": "a", "lease_expires": 1.0}));
        call = stage.daemon.next().await;
    }
    assert_eq!(call.completes(), ["a"]);
}

#[tokio::test]
async fn tasks_that_nobody_asked_for_are_given_back_one_after_the_other() {
    let mut stage = Stage::with(|_| {});
    let claim = stage.daemon.claim().await;
    assert_eq!(claim.body["max"], 1);
    claim.give(&["a", "b", "c"]);
    let handler = stage.begun("a").await;
    for path in ["b", "c"].map(|id| format!("/api/v1/tasks/{id}/release")) {
        let call = stage.daemon.next().await;
        assert_eq!(call.path, path);
        call.answer(200, &json!({"status": "ok"}));
    }
    stage.stop.cancel();
    handler.answer(200, &json!(null));
    stage.daemon.claim().await.give(&[]);
    let counts = stage.counts().await;
    assert_eq!((counts.completed, counts.released), (1, 2));
}

/// A task that was claimed twice, once after its lease was lost: what became of the one is not what became of the other.
#[tokio::test]
async fn two_completions_of_one_task_have_each_its_own_outcome() {
    let mut stage = Stage::with(|config| config.concurrency = 2);
    stage.daemon.claim().await.give(&["a", "a"]);
    let (one, two) = (stage.begun("a").await, stage.begun("a").await);
    stage.stop.cancel();
    one.answer(200, &json!(null));
    two.answer(200, &json!(null));
    let mut problems = [problem(409), Value::Null].into_iter();
    let mut count = 0;
    while count < 2 {
        let report = stage.daemon.claim().await;
        let completed: Vec<Value> = report
            .completes()
            .iter()
            .map(|id| match problems.next().unwrap() {
                Value::Null => json!({"id": id}),
                problem => json!({"id": id, "problem": problem}),
            })
            .collect();
        count += completed.len();
        report.answer(200, &json!({"tasks": [], "completed": completed}));
    }
    let counts = stage.counts().await;
    assert_eq!((counts.completed, counts.lost), (1, 1));
}

#[tokio::test]
async fn results_outlive_a_daemon_that_goes_and_comes_back() {
    let mut stage = Stage::with(|_| {});
    stage.daemon.claim().await.give(&["a"]);
    let handler = stage.begun("a").await;
    let address = stage.daemon_goes().await;
    // What answers in its place hangs up: the worker has tried in vain.
    let deaf = TcpListener::bind(address).await.unwrap();
    handler.answer(200, &json!(null));
    for _ in 0..2 {
        drop(deaf.accept().await.unwrap());
    }
    drop(deaf);
    stage.daemon = Server::start_at(address);
    let claim = stage.daemon.claim().await;
    assert_eq!(claim.completes(), ["a"]);
    claim.give(&["b"]);
    stage.begun("b").await;
}

/// The daemon goes before the completion comes, and is another's or has forgotten the task when it is back.
async fn told_after_a_break(status: u16, was_sent: bool) -> Counts {
    let mut stage = Stage::with(|_| {});
    stage.daemon.claim().await.give(&["a"]);
    let handler = stage.begun("a").await;
    let address = stage.daemon_goes().await;
    if was_sent {
        let deaf = TcpListener::bind(address).await.unwrap();
        handler.answer(200, &json!(null));
        drop(deaf.accept().await.unwrap());
    } else {
        handler.answer(200, &json!(null));
    }
    stage.daemon = Server::start_at(address);
    let claim = stage.daemon.claim().await;
    assert_eq!(claim.completes(), ["a"]);
    let completed = json!([{"id": "a", "problem": problem(status)}]);
    claim.answer(200, &json!({"tasks": [], "completed": completed}));
    stage.stop.cancel();
    stage.counts().await
}

#[tokio::test]
async fn a_completion_that_comes_too_late_is_lost_unless_it_was_taken_before() {
    for (status, was_sent, lost) in [(404, true, 0), (409, true, 1), (404, false, 1)] {
        let counts = told_after_a_break(status, was_sent).await;
        assert_eq!(
            (counts.completed, counts.lost),
            (1 - lost, lost),
            "{status} {was_sent}"
        );
    }
}

#[tokio::test]
async fn a_completion_that_is_stale_is_dropped() {
    let mut stage = Stage::with(|_| {});
    stage.daemon.claim().await.give(&["a"]);
    stage.begun("a").await.answer(200, &json!(null));
    let claim = stage.daemon.claim().await;
    let completed = json!([{"id": "a", "problem": problem(409)}]);
    claim.answer(
        200,
        &json!({"tasks": [claimed("b")], "completed": completed}),
    );
    stage.begun("b").await.answer(200, &json!(null));
    let claim = stage.daemon.claim().await;
    assert_eq!(claim.completes(), ["b"]);
    claim.give(&[]);
    stage.stop.cancel();
    let counts = stage.counts().await;
    assert_eq!((counts.lost, counts.completed), (1, 1));
}

#[tokio::test]
async fn a_completion_that_spoils_its_claim_goes_alone() {
    let mut stage = Stage::with(|_| {});
    stage.daemon.claim().await.give(&["a"]);
    stage.begun("a").await.answer(200, &json!(null));
    stage.daemon.claim().await.refuse(413);
    let alone = stage.daemon.next().await;
    assert_eq!(alone.path, "/api/v1/tasks/a/complete");
    alone.refuse(413);
    let claim = stage.daemon.claim().await;
    assert!(claim.completes().is_empty());
    claim.give(&["b"]);
    stage.begun("b").await;
}

/// The work is done, whatever it printed: done again it would end the same way, until the task is dead.
#[tokio::test]
async fn a_completion_whose_result_is_refused_goes_without_it() {
    let refusals = [
        (400, json!({"field": "result", "detail": "too deep"})),
        (400, json!({"detail": "not JSON"})),
        (413, json!({"field": "result", "detail": "too large"})),
        (413, json!({"detail": "the body is too large"})),
        // What a proxy says is no problem document.
        (413, json!(null)),
    ];
    for (status, parts) in refusals {
        let mut refusal = problem(status);
        match parts.as_object() {
            Some(parts) => refusal.as_object_mut().unwrap().extend(parts.clone()),
            None => refusal = json!("413 Request Entity Too Large"),
        }
        let mut stage = Stage::with(speaker);
        stage.daemon.claim().await.give(&["a"]);
        let batch = stage.daemon.claim().await;
        assert_eq!(batch.body["complete"][0]["result"], json!(7));
        batch.answer(status, &refusal);
        let alone = stage.daemon.next().await;
        assert_eq!(alone.path, "/api/v1/tasks/a/complete");
        assert_eq!(alone.body, json!({"token": "token-a", "result": 7}));
        alone.answer(status, &refusal);
        let again = stage.daemon.next().await;
        assert_eq!(again.path, "/api/v1/tasks/a/complete");
        assert_eq!(again.body, json!({"token": "token-a"}), "{refusal}");
        again.answer(200, &json!({"status": "ok"}));
        stage.stop.cancel();
        let counts = stage.counts().await;
        assert_eq!((counts.completed, counts.lost), (1, 0), "{refusal}");
    }
}

#[tokio::test]
async fn a_completion_that_is_refused_without_a_result_or_for_something_else_is_dropped() {
    for (field, sends) in [("result", 2), ("token", 1)] {
        let mut refusal = problem(400);
        refusal["field"] = json!(field);
        let mut stage = Stage::with(speaker);
        stage.daemon.claim().await.give(&["a"]);
        stage.daemon.claim().await.answer(400, &refusal);
        for _ in 0..sends {
            let call = stage.daemon.next().await;
            assert_eq!(call.path, "/api/v1/tasks/a/complete");
            call.answer(400, &refusal);
        }
        stage.daemon.claim().await.give(&[]);
        stage.stop.cancel();
        let counts = stage.counts().await;
        assert_eq!((counts.completed, counts.lost), (0, 1), "{field}");
    }
}

#[tokio::test]
async fn a_failure_is_told_until_it_is_taken() {
    let mut stage = Stage::with(|_| {});
    stage.daemon.claim().await.give(&["a"]);
    stage.begun("a").await.answer(500, &json!("why"));
    stage.daemon.next().await.refuse(503);
    let call = stage.daemon.next().await;
    assert_eq!(call.path, "/api/v1/tasks/a/fail");
    assert_eq!(call.body["token"], "token-a");
    assert_eq!(
        call.body["error"],
        "status 500 Internal Server Error: \"why\""
    );
    // Something else that calls it good has not taken it.
    call.answer(200, &json!({}));
    let call = stage.daemon.next().await;
    assert_eq!(call.path, "/api/v1/tasks/a/fail");
    call.answer(200, &json!({"id": "a"}));
    stage.daemon.claim().await.give(&["b"]);
    stage.begun("b").await.answer(500, &json!(null));
    // A refusal is the last word, too.
    stage.daemon.next().await.refuse(409);
    stage.daemon.claim().await.give(&[]);
    stage.stop.cancel();
    assert_eq!(stage.counts().await.failed, 2);
}

#[tokio::test]
async fn a_stop_lets_running_tasks_finish_and_reports_them() {
    let mut stage = Stage::with(|config| config.concurrency = 2);
    stage.daemon.claim().await.give(&["a"]);
    let handler = stage.begun("a").await;
    let mut waiting = stage.daemon.claim().await;
    stage.stop.cancel();
    waiting.reply.closed().await;
    handler.answer(200, &json!(null));
    let report = stage.daemon.claim().await;
    assert_eq!(
        (&report.body["max"], report.completes().len()),
        (&json!(0), 1)
    );
    report.give(&[]);
    let counts = stage.counts().await;
    assert_eq!((counts.completed, counts.released), (1, 0));
}

#[tokio::test]
async fn tasks_that_arrive_at_the_moment_of_a_stop_are_given_back() {
    for _ in 0..20 {
        let begun = Instant::now();
        let mut stage = Stage::with(|_| {});
        let claim = stage.daemon.claim().await;
        stage.stop.cancel();
        if !claim.reply.is_closed() {
            claim.give(&["a"]);
        }
        let call = tokio::select! {
            call = stage.daemon.next() => call,
            counts = &mut stage.worker => {
                // On a busy machine the answer may come too late: a claim that is older than 1 s is withdrawn at a stop.
                assert_eq!(counts.unwrap().unwrap().released, 0);
                assert!(begun.elapsed() >= Duration::from_secs(1));
                continue;
            }
        };
        assert_eq!(
            (call.path.as_str(), &call.body),
            ("/api/v1/tasks/a/release", &json!({"token": "token-a"}))
        );
        call.answer(200, &json!({"status": "ok"}));
        assert_eq!(stage.counts().await.released, 1);
        return;
    }
    panic!("each claim was withdrawn");
}

#[tokio::test]
async fn a_second_signal_ends_the_grace() {
    let mut stage = Stage::with(sleeper);
    stage.daemon.claim().await.give(&["a"]);
    stage.stop.cancel();
    stage.hurry.cancel();
    let call = stage.daemon.next().await;
    assert_eq!(call.path, "/api/v1/tasks/a/release");
    call.answer(200, &json!({"status": "ok"}));
    let counts = stage.counts().await;
    assert_eq!((counts.released, counts.failed), (1, 0));
}

#[tokio::test]
async fn tasks_that_outlast_the_grace_are_released() {
    let mut stage = Stage::with(|config| {
        sleeper(config);
        config.shutdown_grace = Millis(50);
        config.concurrency = 2;
    });
    stage.daemon.claim().await.give(&["a", "b"]);
    stage.stop.cancel();
    for _ in 0..2 {
        let call = stage.daemon.next().await;
        assert!(call.path.ends_with("/release"), "{}", call.path);
        call.answer(200, &json!({"status": "ok"}));
    }
    assert_eq!(stage.counts().await.released, 2);
}
