//! Hostile HTTP: heads and bodies that lie, that never end, that come in floods.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    common::{Daemon, Way, account::Line, cpu_ticks, mount::say, mount::tool, request, until},
    told::Told,
};

/// How long the daemon may be silent before it is said that it does not close: not so long that it closes because the
/// connection is idle.
const SILENCE: Duration = Duration::from_secs(30);

/// A daemon with settings from the environment.
fn daemon(settings: &[(&str, &str)]) -> Daemon {
    let way = Way {
        environment: settings
            .iter()
            .map(|(name, value)| (format!("WORKQUEUE_{name}"), (*value).to_owned()))
            .collect(),
        ..Way::default()
    };
    Daemon::start_so(tempfile::tempdir().expect("a scratch directory"), way)
}

pub(crate) fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(&daemon.address).expect("connect");
    stream.set_read_timeout(Some(SILENCE)).expect("timeout");
    stream
}

/// All that comes until the daemon closes; a reset is a close too.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("the daemon does not close: {error}"),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is answered to `bytes` until the daemon closes.
pub(crate) fn exchange(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut stream = connect(daemon);
    match stream.write_all(bytes) {
        Ok(()) => {}
        Err(error)
            if [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()) => {}
        Err(error) => panic!("send: {error}"),
    }
    rest(&mut stream)
}

fn number(daemon: &Daemon, metric: &str) -> f64 {
    let text = daemon.metrics();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{metric} ")));
    let line = line.unwrap_or_else(|| panic!("no {metric} in {text}"));
    line.rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

/// How many tasks there are, by the daemon's own account.
fn tasks(daemon: &Daemon) -> usize {
    let (status, list) = daemon.get("/api/v1/tasks?limit=1000");
    assert_eq!(status, 200, "{list}");
    list["tasks"].as_array().expect("tasks").len()
}

/// Completes all that is there, once each, and says how many that were.
fn work_off(daemon: &Daemon) -> usize {
    let mut completed = 0;
    loop {
        let claimed = daemon.claim("default", 100);
        if claimed.is_empty() {
            return completed;
        }
        for one in claimed {
            let id = one["id"].as_str().expect("an id");
            let token = one["token"].clone();
            let body = serde_json::json!({ "token": token }).to_string();
            let path = format!("/api/v1/tasks/{id}/complete");
            assert_eq!(daemon.post(&path, &body).0, 200);
            assert_ne!(daemon.post(&path, &body).0, 201);
            completed += 1;
        }
    }
}

const SUBMIT: &str =
    "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

#[test]
fn heads_that_say_in_two_ways_where_the_body_ends_hide_no_request() {
    let daemon = daemon(&[]);
    let hidden = "DELETE /api/v1/queues/default HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let chunked = "5\r\n\"abc\"\r\n0\r\n\r\n";
    let pairs = [
        format!("{SUBMIT}Content-Length: 5\r\nContent-Length: 9\r\n\r\n\"abc\"{hidden}"),
        format!("{SUBMIT}Content-Length: +5\r\n\r\n\"abc\"{hidden}"),
        format!("{SUBMIT}Content-Length: 5, 6\r\n\r\n\"abc\"{hidden}"),
        format!("{SUBMIT}Transfer-Encoding:\r\n chunked\r\n\r\n{chunked}{hidden}"),
        format!("{SUBMIT}Transfer-Encoding : chunked\r\n\r\n{chunked}{hidden}"),
        format!("{SUBMIT}Transfer-Encoding: xchunked\r\n\r\n{chunked}{hidden}"),
        format!("{SUBMIT}Transfer-Encoding: chunked, identity\r\n\r\n{chunked}{hidden}"),
        format!("{SUBMIT}Host: other\r\nContent-Length: 5\r\n\r\n\"abc\"{hidden}"),
    ];
    for pair in &pairs {
        let got = exchange(&daemon, pair.as_bytes());
        assert!(got.starts_with("HTTP/1.1 400"), "{pair:?}: {got}");
        assert!(
            got.contains("/problems/malformed-request"),
            "{pair:?}: {got}"
        );
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{pair:?}: {got}");
    }
    assert_eq!(tasks(&daemon), 0);
    assert!(number(&daemon, "workqueue_heads_refused_total") >= pairs.len() as f64);
    // What is packed in the chunks is not taken for the body, nor what follows for a request.
    let packed = format!("{SUBMIT}Transfer-Encoding: gzip, chunked\r\n\r\n{chunked}{hidden}");
    let got = exchange(&daemon, packed.as_bytes());
    assert!(got.starts_with("HTTP/1.1 501"), "{got}");
    assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{got}");
    let nameless = format!(
        "{}{hidden}",
        SUBMIT.replace("Host: localhost\r\n", "Content-Length: 0\r\n\r\n")
    );
    let got = exchange(&daemon, nameless.as_bytes());
    assert!(got.starts_with("HTTP/1.1 400"), "{got}");
    assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{got}");
    // Of these two the chunks count, and the connection ends behind the answer (RFC 9112, 6.3).
    let both =
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\ne\r\n{\"payload\": 1}\r\n0\r\n\r\n";
    let got = exchange(&daemon, format!("{SUBMIT}{both}{hidden}").as_bytes());
    assert!(got.starts_with("HTTP/1.1 201"), "{got}");
    assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "{got}");
    assert_eq!(tasks(&daemon), 1);
}

#[test]
fn chunked_bodies_that_lie_make_no_task() {
    let daemon = daemon(&[("BODY_TIMEOUT", "1s")]);
    let lies = [
        "zz\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}xx0\r\n\r\n",
        "7fffffffffffffff\r\n{\"payload\":1}",
        "d\r\n{\"payload\":1}",
    ];
    for lie in lies {
        let head = format!("{SUBMIT}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n{lie}");
        let got = exchange(&daemon, head.as_bytes());
        assert!(!got.contains("HTTP/1.1 2"), "{lie:?}: {got}");
    }
    assert_eq!(tasks(&daemon), 0);
    daemon.submit(r#"{"payload":"honest"}"#);
    assert_eq!(work_off(&daemon), 1);
}

#[test]
fn floods_of_headers_and_long_addresses_are_told_their_limit() {
    let mut daemon = daemon(&[]);
    let mut told = Told::begin(&daemon);
    let many = "X-Many: 1\r\n".repeat(5_000);
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    for fields in [many, long] {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let got = exchange(&daemon, head.as_bytes());
        assert!(got.starts_with("HTTP/1.1 431"), "{got}");
        assert!(got.contains("/problems/head-too-large"), "{got}");
        told.submit(&daemon);
    }
    // The setting means what it says, however large the buffer is that a head is read into.
    for (length, status) in [(60 << 10, 200), (66_000, 431), (100_000, 431)] {
        let fields = format!("X-Long: {}\r\nConnection: close\r\n", "x".repeat(length));
        let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let got = exchange(&daemon, head.as_bytes());
        let begins = format!("HTTP/1.1 {status}");
        assert!(got.starts_with(&begins), "{length}: {got}");
    }
    for length in [9 << 10, 60 << 10, 1 << 20] {
        let target = format!("/api/v1/tasks?limit={}", "1".repeat(length));
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let got = exchange(&daemon, head.as_bytes());
        assert!(got.starts_with("HTTP/1.1 414"), "{length}: {got}");
        assert!(got.contains("/problems/url-too-long"), "{length}: {got}");
        told.submit(&daemon);
    }
    told.hold(&mut daemon);
}

#[test]
fn what_is_not_http_is_told_so() {
    let daemon = daemon(&[]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET /\xff\xfe<> HTTP/1.1\r\nHost: localhost\r\nb\x00d: 1\r\n\r\n",
        b"\x00\x00\x00\x00\r\n\r\n",
    ] {
        let got = exchange(&daemon, bytes);
        assert!(got.starts_with("HTTP/1.1 400"), "{bytes:?}: {got}");
        assert!(
            got.contains("/problems/malformed-request"),
            "{bytes:?}: {got}"
        );
    }
    let form =
        "GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let got = exchange(&daemon, form.as_bytes());
    assert!(
        got.starts_with("HTTP/1.1 200"),
        "a target in absolute form is right: {got}"
    );
    let bad = request(
        "POST",
        "/api/v1/tasks",
        "application/json",
        "{\"payload\":\"",
    );
    let mut bytes = bad
        .replace("Content-Length: 12", "Content-Length: 15")
        .into_bytes();
    bytes.extend(b"\xff\"}");
    let got = exchange(&daemon, &bytes);
    assert!(got.starts_with("HTTP/1.1 400"), "{got}");
    assert_eq!(tasks(&daemon), 0);
}

#[test]
fn a_body_is_asked_for_where_the_client_waits_for_that() {
    let daemon = daemon(&[]);
    let mut stream = connect(&daemon);
    let body = r#"{"payload":"expected"}"#;
    let head = format!(
        "{SUBMIT}Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("send");
    let mut buffer = [0; 256];
    let count = stream.read(&mut buffer).expect("an answer");
    assert!(
        buffer[..count].starts_with(b"HTTP/1.1 100"),
        "{:?}",
        &buffer[..count]
    );
    stream.write_all(body.as_bytes()).expect("send");
    let got = rest(&mut stream);
    assert!(got.contains("HTTP/1.1 201"), "{got}");
    assert_eq!(work_off(&daemon), 1);
}

#[test]
fn a_client_that_closes_its_half_leaves_no_half_of_a_task() {
    let daemon = daemon(&[]);
    let mut stream = connect(&daemon);
    let head = format!("{SUBMIT}Content-Length: 100\r\n\r\n{{\"payload\":");
    stream.write_all(head.as_bytes()).expect("send");
    stream.shutdown(Shutdown::Write).expect("shut");
    let got = rest(&mut stream);
    assert!(!got.contains("HTTP/1.1 2"), "{got}");
    assert_eq!(tasks(&daemon), 0);
}

/// It is taken for gone: what it asked for is done or not, but no task is held for it.
#[test]
fn a_claim_of_a_client_that_closes_its_half_holds_no_task_without_an_answer() {
    const TASKS: usize = 60;
    let daemon = daemon(&[]);
    for number in 0..TASKS {
        daemon.submit(&format!(r#"{{"payload": {number}}}"#));
    }
    let mut answered = 0;
    for _ in 0..TASKS {
        let mut stream = connect(&daemon);
        // The lease does not end meanwhile.
        let body = r#"{"lease": 3600}"#;
        let claim = request("POST", "/api/v1/claim", "application/json", body);
        stream.write_all(claim.as_bytes()).expect("send");
        stream.shutdown(Shutdown::Write).expect("shut");
        answered += usize::from(rest(&mut stream).contains(r#""token":"#));
    }
    until("all others to be given back", || {
        let (_, queue) = daemon.get("/api/v1/queues/default");
        (queue["leased"] == answered).then_some(())
    });
    assert_eq!(work_off(&daemon), TASKS - answered);
}

#[test]
fn thousands_of_pipelined_submits_are_answered_each() {
    const COUNT: usize = 3_000;
    let daemon = daemon(&[]);
    let mut stream = connect(&daemon);
    let mut writing = stream.try_clone().expect("a second handle");
    let writer = thread::spawn(move || {
        let one = format!("{SUBMIT}Content-Length: 13\r\n\r\n{{\"payload\":1}}");
        for _ in 1..COUNT {
            writing.write_all(one.as_bytes()).expect("send");
        }
        let last = request(
            "POST",
            "/api/v1/tasks",
            "application/json",
            "{\"payload\":1}",
        );
        writing.write_all(last.as_bytes()).expect("send");
    });
    let got = rest(&mut stream);
    writer.join().expect("all is written");
    assert_eq!(got.matches("HTTP/1.1 201").count(), COUNT);
    assert_eq!(work_off(&daemon), COUNT);
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    // Not one daemon: the time for the head begins with the connection, and a good client may be slow on a busy machine. Not
    // the default for the other: that an answer has ended may only be noticed when the time for its head is over.
    let (mut hurried, mut patient) = (
        daemon(&[("HEADER_TIMEOUT", "1s")]),
        daemon(&[("HEADER_TIMEOUT", "10s"), ("IDLE_TIMEOUT", "2s")]),
    );
    let mut told = [&hurried, &patient].map(Told::begin);
    let mut slow = connect(&hurried);
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHo")
        .expect("send");
    told[0].submit(&hurried);
    let got = rest(&mut slow);
    assert!(got.starts_with("HTTP/1.1 408"), "{got}");
    assert!(got.contains("/problems/head-timeout"), "{got}");
    assert!(number(&hurried, "workqueue_connections_timed_out_total") >= 1.0);
    let mut idle = connect(&patient);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("send");
    told[1].submit(&patient);
    let got = rest(&mut idle);
    assert!(
        got.starts_with("HTTP/1.1 200") && got.ends_with("ok\n"),
        "{got}"
    );
    assert!(number(&patient, "workqueue_connections_timed_out_total") >= 1.0);
    let [by_hurried, by_patient] = told;
    by_hurried.hold(&mut hurried);
    by_patient.hold(&mut patient);
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_the_admin_socket_stays_open() {
    let mut limited = daemon(&[("MAX_CONNECTIONS", "5")]);
    let mut told = Told::begin(&limited);
    let held: Vec<_> = (0..5).map(|_| connect(&limited)).collect();
    let got = rest(&mut connect(&limited));
    assert!(got.starts_with("HTTP/1.1 503"), "{got}");
    assert!(got.contains("/problems/too-many-connections"), "{got}");
    assert!(got.contains("retry-after: "), "{got}");
    let (status, _) = limited.admin("GET", "/api/v1/queues", "");
    assert_eq!(status, 200);
    told.submit(&limited);
    drop(held);
    told.hold(&mut limited);
    let mut by_address = daemon(&[("MAX_CONNECTIONS_PER_ADDRESS", "2")]);
    let mut told = Told::begin(&by_address);
    let held: Vec<_> = (0..2).map(|_| connect(&by_address)).collect();
    let got = rest(&mut connect(&by_address));
    assert!(got.starts_with("HTTP/1.1 429"), "{got}");
    assert!(got.contains("/problems/too-many-from-address"), "{got}");
    told.submit(&by_address);
    drop(held);
    told.hold(&mut by_address);
}

#[test]
fn requests_beyond_the_rate_are_told_when_to_come_again() {
    let mut daemon = daemon(&[("REQUEST_RATE", "1"), ("REQUEST_BURST", "3")]);
    let mut told = Told::begin(&daemon);
    let ask =
        || daemon.raw("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(ask().0, 200);
    // The burst grows again by one a second: on a busy machine it takes more requests to use it up.
    let (_, head, body) = (0..1000)
        .map(|_| ask())
        .find(|one| one.0 == 429)
        .expect("one is refused");
    assert!(head.contains("retry-after: 1"), "{head}");
    assert!(body.contains("/problems/too-many-requests"), "{body}");
    assert_eq!(daemon.admin("GET", "/api/v1/queues", "").0, 200);
    told.submit(&daemon);
    told.hold(&mut daemon);
}

/// How long processor time is measured.
const MEASURED: Duration = Duration::from_secs(2);
/// A tenth of it, in ticks of a hundredth of a second: all that a daemon may use which has nothing to do but to try again.
const NEARLY_IDLE: u64 = 20;

/// How many connections wait to be accepted (`rx_queue` of a listening socket, proc(5)).
fn pending(daemon: &Daemon) -> u64 {
    let (_, port) = daemon.address.rsplit_once(':').expect("a port");
    let place = format!("0100007F:{:04X}", port.parse::<u16>().expect("a number"));
    let table = fs::read_to_string("/proc/net/tcp").expect("the sockets");
    let mut rows = table.lines().map(|row| row.split_whitespace().collect());
    let row: Vec<&str> = rows
        .find(|row: &Vec<&str>| row[1] == place && row[3] == "0A")
        .expect("the listening socket");
    let (_, waiting) = row[4].split_once(':').expect("two queues");
    u64::from_str_radix(waiting, 16).expect("a number")
}

fn descriptors(daemon: &Daemon) -> usize {
    let folder = fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
    folder.expect("descriptors").count()
}

#[test]
fn without_descriptors_the_daemon_waits_and_serves_on() {
    let mut daemon = daemon(&[]);
    let mut told = Told::begin(&daemon);
    daemon.until_files_are_written();
    let mut kept = Line::open(&daemon.address).expect("a connection");
    let mut submit = |told: &mut Told| {
        let (status, view) = kept.ask("GET", "/api/v1/queues", "").expect("an answer");
        assert_eq!(status, 200, "{view}");
        let answer = kept.ask("POST", "/api/v1/tasks", r#"{"payload": "kept"}"#);
        let (status, answer) = answer.expect("an answer on the kept connection");
        match status {
            201 => told.note(&answer),
            // No file can be written for a task either.
            507 => assert_eq!(answer["type"], "/problems/no-room", "{answer}"),
            _ => panic!("{status}: {answer}"),
        }
        status
    };
    assert_eq!(submit(&mut told), 201);
    daemon.until_files_are_written();
    let limit = descriptors(&daemon) + 3;
    let set = format!("--nofile={limit}");
    tool("prlimit", &["--pid", &daemon.pid().to_string(), &set]);
    let waiting: Vec<_> = (0..20).map(|_| connect(&daemon)).collect();
    until("accepting to fail", || {
        let said = daemon.logged().contains("no connection can be accepted");
        said.then_some(())
    });
    // Whoever accepts now fails at once, and could do so again at once: that is to be seen in the time it takes.
    let before = (pending(&daemon), descriptors(&daemon));
    let ticks = cpu_ticks(daemon.pid());
    thread::sleep(MEASURED);
    let used = cpu_ticks(daemon.pid()) - ticks;
    assert_eq!((pending(&daemon), descriptors(&daemon)), before);
    assert!(before.0 >= 10, "{before:?} of 20 wait");
    assert!(used < NEARLY_IDLE, "{used} ticks in {MEASURED:?}: it spins");
    say(&format!("{before:?} wait and open, {used} ticks"));
    assert_eq!(submit(&mut told), 201, "its file waits");
    for _ in 0..200 {
        submit(&mut told);
    }
    assert!(pending(&daemon) >= 10, "somebody was let in");
    drop(waiting);
    until("a task to be taken again", || {
        (submit(&mut told) == 201).then_some(())
    });
    assert!(number(&daemon, "workqueue_accept_errors_total") >= 1.0);
    let said = daemon.logged();
    assert!(said.matches("no connection can be accepted").count() <= 2);
    // The journal may have been in want of a descriptor too; what was acknowledged is there all the same.
    told.hold(&mut daemon);
}

/// How long a number of tasks takes on one connection, each submitted, claimed and completed: the best of some rounds, so that
/// what else this machine does is not measured.
fn best_round(line: &mut Line) -> Duration {
    const ROUNDS: usize = 10;
    const TASKS: usize = 20;
    let mut ask = |path: &str, body: &str, wanted: u16| {
        let (status, answer) = line.ask("POST", path, body).expect("an answer");
        assert_eq!(status, wanted, "{answer}");
        answer
    };
    let rounds = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        for _ in 0..TASKS {
            let task = r#"{"payload":"cycle","queue":"cycles"}"#;
            let task = ask("/api/v1/tasks", task, 201);
            let mut claimed = ask("/api/v1/claim", r#"{"queues":["cycles"]}"#, 200);
            let claimed = claimed["tasks"][0].take();
            assert_eq!(claimed["id"], task["id"]);
            let id = task["id"].as_str().expect("an id");
            let token = json!({"token": claimed["token"]}).to_string();
            ask(&format!("/api/v1/tasks/{id}/complete"), &token, 200);
        }
        begun.elapsed()
    });
    rounds.min().expect("a round")
}

#[test]
fn thousands_of_slow_connections_stop_no_normal_request() {
    // How much slower the same work may be beside them. Their price is measured in benches/; this is what nobody could call
    // noise.
    const SLOWER: u32 = 3;
    // As many as the descriptors of this process allow, at most 10 000.
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let count = own.current.map_or(10_000, |most| (most / 2).min(10_000));
    // They are to be there all the time.
    let mut daemon = daemon(&[("HEADER_TIMEOUT", "600s")]);
    let mut line = Line::open(&daemon.address).expect("a connection");
    let alone = best_round(&mut line);
    let mut told = Told::begin(&daemon);
    let slow: Vec<_> = (0..count)
        .map(|number| {
            let mut stream = connect(&daemon);
            let part = &b"POST /api/v1/tasks HTTP/1.1\r\nHost: l"[..=(number % 30) as usize];
            stream.write_all(part).expect("send");
            stream
        })
        .collect();
    let all_are_in = || (number(&daemon, "workqueue_connections") > count as f64).then_some(());
    until("all to be let in", all_are_in);
    let beside = best_round(&mut line);
    say(&format!("{alone:?} alone, {beside:?} beside {count}"));
    assert!(
        beside < alone * SLOWER,
        "{alone:?} alone, {beside:?} beside {count} slow connections"
    );
    for number in 0..200 {
        let (_, task) = daemon.post("/api/v1/tasks", &json!({"payload": number}).to_string());
        told.note(&task);
    }
    all_are_in().expect("all are in still");
    drop(slow);
    told.hold(&mut daemon);
}
