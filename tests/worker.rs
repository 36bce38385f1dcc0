//! `workqueue-worker` as a process: flags, signals, exit codes. The daemon is played by the test.

#![expect(
    clippy::unwrap_used,
    reason = "a whole file of tests; clippy knows only #[test] functions as such"
)]

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use axum::{
    Json, Router,
    http::{StatusCode, Uri},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    sync::mpsc,
};

fn worker(flags: &[&str]) -> Command {
    // Tests that run under nohup(1) hand on that a hang-up is ignored.
    let mut command = Command::new("env");
    command
        .arg("--default-signal=HUP,QUIT")
        .arg(env!("CARGO_BIN_EXE_workqueue-worker"))
        .args(flags)
        .env_remove("WORKQUEUE_URL")
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A daemon that has one task, and tells what it is asked.
async fn daemon() -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    daemon_with("hello".to_owned()).await
}

/// The same, with this payload.
async fn daemon_with(payload: String) -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let (seen, calls) = mpsc::unbounded_channel();
    let has_given = std::sync::atomic::AtomicBool::new(false);
    let has_given = std::sync::Arc::new(has_given);
    let router = Router::new().fallback(async move |uri: Uri, Json(body): Json<Value>| {
        let path = uri.path().to_owned();
        let waits = body["wait"] != json!(0.0);
        let is_claim = path == "/api/v1/claim";
        let completed: Vec<_> = body["complete"].as_array().into_iter().flatten().map(|one| json!({"id": one["id"]})).collect();
        seen.send((path, body)).unwrap();
        if !is_claim {
            return Json(json!({"status": "ok"}));
        }
        if has_given.swap(true, std::sync::atomic::Ordering::SeqCst) {
            if waits {
                std::future::pending::<()>().await;
            }
            return Json(json!({"tasks": [], "completed": completed}));
        }
        Json(json!({"tasks": [{
            "id": "t", "queue": "default", "state": "leased", "payload": payload, "priority": 100, "exectime": 0,
            "attempts": 1, "max_attempts": 5, "attempt": 1, "token": "k",
        }], "completed": []}))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, calls)
}

fn terminate(child: &Child) {
    send(child, Signal::TERM);
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// A handler that says when it has begun, and goes on when it is told: where it says so, where it is told, and its script.
fn two_steps(dir: &Path) -> (PathBuf, PathBuf, String) {
    let (ran, goes_on) = (dir.join("ran"), dir.join("goes-on"));
    fifo(&ran);
    fifo(&goes_on);
    let script = format!("echo x >'{}'; cat '{}'", ran.display(), goes_on.display());
    (ran, goes_on, script)
}

/// Waits for a line of the log.
async fn said(child: &mut Child, text: &str) {
    let stderr = child.stderr.as_mut().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stderr));
    while !lines.next_line().await.unwrap().unwrap().contains(text) {}
}

#[tokio::test]
async fn the_originals_flags_log_a_task_and_a_signal_ends_with_0() {
    let (url, mut calls) = daemon().await;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("worker_log.txt");
    let child = worker(&[
        "--url",
        &url,
        "--delay",
        "0",
        "--logfile",
        log.to_str().unwrap(),
    ])
    .spawn()
    .unwrap();
    calls.recv().await.unwrap();
    let (path, body) = calls.recv().await.unwrap();
    assert_eq!(
        (path.as_str(), &body["complete"][0]["token"]),
        ("/api/v1/claim", &json!("k"))
    );
    terminate(&child);
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        std::fs::read_to_string(log)
            .unwrap()
            .ends_with("Z: hello\n")
    );
}

#[tokio::test]
async fn a_second_signal_stops_the_program_and_gives_its_task_back() {
    let (url, mut calls) = daemon().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ran");
    fifo(&path);
    let script = format!("echo x >'{}'; exec sleep 1000", path.display());
    let child = worker(&["-u", &url, "--", "/bin/sh", "-c", &script])
        .spawn()
        .unwrap();
    assert_eq!(tokio::fs::read_to_string(&path).await.unwrap(), "x\n");
    terminate(&child);
    // Two signals of one kind that come at once are one; so the second waits until the first is seen in the log.
    let mut child = child;
    said(&mut child, "stopping").await;
    terminate(&child);
    assert_eq!(calls.recv().await.unwrap().0, "/api/v1/claim");
    let (path, body) = calls.recv().await.unwrap();
    assert_eq!(
        (path.as_str(), body),
        ("/api/v1/tasks/t/release", json!({"token": "k"}))
    );
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// A pipe that nobody reads holds a write for ever.
#[tokio::test]
async fn a_line_that_can_not_be_written_does_not_keep_the_worker_from_stopping() {
    let (url, mut calls) = daemon_with("x".repeat(1 << 20)).await;
    let mut child = worker(&["-u", &url])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    assert_eq!(calls.recv().await.unwrap().0, "/api/v1/claim");
    let mut begins = [0];
    tokio::io::AsyncReadExt::read_exact(&mut pipe, &mut begins)
        .await
        .unwrap();
    terminate(&child);
    said(&mut child, "stopping").await;
    terminate(&child);
    let (path, _) = calls.recv().await.unwrap();
    assert_eq!(path, "/api/v1/tasks/t/release");
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    drop(pipe);
}

/// Of these the worker would die by itself, and its handler run on with nobody who holds its lease.
#[tokio::test]
async fn a_closed_terminal_or_a_quit_lets_the_running_task_finish() {
    for signal in [Signal::HUP, Signal::QUIT] {
        let (url, mut calls) = daemon().await;
        let dir = tempfile::tempdir().unwrap();
        let (ran, goes_on, script) = two_steps(dir.path());
        let mut child = worker(&["-u", &url, "--", "/bin/sh", "-c", &script])
            .spawn()
            .unwrap();
        assert_eq!(tokio::fs::read_to_string(&ran).await.unwrap(), "x\n");
        send(&child, signal);
        said(&mut child, "stopping").await;
        // A terminal that is closed sends two: they are no hurry.
        send(&child, Signal::HUP);
        tokio::fs::write(&goes_on, "7").await.unwrap();
        assert_eq!(calls.recv().await.unwrap().0, "/api/v1/claim");
        let (path, body) = calls.recv().await.unwrap();
        assert_eq!(
            (path.as_str(), &body["complete"][0]["result"]),
            ("/api/v1/claim", &json!(7))
        );
        assert_eq!(child.wait().await.unwrap().code(), Some(0), "{signal:?}");
    }
}

#[tokio::test]
async fn a_hang_up_that_is_ignored_stays_ignored() {
    let (url, mut calls) = daemon().await;
    let dir = tempfile::tempdir().unwrap();
    let (ran, goes_on, script) = two_steps(dir.path());
    let mut child = Command::new("nohup")
        .arg(env!("CARGO_BIN_EXE_workqueue-worker"))
        .args(["-u", &url, "--", "/bin/sh", "-c", &script])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    assert_eq!(tokio::fs::read_to_string(&ran).await.unwrap(), "x\n");
    send(&child, Signal::HUP);
    tokio::fs::write(&goes_on, "7").await.unwrap();
    assert_eq!(calls.recv().await.unwrap().0, "/api/v1/claim");
    let (_, body) = calls.recv().await.unwrap();
    // One that stops asks for no more.
    assert_eq!(
        (&body["complete"][0]["result"], &body["max"]),
        (&json!(7), &json!(1))
    );
    terminate(&child);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// Whoever looks for a daemon that is away would look at the wrong place.
#[tokio::test]
async fn a_daemon_that_refuses_is_not_said_to_be_silent() {
    let router = Router::new().fallback(async || {
        let problem = json!({"type": "/problems/forbidden", "title": "Forbidden", "status": 403, "detail": "not for you"});
        (StatusCode::FORBIDDEN, Json(problem))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut child = worker(&["-u", &url]).spawn().unwrap();
    let stderr = child.stderr.take().unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stderr));
    let warning = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if line.contains("not for you") {
            break line;
        }
    };
    assert!(
        warning.contains("refuses") && !warning.contains("does not answer"),
        "{warning}"
    );
    terminate(&child);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// The worker with these flags, in a shell that lets no file grow beyond a few hundred bytes.
fn limited(flags: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"ulimit -f 1; exec "$0" "$@""#])
        .arg(env!("CARGO_BIN_EXE_workqueue-worker"))
        .args(flags)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The kernel ends a program that goes beyond its limit; and what found room would stay as a piece of a line, once for each try.
#[tokio::test]
async fn a_line_beyond_the_limit_of_files_ends_no_worker_and_leaves_no_piece() {
    let before = "a line\n".repeat(10);
    for by_name in [true, false] {
        let (url, mut calls) = daemon_with("x".repeat(5000)).await;
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, &before).unwrap();
        let mut command = if by_name {
            limited(&["-u", &url, "-f", log.to_str().unwrap()])
        } else {
            let mut command = limited(&["-u", &url]);
            let mut file = std::fs::File::options().write(true).open(&log).unwrap();
            std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
            command.stdout(file);
            command
        };
        let mut child = command.spawn().unwrap();
        said(&mut child, "it is tried again").await;
        assert_eq!(calls.recv().await.unwrap().0, "/api/v1/claim");
        terminate(&child);
        said(&mut child, "stopping").await;
        terminate(&child);
        assert_eq!(
            calls.recv().await.unwrap().0,
            "/api/v1/tasks/t/release",
            "{by_name}"
        );
        assert_eq!(child.wait().await.unwrap().code(), Some(0));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), before, "{by_name}");
    }
}

/// What a handler does beyond its limit is its own matter: it is not to be told by a write that fails where it knows a signal.
#[tokio::test]
async fn a_handler_inherits_no_ignored_signal() {
    let (url, mut calls) = daemon().await;
    let script = "grep SigIgn /proc/self/status";
    let child = worker(&["-u", &url, "--until-empty", "--", "/bin/sh", "-c", script])
        .spawn()
        .unwrap();
    assert_eq!(calls.recv().await.unwrap().0, "/api/v1/claim");
    let (_, body) = calls.recv().await.unwrap();
    let result = body["complete"][0]["result"].as_str().unwrap().to_owned();
    let set = result.trim().strip_prefix("SigIgn:").unwrap().trim();
    let ignored = u64::from_str_radix(set, 16).unwrap();
    // The second is what Rust's own start ignores.
    for signal in [Signal::XFSZ, Signal::PIPE].map(Signal::as_raw) {
        assert_eq!(ignored & (1 << (signal - 1)), 0, "{signal} of {result}");
    }
    assert_eq!(
        child.wait_with_output().await.unwrap().status.code(),
        Some(0)
    );
}

/// The worker of a shell's command line, which is to exec `"$0" "$@"` at its end.
fn through_sh(script: &str, flags: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(env!("CARGO_BIN_EXE_workqueue-worker"))
        .args(flags)
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What a handler's script prints, which a worker runs that was started so.
async fn printed(start: &str, script: &str) -> Vec<String> {
    let (url, mut calls) = daemon().await;
    let flags = ["-u", &url, "--until-empty", "--", "/bin/sh", "-c", script];
    let child = through_sh(start, &flags).spawn().unwrap();
    assert_eq!(calls.recv().await.unwrap().0, "/api/v1/claim");
    let (path, body) = calls.recv().await.unwrap();
    assert_eq!(path, "/api/v1/claim", "{body}");
    let result = body["complete"][0]["result"].as_str().unwrap();
    let words = result.split_whitespace().map(str::to_owned).collect();
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    words
}

/// Programs that use select(2) go wrong with more than they know of.
#[tokio::test]
async fn the_worker_opens_as_many_files_as_it_may_and_a_handler_as_before() {
    let start = r#"ulimit -Sn 200; ulimit -Hn 1000; exec "$0" "$@""#;
    let script = r#"ulimit -Sn; ulimit -Hn; grep "open files" /proc/$PPID/limits"#;
    let expected = [
        "200", "1000", "Max", "open", "files", "1000", "1000", "files",
    ];
    assert_eq!(printed(start, script).await, expected);
}

#[tokio::test]
async fn more_handlers_than_there_may_be_files_for_are_told() {
    let (url, _calls) = daemon().await;
    let flags = ["-u", &url, "--concurrency", "100", "--", "/bin/true"];
    let start = r#"ulimit -n 300; exec "$0" "$@""#;
    let mut child = through_sh(start, &flags).spawn().unwrap();
    said(&mut child, "limit=300 wanted=464").await;
    terminate(&child);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

/// Else the kernel takes the status of each handler, and what is done is done again until it is dead.
#[tokio::test]
async fn a_worker_that_is_started_with_the_end_of_children_ignored_knows_how_a_handler_ended() {
    let start = r#"exec env --ignore-signal=CHLD "$0" "$@""#;
    let script = "grep SigIgn /proc/self/status";
    let printed = printed(start, script).await;
    let ignored = u64::from_str_radix(&printed[1], 16).unwrap();
    assert_eq!(ignored & (1 << (Signal::CHILD.as_raw() - 1)), 0);
}

#[tokio::test]
async fn a_handler_inherits_no_file_of_whoever_started_the_worker() {
    let start = r#"exec 3</ 7</dev/null; exec "$0" "$@""#;
    let script = "for number in 0 1 2 3 4 5 6 7; do if [ -e /proc/$$/fd/$number ]; then echo $number; fi; done";
    assert_eq!(printed(start, script).await, ["0", "1", "2"]);
}

#[tokio::test]
async fn until_empty_ends_with_0() {
    let (url, _calls) = daemon().await;
    let output = worker(&["-u", &url, "--until-empty"])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .ends_with("Z: hello\n")
    );
}

#[tokio::test]
async fn exit_codes_tell_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("w.toml");
    std::fs::write(&file, "\nconcurrency = 0\n").unwrap();
    let file = file.to_str().unwrap();
    for (flags, code, text) in [
        (
            &["--config", file][..],
            78,
            "w.toml:2: concurrency: 0 is not from 1 to 1000",
        ),
        (
            &["--config", file, "--check-config"],
            78,
            "w.toml:2: concurrency",
        ),
        (
            &[
                "--config",
                "packaging/workqueue-worker.toml",
                "--check-config",
            ],
            0,
            "the configuration is good",
        ),
        (&["--logfile", "/none/such"], 73, "cannot write /none/such"),
        (
            &["--until-empty", "-u", "unix:/none/such"],
            69,
            "is workqueued running?",
        ),
    ] {
        let output = worker(flags).output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), stderr.contains(text)),
            (Some(code), true),
            "{stderr}"
        );
    }
}
