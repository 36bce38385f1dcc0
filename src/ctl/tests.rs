//! The command line against a small server on a real Unix socket: what is asked, what is shown, how it ends.

mod server;
mod tokens;

use std::io::{self, Write};

use serde_json::{Value, json};

use self::server::{Daemon, GONE, ID, Written, console, run_plain, status};
pub(super) use self::server::{queue_of, status_of, task_of, worker_of};
use super::*;

#[tokio::test]
async fn submit_sends_text_json_and_options_and_prints_the_id() {
    let daemon = Daemon::start();
    let args = [
        "submit",
        "-3",
        "-q",
        "emails",
        "-p",
        "-5",
        "--in",
        "1m30s",
        "--unique-key",
        "k",
        "--lease",
        "500ms",
    ];
    let ran = daemon.run(&args).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, format!("{ID}\n").as_str()),
        "{ran:?}"
    );
    let asked = daemon.asked();
    let body: Value = serde_json::from_str(&asked[0].body).unwrap();
    let wanted = json!({"payload": "-3", "queue": "emails", "priority": -5, "delay": 90.0, "unique_key": "k",
        "lease": 0.5});
    assert_eq!((asked[0].kind.as_str(), body), ("application/json", wanted));

    let ran = daemon
        .run(&[
            "submit",
            "--json-payload",
            "{\"a\": [1]}",
            "--at",
            "2026-11-24T20:10:48Z",
        ])
        .await;
    assert_eq!(ran.code, 0);
    let body: Value = serde_json::from_str(&daemon.asked()[0].body).unwrap();
    assert_eq!(
        body,
        json!({"payload": {"a": [1]}, "exectime": 1_795_551_048})
    );
}

#[tokio::test]
async fn submit_reads_input_and_files() {
    let daemon = Daemon::start();
    let payload = |daemon: &Daemon| -> Value {
        serde_json::from_str::<Value>(&daemon.asked()[0].body).unwrap()["payload"].clone()
    };
    assert_eq!(
        daemon
            .run_with(&["submit"], "from a pipe\n", false)
            .await
            .code,
        0
    );
    assert_eq!(payload(&daemon), "from a pipe");
    assert_eq!(
        daemon
            .run_with(&["submit", "-j", "-"], "[1,\n2]\n", false)
            .await
            .code,
        0
    );
    assert_eq!(payload(&daemon), json!([1, 2]));
    let file = daemon.dir.path().join("payload.txt");
    std::fs::write(&file, "line\n").unwrap();
    assert_eq!(
        daemon
            .run(&["submit", "--file", file.to_str().unwrap()])
            .await
            .code,
        0
    );
    assert_eq!(payload(&daemon), "line\n");
    let ran = daemon.run(&["submit", "--file", "/nowhere/payload"]).await;
    assert_eq!(
        (ran.code, ran.err.contains("/nowhere/payload: ")),
        (74, true)
    );
}

#[tokio::test]
async fn a_second_submit_of_an_id_says_that_it_was_there() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["submit", "x", "--id", ID]).await;
    assert_eq!((ran.code, ran.out), (0, format!("{ID}\n")));
    assert!(ran.err.contains("there already"), "{}", ran.err);
}

#[tokio::test]
async fn ndjson_is_streamed_whole() {
    let daemon = Daemon::start();
    let lines = "{\"payload\":\"0123456789\"}\n".repeat(10_000);
    let ran = daemon
        .run_with(&["submit", "--ndjson", "-"], &lines, false)
        .await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "10000 tasks accepted\n"),
        "{}",
        ran.err
    );
    let asked = daemon.asked();
    assert_eq!(
        (asked[0].kind.as_str(), asked[0].body.len()),
        ("application/x-ndjson", lines.len())
    );
}

#[tokio::test]
async fn list_shows_a_table_without_control_characters_and_all_walks_the_pages() {
    let daemon = Daemon::start();
    let ran = daemon
        .run(&["list", "-q", "emails", "--state", "ready", "-n", "1"])
        .await;
    assert_eq!(ran.code, 0);
    assert_eq!(
        daemon.asked()[0].path,
        "/api/v1/tasks?queue=emails&state=ready&limit=1"
    );
    assert_eq!(
        ran.out,
        format!(
            "ID                                    QUEUE    STATE  PRIORITY  DUE  ATTEMPTS  PAYLOAD\n\
             {ID}  default  ready       100  now       0/5  pay\\u{{1b}}[2Jload\n"
        )
    );
    assert!(ran.err.contains("--all"), "{}", ran.err);

    let ran = daemon.run(&["list", "--all", "--json"]).await;
    assert_eq!((ran.code, ran.out.lines().count()), (0, 2));
    let paths: Vec<String> = daemon.asked().into_iter().map(|one| one.path).collect();
    assert_eq!(
        paths,
        [
            "/api/v1/tasks?limit=1000",
            "/api/v1/tasks?limit=1000&after=ready%2C100%2C0%2Cx"
        ]
    );
}

#[tokio::test]
async fn one_refused_task_does_not_keep_the_others_and_ends_with_one() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["cancel", GONE, ID]).await;
    assert_eq!((ran.code, ran.out), (1, format!("{ID} cancelled\n")));
    assert_eq!(ran.err, format!("workqueuectl: no task {GONE}\n"));
    let methods: Vec<String> = daemon.asked().into_iter().map(|one| one.method).collect();
    assert_eq!(methods, ["DELETE", "DELETE"]);
    let ran = daemon.run(&["show", ID, GONE, GONE]).await;
    assert_eq!(ran.code, 1);
    assert!(
        ran.out.contains("payload     pay\\u{1b}[2Jload\n"),
        "{}",
        ran.out
    );
    assert!(ran.err.contains("2 of 3 were refused"), "{}", ran.err);
}

#[tokio::test]
async fn retry_brings_back_one_or_all_dead() {
    let daemon = Daemon::start();
    assert_eq!(daemon.run(&["retry", ID]).await.code, 0);
    assert_eq!(daemon.asked()[0].path, format!("/api/v1/tasks/{ID}/retry"));
    let ran = daemon.run(&["retry", "--dead", "-q", "emails"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "2 dead tasks brought back\n")
    );
    let asked = daemon.asked();
    assert_eq!(
        (asked[0].path.as_str(), asked[0].body.as_str()),
        ("/retry-dead", "{\"queue\":\"emails\"}")
    );
    let ran = daemon.run(&["retry", "--dead"]).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (1, "3 dead tasks brought back\n")
    );
    assert!(
        ran.err.contains(
            "2 dead tasks left: unique keys: the limit of 7 (max_unique_keys) is reached"
        ),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn purge_asks_first_and_names_the_count() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["purge"]).await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("2 dead tasks would be cancelled"),
        "{}",
        ran.err
    );
    let ran = daemon
        .run_with(&["purge", "-q", "default", "-t", "ready"], "n\n", true)
        .await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "nothing was cancelled\n"));
    assert!(
        ran.err
            .contains("Cancel 3 ready tasks of queue default, for good? [y/N] "),
        "{}",
        ran.err
    );
    assert!(
        daemon.asked().iter().all(|one| one.method == "GET"),
        "nothing was done without a yes"
    );

    assert_eq!(
        daemon.run_with(&["purge"], "y\n", true).await.out,
        "2 dead tasks cancelled\n"
    );
    let ran = daemon.run(&["purge", "--yes", "--json"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "{\"count\":2}\n"));
    assert_eq!(daemon.asked().pop().unwrap().body, "{\"state\":\"dead\"}");
}

#[tokio::test]
async fn the_status_screen_says_what_is_not_well_and_what_to_type() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["status"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    for wanted in [
        "status      ok\n",
        "workqueued 0.1.0, pid 7, up 1m 1s",
        "3 ready, 0 scheduled, 0 leased, 2 dead",
        "2 dead tasks\n    workqueuectl retry --dead\n",
        "\\u{1b}[2J is paused\n    workqueuectl resume\n",
    ] {
        assert!(ran.out.contains(wanted), "{wanted} in:\n{}", ran.out);
    }
    let json: Value = serde_json::from_str(&daemon.run(&["status", "--json"]).await.out).unwrap();
    assert_eq!(json, status());
}

#[tokio::test]
async fn rejected_files_are_shown_tried_again_and_deleted() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["rejected", "show", "a.json"]).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out
            .contains("reason      no payload\nbegins      {}\\u{1b}[2J\n"),
        "{}",
        ran.out
    );
    let ran = daemon.run(&["rejected"]).await;
    assert!(ran.out.contains("a.json"), "{}", ran.out);
    let left = ran.out.lines().find(|line| line.contains("tasks/fifo"));
    let fields: Vec<_> = left.unwrap().split_whitespace().collect();
    assert_eq!(fields[..3], ["-", "-", "tasks/fifo"], "what is not known");
    let ran = daemon.run(&["rejected", "show", "b.json"]).await;
    assert_eq!(
        (ran.code, ran.err.contains("no rejected file b.json")),
        (1, true)
    );
    daemon.asked();
    let ran = daemon.run(&["rejected", "retry", "a.json", "b.json"]).await;
    assert_eq!(
        (ran.code, ran.out.starts_with("a.json is back")),
        (1, true),
        "{ran:?}"
    );
    assert_eq!(ran.err, "workqueuectl: no rejected file of this name\n");
    assert_eq!(daemon.asked()[1].body, "{\"name\":\"a.json\"}");
    let ran = daemon
        .run(&["rejected", "discard", "a.json", "--format", "{name}"])
        .await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "a.json\n"));
}

#[tokio::test]
async fn a_template_makes_a_line_of_each_and_a_wrong_one_changes_nothing() {
    let daemon = Daemon::start();
    let ran = daemon
        .run(&["list", "--format", "{id}\\t{state}\\t{payload:json}"])
        .await;
    let line = format!("{ID}\tready\t\"pay\\u001b[2Jload\"\n");
    assert_eq!((ran.code, ran.out.lines().count()), (0, 2), "{}", ran.err);
    assert!(ran.out.starts_with(&line), "{}", ran.out);
    for (args, line) in [
        (
            &["submit", "x", "--format", "{id} {state}"][..],
            format!("{ID} ready\n"),
        ),
        (
            &["queues", "--format", "{queue} {ready} {totals.died}"],
            "default 3 2\n".to_owned(),
        ),
        (
            &["status", "--format", "{dead} dead since {started:rfc3339}"],
            "2 dead since 2026-11-24T20:10:48Z\n".to_owned(),
        ),
        (&["cancel", ID, "--format", "{id}"], format!("{ID}\n")),
        (&["purge", "--yes", "--format", "{count}"], "2\n".to_owned()),
        (&["pause", "--format", "{status}"], "ok\n".to_owned()),
        (
            &["config", "--format", "{key}={value}"],
            "listen=none\n".to_owned(),
        ),
    ] {
        let ran = daemon.run(args).await;
        assert_eq!((ran.code, ran.out), (0, line), "{args:?}: {}", ran.err);
    }
    daemon.asked();
    let ran = daemon.run(&["submit", "x", "--format", "{di}"]).await;
    assert_eq!(ran.code, 2);
    assert!(
        ran.err.contains("no field {di}") && ran.err.contains("payload"),
        "{}",
        ran.err
    );
    assert!(daemon.asked().is_empty(), "nothing was submitted");
}

#[tokio::test]
async fn move_asks_for_a_place_and_sends_only_that() {
    let daemon = Daemon::start();
    let ran = daemon
        .run(&["move", ID, "--priority", "-7", "--in", "1m"])
        .await;
    assert_eq!(
        (ran.code, ran.out),
        (0, format!("{ID} moved\n")),
        "{}",
        ran.err
    );
    let asked = daemon.asked().remove(0);
    assert_eq!(
        (asked.method.as_str(), asked.body.as_str()),
        ("PATCH", "{\"priority\":-7,\"delay\":60.0}")
    );
    let ran = daemon.run(&["move", ID]).await;
    assert_eq!(
        (ran.code, ran.err.contains("--to <QUEUE>")),
        (2, true),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn verbs_and_queues_that_are_not_there_are_guessed() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["lsit"]).await;
    assert_eq!(
        (ran.code, ran.err.contains("'list'")),
        (2, true),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn every_other_verb_asks_its_path_and_ends_well() {
    let daemon = Daemon::start();
    for (args, path, body) in [
        (&["pause"][..], "/pause", "{}"),
        (&["pause", "emails"], "/pause", "{\"queue\":\"emails\"}"),
        (&["resume"], "/resume", "{}"),
        (&["undrain", "emails"], "/undrain", "{\"queue\":\"emails\"}"),
        (&["rescan"], "/rescan", "{}"),
        (&["checkpoint"], "/checkpoint", "{}"),
        (&["config"], "/config", ""),
        (&["rejected"], "/rejected", ""),
        (&["queues"], "/api/v1/queues", ""),
        (&["workers"], "/api/v1/workers", ""),
        (&["top"], "/status", ""),
    ] {
        let ran = daemon.run(args).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}");
        assert!(!ran.out.is_empty(), "{args:?}");
        let asked = daemon.asked().remove(0);
        assert_eq!(
            (asked.path.as_str(), asked.body.as_str()),
            (path, body),
            "{args:?}"
        );
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let out = daemon.run(&args).await.out;
        assert!(
            serde_json::from_str::<Value>(&out).is_ok(),
            "{args:?}: {out}"
        );
        daemon.asked();
    }
}

#[tokio::test]
async fn events_are_shown_a_line_each_until_the_stream_ends() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["events"]).await;
    assert_eq!((ran.code, ran.out.lines().count()), (0, 1));
    assert!(
        ran.out.trim_end().ends_with("dead         x  a\\nb"),
        "{}",
        ran.out
    );
    let ran = daemon.run(&["events", "--json"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&ran.out).unwrap()["kind"],
        "dead"
    );
    daemon.asked();
    daemon
        .run(&["events", "-q", "other", "-k", "dead", "-t", "dead"])
        .await;
    let path = "/api/v1/events?queue=other&kind=dead&state=dead";
    assert_eq!(daemon.asked()[0].path, path);
}

#[tokio::test]
async fn a_refusal_ends_with_one_and_wrong_arguments_with_two() {
    let daemon = Daemon::start();
    let ran = daemon.run(&["drain"]).await;
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (1, "workqueuectl: the daemon is stopping\n")
    );
    for args in [
        &["show", "not-an-id"][..],
        &["submit", "x", "--queue", "No Such"],
        &["submit", "x", "--at", "tomorrow"],
        &["submit", "-j", "{"],
        &["submit", "x", "--in", "5"],
        &["list", "--state", "gone"],
        &["frobnicate"],
        &["retry"],
    ] {
        let ran = daemon.run(args).await;
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(!ran.err.is_empty(), "{args:?}");
    }
    assert_eq!(
        daemon.asked().len(),
        1,
        "nothing of this reached the daemon"
    );
}

#[tokio::test]
async fn no_daemon_ends_with_69_and_says_what_to_try() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("absent.sock");
    let ran = run_plain(&["--socket", socket.to_str().unwrap(), "status"], "", false).await;
    assert_eq!(ran.code, 69);
    assert!(
        ran.err
            .contains("is workqueued running? Try: systemctl status workqueued"),
        "{}",
        ran.err
    );
    let ran = run_plain(&["--url", "http://127.0.0.1:1", "queues"], "", false).await;
    assert_eq!(ran.code, 69, "{}", ran.err);
    assert_eq!(
        run_plain(&["--url", "ftp://example.org", "queues"], "", false)
            .await
            .code,
        2
    );
}

#[tokio::test]
async fn a_reader_that_has_had_enough_is_no_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let daemon = Daemon::start();
    let err = Written::default();
    let mut console = console(Gone, &err);
    let socket = daemon.socket();
    for verb in [&["list"][..], &["completions", "bash"], &["--help"]] {
        let args = [
            &["workqueuectl", "--socket", socket.to_str().unwrap()],
            verb,
        ]
        .concat();
        assert_eq!(
            run(args.into_iter().map(OsString::from), &mut console).await,
            0
        );
    }
    assert_eq!(err.text(), "");
}

#[tokio::test]
async fn check_counts_names_and_says_what_is_odd() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let data = dir.path().to_str().unwrap().to_owned();
    let name = format!("1970-01-01T00:00:00_00000100_{ID}.json");
    write(
        &format!("tasks/{name}"),
        &format!("{{\"payload\": 1, \"id\": \"{ID}\"}}"),
    );
    let other = name.replace(ID, "0198c0de-0000-7000-8000-0000000000ff");
    write(&format!("tasks/emails/{other}"), "{\"payload\": 1}");
    write("tasks/mine.json", "{}");
    write("tasks/.hidden.tmp", "");
    write("journal/000001.log", "12345");
    let ran = run_plain(&["check", &data], "", false).await;
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("tasks  emails       1\n") && ran.out.contains("all is well"),
        "{}",
        ran.out
    );

    write(
        &format!("dead/{name}"),
        "{\"payload\": 1, \"id\": \"other\"}",
    );
    write("tasks/Odd Folder/x", "");
    write("dead/odd", "");
    let ran = run_plain(&["check", &data, "--json"], "", false).await;
    assert_eq!(ran.code, 1);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["problems"].as_array().unwrap().len(), 4, "{report}");
    assert_eq!(
        (&report["dropped"], &report["journal_bytes"]),
        (&json!(1), &json!(5))
    );
    assert_eq!(run_plain(&["check", "/nowhere"], "", false).await.code, 74);
}

#[tokio::test]
async fn check_finds_nothing_wrong_with_what_a_daemon_takes_and_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let name =
        |last: u32| format!("1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-{last:012}.json");
    write(&format!("tasks/{}", name(1)), r#"{"payload": 1e999999}"#);
    write(&format!("tasks/{}", name(2)), r#"{"payload": "\ud800"}"#);
    write(
        &format!("tasks/{}", name(3)),
        r#"{"payload": 1, "priority": "100"}"#,
    );
    // The default queue's second folder, for drops only.
    write(&format!("tasks/default/{}", name(4)), r#"{"payload": 1}"#);
    write("tasks/default/mine.txt", "mine");
    // A rejected file whose own name is that of a reason.
    write("rejected/x.json.reason", "{");
    write("rejected/x.json.reason.reason", "not JSON");
    let data = dir.path().to_str().unwrap().to_owned();
    let ran = run_plain(&["check", &data, "--json"], "", false).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["problems"], json!([]), "{}", ran.err);
    assert_eq!((ran.code, &report["rejected"]), (0, &json!(1)));
    assert_eq!(
        (&report["dropped"], &report["files"]),
        (&json!(2), &json!({"tasks": {"default": 3}}))
    );

    write("dead/default/x.json", "{}");
    write("tasks/default/deeper/x.json", "{}");
    write("rejected/gone.json.reason", "not JSON");
    let ran = run_plain(&["check", &data, "--json"], "", false).await;
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["problems"].as_array().unwrap().len(), 3, "{report}");
}

#[tokio::test]
async fn check_of_what_is_no_data_directory_is_not_well() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("letter.txt"), "").unwrap();
    let data = dir.path().to_str().unwrap();
    for more in [&[][..], &["--repair"]] {
        let ran = run_plain(&[&["check", data], more].concat(), "", false).await;
        assert_eq!(ran.code, 1, "{}", ran.out);
        let is_told = ran.out.contains("neither tasks/ nor journal/");
        assert!(is_told && !ran.out.contains("all is well"), "{}", ran.out);
    }
    std::fs::create_dir(dir.path().join("tasks")).unwrap();
    assert_eq!(run_plain(&["check", data], "", false).await.code, 0);
}

#[tokio::test]
async fn check_tells_who_holds_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(dir.path().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let ran = run_plain(&["check", dir.path().to_str().unwrap()], "", false).await;
    assert!(
        ran.out
            .contains(&format!("held by process {}", std::process::id())),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains("all is well"), "{}", ran.out);
    drop(lock);
    let ran = run_plain(&["check", dir.path().to_str().unwrap()], "", false).await;
    assert!(ran.out.contains("free"), "{}", ran.out);
}

#[tokio::test]
async fn completions_are_printed_for_a_shell() {
    let ran = run_plain(&["completions", "zsh"], "", false).await;
    assert_eq!(
        (ran.code, ran.out.contains("#compdef workqueuectl")),
        (0, true)
    );
}

#[test]
fn the_command_line_is_consistent() {
    command().debug_assert();
    crate::config::command().debug_assert();
}

#[tokio::test]
async fn a_stream_that_is_refused_halfway_tells_the_refusal_and_not_the_broken_connection() {
    let daemon = Daemon::start();
    // More than the server takes: it answers 413 while most of this is still to be sent.
    let lines = "{\"payload\":\"0123456789\"}\n".repeat(400_000);
    for _ in 0..20 {
        let ran = daemon
            .run_with(&["submit", "--ndjson", "-"], &lines, false)
            .await;
        assert!(ran.err.contains("413"), "{}", ran.err);
    }
}
