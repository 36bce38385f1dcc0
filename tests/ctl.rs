//! `workqueuectl` as people and scripts use it: on a real terminal, in real shells, against a real daemon.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Output, Stdio},
};

use common::{Daemon, terminal::Terminal, wait};
use serde_json::{Value, json};

const CTL: &str = env!("CARGO_BIN_EXE_workqueuectl");

fn socket(daemon: &Daemon) -> String {
    daemon.socket().to_str().unwrap().to_owned()
}

fn ctl(daemon: &Daemon, args: &[&str]) -> Output {
    let socket = socket(daemon);
    common::run(CTL, &[&["--socket", &socket], args].concat())
}

fn ok(daemon: &Daemon, args: &[&str]) -> String {
    let output = ctl(daemon, args);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    common::out(&output)
}

/// On a terminal.
fn on_terminal(daemon: &Daemon, args: &[&str], environment: &[(&str, &str)]) -> Terminal {
    let socket = socket(daemon);
    Terminal::start(CTL, &[&["--socket", &socket], args].concat(), environment)
}

#[test]
fn colours_are_for_terminals_and_no_color_turns_them_off() {
    let daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", "\u{1b}[31mred\u{1b}[0m"]);
    assert!(!ok(&daemon, &["list"]).contains('\u{1b}'));
    let plain = [("PAGER", "cat")];
    let (code, ended) = on_terminal(&daemon, &["list"], &plain).end();
    assert_eq!(code, 0);
    assert!(
        ended.written.contains("\u{1b}[1mID\u{1b}[0m"),
        "{}",
        ended.written
    );
    assert!(ended.text.contains("\\u{1b}[31mred"), "{}", ended.text);
    let (_, ended) = on_terminal(&daemon, &["list"], &[("PAGER", "cat"), ("NO_COLOR", "1")]).end();
    assert!(!ended.written.contains('\u{1b}'), "{}", ended.written);
    // Nor through a template or JSON.
    for shape in [&["--format", "{payload}"][..], &["--json"]] {
        let (_, ended) = on_terminal(&daemon, &[&["list"], shape].concat(), &plain).end();
        assert!(!ended.written.contains("\u{1b}[31m"), "{}", ended.written);
    }
}

#[test]
fn a_list_on_a_terminal_goes_through_the_pager() {
    let daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", "hello"]);
    let (code, ended) = on_terminal(&daemon, &["list"], &[("PAGER", "sed 's/^/> /'")]).end();
    assert_eq!(code, 0);
    assert!(ended.text.starts_with("> ID "), "{}", ended.text);
    // A pager that is left early is no error, and what is no list goes without one.
    let (code, _) = on_terminal(&daemon, &["list"], &[("PAGER", "head -c 1 >/dev/null")]).end();
    assert_eq!(code, 0);
    let (_, ended) = on_terminal(&daemon, &["queues"], &[("PAGER", "sed 's/^/> /'")]).end();
    assert!(ended.text.starts_with("QUEUE "), "{}", ended.text);
}

#[test]
fn a_payload_is_cut_to_the_width_of_the_terminal() {
    let daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", &"long ".repeat(100)]);
    let (_, ended) = on_terminal(&daemon, &["list"], &[("PAGER", "cat"), ("NO_COLOR", "1")]).end();
    let longest = ended.text.lines().map(|line| line.chars().count()).max();
    // What stands before the payload takes more than 80 columns already; it gets what is least.
    assert!(
        ended.text.contains('…') && longest <= Some(108),
        "{}",
        ended.text
    );
}

#[test]
fn top_shows_queues_obeys_keys_takes_every_size_and_gives_the_terminal_back() {
    let daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", "-q", "alpha", "x"]);
    let mut top = on_terminal(&daemon, &["top"], &[]);
    top.until("the queues", |text| {
        text.contains("alpha") && text.contains("q end")
    });
    assert!(top.screen().alternate_screen());
    ok(&daemon, &["submit", "-q", "omega", "y"]);
    top.until("a new queue, live", |text| text.contains("omega"));
    top.write("\u{1b}[C");
    top.until("sorted by the next column", |text| text.contains("READY▼"));
    top.resize(40, 120);
    top.until("the new size", |text| {
        text.lines()
            .nth(39)
            .is_some_and(|line| line.starts_with("q end"))
    });
    top.write("q");
    let (code, ended) = top.end();
    assert_eq!((code, ended.is_given_back), (0, true), "{}", ended.text);

    let mut top = on_terminal(&daemon, &["top"], &[]);
    top.until("the queues", |text| text.contains("alpha"));
    let pid = top.pid().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    let (code, ended) = top.end();
    assert_eq!((code, ended.is_given_back), (0, true), "{}", ended.text);
}

#[test]
fn top_waits_for_a_daemon_that_restarts() {
    let mut daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", "-q", "alpha", "x"]);
    let mut top = on_terminal(&daemon, &["top"], &[]);
    top.until("the queues", |text| text.contains("alpha"));
    daemon.stop();
    top.until("what is wrong", |text| text.contains("unreachable"));
    daemon.restart();
    top.until("well again", |text| text.contains("workqueue ok"));
    top.write("\u{3}");
    assert_eq!(top.end().0, 0);
}

#[test]
fn a_long_stream_shows_how_far_it_is_and_leaves_only_the_outcome() {
    let daemon = Daemon::start(&[]);
    let pipe = daemon.scratch.path().join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut submit = on_terminal(
        &daemon,
        &["submit", "--ndjson", pipe.to_str().unwrap()],
        &[],
    );
    let mut feed = File::options().write(true).open(&pipe).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut lines = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            // Long lines: what is watched is time, and each is a task that has to be taken.
            let line = format!("{{\"payload\": \"{}\"}}\n", "x".repeat(30_000));
            let mut lines = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                feed.write_all(line.as_bytes()).unwrap();
                lines += 1;
            }
            drop(feed);
            lines
        });
        submit.until("how far it is", |text| {
            text.contains(" tasks, ") && text.contains("/s, ")
        });
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        lines = writer.join().unwrap();
    });
    let (code, ended) = submit.end();
    assert_eq!(
        (code, ended.text.trim()),
        (0, format!("{lines} tasks accepted").as_str())
    );
}

#[test]
fn purge_asks_on_a_terminal_with_the_count() {
    let daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", "x"]);
    for (answer, wanted) in [
        ("n\r", "nothing was cancelled"),
        ("y\r", "1 ready task cancelled"),
    ] {
        let mut purge = on_terminal(&daemon, &["purge", "-t", "ready"], &[]);
        purge.until("the question", |text| {
            text.contains("Cancel 1 ready task, for good? [y/N]")
        });
        purge.write(answer);
        let (code, ended) = purge.end();
        assert_eq!(code, 0);
        assert!(ended.text.contains(wanted), "{}", ended.text);
    }
}

/// `submit --wait` that has said that it waits.
struct Waiting {
    child: Child,
    id: String,
}

impl Waiting {
    fn start(daemon: &Daemon, args: &[&str]) -> Self {
        let socket = socket(daemon);
        let child = Command::new(CTL)
            .args(["--socket", &socket, "submit", "--wait", "x"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let id = common::until("it is submitted", || {
            let (_, page) = daemon.get("/api/v1/tasks?limit=1");
            Some(page["tasks"].get(0)?["id"].as_str()?.to_owned())
        });
        Self { child, id }
    }

    /// Its exit code, what it printed, and what it said about it.
    fn end(mut self) -> (i32, String, String) {
        let code = wait(&mut self.child).code().unwrap();
        let text = |stream: &mut dyn std::io::Read| {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let out = text(&mut self.child.stdout.take().unwrap());
        (code, out, text(&mut self.child.stderr.take().unwrap()))
    }
}

fn claim(daemon: &Daemon) -> Value {
    let claimed = daemon.claim("default", 1);
    claimed.into_iter().next().expect("a task")
}

#[test]
fn wait_says_by_its_exit_code_how_the_task_ended() {
    let daemon = Daemon::start(&[]);
    let waiting = Waiting::start(&daemon, &["--json"]);
    let task = claim(&daemon);
    let body = json!({"token": task["token"], "result": {"size": 7}}).to_string();
    let (status, _) = daemon.post(&format!("/api/v1/tasks/{}/complete", waiting.id), &body);
    assert!(status < 300);
    let (code, out, _) = waiting.end();
    let event: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &event["kind"]), (0, &json!("completed")));
    assert_eq!(event["result"], json!({"size": 7}));

    let waiting = Waiting::start(&daemon, &[]);
    let body = json!({"token": claim(&daemon)["token"], "result": "as text"}).to_string();
    daemon.post(&format!("/api/v1/tasks/{}/complete", waiting.id), &body);
    let (code, out, err) = waiting.end();
    assert_eq!((code, out.as_str()), (0, "as text\n"), "{err}");

    let waiting = Waiting::start(&daemon, &["--max-attempts", "1"]);
    let body = json!({"token": claim(&daemon)["token"], "error": "no\u{1b}[2Jpaper"}).to_string();
    daemon.post(&format!("/api/v1/tasks/{}/fail", waiting.id), &body);
    let id = waiting.id.clone();
    let (code, _, err) = waiting.end();
    assert_eq!(code, 3);
    assert!(
        err.contains("is dead: no\\u{1b}[2Jpaper")
            && err.contains(&format!("workqueuectl retry {id}")),
        "{err}"
    );
    ok(&daemon, &["purge", "--yes"]);

    let waiting = Waiting::start(&daemon, &[]);
    ok(&daemon, &["cancel", &waiting.id]);
    let (code, _, err) = waiting.end();
    assert_eq!((code, err.contains("was cancelled")), (4, true), "{err}");

    let output = ctl(&daemon, &["submit", "--wait", "--timeout", "10ms", "x"]);
    assert_eq!(output.status.code(), Some(124));
}

#[test]
fn wait_goes_on_through_a_restart_of_the_daemon() {
    let mut daemon = Daemon::start(&[]);
    let mut waiting = on_terminal(&daemon, &["submit", "--wait", "--json", "x"], &[]);
    // The task may be there before its answer is: a daemon killed between them has acknowledged nothing to wait for.
    waiting.until("it has its answer", |text| {
        text.contains("waiting for its end")
    });
    daemon.crash_and_restart();
    let task = claim(&daemon);
    let body = json!({"token": task["token"]}).to_string();
    // It may have listened again by now, or come too late for the event: then it finds the task gone, and says so.
    daemon.post(
        &format!(
            "/api/v1/tasks/{}/complete",
            task["id"].as_str().expect("an id")
        ),
        &body,
    );
    let (code, ended) = waiting.end();
    match code {
        0 => assert!(ended.written.contains("completed"), "{}", ended.written),
        code => assert_eq!(
            (code, ended.written.contains("how is not known")),
            (5, true),
            "{}",
            ended.written
        ),
    }
}

#[test]
fn events_go_on_through_a_restart_when_they_are_followed() {
    let mut daemon = Daemon::start(&[]);
    let socket = socket(&daemon);
    let mut events = Command::new(CTL)
        .args([
            "--socket",
            &socket,
            "events",
            "--follow",
            "--format",
            "{kind} {queue}",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut notes = BufReader::new(events.stderr.take().unwrap()).lines();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    // That it listens shows by the first event that it tells.
    let mut heard = |queue: &str, daemon: &Daemon| {
        let told = format!("submitted {queue}");
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| lines.any(|line| line.unwrap() == told));
            while !reader.is_finished() {
                ok(daemon, &["submit", "-q", queue, "x"]);
            }
            assert!(reader.join().unwrap());
        });
    };
    heard("before", &daemon);
    daemon.stop();
    let ended = notes.next().unwrap().unwrap();
    assert!(ended.contains("the stream has ended"), "{ended}");
    daemon.restart();
    // Either comes first: that it listens again, or that something may have been missed.
    assert!(notes.any(|note| note.unwrap() == "listening again"));
    heard("after", &daemon);
    events.kill().unwrap();
    events.wait().unwrap();
}

#[test]
fn a_reader_that_has_had_enough_ends_it_quietly() {
    let daemon = Daemon::start(&[]);
    let lines = "{\"payload\": \"0123456789\"}\n".repeat(3000);
    let file = daemon.scratch.path().join("tasks.ndjson");
    fs::write(&file, lines).unwrap();
    assert_eq!(
        ok(&daemon, &["submit", "--ndjson", file.to_str().unwrap()]),
        "3000 tasks accepted\n"
    );
    let line = format!(
        "{CTL} --socket {} list --all | head -n 1; echo ${{PIPESTATUS[0]}}",
        socket(&daemon)
    );
    let output = common::run("bash", &["-c", &line]);
    let out = common::out(&output);
    assert!(out.starts_with("ID ") && out.ends_with("\n0\n"), "{out}");
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn events_end_when_nobody_reads_them_any_more_although_nothing_happens() {
    let mut daemon = Daemon::start(&[]);
    let socket = socket(&daemon);
    let start = || {
        Command::new(CTL)
            .args(["--socket", &socket, "events", "--follow"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // That it listens shows by the first event that it tells.
    let heard = |child: &mut Child| {
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| lines.read_line(&mut String::new()).unwrap());
            while !reader.is_finished() {
                ok(&daemon, &["submit", "x"]);
            }
        });
        lines
    };
    let mut read = start();
    drop(heard(&mut read));
    // From here on nothing happens.
    assert_eq!(wait(&mut read).code(), Some(0));
    // Nor does anything while the daemon is away.
    let mut away = start();
    let mut notes = BufReader::new(away.stderr.take().unwrap()).lines();
    let lines = heard(&mut away);
    daemon.stop();
    let ended = notes.next().unwrap().unwrap();
    assert!(ended.contains("the stream has ended"), "{ended}");
    drop(lines);
    assert_eq!(wait(&mut away).code(), Some(0));
    assert!(notes.next().is_none());
}

#[test]
fn a_wrong_line_of_a_stream_says_how_to_go_on_and_that_works() {
    let daemon = Daemon::start(&[]);
    let file = daemon.scratch.path().join("tasks.ndjson");
    fs::write(
        &file,
        "{\"payload\": 1}\n{\"payload\": 2}\n{\"paylod\": 3}\n{\"payload\": 4}\n",
    )
    .unwrap();
    let output = ctl(&daemon, &["submit", "--ndjson", file.to_str().unwrap()]);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let hint = format!(
        "tail -n +3 {} | workqueuectl submit --ndjson -",
        file.display()
    );
    assert!(
        err.contains("2 tasks before it were taken") && err.contains(&hint),
        "{err}"
    );
}

#[test]
fn over_tcp_all_is_there_that_tcp_serves() {
    let daemon = Daemon::start(&[]);
    let url = format!("http://{}", daemon.address);
    let run = |args: &[&str]| common::run(CTL, &[&["--url", &url], args].concat());
    let id = common::out(&run(&["submit", "x"]));
    for args in [
        &["list"][..],
        &["show", id.trim()],
        &["queues"],
        &["workers"],
        &["status"],
        &["top"],
    ] {
        let output = run(args);
        assert!(
            output.status.success() && !output.stdout.is_empty(),
            "{args:?}"
        );
    }
    let paused = run(&["pause"]);
    let err = String::from_utf8_lossy(&paused.stderr);
    assert_eq!(
        (paused.status.code(), err.contains("--socket PATH")),
        (Some(2), true),
        "{err}"
    );
    assert!(run(&["cancel", id.trim()]).status.success());
}

#[test]
fn a_rejected_file_is_corrected_and_taken() {
    let daemon = Daemon::start(&[]);
    daemon.drop_file("wrong.json", b"{}");
    daemon.until_rejected(1);
    let name = ok(&daemon, &["rejected", "--format", "{name}"]);
    let name = name.trim();
    let shown = ok(&daemon, &["rejected", "show", name]);
    assert!(
        shown.contains("reason") && shown.contains("begins      {}"),
        "{shown}"
    );
    let file = daemon.data().join("rejected").join(name);
    fs::write(&file, "{\"payload\": \"right\"}").unwrap();
    ok(&daemon, &["rejected", "retry", name]);
    common::until("it is taken", || {
        ok(&daemon, &["list", "--format", "{payload}"])
            .contains("right")
            .then_some(())
    });
    assert_eq!(ok(&daemon, &["rejected"]), "no dropped file was rejected\n");
}

#[test]
fn a_task_is_moved_to_another_queue_and_found_by_the_beginning_of_its_id() {
    let daemon = Daemon::start(&[]);
    let id = ok(&daemon, &["submit", "x"]);
    let id = id.trim();
    ok(&daemon, &["move", id, "--to", "emails", "--priority", "7"]);
    let line = ok(
        &daemon,
        &[
            "list",
            "--id",
            &id[..10],
            "--format",
            "{id} {queue} {priority}",
        ],
    );
    assert_eq!(line, format!("{id} emails 7\n"));
    assert_eq!(ok(&daemon, &["list", "--id", "ffffffff"]), "no tasks\n");
}

/// A directory with the program in it, for shells to find it.
fn path_with_ctl() -> String {
    let dir = std::path::Path::new(CTL).parent().unwrap();
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap())
}

fn shell(program: &str, args: &[&str], daemon: &Daemon) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .env("PATH", path_with_ctl())
        .env("WORKQUEUE_ADMIN_SOCKET", socket(daemon))
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) => Some(common::out(&output) + &String::from_utf8_lossy(&output.stderr)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            common::package::skipped(&format!("the completions of {program}, which is not here"));
            None
        }
        Err(cause) => panic!("{program}: {cause}"),
    }
}

#[test]
fn bash_completes_verbs_queues_and_ids_from_the_running_daemon() {
    let daemon = Daemon::start(&[]);
    let id = ok(&daemon, &["submit", "-q", "emails", "x"]);
    let id = id.trim();
    let complete = |words: &str, typed: &str| {
        let line = format!(
            "source <(workqueuectl completions bash); COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); \
             COMP_TYPE=9; _clap_complete_workqueuectl workqueuectl {typed} x; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        shell("bash", &["-c", &line], &daemon).expect("bash")
    };
    assert_eq!(complete("workqueuectl pau", "pau").trim(), "pause");
    assert_eq!(complete("workqueuectl pause em", "em").trim(), "emails");
    assert_eq!(
        complete("workqueuectl list --queue em", "em").trim(),
        "emails"
    );
    assert_eq!(
        complete(&format!("workqueuectl show {}", &id[..4]), &id[..4]).trim(),
        id
    );
    assert_eq!(
        complete("workqueuectl --socket /nowhere pause em", "em").trim(),
        ""
    );
}

#[test]
fn fish_completes_queues_from_the_running_daemon() {
    let daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", "-q", "emails", "x"]);
    let line = "workqueuectl completions fish | source; complete -C 'workqueuectl pause em'";
    if let Some(out) = shell("fish", &["--no-config", "-c", line], &daemon) {
        assert!(out.starts_with("emails"), "{out}");
    }
}

#[test]
fn zsh_completes_queues_from_the_running_daemon() {
    let daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", "-q", "emails", "x"]);
    if shell("zsh", &["-fc", "true"], &daemon).is_none() {
        return;
    }
    let (socket, path) = (socket(&daemon), path_with_ctl());
    let environment = [
        ("WORKQUEUE_ADMIN_SOCKET", socket.as_str()),
        ("PATH", &path),
        ("PS1", "ready> "),
    ];
    let mut zsh = Terminal::start("zsh", &["-f"], &environment);
    zsh.write("autoload -U compinit; compinit -u -D; source <(workqueuectl completions zsh); echo so\"\"urced\n");
    zsh.until("the script", |text| text.contains("sourced"));
    zsh.write("workqueuectl pause em\t");
    zsh.until("the queue's name", |text| {
        text.contains("workqueuectl pause emails")
    });
}

/// What a daemon has, by its list: all but the history of each task.
fn listed(daemon: &Daemon) -> Vec<Value> {
    let text = ok(daemon, &["list", "--all", "--json"]);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_is_exported_is_imported_elsewhere_as_it_was_and_again_without_a_change() {
    let daemon = Daemon::start(&[]);
    ok(
        &daemon,
        &["submit", "-q", "emails", "--unique-key", "k", "to ada"],
    );
    ok(&daemon, &["submit", "--at", "2099-01-01 00:00", "later"]);
    ok(
        &daemon,
        &["submit", "-q", "broken", "--max-attempts", "1", "fails"],
    );
    let broken = &daemon.claim("broken", 1)[0];
    let path = format!("/api/v1/tasks/{}/fail", broken["id"].as_str().unwrap());
    let body = json!({"token": broken["token"], "error": "out of paper"});
    assert_eq!(daemon.post(&path, &body.to_string()).0, 200);
    ok(&daemon, &["pause", "emails"]);
    let file = daemon.scratch.path().join("tasks.ndjson");
    let path = file.to_str().unwrap();
    assert_eq!(
        ok(&daemon, &["export", path]),
        format!("3 tasks exported to {path}\n")
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // A stream is the same but for its moment.
    let stream = ok(&daemon, &["export"]);
    let text = fs::read_to_string(&file).unwrap();
    let tasks = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(tasks(&stream), tasks(&text));

    let mut other = Daemon::start(&[]);
    assert_eq!(ok(&other, &["import", path]), "3 tasks imported\n");
    assert_eq!(listed(&other), listed(&daemon));
    other.crash_and_restart();
    assert_eq!(listed(&other), listed(&daemon));
    assert_eq!(
        ok(&other, &["import", path]),
        "3 tasks imported, 3 of them were there already\n"
    );
    assert!(
        other.claim("emails", 1).is_empty(),
        "it is paused there too"
    );
    ok(&other, &["retry", "--dead"]);
    assert_eq!(other.claim("broken", 1)[0]["payload"], "fails");

    // One that is cut is taken as far as it goes, and said to be cut.
    let cut: Vec<&str> = text.lines().take(2).collect();
    fs::write(&file, cut.join("\n")).unwrap();
    let output = ctl(&other, &["import", path]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("the export is cut"),
        "{errors}"
    );
    let gone = ctl(&other, &["export", "/nowhere/tasks.ndjson"]);
    let errors = String::from_utf8_lossy(&gone.stderr);
    assert!(
        errors.contains("/nowhere/tasks.ndjson.part: No such file"),
        "{errors}"
    );
}

#[test]
fn an_export_goes_through_links_and_into_pipes_and_replaces_neither() {
    let daemon = Daemon::start(&[]);
    ok(&daemon, &["submit", "hello"]);
    let at = |name: &str| daemon.scratch.path().join(name);
    let (file, link, pipe) = (at("file"), at("link"), at("pipe"));
    fs::write(&file, "old").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    ok(&daemon, &["export", link.to_str().unwrap()]);
    assert!(link.is_symlink());
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");

    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let reader = {
        let pipe = pipe.clone();
        std::thread::spawn(move || fs::read_to_string(pipe).unwrap())
    };
    ok(&daemon, &["export", pipe.to_str().unwrap()]);
    assert_eq!(reader.join().unwrap().lines().count(), 3);
    assert!(!pipe.metadata().unwrap().is_file());
}

#[test]
fn an_export_whose_daemon_is_killed_is_no_whole_one() {
    let mut daemon = Daemon::start(&[]);
    let line = json!({"payload": "x".repeat(4000)}).to_string() + "\n";
    let tasks = daemon.scratch.path().join("in.ndjson");
    fs::write(&tasks, line.repeat(5000)).unwrap();
    ok(&daemon, &["submit", "--ndjson", tasks.to_str().unwrap()]);
    // Nobody reads on behind the first line, so that the daemon can't be done when it is killed.
    let mut child = Command::new(CTL)
        .args(["--socket", &socket(&daemon), "export"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"export\":{\"format\":1,"), "{first}");
    daemon.kill();
    let rest = out.lines().map_while(Result::ok).count();
    assert!(rest < 5001, "{rest}");
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_task_is_shown_with_what_happened_to_it() {
    let daemon = Daemon::start(&[]);
    let id = ok(&daemon, &["submit", "hello"]);
    let claimed = &daemon.claim("default", 1)[0];
    let path = format!("/api/v1/tasks/{}/fail", id.trim());
    let body = json!({"token": claimed["token"], "error": "out of\npaper"});
    assert_eq!(daemon.post(&path, &body.to_string()).0, 200);
    let shown = ok(&daemon, &["show", id.trim()]);
    let (_, history) = shown.split_once("\nhistory\n").expect(&shown);
    let lines: Vec<&str> = history.lines().collect();
    for (line, part) in lines
        .iter()
        .zip(["submitted", "claimed", "failed", "paper"])
    {
        assert!(line.contains(part), "{history}");
    }
    assert!(
        lines[2].contains("attempt 1") && lines[2].contains("out of"),
        "{history}"
    );
}

/// The examples that the help of a verb has.
fn examples(verb: &str) -> Vec<String> {
    let help = common::out(&common::run(CTL, &[verb, "--help"]));
    help.lines()
        .skip_while(|line| *line != "Examples:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .map(|line| line.trim().to_owned())
        .collect()
}

#[test]
fn every_example_of_the_help_does_what_it_says() {
    let daemon = Daemon::start(&[]);
    let help = common::out(&common::run(CTL, &["--help"]));
    let (_, verbs) = help.split_once("Commands:\n").expect("a list of verbs");
    let verbs = verbs
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let examples: Vec<String> = verbs
        .filter(|verb| *verb != "help")
        .flat_map(examples)
        .collect();
    assert!(examples.len() >= 11, "{examples:?}");
    let here = daemon.scratch.path().join("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("tasks.ndjson"), "{\"payload\": \"of a file\"}\n").unwrap();
    let path = format!(
        "{}:{}",
        std::path::Path::new(CTL).parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        // Somebody does what is waited for.
        let daemon = &daemon;
        scope.spawn(move || {
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                for task in daemon.claim("default", 1) {
                    let path = format!("/api/v1/tasks/{}/complete", task["id"].as_str().unwrap());
                    let body = json!({"token": task["token"]}).to_string();
                    assert_eq!(daemon.post(&path, &body).0, 200);
                }
            }
        });
        for example in &examples {
            let output = Command::new("bash")
                .args(["-o", "pipefail", "-c", example])
                .current_dir(&here)
                .env("PATH", &path)
                .env("WORKQUEUE_TOKENS", here.join("tokens.toml"))
                .env("WORKQUEUE_ADMIN_SOCKET", daemon.socket())
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{example}: {errors}");
        }
        drop(stop);
    });
}

/// Two who change the file at once: neither undoes what the other did.
#[test]
fn tokens_that_are_made_and_revoked_at_once_are_all_made_and_revoked() {
    const MANY: usize = 12;
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("tokens.toml");
    let start = |args: &[&str]| {
        let mut command = Command::new(CTL);
        command.arg("token").args(args).arg("--file").arg(&file);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let name = |number: usize| format!("token-{number}");
    let mut running: Vec<_> = (0..MANY)
        .map(|number| start(&["new", &name(number), "--scope", "read"]))
        .collect();
    for child in running.drain(..) {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    running.extend((0..MANY).map(|number| start(&["revoke", &name(number)])));
    running
        .extend((MANY..2 * MANY).map(|number| start(&["new", &name(number), "--scope", "read"])));
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let text = fs::read_to_string(&file).unwrap();
    for number in 0..2 * MANY {
        let there = text.contains(&format!("\"{}\"", name(number)));
        assert_eq!(there, number >= MANY, "{number}: {text}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
}

/// The kernel ends a program that goes beyond its limit, without a word.
#[test]
fn an_output_beyond_the_limit_of_files_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let out = File::create(scratch.path().join("script")).unwrap();
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -f 1; exec "$0" "$@""#])
        .args([CTL, "--help"])
        .stdout(out)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(74), "{output:?}");
}
