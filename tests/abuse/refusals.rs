//! A table of limits: how to go beyond each, what is answered, and the counter that says so. What is refused changes nothing and
//! leaves no memory behind.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use serde_json::json;

use crate::{
    common::{Daemon, mount::say, request, until},
    http::{connect, exchange},
    limits::metric,
    out_of::memory,
};

/// How many requests beyond a limit are sent; fewer where each takes a second.
const TIMES: usize = 40;
const TIMES_SLOW: usize = 3;
/// Counted for those who are too slow, by a test of its own.
const TIMED_OUT: &str = "workqueue_connections_timed_out_total";
/// How much more memory of its own a daemon may have after them than before: its allocator's, since none of them is kept.
const GROWTH: u64 = 16 << 20;

/// A limit.
struct Limit {
    /// The counter with its labels.
    counter: &'static str,
    /// The settings; `SCRATCH` in them is the daemon's directory.
    settings: &'static str,
    /// Brings the daemon up to the limit; what is given is held until the end.
    reach: fn(&Daemon) -> Vec<TcpStream>,
    /// What goes beyond it.
    beyond: fn(&Daemon) -> String,
    times: usize,
    /// What is answered.
    status: u16,
    problem: &'static str,
}

/// The labels of limits that other tests reach, with many clients or a disk of their own.
const ELSEWHERE: [(&str, &str); 3] = [
    ("max_in_flight", "flight.rs"),
    ("max_submitting", "out_of.rs, on a disk that is stuck"),
    ("room", "out_of.rs, on a disk without inodes"),
];

const LIMITS: &[Limit] = &[
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_url"}"#,
        settings: "max_url = \"1KiB\"",
        reach: nothing,
        beyond: |_| get(&format!("/api/v1/tasks?limit={}", "1".repeat(2000)), ""),
        times: TIMES,
        status: 414,
        problem: "url-too-long",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_body"}"#,
        settings: "max_body = \"1MiB\"\nmax_payload = \"512KiB\"",
        reach: nothing,
        beyond: |_| submit(&json!({"payload": "x".repeat(2 << 20)})),
        times: TIMES,
        status: 413,
        problem: "too-large",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="body_timeout"}"#,
        settings: "body_timeout = \"1s\"",
        reach: nothing,
        beyond: |_| submit(&json!({"payload": "x".repeat(100)})).replace("xx\"}", ""),
        times: TIMES_SLOW,
        status: 408,
        problem: "request-timeout",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_payload"}"#,
        settings: "max_payload = \"512KiB\"",
        reach: nothing,
        beyond: |_| submit(&json!({"payload": "x".repeat(1 << 20)})),
        times: TIMES,
        status: 413,
        problem: "too-large",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_depth"}"#,
        settings: "max_depth = 2",
        reach: nothing,
        beyond: |_| submit(&json!({"payload": [[[1]]]})),
        times: TIMES,
        status: 400,
        problem: "invalid-field",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_tasks"}"#,
        settings: "max_tasks = 1",
        reach: one_task,
        beyond: |_| submit(&json!({"payload": "x".repeat(500_000)})),
        times: TIMES,
        status: 507,
        problem: "too-many",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_queue_tasks"}"#,
        settings: "max_queue_tasks = 1",
        reach: one_task,
        beyond: |_| submit(&json!({"payload": "x".repeat(500_000)})),
        times: TIMES,
        status: 507,
        problem: "too-many",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_queues"}"#,
        settings: "max_queues = 1",
        reach: nothing,
        beyond: |_| submit(&json!({"payload": "x".repeat(500_000), "queue": "other"})),
        times: TIMES,
        status: 507,
        problem: "too-many",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_unique_keys"}"#,
        settings: "max_unique_keys = 1",
        reach: one_task,
        beyond: |_| submit(&json!({"payload": "x".repeat(500_000), "unique_key": "b"})),
        times: TIMES,
        status: 507,
        problem: "too-many",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_spool"}"#,
        settings: "max_spool = \"512KiB\"\nmax_payload = \"512KiB\"",
        reach: one_task,
        beyond: |_| submit(&json!({"payload": "x".repeat(524_280)})),
        times: TIMES,
        status: 507,
        problem: "too-many",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_memory"}"#,
        settings: "max_memory = \"1MiB\"",
        reach: nothing,
        beyond: |_| submit(&json!({"payload": "x".repeat(500_000)})),
        times: TIMES,
        status: 507,
        problem: "no-memory",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_waiting"}"#,
        settings: "max_waiting = 1",
        reach: |daemon| {
            let held = held(daemon, &claim());
            until("a claim to wait", || {
                (metric(daemon, "workqueue_waiting_claims") == 1).then_some(())
            });
            held
        },
        beyond: |_| claim(),
        times: TIMES,
        status: 503,
        problem: "busy",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="max_listeners"}"#,
        settings: "max_listeners = 1",
        reach: |daemon| answered(held(daemon, &get("/api/v1/events", ""))),
        beyond: |_| get("/api/v1/events", ""),
        times: TIMES,
        status: 503,
        problem: "busy",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="requests"}"#,
        settings: "",
        // One export runs at a time: this one is longer than what the kernel takes for who doesn't read.
        reach: |daemon| {
            for _ in 0..40 {
                daemon.submit(&json!({"payload": "x".repeat(500_000)}).to_string());
            }
            answered(held(daemon, &get("/api/v1/export", "")))
        },
        beyond: |_| get("/api/v1/export", ""),
        times: TIMES,
        status: 503,
        problem: "busy",
    },
    Limit {
        counter: r#"workqueue_limit_refusals_total{limit="token_rate"}"#,
        settings: "tokens = \"SCRATCH/tokens\"\ntoken_rate = 1\nrequest_burst = 1",
        reach: nothing,
        beyond: |daemon| {
            let token = fs::read_to_string(daemon.scratch.path().join("token"));
            let token = token.expect("a token");
            let bearer = format!("Authorization: Bearer {}\r\n", token.trim());
            get("/api/v1/queues", &bearer)
        },
        times: TIMES,
        status: 429,
        problem: "too-many-with-token",
    },
    Limit {
        counter: "workqueue_requests_over_rate_total",
        settings: "request_rate = 1\nrequest_burst = 1",
        reach: nothing,
        beyond: |_| get("/api/v1/queues", ""),
        times: TIMES,
        status: 429,
        problem: "too-many-requests",
    },
    Limit {
        counter: r#"workqueue_connections_refused_total{limit="all"}"#,
        settings: "max_connections = 1",
        reach: kept,
        beyond: |_| get("/api/v1/queues", ""),
        times: TIMES,
        status: 503,
        problem: "too-many-connections",
    },
    Limit {
        counter: r#"workqueue_connections_refused_total{limit="address"}"#,
        settings: "max_connections_per_address = 1",
        reach: kept,
        beyond: |_| get("/api/v1/queues", ""),
        times: TIMES,
        status: 429,
        problem: "too-many-from-address",
    },
    Limit {
        counter: "workqueue_heads_refused_total",
        settings: "max_head = \"8KiB\"",
        reach: nothing,
        beyond: |_| get("/", &format!("X-Long: {}\r\n", "x".repeat(20_000))),
        times: TIMES,
        status: 431,
        problem: "head-too-large",
    },
    Limit {
        counter: "workqueue_heads_refused_total",
        settings: "max_headers = 10",
        reach: nothing,
        beyond: |_| get("/", &"X-Many: 1\r\n".repeat(20)),
        times: TIMES,
        status: 431,
        problem: "head-too-large",
    },
];

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n")
}

fn submit(task: &serde_json::Value) -> String {
    let body = task.to_string();
    request("POST", "/api/v1/tasks", "application/json", &body)
}

/// A claim that waits for longer than the test takes.
fn claim() -> String {
    let body = r#"{"queues": ["none"], "wait": 300}"#;
    request("POST", "/api/v1/claim", "application/json", body)
}

fn nothing(_: &Daemon) -> Vec<TcpStream> {
    Vec::new()
}

fn one_task(daemon: &Daemon) -> Vec<TcpStream> {
    daemon.submit(r#"{"payload": "there before", "unique_key": "a"}"#);
    Vec::new()
}

/// A connection on which this was sent.
fn held(daemon: &Daemon, sent: &str) -> Vec<TcpStream> {
    let mut stream = connect(daemon);
    stream.write_all(sent.as_bytes()).expect("sent");
    vec![stream]
}

/// The same when the first of its answer has come.
fn answered(mut streams: Vec<TcpStream>) -> Vec<TcpStream> {
    let mut start = [0; 12];
    streams[0].read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 200");
    streams
}

/// A connection that has been let in, and stays open.
fn kept(daemon: &Daemon) -> Vec<TcpStream> {
    answered(held(
        daemon,
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ))
}

fn start(settings: &str) -> Daemon {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let path = |name: &str| scratch.path().join(name).display().to_string();
    if settings.contains("SCRATCH/tokens") {
        let made = Command::new(env!("CARGO_BIN_EXE_workqueuectl"))
            .args(["token", "new", "ops", "--scope", "admin", "--file"])
            .arg(path("tokens"))
            .output()
            .expect("it runs");
        assert!(made.status.success(), "{made:?}");
        fs::write(path("token"), made.stdout).expect("a token");
    }
    let settings = settings.replace("SCRATCH", &scratch.path().display().to_string());
    fs::write(path("settings.toml"), settings).expect("settings");
    let file = path("settings.toml");
    Daemon::start_in(scratch, &["--log-level", "error", "--config", &file])
}

/// All counters of what was refused, with their numbers.
fn counters(daemon: &Daemon) -> Vec<(String, u64)> {
    let families = [
        "workqueue_limit_refusals_total",
        "workqueue_connections_refused_total",
        "workqueue_requests_over_rate_total",
        "workqueue_heads_refused_total",
        "workqueue_connections_timed_out_total",
    ];
    let text = daemon.metrics();
    let lines = text
        .lines()
        .filter(|line| families.iter().any(|family| line.starts_with(family)));
    lines
        .map(|line| {
            let (name, number) = line.rsplit_once(' ').expect("a name and a number");
            (name.to_owned(), number.parse().expect("a number"))
        })
        .collect()
}

/// Goes beyond a limit until it has been refused so often.
fn refuse(limit: &Limit, daemon: &Daemon) {
    let mut refused = 0;
    while refused < limit.times {
        let got = exchange(daemon, (limit.beyond)(daemon).as_bytes());
        let status = got.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("{}: {got:?}", limit.counter));
        if status == 200 && limit.status == 429 {
            // A rate lets one through from time to time.
            continue;
        }
        assert_eq!(status, limit.status, "{}: {got}", limit.counter);
        let problem = format!("\"/problems/{}\"", limit.problem);
        assert!(got.contains(&problem), "{}: {got}", limit.counter);
        let (head, _) = got.split_once("\r\n\r\n").expect("a head");
        let comes_again = head.to_ascii_lowercase().contains("\r\nretry-after: ");
        let may_help = matches!(status, 429 | 503 | 507);
        assert_eq!(comes_again, may_help, "{}: {head}", limit.counter);
        refused += 1;
    }
}

#[test]
fn what_is_beyond_a_limit_is_refused_counted_and_forgotten() {
    for limit in LIMITS {
        let daemon = start(limit.settings);
        let held = (limit.reach)(&daemon);
        let (_, tasks) = daemon.admin("GET", "/api/v1/tasks?limit=1000", "");
        let before = counters(&daemon);
        assert!(before.iter().any(|(name, _)| name == limit.counter));
        let least = memory(daemon.pid());
        refuse(limit, &daemon);
        let most = memory(daemon.pid());
        let wanted: Vec<(String, u64)> = before
            .into_iter()
            .map(|(name, number)| {
                let is_counted = name == limit.counter;
                let more = if is_counted { limit.times } else { 0 };
                (name, number + more as u64)
            })
            .collect();
        assert_eq!(counters(&daemon), wanted, "{}", limit.settings);
        let more = most.saturating_sub(least);
        say(&format!("{}: {} KiB more", limit.counter, more >> 10));
        assert!(more < GROWTH, "{}: {more} bytes more", limit.counter);
        let (_, now) = daemon.admin("GET", "/api/v1/tasks?limit=1000", "");
        assert_eq!(now["tasks"], tasks["tasks"], "{}", limit.counter);
        drop(held);
    }
}

/// One whose head is late, and one that is idle.
#[test]
fn a_connection_that_is_too_slow_is_counted_once() {
    let daemon = start("header_timeout = \"2s\"\nidle_timeout = \"1s\"");
    let count = || {
        let all = counters(&daemon);
        let one = all.iter().find(|(name, _)| name == TIMED_OUT);
        one.expect("the counter").1
    };
    for number in 0..TIMES_SLOW as u64 {
        let got = exchange(&daemon, b"GET / HTTP/1.1\r\nHost: local");
        assert!(got.starts_with("HTTP/1.1 408"), "{got}");
        assert!(got.contains("/problems/head-timeout"), "{got}");
        assert_eq!(count(), 2 * number + 1, "after a head that was late");
        let idle = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let got = exchange(&daemon, idle);
        assert!(got.starts_with("HTTP/1.1 200"), "{got}");
        assert_eq!(count(), 2 * number + 2, "after one that was idle");
    }
}

#[test]
fn each_limit_that_is_counted_is_reached_by_a_test() {
    let daemon = start("");
    for (name, _) in counters(&daemon) {
        let elsewhere = ELSEWHERE
            .iter()
            .any(|(label, _)| name.contains(&format!("\"{label}\"")));
        let here = LIMITS.iter().any(|limit| limit.counter == name) || name == TIMED_OUT;
        assert!(here || elsewhere, "no test reaches {name}");
    }
}
