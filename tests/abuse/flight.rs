//! Clients that send slowly or don't read what they asked for: what the daemon holds for all of them together is bounded, and
//! those who come with little are served as ever.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::{
    common::{Daemon, PATIENCE, account::all, request, until},
    limits::{complete_all, metric, refusals, with},
    out_of::memory,
};

const CLIENTS: usize = 40;
const PAYLOAD: usize = 512 << 10;
const SETTINGS: &str = "max_in_flight = \"4MiB\"\npayload_cache = \"1MiB\"\n";
/// Above the limit: one request or answer that came alone, and what the allocator keeps of those that have gone.
const SLACK: u64 = 48 << 20;

fn connect(daemon: &Daemon) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // What is not read stays with the daemon.
    socket.set_recv_buffer_size(16 << 10).expect("a buffer");
    let address: SocketAddr = daemon.address.parse().expect("an address");
    socket.connect(&address.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Asks for each of these, each time on a connection of its own.
fn ask_often(daemon: &Daemon, paths: &[&str]) -> Vec<TcpStream> {
    let asked = paths
        .iter()
        .flat_map(|path| std::iter::repeat_n(path, CLIENTS));
    asked
        .map(|path| {
            let mut stream = connect(daemon);
            let ask = request("GET", path, "text/plain", "");
            stream.write_all(ask.as_bytes()).expect("a request");
            stream
        })
        .collect()
}

/// The status of an answer whose body stays unread.
fn status(stream: &TcpStream) -> u16 {
    let mut line = String::new();
    // One byte at a time, so that nothing of the body is read on the way.
    BufReader::with_capacity(1, stream)
        .read_line(&mut line)
        .expect("a status line");
    let status = line.split(' ').nth(1).expect("a status");
    status.parse().expect("a number")
}

/// How many bytes the daemon says that it holds.
fn held(daemon: &Daemon) -> u64 {
    metric(daemon, "workqueue_in_flight_bytes")
}

fn large(queue: &str) -> String {
    json!({"queue": queue, "payload": "x".repeat(PAYLOAD)}).to_string()
}

#[test]
fn what_nobody_reads_is_held_up_to_a_limit_and_no_task_is_lost_by_it() {
    let daemon = with(SETTINGS);
    let mut ids: BTreeSet<String> = (0..7).map(|_| daemon.submit(&large("large"))).collect();
    ids.insert(daemon.submit(&large("default")));
    let before = memory(daemon.pid());
    let readers = ask_often(&daemon, &["/api/v1/tasks?queue=large"]);
    let statuses: Vec<u16> = readers.iter().map(status).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    let let_in = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(refused + let_in, CLIENTS, "{statuses:?}");
    assert!(let_in >= 1 && refused >= CLIENTS / 2, "{statuses:?}");
    assert_eq!(refusals(&daemon, "max_in_flight"), refused as u64);
    let grown = memory(daemon.pid()).saturating_sub(before);
    assert!(grown < (4 << 20) + SLACK, "{grown} bytes more");
    assert!(held(&daemon) > 0);

    // A claim gives back what it can't hand over, and tells what became of its completions.
    let claim = |body: &Value| daemon.post("/api/v1/claim", &body.to_string());
    let (status, problem) = claim(&json!({"queues": ["large"], "max": 7}));
    assert_eq!(status, 503, "a claim");
    assert!(
        problem["detail"]
            .as_str()
            .expect("why")
            .contains("(max_in_flight)"),
        "{problem}"
    );
    let (status, next) = daemon.get("/api/next");
    assert_eq!((status, &next["status"]), (503, &json!("error")));
    // What is light comes and goes.
    let small = daemon.submit(r#"{"queue": "small", "payload": 1}"#);
    let token = daemon.claim("small", 1)[0]["token"].clone();
    let body = json!({"queues": ["large"], "complete": [{"id": small, "token": token}]});
    let (status, answer) = claim(&body);
    assert_eq!((status, &answer["tasks"]), (200, &json!([])), "{answer}");
    assert_eq!(answer["completed"][0]["problem"], Value::Null, "{answer}");
    let (_, queue) = daemon.get("/api/v1/queues/large");
    assert_eq!((&queue["ready"], &queue["leased"]), (&json!(7), &json!(0)));

    drop(readers);
    until("all to be let go", || (held(&daemon) == 0).then_some(()));
    let tasks = daemon.claim("large", 1);
    assert_eq!(tasks[0]["attempt"], 1, "what was given back was no attempt");
    let body = json!({"token": tasks[0]["token"]}).to_string();
    let id = tasks[0]["id"].as_str().expect("an id").to_owned();
    assert!(daemon.post(&format!("/api/v1/tasks/{id}/release"), &body).0 < 300);
    let mut done = complete_all(&daemon, "large");
    done.extend(complete_all(&daemon, "default"));
    assert_eq!(done, ids);
    assert!(all(&daemon).is_empty());
}

/// Begins these requests on a connection each, waits until each is refused or holds its part, and ends them. Gives how each
/// was answered.
fn send_slowly(daemon: &Daemon, begin: &str, end: &str) -> Vec<(u16, String)> {
    let before = memory(daemon.pid());
    let senders: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut stream = connect(daemon);
            stream.write_all(begin.as_bytes()).expect("the begin");
            stream
        })
        .collect();
    until("each to be refused or held", || {
        let refused = refusals(daemon, "max_in_flight") as usize;
        let holding = held(daemon) as usize / (PAYLOAD - (64 << 10));
        (refused + holding >= CLIENTS).then_some(())
    });
    let grown = memory(daemon.pid()).saturating_sub(before);
    assert!(grown < (4 << 20) + SLACK, "{grown} bytes more");
    daemon.submit(r#"{"payload": "small"}"#);
    std::thread::scope(|scope| {
        let asked: Vec<_> = senders
            .iter()
            .map(|mut stream| {
                scope.spawn(move || {
                    stream.write_all(end.as_bytes()).expect("the end");
                    let status = status(stream);
                    let mut rest = String::new();
                    stream.read_to_string(&mut rest).expect("an answer");
                    (status, rest)
                })
            })
            .collect();
        let ended = asked.into_iter().map(|one| one.join().expect("a client"));
        ended.collect()
    })
}

/// How many were taken, and the answers of those who were told to come again; there is nothing else.
fn sorted(answers: &[(u16, String)]) -> (usize, Vec<&str>) {
    let refused = answers.iter().filter(|(status, _)| *status == 503);
    let refused: Vec<_> = refused.map(|(_, rest)| rest.as_str()).collect();
    let taken = answers.iter().filter(|(status, _)| *status == 201).count();
    assert_eq!(taken + refused.len(), CLIENTS);
    assert!(taken >= 1 && refused.len() >= CLIENTS / 2, "{taken} taken");
    for refusal in &refused {
        let lower = refusal.to_ascii_lowercase();
        assert!(
            lower.contains("retry-after: 1") && lower.contains("(max_in_flight)"),
            "{refusal}"
        );
    }
    (taken, refused)
}

#[test]
fn what_is_sent_slowly_is_held_up_to_a_limit_and_who_was_let_in_ends() {
    let daemon = with(SETTINGS);
    let whole = request("POST", "/api/v1/tasks", "application/json", &large("sent"));
    let (begin, end) = whole.split_at(whole.len() - 100);
    let answers = send_slowly(&daemon, begin, end);
    let (taken, _) = sorted(&answers);
    assert_eq!(complete_all(&daemon, "sent").len(), taken);
    assert_eq!(held(&daemon), 0);
}

#[test]
fn a_line_that_comes_slowly_is_held_up_to_a_limit_and_those_before_it_are_taken() {
    let daemon = with(SETTINGS);
    let task = json!({"queue": "sent", "payload": 1});
    let lines = format!("{task}\n{}\n", large("sent"));
    let head = "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    let whole = format!("{head}{:x}\r\n{lines}\r\n0\r\n\r\n", lines.len());
    let (begin, end) = whole.split_at(whole.len() - 100);
    let answers = send_slowly(&daemon, begin, end);
    let (taken, refused) = sorted(&answers);
    for refusal in &refused {
        assert!(refusal.contains("\"accepted\":1}"), "{refusal}");
        assert!(refusal.contains("\"line\":2"), "{refusal}");
    }
    let ids = complete_all(&daemon, "sent");
    assert_eq!(ids.len(), CLIENTS + taken);
    assert_eq!(held(&daemon), 0);
}

#[test]
fn numbers_that_nobody_reads_are_held_up_to_a_limit_and_who_is_in_them_is_served() {
    const QUEUES: usize = 700;
    let daemon = with("max_in_flight = \"1MiB\"\n");
    for queue in 0..QUEUES {
        daemon.submit(&json!({"queue": format!("queue-{queue}"), "payload": 1}).to_string());
    }
    let before = memory(daemon.pid());
    let readers = ask_often(&daemon, &["/metrics", "/api/v1/queues", "/queues"]);
    let statuses: Vec<u16> = readers.iter().map(status).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    let let_in = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(refused + let_in, 3 * CLIENTS, "{statuses:?}");
    assert!(let_in >= 1 && refused >= CLIENTS, "{statuses:?}");
    let grown = memory(daemon.pid()).saturating_sub(before);
    assert!(grown < SLACK, "{grown} bytes more");
    let (status, one) = daemon.get("/api/v1/queues/queue-7");
    assert_eq!((status, &one["ready"]), (200, &json!(1)));
    drop(readers);
    until("the numbers to be told again", || {
        (daemon.text("/metrics").0 == 200).then_some(())
    });
    assert!(refusals(&daemon, "max_in_flight") >= refused as u64);
    assert_eq!(all(&daemon).len(), QUEUES);
}
