//! The handlers with real programs, files and sockets.

use std::{collections::BTreeMap, path::Path, time::Duration};

use axum::{Router, http::HeaderMap, http::StatusCode, routing};
use tokio::{io::AsyncReadExt as _, net::unix::pipe, sync::mpsc, time::Instant};

use super::*;
use crate::{
    task::{Millis, PayloadLimits},
    worker::{ExecConfig, HttpConfig, LogConfig},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn task(payload: &str) -> api::ClaimedTask {
    let text = format!(
        r#"{{"id":"t1","queue":"emails","state":"leased","payload":{payload},"priority":-3,"exectime":0,"attempts":2,"max_attempts":5,"traceparent":"{PARENT}","tracestate":"a=1","attempt":2,"token":"k1"}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn exec(script: &str, timeout: Option<Millis>) -> Handler {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let environment = BTreeMap::from([("GREETING".to_owned(), "hi".to_owned())]);
    Handler::new(&HandlerConfig::Exec(ExecConfig {
        command,
        timeout,
        environment,
    }))
    .unwrap()
}

async fn run(handler: &Handler, payload: &str) -> Outcome {
    handler.run(&task(payload), &CancellationToken::new()).await
}

async fn script(text: &str) -> Outcome {
    run(&exec(text, None), "null").await
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

fn result(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Completed(result) => result.map(|result| result.as_json().to_owned()),
        other => panic!("not completed: {other:?}"),
    }
}

/// A FIFO: its read end sees the end of the file when no process holds the write end any more.
fn fifo(path: &Path) -> pipe::Receiver {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    pipe::OpenOptions::new().open_receiver(path).unwrap()
}

/// Waits until a process has written its word, and gives what follows up to the end: when all of its kind have died.
async fn word(fifo: &mut pipe::Receiver) {
    fifo.readable().await.unwrap();
    assert_eq!(fifo.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn exit_statuses_decide_how_an_attempt_ends() {
    assert_eq!(script("exit 0").await, Outcome::Completed(None));
    assert_eq!(script("exit 75").await, Outcome::Released);
    for (status, dead) in [(1, false), (2, false), (64, true), (65, true), (70, false)] {
        let failure = failure(script(&format!("echo no >&2; exit {status}")).await);
        let expected = (format!("exit status {status}: no"), dead, None);
        assert_eq!((failure.error, failure.dead, failure.retry_in), expected);
    }
    let killed = failure(script("kill -9 $$").await);
    assert_eq!(
        (killed.error.as_str(), killed.dead),
        ("killed by signal 9", false)
    );
}

#[tokio::test]
async fn a_program_that_is_not_there_fails_the_attempt() {
    let config = ExecConfig {
        command: vec!["/none/such".to_owned()],
        timeout: None,
        environment: BTreeMap::new(),
    };
    let handler = Handler::new(&HandlerConfig::Exec(config)).unwrap();
    let failure = failure(run(&handler, "1").await);
    assert!(
        failure
            .error
            .starts_with("cannot start /none/such: No such file"),
        "{}",
        failure.error
    );
}

#[tokio::test]
async fn the_payload_is_stdin_and_stdout_is_the_result() {
    for (payload, given) in [
        ("\"a\\nb\"", "\"a\\nb\""),
        ("{\"a\":[1,2]}", "{\"a\":[1,2]}"),
        ("\"7\"", "7"),
    ] {
        assert_eq!(
            result(run(&exec("cat", None), payload).await).as_deref(),
            Some(given)
        );
    }
}

/// As JSON the daemon would refuse it, and the task would be done again for what it printed.
#[tokio::test]
async fn json_that_is_nested_too_deep_is_text() {
    for (depth, is_text) in [
        (PayloadLimits::MAX_DEPTH, false),
        (PayloadLimits::MAX_DEPTH + 1, true),
    ] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let expected = if is_text {
            format!("\"{nested}\"")
        } else {
            nested.clone()
        };
        let outcome = script(&format!("echo '{nested}'")).await;
        assert_eq!(result(outcome), Some(expected));
    }
}

#[tokio::test]
async fn the_environment_is_the_tasks_and_little_else() {
    let seen = result(script("env").await).unwrap();
    for part in [
        "WORKQUEUE_TASK_ID=t1",
        "WORKQUEUE_QUEUE=emails",
        "WORKQUEUE_ATTEMPT=2",
        "WORKQUEUE_PRIORITY=-3",
        "TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "TRACESTATE=a=1",
        "GREETING=hi",
        "PATH=",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    // Cargo sets it for this test.
    assert!(
        std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !seen.contains("CARGO"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_program_may_leave_its_stdin() {
    let payload = format!("\"{}\"", "x".repeat(1 << 20));
    let closes = exec("exec <&-; exit 0", None);
    assert_eq!(run(&closes, &payload).await, Outcome::Completed(None));
}

#[tokio::test]
async fn a_flood_is_cut() {
    let errors = failure(script("yes first | head -c 3000000 >&2; printf last >&2; exit 3").await);
    assert!(
        errors.error.len() < 2200 && errors.error.ends_with("last"),
        "{}",
        errors.error.len()
    );
    let output = result(script("yes | tr -d '\\n' | head -c 3000000").await).unwrap();
    assert_eq!(output.len(), (64 << 10) + 2);
}

#[tokio::test]
async fn a_timeout_ends_the_whole_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alive");
    let mut alive = fifo(&path);
    // A grandchild that ignores SIGTERM; both hold the FIFO open as long as they live.
    let script = format!(
        "exec 3>'{}'; (trap '' TERM; printf x >&3; exec sleep 1000) & sleep 1000",
        path.display()
    );
    // On a busy machine they are ended before the grandchild has come so far: then it has more time.
    for limit in [300, 1200, 5000, 20_000].map(Millis) {
        let handler = exec(&script, Some(limit));
        let failure = failure(run(&handler, "1").await);
        assert_eq!(failure.error, format!("timeout after {limit}"));
        let mut said = String::new();
        alive.read_to_string(&mut said).await.unwrap();
        if said == "x" {
            return;
        }
        assert_eq!(said, "");
    }
    panic!("it never came to write");
}

#[tokio::test]
async fn a_stop_ends_the_group_in_peace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alive");
    let mut alive = fifo(&path);
    let script = format!(
        "exec 3>'{}'; trap 'printf bye >&3; exit 0' TERM; printf x >&3; sleep 1000 & wait",
        path.display()
    );
    let handler = exec(&script, None);
    let stop = CancellationToken::new();
    let task = task("1");
    let stopper = async {
        word(&mut alive).await;
        stop.cancel();
        let mut rest = String::new();
        alive.read_to_string(&mut rest).await.unwrap();
        rest
    };
    let (outcome, rest) = tokio::join!(handler.run(&task, &stop), stopper);
    assert_eq!((outcome, rest.as_str()), (Outcome::Stopped, "bye"));
}

#[tokio::test]
async fn a_process_left_behind_that_holds_the_pipes_is_killed() {
    let before = Instant::now();
    let outcome = script("sleep 1000 & echo 5").await;
    assert_eq!(result(outcome).as_deref(), Some("5"));
    assert!(before.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_process_in_a_session_of_its_own_lives_on_unless_it_holds_the_pipes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alive");
    for (pipes, lives_on) in [("", false), (">/dev/null 2>&1", true)] {
        let mut alive = fifo(&path);
        let pid = dir.path().join(format!("pid-{lives_on}"));
        let script = format!(
            "exec 3>'{0}'; setsid sh -c 'printf x >&3; echo $$ >\"{1}\"; exec sleep 1000' {pipes} & while ! [ -s '{1}' ]; do sleep 0.02; done; echo 5",
            path.display(),
            pid.display()
        );
        let outcome = run(&exec(&script, None), "1").await;
        assert_eq!(result(outcome).as_deref(), Some("5"));
        word(&mut alive).await;
        if lives_on {
            let pid = std::fs::read_to_string(&pid).unwrap();
            let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
            // It is there to be killed.
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        let mut rest = Vec::new();
        alive.read_to_end(&mut rest).await.unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}

/// As soon as a program's status is taken the system may give its number to another, and the group would be another's.
#[tokio::test]
async fn a_programs_number_stays_its_own_as_long_as_its_group_may_be_signalled() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seen");
    // What has left the group holds the pipes, so the group is signalled a while after the end; and looks at the program meanwhile.
    let script = format!(
        "setsid sh -c 'while [ -e /proc/$1 ] && ! grep -q \") Z \" /proc/$1/stat; do :; done\n\
         exec 3>\"{}\"; sleep 0.2; grep -q \") Z \" /proc/$1/stat && printf z >&3; exec sleep 1000' sh $$ & echo 5",
        path.display()
    );
    // On a busy machine it is ended before it has looked.
    for _ in 0..5 {
        let mut seen = fifo(&path);
        assert_eq!(result(self::script(&script).await).as_deref(), Some("5"));
        let mut said = String::new();
        seen.read_to_string(&mut said).await.unwrap();
        if said == "z" {
            return;
        }
        std::fs::remove_file(&path).unwrap();
    }
    panic!("it was gone at once");
}

/// Its name alone would have the standard library use execvp(3), and that a shell.
#[tokio::test]
async fn what_is_no_program_is_no_script_either() {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("handler");
    std::fs::write(&file, "exit 0\n").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    for command in ["handler", file.to_str().unwrap()] {
        let path = dir.path().to_str().unwrap().to_owned();
        let config = ExecConfig {
            command: vec![command.to_owned()],
            timeout: None,
            environment: BTreeMap::from([("PATH".to_owned(), path)]),
        };
        let handler = Handler::new(&HandlerConfig::Exec(config)).unwrap();
        let failure = failure(run(&handler, "1").await);
        let expected = format!("cannot start {command}: Exec format error (os error 8)");
        assert_eq!(failure.error, expected);
    }
}

#[tokio::test]
async fn an_attempt_that_is_dropped_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("alive");
    let mut alive = fifo(&path);
    let handler = exec(
        &format!(
            "exec 3>'{}'; printf x >&3; sleep 1000 & wait",
            path.display()
        ),
        None,
    );
    let stop = CancellationToken::new();
    let task = task("1");
    tokio::select! {
        outcome = handler.run(&task, &stop) => panic!("{outcome:?}"),
        () = word(&mut alive) => {}
    }
    let mut rest = Vec::new();
    alive.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn the_log_has_a_line_per_task() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("worker_log.txt");
    let config = LogConfig {
        logfile: Some(path.clone()),
    };
    let handler = Handler::new(&HandlerConfig::Log(config)).unwrap();
    for payload in ["\"one\\ntwo\"", "{\"a\":1}"] {
        assert_eq!(run(&handler, payload).await, Outcome::Completed(None));
        // Rotated in between.
        assert!(path.exists());
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().map(|line| &line[20..]).collect();
    assert_eq!(lines, [": one\\ntwo", ": {\"a\":1}"]);
    std::fs::rename(&path, dir.path().join("old")).unwrap();
    run(&handler, "3").await;
    assert!(std::fs::read_to_string(&path).unwrap().ends_with("Z: 3\n"));
}

#[test]
fn a_log_file_that_cannot_be_written_is_told_at_the_start() {
    let config = LogConfig {
        logfile: Some("/none/such/log".into()),
    };
    let error = Handler::new(&HandlerConfig::Log(config))
        .unwrap_err()
        .to_string();
    assert!(error.contains("cannot write /none/such/log"), "{error}");
}

/// Its opening would wait, and no signal end that.
#[tokio::test]
async fn a_log_fifo_that_nobody_reads_is_told_at_the_start() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("fifo");
    drop(fifo(&path));
    let config = LogConfig {
        logfile: Some(path),
    };
    let error = Handler::new(&HandlerConfig::Log(config)).unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
}

#[tokio::test]
async fn a_line_that_can_not_be_written_is_no_failed_attempt_when_it_can_be_soon() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("logs");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("log");
    let config = LogConfig {
        logfile: Some(path.clone()),
    };
    let handler = Handler::new(&HandlerConfig::Log(config)).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let stop = CancellationToken::new();
    let one = task("1");
    let mut writes = Box::pin(handler.run(&one, &stop));
    assert!(
        tokio::time::timeout(Duration::from_millis(20), writes.as_mut())
            .await
            .is_err(),
        "it is tried on"
    );
    std::fs::create_dir(&folder).unwrap();
    assert_eq!(writes.await, Outcome::Completed(None));
    assert!(std::fs::read_to_string(path).unwrap().ends_with(": 1\n"));
    std::fs::remove_dir_all(&folder).unwrap();
    stop.cancel();
    assert_eq!(handler.run(&one, &stop).await, Outcome::Stopped);
}

/// The status has told how it ended, whatever becomes of the body.
#[tokio::test]
async fn a_post_is_done_by_the_status_of_its_answer() {
    for (status, completes) in [(200, true), (500, false)] {
        let router = Router::new().route(
            "/hook",
            routing::post(async move || {
                let stalls = futures_util::stream::pending::<Result<Vec<u8>, io::Error>>();
                let body = axum::body::Body::from_stream(stalls);
                (StatusCode::from_u16(status).unwrap(), body)
            }),
        );
        let handler = http_handler(router, Millis(10_000)).await;
        let outcome = run(&handler, "1").await;
        assert_eq!(
            outcome == Outcome::Completed(None),
            completes,
            "{outcome:?}"
        );
    }
}

async fn http_handler(router: Router, timeout: Millis) -> Handler {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Handler::new(&HandlerConfig::Http(HttpConfig {
        url: url.parse().unwrap(),
        timeout,
    }))
    .unwrap()
}

#[tokio::test]
async fn a_post_carries_the_task_and_2xx_completes() {
    let (seen, mut posts) = mpsc::unbounded_channel();
    let router = Router::new().route(
        "/hook",
        routing::post(async move |headers: HeaderMap, body: String| {
            let names = [
                "workqueue-task-id",
                "workqueue-queue",
                "workqueue-attempt",
                "workqueue-priority",
                "traceparent",
                "tracestate",
                "content-type",
            ];
            let values = names.map(|name| headers[name].to_str().unwrap().to_owned());
            seen.send((values, body)).unwrap();
            StatusCode::NO_CONTENT
        }),
    );
    let handler = http_handler(router, Millis(10_000)).await;
    assert_eq!(run(&handler, "{\"a\": 1}").await, Outcome::Completed(None));
    let (values, body) = posts.recv().await.unwrap();
    let wanted = ["t1", "emails", "2", "-3", PARENT, "a=1", "application/json"];
    assert_eq!(values, wanted);
    assert_eq!(body, "{\"a\": 1}");
}

#[tokio::test]
async fn other_answers_fail_and_retry_after_is_heeded() {
    for (status, after, retry_in) in [
        (404, None, None),
        (500, None, None),
        (500, Some("7"), None),
        (429, Some("7"), Some(7.0)),
        (503, Some("Sun, 06 Nov 1994 08:49:37 GMT"), Some(0.0)),
        (503, Some("Wed, 01 Jan 9000 00:00:00 GMT"), Some(86_400.0)),
        (429, Some("4294967295"), Some(86_400.0)),
        (503, Some("soon"), None),
    ] {
        let router = Router::new().route(
            "/hook",
            routing::post(async move || {
                let mut headers = HeaderMap::new();
                if let Some(after) = after {
                    headers.insert("retry-after", after.parse().unwrap());
                }
                (StatusCode::from_u16(status).unwrap(), headers, "why\n")
            }),
        );
        let failure = failure(run(&http_handler(router, Millis(10_000)).await, "1").await);
        assert_eq!((failure.retry_in, failure.dead), (retry_in, false));
        assert!(
            failure.error.starts_with(&format!("status {status}"))
                && failure.error.ends_with(": why"),
            "{}",
            failure.error
        );
    }
}

#[tokio::test]
async fn a_post_without_an_answer_fails() {
    let router = Router::new().route("/hook", routing::post(std::future::pending::<()>));
    let handler = http_handler(router, Millis(50)).await;
    assert_eq!(
        failure(run(&handler, "1").await).error,
        "timeout after 50ms"
    );
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(handler.run(&task("1"), &stop).await, Outcome::Stopped);
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{closed}/").parse().unwrap();
    let handler = Handler::new(&HandlerConfig::Http(HttpConfig {
        url,
        timeout: Millis(10_000),
    }))
    .unwrap();
    assert!(
        failure(run(&handler, "1").await)
            .error
            .starts_with("cannot reach http://127.0.0.1")
    );
}

/// All in one thread, as the worker is: what the flood leaves of it is what other tasks have.
#[tokio::test]
async fn informational_answers_without_an_end_keep_no_other_task_waiting() {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // In a thread of its own: the flood does not wait for who reads it.
    let flood = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1000]).unwrap() > 0);
        let many = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2000);
        while stream.write_all(&many).is_ok() {}
    });
    let config = HttpConfig {
        url: format!("http://{address}/").parse().unwrap(),
        timeout: Millis::from_secs(2),
    };
    let handler = Handler::new(&HandlerConfig::Http(config)).unwrap();
    let mut running = std::pin::pin!(run(&handler, "1"));
    let mut turns = 0;
    let ran = loop {
        tokio::select! {
            ran = &mut running => break ran,
            () = tokio::time::sleep(std::time::Duration::from_millis(1)) => turns += 1,
        }
    };
    assert_eq!(failure(ran).error, "timeout after 2s");
    assert!(turns >= 5, "{turns} turns");
    // The connection goes with the attempt.
    flood.await.unwrap();
}

/// What the machine lacks is no fault of the task's: dead without having run it would be lost.
#[test]
fn a_task_for_which_there_is_no_room_is_given_back() {
    use rustix::io::Errno;
    for errno in [Errno::MFILE, Errno::NFILE, Errno::AGAIN, Errno::NOMEM] {
        let outcome = Outcome::not_started("/bin/true", &errno.into());
        assert_eq!(outcome, Outcome::Released, "{errno}");
    }
    for errno in [Errno::NOENT, Errno::ACCESS, Errno::TXTBSY] {
        let failure = failure(Outcome::not_started("/bin/true", &errno.into()));
        assert!(failure.error.starts_with("cannot start /bin/true: "));
    }
}

/// A shell that waits in a pair of parentheses is a process that was forked and has become no program.
#[tokio::test]
async fn a_process_has_begun_when_it_has_become_a_program() {
    let dir = tempfile::tempdir().unwrap();
    let mut told = fifo(&dir.path().join("told"));
    let script = "(echo x >told; read -r never <for-ever; exit) & echo $! >number; wait";
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.path().join("for-ever"), 0o600.into()).unwrap();
    let mut shell = tokio::process::Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(dir.path())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    word(&mut told).await;
    let number = async || tokio::fs::read_to_string(dir.path().join("number")).await;
    let mut forked = number().await;
    while forked.as_ref().is_ok_and(|text| !text.ends_with('\n')) || forked.is_err() {
        tokio::task::yield_now().await;
        forked = number().await;
    }
    let forked: i32 = forked.unwrap().trim().parse().unwrap();
    assert!(!exec::has_begun(forked.cast_unsigned()));
    assert!(exec::has_begun(shell.id().unwrap()));
    let forked = rustix::process::Pid::from_raw(forked).unwrap();
    rustix::process::kill_process(forked, rustix::process::Signal::KILL).unwrap();
    assert!(shell.wait().await.unwrap().success());
}
