//! Many tasks over many connections without an error, and nothing at all when there is nothing to do.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    thread,
};

use common::{Daemon, PATIENCE, cpu_ticks, until, wakes};
use serde_json::Value;

const TASKS: usize = 100_000;
const CONNECTIONS: usize = 64;

/// A connection that is kept.
struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self {
            stream: BufReader::new(stream),
        }
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let typed = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{typed}Content-Length: {length}\r\n\r\n{body}"
        );
        self.stream
            .get_mut()
            .write_all(text.as_bytes())
            .expect("send");
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a status line");
        let status = line
            .split(' ')
            .nth(1)
            .expect("a status")
            .parse()
            .expect("a number");
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a header");
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        (
            status,
            if body.is_empty() {
                Value::Null
            } else {
                serde_json::from_slice(&body).expect("JSON")
            },
        )
    }
}

fn on_all(address: &str, work: impl Fn(&mut Connection, usize) + Clone + Send + 'static) {
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let (address, work) = (address.to_owned(), work.clone());
            thread::spawn(move || work(&mut Connection::open(&address), number))
        })
        .collect();
    for thread in threads {
        thread.join().expect("no error on this connection");
    }
}

#[test]
fn a_hundred_thousand_tasks_are_submitted_listed_claimed_and_completed_by_64_connections() {
    let mut daemon = Daemon::start(&["--log-level", "warn"]);
    on_all(&daemon.address, |connection, number| {
        for task in (number..TASKS).step_by(CONNECTIONS) {
            let (status, answer) = connection.ask(
                "POST",
                "/api/v1/tasks",
                &format!(r#"{{"payload":{{"number":{task}}}}}"#),
            );
            assert_eq!(status, 201, "{answer}");
        }
    });
    let mut connection = Connection::open(&daemon.address);
    let (mut listed, mut after) = (0, String::new());
    loop {
        let (status, page) = connection.ask("GET", &format!("/api/v1/tasks?limit=1000{after}"), "");
        assert_eq!(status, 200, "{page}");
        listed += page["tasks"].as_array().expect("tasks").len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(listed, TASKS);
    on_all(&daemon.address, |connection, _| {
        let mut complete = String::new();
        loop {
            let body = format!(r#"{{"max":20,"complete":[{complete}]}}"#);
            let (status, answer) = connection.ask("POST", "/api/v1/claim", &body);
            assert_eq!(status, 200, "{answer}");
            for outcome in answer["completed"].as_array().expect("outcomes") {
                assert!(outcome["problem"].is_null(), "{outcome}");
            }
            let tasks = answer["tasks"].as_array().expect("tasks");
            if tasks.is_empty() {
                return;
            }
            let done: Vec<String> = tasks
                .iter()
                .map(|task| format!(r#"{{"id":{},"token":{}}}"#, task["id"], task["token"]))
                .collect();
            complete = done.join(",");
        }
    });
    let (_, view) = daemon.admin("GET", "/status", "");
    assert_eq!(
        (
            &view["totals"]["completed"],
            &view["ready"],
            &view["leased"]
        ),
        (&TASKS.into(), &0.into(), &0.into()),
        "{view}"
    );
    common::until_none("files to be removed", || {
        common::names(&daemon.tasks()).len() as u64
    });
    assert!(daemon.stop().success());
}

#[test]
fn an_idle_daemon_never_wakes() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    daemon.submit(r#"{"payload":1}"#);
    daemon.submit(r#"{"payload":2,"delay":86400}"#);
    until("both files are there", || {
        (common::names(&daemon.tasks()).len() == 2).then_some(())
    });
    // Nobody knows how long it takes to settle on a busy machine. Three seconds: what wakes every second or two never has them.
    let used = || (wakes(daemon.pid()), cpu_ticks(daemon.pid()));
    until("three seconds pass without a wake-up", || {
        let before = used();
        thread::sleep(std::time::Duration::from_secs(3));
        (used() == before).then_some(())
    });
}

#[test]
fn requests_in_a_pipeline_are_answered_in_order_and_a_silent_client_holds_up_nobody() {
    let daemon = Daemon::start(&[]);
    let silent: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(&daemon.address).expect("connect");
            stream
                .write_all(b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Le")
                .expect("half a head");
            stream
        })
        .collect();
    let mut stream = TcpStream::connect(&daemon.address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut text = String::new();
    for number in 0..100 {
        let body = format!(r#"{{"payload":{number}}}"#);
        let length = body.len();
        let post = format!(
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        text.push_str(&post);
    }
    text.push_str("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).expect("send all of them");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("all answers");
    assert_eq!(answers.matches("HTTP/1.1 201").count(), 100);
    let tasks = daemon.claim("default", 1000);
    let order: Vec<i64> = tasks
        .iter()
        .filter_map(|task| task["payload"].as_i64())
        .collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    drop(silent);
}
