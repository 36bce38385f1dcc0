//! `/metrics` held against the tools that read it, and what is made for it: the alert rules and the dashboard.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use common::{Daemon, package::skipped};
use serde_json::Value;

const RULES: &str = "packaging/prometheus/workqueue.rules.yml";
const RECORDED: &str = "tests/prometheus/workqueue.test.yml";
const DASHBOARD: &str = "packaging/grafana/workqueue.json";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where `tests/run` unpacks Debian packages that are not to be installed.
fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Runs a tool with this input; `None` where it is not here.
fn run(program: &str, args: &[&str], input: &str) -> Option<Output> {
    let unpacked = tools().join("usr/bin").join(program);
    let program = if unpacked.exists() {
        OsString::from(unpacked)
    } else {
        OsString::from(program)
    };
    let child = Command::new(program)
        .args(args)
        .current_dir(root())
        .env("PYTHONPATH", tools().join("usr/lib/python3/dist-packages"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    Some(child.wait_with_output().expect("it ends"))
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// A daemon in which everything that is counted has happened.
fn busy() -> Daemon {
    let daemon = Daemon::start(&[]);
    for queue in ["default", "emails"] {
        for _ in 0..4 {
            daemon.submit(&format!(r#"{{"payload":1,"queue":"{queue}"}}"#));
        }
        let tasks = daemon.claim(queue, 3);
        for (task, (deed, more)) in tasks.iter().zip([
            ("complete", ""),
            ("fail", r#","dead":true,"error":"broken""#),
            ("release", ""),
        ]) {
            let (id, token) = (task["id"].as_str(), task["token"].as_str());
            let (id, token) = (id.expect("an id"), token.expect("a token"));
            let body = format!(r#"{{"token":"{token}"{more}}}"#);
            let (status, answer) = daemon.post(&format!("/api/v1/tasks/{id}/{deed}"), &body);
            assert_eq!(status, 200, "{deed}: {answer}");
        }
    }
    assert_eq!(daemon.get("/nowhere").0, 404);
    assert_eq!(daemon.admin("POST", "/checkpoint", "").0, 200);
    daemon
}

fn scrape(daemon: &Daemon, accept: &str) -> (String, String) {
    let (status, head, body) = daemon.raw(&format!(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    ));
    assert_eq!(status, 200, "{body}");
    (head.to_ascii_lowercase(), body)
}

/// The name of each number, with its labels.
fn series(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a number").0)
        .collect()
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let daemon = busy();
    let (head, text) = scrape(&daemon, "text/plain");
    assert!(head.contains("content-type: text/plain; version=0.0.4"));
    match run("promtool", &["check", "metrics"], &text) {
        None => skipped("the metrics by promtool, which is not here"),
        Some(output) => {
            assert!(output.status.success(), "{}", said(&output));
            assert_eq!(said(&output), "");
        }
    }
}

#[test]
fn every_number_belongs_to_a_family_that_is_told_of_just_before_and_comes_once() {
    let daemon = busy();
    let (_, text) = scrape(&daemon, "*/*");
    let mut family = ("", "");
    let mut told = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').expect("a help");
            assert!(words.ends_with('.') || words.ends_with(')'), "{line}");
            assert!(told.insert(name), "{name} is told of twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.split_once(' ').expect("a type");
            assert!(told.contains(family.0), "{} has no help", family.0);
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a number");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series), "{series} comes twice");
            let name = series.split('{').next().expect("a name");
            let of_histogram = ["_bucket", "_sum", "_count"];
            let plain = match family.1 {
                "histogram" => of_histogram.iter().find_map(|end| name.strip_suffix(end)),
                _ => Some(name),
            };
            assert_eq!(plain, Some(family.0), "{line}");
            assert_eq!(family.1 == "counter", name.ends_with("_total"), "{line}");
        }
    }
}

#[test]
fn what_happened_is_counted_by_queue_and_outcome() {
    let daemon = busy();
    let (_, text) = scrape(&daemon, "*/*");
    let numbers: BTreeMap<&str, &str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .collect();
    for (series, value) in [
        (r#"workqueue_submitted_total{queue="emails"}"#, "4"),
        (r#"workqueue_claimed_total{queue="emails"}"#, "3"),
        (
            r#"workqueue_attempts_total{queue="emails",outcome="completed"}"#,
            "1",
        ),
        (
            r#"workqueue_attempts_total{queue="emails",outcome="failed"}"#,
            "1",
        ),
        (
            r#"workqueue_attempts_total{queue="emails",outcome="released"}"#,
            "1",
        ),
        (
            r#"workqueue_attempts_total{queue="emails",outcome="expired"}"#,
            "0",
        ),
        (r#"workqueue_died_total{queue="default"}"#, "1"),
        (r#"workqueue_tasks{queue="emails",state="ready"}"#, "2"),
        (r#"workqueue_tasks{queue="emails",state="dead"}"#, "1"),
        ("workqueue_task_wait_seconds_count", "6"),
        ("workqueue_task_run_seconds_count", "2"),
        (
            r#"workqueue_http_request_seconds_count{route="/api/v1/claim",method="POST",status="2xx"}"#,
            "2",
        ),
        (
            r#"workqueue_http_request_seconds_count{route="/api/v1/tasks/{id}/fail",method="POST",status="2xx"}"#,
            "2",
        ),
        (
            r#"workqueue_http_request_seconds_count{route="none",method="GET",status="4xx"}"#,
            "1",
        ),
    ] {
        assert_eq!(numbers.get(series), Some(&value), "{series}\nin\n{text}");
    }
    let syncs = numbers["workqueue_journal_sync_seconds_count"];
    assert!(syncs.parse::<u64>().expect("a count") >= 6, "{syncs}");
    assert_eq!(syncs, numbers["workqueue_journal_syncs_total"]);
}

#[test]
fn a_made_up_path_or_method_makes_no_series_of_its_own() {
    let daemon = busy();
    for number in 0..50 {
        let (status, _, _) = daemon.raw(&format!(
            "BREW{number} /pot/{number} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(status, 404);
        assert_eq!(daemon.get(&format!("/api/v1/queues/no-{number}")).0, 404);
    }
    let (_, text) = scrape(&daemon, "*/*");
    let of = |labels: &str| {
        let name = format!("workqueue_http_request_seconds_count{{{labels}}} 50");
        assert!(text.lines().any(|line| line == name), "{name}\nin\n{text}");
    };
    of(r#"route="none",method="other",status="4xx""#);
    of(r#"route="/api/v1/queues/{queue}",method="GET",status="4xx""#);
    assert!(!text.contains("BREW") && !text.contains("no-7"));
}

#[test]
fn a_strict_reader_of_open_metrics_reads_the_same_numbers() {
    const READER: &str = "import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
for family in read(sys.stdin.read()):
    assert family.documentation, family
    for sample in family.samples:
        print(sample.name)
";
    let daemon = busy();
    let (head, text) = scrape(
        &daemon,
        "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5",
    );
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(text.ends_with("# EOF\n"));
    let names = |text: &str| -> BTreeSet<String> {
        let names = series(text);
        names
            .iter()
            .filter_map(|one| one.split('{').next().map(ToOwned::to_owned))
            .collect()
    };
    let wanted = names(&text);
    assert_eq!(wanted, names(&scrape(&daemon, "text/plain").1));
    let there = run("python3", &["-c", "import prometheus_client"], "");
    if !there.is_some_and(|output| output.status.success()) {
        return skipped("OpenMetrics by the reference parser, which is not here");
    }
    let output = run("python3", &["-c", READER], &text).expect("it was here just now");
    assert!(output.status.success(), "{}", said(&output));
    let read: BTreeSet<String> = said(&output).lines().map(ToOwned::to_owned).collect();
    assert_eq!(read, wanted);
}

#[test]
fn the_alert_rules_are_right_and_fire_when_they_should() {
    for args in [["check", "rules", RULES], ["test", "rules", RECORDED]] {
        match run("promtool", &args, "") {
            None => return skipped("the alert rules by promtool, which is not here"),
            Some(output) => assert!(output.status.success(), "{args:?}: {}", said(&output)),
        }
    }
}

#[test]
fn every_alert_has_a_recorded_condition_in_which_it_fires_and_one_in_which_it_does_not() {
    let rules = fs::read_to_string(root().join(RULES)).expect("the rules");
    let recorded = fs::read_to_string(root().join(RECORDED)).expect("the conditions");
    let names: Vec<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let wanted = format!("alertname: {name}\n");
        let cases: Vec<&str> = recorded.split(&wanted).skip(1).collect();
        let fires = |case: &&&str| case.trim_start().starts_with("exp_alerts:");
        assert!(cases.iter().any(|case| fires(&case)), "{name} never fires");
        assert!(
            !cases.iter().all(|case| fires(&case)),
            "{name} always fires"
        );
    }
}

/// The metrics that an expression names.
fn named(expression: &str) -> Vec<&str> {
    let of_name = |character: char| !(character.is_ascii_alphanumeric() || character == '_');
    let words = expression.split(of_name);
    words
        .filter(|word| word.starts_with("workqueue_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn the_dashboard_and_the_rules_name_only_metrics_that_there_are() {
    let daemon = busy();
    let (_, text) = scrape(&daemon, "*/*");
    let live: BTreeSet<&str> = series(&text)
        .into_iter()
        .filter_map(|one| one.split('{').next())
        .collect();
    let dashboard = fs::read_to_string(root().join(DASHBOARD)).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut expressions = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64()),
            "{title} has an id of its own"
        );
        let targets = panel["targets"].as_array();
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            panel["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{title}"
        );
        for target in targets.unwrap_or_else(|| panic!("{title} shows something")) {
            expressions.push(target["expr"].as_str().expect("an expression").to_owned());
        }
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        expressions.extend(variable["definition"].as_str().map(ToOwned::to_owned));
    }
    assert!(expressions.len() > 30, "{}", expressions.len());
    let rules = fs::read_to_string(root().join(RULES)).expect("the rules");
    let rules: String = rules
        .lines()
        .filter(|line| !line.trim().starts_with('#'))
        .collect();
    expressions.push(rules);
    for expression in &expressions {
        let names = named(expression);
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            assert!(
                live.contains(name),
                "{name}, in {expression}, is not in\n{text}"
            );
        }
        // What a query selects in brackets has to be closed, or Grafana shows an error.
        for pair in ["()", "{}", "[]"] {
            let count = |at| expression.matches(&pair[at..=at]).count();
            assert_eq!(count(0), count(1), "{expression}");
        }
    }
}

#[test]
fn prometheus_takes_every_expression_of_the_dashboard() {
    let dashboard = fs::read_to_string(root().join(DASHBOARD)).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (number, target) in targets.enumerate() {
        let expression = target["expr"].as_str().expect("an expression");
        let expression = expression.replace("$__rate_interval", "5m");
        let expression = serde_json::to_string(&expression).expect("a string");
        writeln!(rules, "  - record: panel:{number}\n    expr: {expression}").expect("text");
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), rules).expect("write");
    let path = file.path().to_str().expect("a path");
    match run("promtool", &["check", "rules", path], "") {
        None => skipped("the dashboard by promtool, which is not here"),
        Some(output) => assert!(output.status.success(), "{}", said(&output)),
    }
}

#[test]
fn the_history_shows_what_the_daemon_has_done() {
    let daemon = busy();
    let sum = |history: &Value, name: &str| -> u64 {
        let counts = history[name].as_array().expect("counts").iter();
        counts.map(|count| count.as_u64().expect("a count")).sum()
    };
    for (path, share) in [
        ("/api/v1/history?span=minute", 2),
        ("/api/v1/history?span=day", 2),
        ("/api/v1/queues/emails/history", 1),
    ] {
        let (status, history) = daemon.get(path);
        assert_eq!(status, 200, "{history}");
        let counts = ["submitted", "completed", "failed", "dead"].map(|name| sum(&history, name));
        assert_eq!(
            counts,
            [4 * share, share, share, share],
            "{path}: {history}"
        );
    }
    let (_, history) = daemon.get("/api/v1/history");
    let p99 = history["wait"]["p99"].as_array().expect("quantiles");
    assert!(p99.iter().any(Value::is_number), "{history}");
    assert_eq!(daemon.get("/api/v1/queues/nowhere/history").0, 404);
    assert_eq!(daemon.get("/api/v1/history?span=week").0, 400);
}

#[test]
fn the_same_troubles_are_told_on_tcp_and_on_the_admin_socket() {
    let daemon = busy();
    assert_eq!(
        daemon.admin("POST", "/pause", r#"{"queue":"emails"}"#).0,
        200
    );
    daemon.drop_file("broken.json", b"not JSON");
    let kinds = |troubles: &Value| -> Vec<String> {
        let troubles = troubles["troubles"].as_array().expect("troubles").iter();
        troubles
            .map(|one| one["kind"].as_str().expect("a kind").to_owned())
            .collect()
    };
    common::until("the file is rejected", || {
        (daemon.admin("GET", "/status", "").1["rejected"] == 1).then_some(())
    });
    let (status, told) = daemon.get("/api/v1/troubles");
    assert_eq!(status, 200);
    assert_eq!(
        kinds(&told),
        [
            "tasks-dying",
            "tasks-dying",
            "no-worker",
            "dead-tasks",
            "rejected-files",
            "paused"
        ]
    );
    let (_, status) = daemon.admin("GET", "/status", "");
    assert_eq!(status["troubles"], told["troubles"]);
}
