//! The original's data directory, worker and forms work unchanged.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{fs, process::Command};

use common::{Daemon, names, until};
use serde_json::Value;

/// The original's worker, as it was: it polls `/api/next`, writes the payload, and posts `/api/complete`.
const WORKER: &str = r#"
import json, sys, time, urllib.request
url, log, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
done = 0
while done < limit:
    with urllib.request.urlopen(url + "/next") as answer:
        body = json.load(answer)
    assert body["status"] == "ok", body
    task = body["task"]
    if task is None:
        break
    with open(log, "a") as out:
        out.write("%s: %s\n" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()), task["payload"]))
    data = json.dumps({"id": task["id"]}).encode()
    request = urllib.request.Request(url + "/complete", data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer) == {"status": "ok"}
    done += 1
"#;

fn python(daemon: &Daemon, log: &str, limit: u32) -> Option<std::process::Child> {
    let log = daemon.scratch.path().join(log).display().to_string();
    let url = format!("http://{}/api", daemon.address);
    Command::new("python3")
        .args(["-c", WORKER, &url, &log, &limit.to_string()])
        .spawn()
        .ok()
}

fn payloads(daemon: &Daemon, log: &str) -> Vec<String> {
    let text = fs::read_to_string(daemon.scratch.path().join(log)).unwrap_or_default();
    text.lines()
        .map(|line| line.split_once(": ").expect("time: payload").1.to_owned())
        .collect()
}

#[test]
fn the_originals_directory_loads_and_drains_in_order() {
    let scratch = tempfile::tempdir().expect("scratch");
    let tasks = scratch.path().join("data/tasks");
    fs::create_dir_all(&tasks).expect("the directory");
    let ids = ["aaaaaaaa", "bbbbbbbb", "cccccccc", "dddddddd"]
        .map(|head| format!("{head}-1111-4222-8333-444455556666"));
    for (id, (priority, exectime, time)) in ids.iter().zip([
        (100, 0, "1970-01-01T00:00:00"),
        (200, 1_600_000_000, "2020-09-13T12:26:40"),
        (100, 1_500_000_000, "2017-07-14T02:40:00"),
        (900, 253_402_300_799_i64, "9999-12-31T23:59:59"),
    ]) {
        let name = format!("{time}_{priority:08}_{id}.json");
        let head = &id[..1];
        let content = format!(
            r#"{{"payload": "{head}", "priority": {priority}, "exectime": {exectime}, "id": "{id}"}}"#
        );
        fs::write(tasks.join(name), content).expect("a task");
    }
    let before = names(&tasks);
    let daemon = Daemon::start_in(scratch, &[]);
    assert_eq!(names(&tasks), before, "the names are right as they are");
    let Some(mut worker) = python(&daemon, "worked", 10) else {
        return eprintln!("SKIPPED: there is no python3");
    };
    assert!(common::wait(&mut worker).success());
    assert_eq!(payloads(&daemon, "worked"), ["b", "a", "c"]);
    let left = until("only the one of the year 9999 is left", || {
        Some(names(&tasks)).filter(|names| names.len() == 1)
    });
    assert!(
        left[0].starts_with("9999-12-31T23:59:59_00000900_dddddddd"),
        "{left:?}"
    );
}

#[test]
fn two_of_the_originals_workers_never_get_the_same_task() {
    let daemon = Daemon::start(&[]);
    for number in 0..60 {
        daemon.submit(&format!(r#"{{"payload":"{number}"}}"#));
    }
    let (Some(mut one), Some(mut two)) = (python(&daemon, "one", 60), python(&daemon, "two", 60))
    else {
        return eprintln!("SKIPPED: there is no python3");
    };
    assert!(common::wait(&mut one).success() && common::wait(&mut two).success());
    let mut all = payloads(&daemon, "one");
    all.extend(payloads(&daemon, "two"));
    all.sort_by_key(|text| text.parse::<u32>().expect("a number"));
    let expected: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
}

#[test]
fn the_originals_forms_submit_and_delete() {
    let daemon = Daemon::start(&[]);
    let (status, head, _) = daemon.form("/new", "payload=a+%26+b&priority=7&exectime=1600000000");
    assert!(
        status == 302 && head.to_ascii_lowercase().contains("location: /\r\n"),
        "{head}"
    );
    let name = until("the file is there", || names(&daemon.tasks()).pop());
    assert!(name.starts_with("2020-09-13T12:26:40_00000007_"), "{name}");
    let content: Value =
        serde_json::from_slice(&fs::read(daemon.tasks().join(&name)).expect("it")).expect("JSON");
    assert_eq!(
        (&content["payload"], &content["priority"]),
        (&Value::from("a & b"), &Value::from(7))
    );
    let id = content["id"].as_str().expect("an id");
    let (status, head, _) = daemon.form("/delete", &format!("id={id}"));
    assert!(
        status == 302 && head.to_ascii_lowercase().contains("location: /list"),
        "{head}"
    );
    until("the file is gone", || {
        names(&daemon.tasks()).is_empty().then_some(())
    });
}

#[test]
fn the_originals_api_says_what_is_wrong_in_its_own_words() {
    let daemon = Daemon::start(&[]);
    assert_eq!(
        daemon.get("/api/next"),
        (200, serde_json::json!({"status": "ok", "task": null}))
    );
    let (status, answer) = daemon.post(
        "/api/complete",
        r#"{"id":"aaaaaaaa-1111-4222-8333-444455556666"}"#,
    );
    assert_eq!(
        (status, &answer["status"]),
        (404, &Value::from("error")),
        "{answer}"
    );
    let id = daemon.submit(r#"{"payload":1}"#);
    assert_eq!(daemon.claim("default", 1).len(), 1);
    let (status, answer) = daemon.post("/api/complete", &format!(r#"{{"id":"{id}"}}"#));
    assert_eq!(
        (status, &answer["status"]),
        (409, &Value::from("error")),
        "a v1 lease: {answer}"
    );
    let (status, answer) = daemon.post("/api/complete", "{");
    assert_eq!(
        (status, &answer["status"]),
        (400, &Value::from("error")),
        "{answer}"
    );
}
