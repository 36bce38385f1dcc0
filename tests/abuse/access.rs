//! Who is let in by a real daemon: tokens made and revoked, a login as a browser does it, names that are not the server's,
//! users of the machine on the admin socket, and what the log keeps of them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use serde_json::{Value, json};

use crate::common::{Daemon, PATIENCE, Way, mount::skip, until};

/// Why a test of several users can't be run.
const NOT_ROOT: &str = "only root can be somebody else for a moment";

/// A daemon that asks for the tokens of a file which `workqueuectl` writes.
struct Site {
    daemon: Daemon,
    tokens: PathBuf,
}

fn ctl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_workqueuectl"))
        .args(args)
        .output()
        .expect("it runs")
}

fn told(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone())
        .expect("text")
        .trim()
        .to_owned()
}

impl Site {
    /// With a first token `ops`, which is an admin's, and these settings of the environment.
    fn start(settings: &[(&str, &str)]) -> (Self, String) {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let tokens = scratch.path().join("tokens.toml");
        let file = tokens.to_str().expect("a path").to_owned();
        let ops = told(&ctl(&[
            "token", "new", "ops", "--scope", "admin", "--file", &file,
        ]));
        let mut environment = vec![("WORKQUEUE_TOKENS".to_owned(), file)];
        environment.extend(
            settings
                .iter()
                .map(|(name, value)| (format!("WORKQUEUE_{name}"), (*value).to_owned())),
        );
        let way = Way {
            extra: ["--log-level", "info"].map(str::to_owned).to_vec(),
            environment,
            ..Way::default()
        };
        let daemon = Daemon::start_so(scratch, way);
        (Self { daemon, tokens }, ops)
    }

    fn token(&self, name: &str, more: &[&str]) -> String {
        let file = self.tokens.to_str().expect("a path");
        let args = [&["token", "new", name, "--file", file], more].concat();
        let token = told(&ctl(&args));
        self.reload(200);
        token
    }

    fn reload(&self, status: u16) -> Value {
        let (got, answer) = self.daemon.admin("POST", "/reload", "");
        assert_eq!(got, status, "{answer}");
        answer
    }

    /// The status and the body of a request with `token`.
    fn ask(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
        let typed = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/json\r\n"
        };
        let (status, _, body) = self.daemon.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             {typed}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        (status, body)
    }
}

#[test]
fn who_may_only_submit_is_not_shown_what_others_put_into_a_task() {
    let (site, ops) = Site::start(&[]);
    let submit = site.token("deploy", &["--scope", "submit"]);
    let task = r#"{"payload":"secret","unique_key":"one"}"#;
    assert_eq!(site.ask("POST", "/api/v1/tasks", &ops, task).0, 201);
    let again = r#"{"payload":"mine","unique_key":"one"}"#;
    for body in [again.to_owned(), format!("[{again}]")] {
        let (status, text) = site.ask("POST", "/api/v1/tasks", &submit, &body);
        assert_eq!(status, 200, "{text}");
        assert!(text.contains(r#""payload":null"#), "{text}");
        let (status, text) = site.ask("POST", "/api/v1/tasks", &ops, &body);
        assert_eq!(status, 200, "{text}");
        assert!(text.contains(r#""payload":"secret""#), "{text}");
    }
    let (status, text) = site.ask("POST", "/api/v1/tasks", &submit, r#"{"payload":"new"}"#);
    assert!(
        status == 201 && text.contains(r#""payload":"new""#),
        "{text}"
    );
}

#[test]
fn tokens_are_made_listed_and_revoked_and_a_reload_is_enough() {
    let (mut site, ops) = Site::start(&[]);
    let file = site.tokens.to_str().expect("a path").to_owned();
    let kept = fs::read_to_string(&site.tokens).expect("the file");
    assert!(!kept.contains(&ops), "only its hash is kept: {kept}");
    let submit = site.token("deploy", &["--scope", "submit", "--queue", "mail-*"]);
    let task = r#"{"payload":1,"queue":"mail-eu"}"#;
    assert_eq!(site.ask("POST", "/api/v1/tasks", &submit, task).0, 201);
    let (status, body) = site.ask("POST", "/api/v1/tasks", &submit, r#"{"payload":1}"#);
    assert_eq!(status, 403, "{body}");
    assert!(
        body.contains("deploy may not use the queue default"),
        "{body}"
    );
    assert_eq!(site.daemon.get("/api/v1/tasks").0, 401);
    assert_eq!(site.ask("GET", "/api/v1/tasks", "wq_0", "").0, 401);
    assert_eq!(site.daemon.text("/healthz").0, 200);

    let listed = told(&ctl(&["token", "list", "--file", &file]));
    assert!(
        listed.contains("deploy") && listed.contains("mail-*"),
        "{listed}"
    );
    let twice = ctl(&["token", "new", "deploy", "--scope", "read", "--file", &file]);
    assert_eq!(twice.status.code(), Some(2));
    let said = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(
        said.contains("another token of the name \"deploy\""),
        "{said}"
    );

    assert!(
        ctl(&["token", "revoke", "deploy", "--file", &file])
            .status
            .success()
    );
    assert_eq!(
        site.ask("POST", "/api/v1/tasks", &submit, task).0,
        201,
        "not before a reload"
    );
    site.reload(200);
    assert_eq!(site.ask("POST", "/api/v1/tasks", &submit, task).0, 401);
    // Both tasks are there: nothing that was answered is lost by all that.
    let (status, list) = site.ask("GET", "/api/v1/tasks", &ops, "");
    assert_eq!(status, 200);
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["tasks"].as_array().expect("tasks").len(), 2);
    assert!(site.daemon.stop().success());
    let log = site.daemon.logged();
    assert!(
        log.contains("a credential was refused") && log.contains("127.0.0.1"),
        "{log}"
    );
}

#[test]
fn a_file_of_tokens_that_is_wrong_changes_nothing() {
    let (site, ops) = Site::start(&[]);
    let good = fs::read_to_string(&site.tokens).expect("the file");
    fs::write(
        &site.tokens,
        format!("{good}\n[[token]]\nname = \"x\"\nscopes = [\"all\"]\n"),
    )
    .expect("write");
    let answer = site.reload(400);
    let told = answer["detail"].as_str().expect("a detail");
    assert!(
        told.contains("tokens.toml: line 9: scopes: \"all\" is no scope"),
        "{told}"
    );
    fs::write(&site.tokens, &good).expect("write");
    let status = Command::new("chmod").arg("o+w").arg(&site.tokens).status();
    assert!(status.expect("chmod runs").success());
    let answer = site.reload(400);
    let told = answer["detail"].as_str().expect("a detail");
    assert!(told.contains("can be written by others"), "{told}");
    fs::remove_file(&site.tokens).expect("removed");
    let status = Command::new("mkfifo").arg(&site.tokens).status();
    assert!(status.expect("mkfifo runs").success());
    let answer = site.reload(400);
    let told = answer["detail"].as_str().expect("a detail");
    assert!(
        told.contains("is no file"),
        "a FIFO is not waited for: {told}"
    );
    assert_eq!(site.ask("GET", "/api/v1/tasks", &ops, "").0, 200);
}

#[test]
fn a_stream_of_events_ends_when_its_token_is_revoked() {
    let (site, _) = Site::start(&[]);
    let reader = site.token("reader", &["--scope", "read"]);
    let mut stream = std::net::TcpStream::connect(&site.daemon.address).expect("connect");
    write!(
        stream,
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {reader}\r\n\r\n"
    )
    .expect("send");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.any(|line| line.expect("a line").contains("listening")));
    let file = site.tokens.to_str().expect("a path");
    assert!(
        ctl(&["token", "revoke", "reader", "--file", file])
            .status
            .success()
    );
    site.reload(200);
    // The last chunk: the stream is at its end.
    assert!(lines.any(|line| line.expect("a line") == "0"));
}

#[test]
fn a_stream_of_events_ends_with_the_session_it_was_opened_by() {
    a_stream_ends_with_its_session(false);
}

#[test]
fn a_stream_that_always_has_events_ends_with_its_session_too() {
    a_stream_ends_with_its_session(true);
}

/// `busy`: tasks are submitted without a pause all the while.
fn a_stream_ends_with_its_session(busy: bool) {
    let (site, ops) = Site::start(&[]);
    let (_, head, _) = site.daemon.form("/login", &format!("token={ops}"));
    let cookie = head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next())
        .expect("a cookie");
    let shown = format!("Host: localhost\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n");
    let mut stream = std::net::TcpStream::connect(&site.daemon.address).expect("connect");
    write!(stream, "GET /api/v1/events HTTP/1.1\r\n{shown}\r\n").expect("send");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.any(|line| line.expect("a line").contains("listening")));
    let (status, ..) = site.daemon.raw(&format!(
        "POST /logout HTTP/1.1\r\n{shown}Connection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\r\n"
    ));
    assert_eq!(status, 303);
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut count = 0;
            // Not for ever: then the stream falls silent, and the test with it.
            let until = Instant::now() + PATIENCE;
            while busy && !has_ended.load(Ordering::Relaxed) && Instant::now() < until {
                let (status, _) = site.ask("POST", "/api/v1/tasks", &ops, r#"{"payload":1}"#);
                assert_eq!(status, 201);
                count += 1;
            }
            count
        });
        let mut heard = 0;
        let ended = lines.any(|line| {
            let line = line.expect("a line");
            heard += u64::from(line.contains("event: submitted"));
            line == "0"
        });
        has_ended.store(true, Ordering::Relaxed);
        assert!(ended);
        let told = others.join().expect("the submits");
        assert_eq!(heard > 0, busy, "{heard} of {told}");
    });
}

/// Neither the names nor the words of files in other folders, nor which queue a task went to or came from.
#[test]
fn a_listener_of_some_queues_hears_nothing_of_others() {
    let (site, ops) = Site::start(&[]);
    let reader = site.token("reader", &["--scope", "read", "--queue", "mail-*"]);
    let submit = |queue: &str| {
        let body = format!(r#"{{"payload":1,"queue":"{queue}"}}"#);
        let (status, text) = site.ask("POST", "/api/v1/tasks", &ops, &body);
        assert_eq!(status, 201, "{text}");
        let task: Value = serde_json::from_str(&text).expect("JSON");
        format!("/api/v1/tasks/{}", task["id"].as_str().expect("an id"))
    };
    let hear = |token: &str, after: &str| {
        let path = format!("/api/v1/events?queue=mail-a&follow=false{after}");
        let (status, text) = site.ask("GET", &path, token, "");
        assert_eq!(status, 200, "{text}");
        text
    };
    // Events are kept from the first listener on.
    let began = hear(&reader, "");
    let place = began.lines().find_map(|line| line.strip_prefix("id: "));
    let after = format!("&last_event_id={}", place.expect("a place"));
    let task = submit("mail-a");
    for queue in ["secret", "mail-a"] {
        let (status, text) = site.ask("PATCH", &task, &ops, &format!(r#"{{"queue":"{queue}"}}"#));
        assert_eq!(status, 200, "{text}");
    }
    submit("secret");
    let folders = [
        site.daemon.tasks(),
        site.daemon.tasks().join("secret"),
        site.daemon.tasks().join("mail-a"),
    ];
    for (number, folder) in folders.iter().enumerate() {
        fs::create_dir_all(folder).expect("a folder");
        let text = format!(r#"{{"payload":1,"priority":"words-{number}"}}"#);
        let unfinished = folder.join(format!(".{number}"));
        fs::write(&unfinished, text).expect("a file");
        fs::rename(&unfinished, folder.join(format!("name-{number}.json"))).expect("rename");
    }
    site.daemon.until_rejected(folders.len());
    let heard = hear(&reader, &after);
    assert!(
        heard.contains("name-2") && heard.contains("words-2"),
        "{heard}"
    );
    assert_eq!(heard.matches("event: moved").count(), 2, "{heard}");
    for foreign in ["secret", "name-0", "name-1", "words-0", "words-1"] {
        assert!(!heard.contains(foreign), "{foreign}: {heard}");
    }
    let all = hear(&ops, &after);
    assert!(all.contains(r#""moved_from":"secret""#), "{all}");
    let (_, shown) = site.ask("GET", &task, &reader, "");
    assert!(
        shown.contains(r#""kind":"moved""#) && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn who_guesses_does_not_fill_the_log() {
    use std::io::{Read as _, Write as _};
    const GUESSES: usize = 2000;
    let (mut site, _) = Site::start(&[]);
    let long = "x".repeat(4000);
    let guess =
        format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer wrong\r\n");
    let mut stream = std::net::TcpStream::connect(&site.daemon.address).expect("connect");
    let mut read = stream.try_clone().expect("its other half");
    read.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        read.read_to_end(&mut all).expect("the answers");
        all
    });
    for _ in 1..GUESSES {
        write!(stream, "{guess}\r\n").expect("send");
    }
    write!(stream, "{guess}Connection: close\r\n\r\n").expect("send");
    let answers = String::from_utf8(reader.join().expect("a reader")).expect("text");
    assert_eq!(answers.matches("HTTP/1.1 401").count(), GUESSES);
    assert!(site.daemon.stop().success());
    let log = site.daemon.logged();
    let told = log
        .lines()
        .filter(|line| line.contains("a credential was refused"));
    assert!(told.count() < GUESSES / 2, "{} bytes", log.len());
    assert!(log.contains("events were passed over"), "{log}");
    assert!(log.lines().all(|line| line.len() < 1500), "a long line");
}

/// What is sent for hours goes on over changes of other tokens, and ends when its own is revoked.
#[test]
fn an_upload_goes_on_when_others_are_let_in_and_ends_when_its_own_token_is_revoked() {
    use std::io::Write as _;
    let (mut site, ops) = Site::start(&[]);
    let feeder = site.token("feeder", &["--scope", "submit"]);
    let begin = || {
        let mut stream = std::net::TcpStream::connect(&site.daemon.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        write!(
            stream,
            "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {feeder}\r\n\
             Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        .expect("a head");
        stream
    };
    let line = |stream: &mut std::net::TcpStream, payload: &str| {
        let line = format!("{{\"payload\":\"{payload}\"}}\n");
        write!(stream, "{:x}\r\n{line}\r\n", line.len()).expect("a line");
    };
    let ready = |count: u64| {
        until("the lines are taken", || {
            let (_, text) = site.ask("GET", "/api/v1/queues/default", &ops, "");
            let queue: Value = serde_json::from_str(&text).expect("JSON");
            (queue["ready"] == count).then_some(())
        });
    };
    let read = |mut stream: std::net::TcpStream| {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).expect("an answer");
        text
    };
    let mut stream = begin();
    line(&mut stream, "first");
    ready(1);
    site.token("another", &["--scope", "read"]);
    line(&mut stream, "second");
    ready(2);
    write!(stream, "0\r\n\r\n").expect("the end");
    let text = read(stream);
    assert!(
        text.starts_with("HTTP/1.1 201") && text.contains(r#""accepted":2"#),
        "{text}"
    );

    let mut stream = begin();
    line(&mut stream, "third");
    ready(3);
    let file = site.tokens.to_str().expect("a path");
    told(&ctl(&["token", "revoke", "feeder", "--file", file]));
    site.reload(200);
    let text = read(stream);
    assert!(text.starts_with("HTTP/1.1 401"), "{text}");
    assert!(
        text.contains(r#""accepted":1"#) && text.contains("revoked"),
        "{text}"
    );
    assert!(site.daemon.stop().success());
    let log = site.daemon.logged();
    let told = |line: &str| {
        ["feeder", "method=POST path=/api/v1/tasks", "revoked"].map(|part| line.contains(part))
            == [true; 3]
    };
    assert!(log.lines().any(told), "{log}");
}

/// A request whose body has begun, and comes on when it is told to.
struct Begun {
    stream: std::net::TcpStream,
    rest: Vec<u8>,
}

impl Begun {
    fn of(site: &Site, method: &str, path: &str, token: &str, body: &str) -> Self {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(&site.daemon.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        let (first, rest) = body.as_bytes().split_at(4);
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .expect("a head");
        stream.write_all(first).expect("the beginning");
        Self {
            stream,
            rest: rest.to_vec(),
        }
    }

    fn finish(mut self) -> String {
        use std::io::Write as _;
        self.stream.write_all(&self.rest).expect("the rest");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.stream, &mut text).expect("an answer");
        text
    }
}

/// How many requests are being read or answered, this question not counted.
fn begun(site: &Site, count: usize) {
    let address: std::net::SocketAddr = site.daemon.address.parse().expect("an address");
    until("the requests have come in", || {
        // What is unread waits in the kernel: when that is nothing, each has been read as far as it came.
        let table = fs::read_to_string("/proc/net/tcp").expect("the connections");
        let port = format!(":{:04X}", address.port());
        let established = table.lines().filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            fields.len() > 4
                && fields[1].ends_with(&port)
                && fields[3] == "01"
                && fields[4].ends_with(":00000000")
        });
        (established.count() >= count).then_some(())
    });
}

#[test]
fn a_body_that_is_still_coming_when_its_token_is_revoked_is_refused() {
    let (mut site, ops) = Site::start(&[]);
    let worker = site.token("worker", &["--scope", "work"]);
    let feeder = site.token("feeder", &["--scope", "submit"]);
    let stays = site.token("stays", &["--scope", "submit"]);
    let (status, text) = site.ask("POST", "/api/v1/tasks", &ops, r#"{"payload":"here"}"#);
    assert_eq!(status, 201, "{text}");
    let claim = Begun::of(&site, "POST", "/api/v1/claim", &worker, r#"{"max":1}"#);
    let submit = Begun::of(&site, "POST", "/api/v1/tasks", &feeder, r#"{"payload":1}"#);
    let other = Begun::of(&site, "POST", "/api/v1/tasks", &stays, r#"{"payload":2}"#);
    begun(&site, 3);
    let file = site.tokens.to_str().expect("a path").to_owned();
    for name in ["worker", "feeder"] {
        told(&ctl(&["token", "revoke", name, "--file", &file]));
    }
    site.reload(200);
    for begun in [claim, submit] {
        let text = begun.finish();
        assert!(text.starts_with("HTTP/1.1 401"), "{text}");
        assert!(text.contains("revoked"), "{text}");
    }
    let text = other.finish();
    assert!(text.starts_with("HTTP/1.1 201"), "{text}");
    let (_, text) = site.ask("GET", "/api/v1/queues/default", &ops, "");
    let queue: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&queue["ready"], &queue["leased"]), (&json!(2), &json!(0)));
    assert!(site.daemon.stop().success());
    let log = site.daemon.logged();
    for name in ["worker", "feeder"] {
        let told = |line: &str| line.contains(name) && line.contains("while its request was read");
        assert!(log.lines().any(told), "{name}: {log}");
    }
}

#[test]
fn a_task_that_went_to_another_queue_while_a_change_was_sent_is_not_changed() {
    let (site, ops) = Site::start(&[]);
    let red = site.token("red", &["--scope", "admin", "--queue", "red"]);
    let id = "0198c0de-0000-7000-8000-00000000beef";
    let task = |queue: &str, payload: &str| {
        json!({"id": id, "queue": queue, "payload": payload}).to_string()
    };
    let (status, text) = site.ask("POST", "/api/v1/tasks", &red, &task("red", "mine"));
    assert_eq!(status, 201, "{text}");
    let path = format!("/api/v1/tasks/{id}");
    let change = Begun::of(&site, "PATCH", &path, &red, r#"{"queue":"red"}"#);
    begun(&site, 1);
    assert_eq!(site.ask("DELETE", &path, &ops, "").0, 204);
    let (status, text) = site.ask("POST", "/api/v1/tasks", &ops, &task("blue", "secret"));
    assert_eq!(status, 201, "{text}");
    let text = change.finish();
    assert!(text.starts_with("HTTP/1.1 403"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    let (_, text) = site.ask("GET", &path, &ops, "");
    assert!(text.contains(r#""queue":"blue""#), "{text}");
}

#[test]
fn an_export_ends_when_its_token_is_revoked() {
    use std::io::Write as _;
    let (site, ops) = Site::start(&[]);
    let reader = site.token("reader", &["--scope", "admin"]);
    let payload = "x".repeat(500_000);
    for _ in 0..60 {
        let task = json!({"payload": payload}).to_string();
        let (status, text) = site.ask("POST", "/api/v1/tasks", &ops, &task);
        assert_eq!(status, 201, "{text}");
    }
    let mut stream = std::net::TcpStream::connect(&site.daemon.address).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    write!(
        stream,
        "GET /api/v1/export HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {reader}\r\n\r\n"
    )
    .expect("a request");
    let mut start = [0; 4000];
    std::io::Read::read_exact(&mut stream, &mut start).expect("the beginning");
    assert!(start.starts_with(b"HTTP/1.1 200"));
    let file = site.tokens.to_str().expect("a path");
    told(&ctl(&["token", "revoke", "reader", "--file", file]));
    site.reload(200);
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stream, &mut rest).expect("the rest");
    assert!(
        rest.contains(r#"{"failed":"#) && rest.contains("revoked"),
        "{} bytes",
        rest.len()
    );
    assert!(!rest.contains(r#"{"end":"#), "{} bytes", rest.len());
}

#[test]
fn what_is_refused_for_its_queue_inside_a_request_is_in_the_log_too() {
    let (mut site, ops) = Site::start(&[]);
    let scopes = ["--scope", "submit", "--scope", "work", "--queue", "mail"];
    let mailer = site.token("mailer", &scopes);
    let (_, text) = site.ask("POST", "/api/v1/tasks", &ops, r#"{"payload":1}"#);
    let task: Value = serde_json::from_str(&text).expect("JSON");
    let complete = format!(r#"{{"id":{}}}"#, task["id"]);
    let asked = [
        ("/api/v1/claim", r#"{"queues":["secret"]}"#),
        ("/api/v1/tasks", r#"{"queue":"secret","payload":1}"#),
        ("/api/v1/tasks", r#"[{"queue":"secret","payload":1}]"#),
        ("/api/complete", complete.as_str()),
    ];
    for (path, body) in asked {
        let (status, text) = site.ask("POST", path, &mailer, body);
        assert_eq!(status, 403, "{path}: {text}");
    }
    assert!(site.daemon.stop().success());
    let log = site.daemon.logged();
    let told = |line: &&str| line.contains("a credential was refused") && line.contains("mailer");
    assert_eq!(log.lines().filter(told).count(), asked.len(), "{log}");
}

#[test]
fn a_claim_that_waits_ends_with_nothing_when_its_token_is_revoked() {
    let (site, ops) = Site::start(&[]);
    let worker = site.token("worker", &["--scope", "work"]);
    let id = |(status, body): (u16, String)| {
        assert_eq!(status, 201, "{body}");
        let task: Value = serde_json::from_str(&body).expect("JSON");
        task["id"].as_str().expect("an id").to_owned()
    };
    let first = id(site.ask("POST", "/api/v1/tasks", &ops, r#"{"payload":1}"#));
    let (_, claimed) = site.ask("POST", "/api/v1/claim", &worker, "{}");
    let claimed: Value = serde_json::from_str(&claimed).expect("JSON");
    let token = claimed["tasks"][0]["token"].as_str().expect("a token");
    // It waits for a task, and its completion is made all the same.
    let claim = format!(r#"{{"wait":30,"complete":[{{"id":"{first}","token":"{token}"}}]}}"#);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| site.ask("POST", "/api/v1/claim", &worker, &claim));
        until("the claim waits", || {
            let (_, metrics) = site.ask("GET", "/metrics", &ops, "");
            metrics
                .contains("\nworkqueue_waiting_claims 1\n")
                .then_some(())
        });
        let file = site.tokens.to_str().expect("a path");
        told(&ctl(&["token", "revoke", "worker", "--file", file]));
        site.reload(200);
        let second = id(site.ask("POST", "/api/v1/tasks", &ops, r#"{"payload":2}"#));
        let (status, body) = waits.join().expect("an answer");
        let expected = format!(r#"{{"tasks":[],"completed":[{{"id":"{first}"}}]}}"#);
        assert_eq!((status, body.as_str()), (200, expected.as_str()));
        assert_eq!(site.ask("POST", "/api/v1/claim", &worker, "{}").0, 401);
        let (_, claimed) = site.ask("POST", "/api/v1/claim", &ops, "{}");
        assert!(claimed.contains(&second), "{claimed}");
    });
}

#[test]
fn people_log_in_with_a_cookie_and_other_sites_can_do_nothing_with_it() {
    let (site, ops) = Site::start(&[]);
    let page = |path: &str, more: &str| {
        site.daemon.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n{more}\r\n"
        ))
    };
    let (status, head, _) = page("/list", "");
    assert!(
        status == 303 && head.contains("/login?next=%2Flist"),
        "{head}"
    );
    let (status, head, _) = site
        .daemon
        .form("/login", &format!("token={ops}&next=%2Flist"));
    assert_eq!(status, 303);
    let cookie = head
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .expect("a cookie");
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    assert!(!cookie.contains(&ops), "the token itself");
    let shown = format!(
        "Cookie: {}\r\n",
        cookie.split(';').next().expect("its value")
    );
    assert_eq!(page("/list", &shown).0, 200);
    let send = |origin: &str| {
        let body = "payload=x";
        let (status, ..) = site.daemon.raw(&format!(
            "POST /new HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{shown}{origin}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        status
    };
    assert_eq!(send("Origin: http://evil.example\r\n"), 403);
    assert_eq!(send(""), 403);
    assert_eq!(send("Origin: http://localhost\r\n"), 302);
    // A restart forgets sessions, and no task.
    let mut site = site;
    site.daemon.crash_and_restart();
    let (status, ..) = site.daemon.raw(&format!(
        "GET /list HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nConnection: close\r\n{shown}\r\n"
    ));
    assert_eq!(status, 303);
    let (_, list) = site.ask("GET", "/api/v1/tasks", &ops, "");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["tasks"].as_array().expect("tasks").len(), 1);
}

#[test]
fn a_site_that_points_its_own_name_here_is_told_nothing() {
    let daemon = Daemon::start(&[]);
    let ask = |host: &str| {
        let (status, ..) = daemon.raw(&format!(
            "GET /api/v1/tasks HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ));
        status
    };
    assert_eq!(ask("rebound.example:5000"), 421);
    assert_eq!(ask("127.0.0.1:5000"), 200);
    let own = String::from_utf8(
        Command::new("uname")
            .arg("-n")
            .output()
            .expect("uname")
            .stdout,
    );
    assert_eq!(ask(own.expect("text").trim()), 200);
}

#[test]
fn without_tokens_only_this_machine_is_listened_to_and_the_log_says_what_that_means() {
    let mut daemon = Daemon::start(&["--log-level", "info"]);
    // What does not exist is no admin's action, however often it is asked for.
    for (method, path, status) in [("POST", "/nowhere", 404), ("DELETE", "/metrics", 405)] {
        let (got, _, _) = daemon.raw(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(got, status);
    }
    // Its log is whole when it has ended.
    assert!(daemon.stop().success());
    let log = daemon.logged();
    assert!(log.contains("no tokens are configured"), "{log}");
    assert!(!log.contains("an admin's request"), "{log}");
    let refused = Command::new(env!("CARGO_BIN_EXE_workqueued"))
        .args([
            "--check-config",
            "--listen",
            "0.0.0.0:5000",
            "--data-dir",
            "/nowhere",
        ])
        .env_remove("WORKQUEUE_TOKENS")
        .output()
        .expect("it runs");
    assert_eq!(refused.status.code(), Some(78));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("there are no tokens"), "{said}");
}

/// Needs root, to be somebody else for a moment; elsewhere the daemon's own user is all there is.
#[test]
fn users_of_the_machine_may_do_what_the_settings_say() {
    if !rustix::process::geteuid().is_root() {
        return skip(NOT_ROOT).unwrap_or_default();
    }
    let (mut site, _) = Site::start(&[("ADMIN_USERS", "34=read, 35=work+submit")]);
    let folder = site.tokens.parent().expect("its folder");
    let status = Command::new("chmod").arg("755").arg(folder).status();
    assert!(status.expect("chmod runs").success());
    let socket = site.daemon.socket();
    let ask = |uid: u32, method: &str, path: &str, body: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", method])
            .arg("--unix-socket")
            .arg(&socket)
            .uid(uid)
            .gid(uid);
        if !body.is_empty() {
            curl.args(["--json", body]);
        }
        let got = curl
            .arg(format!("http://localhost{path}"))
            .output()
            .expect("curl runs");
        String::from_utf8(got.stdout).expect("text")
    };
    let task = r#"{"payload":1}"#;
    for (uid, method, path, body, status) in [
        (34, "GET", "/api/v1/tasks", "", "200"),
        (34, "GET", "/status", "", "200"),
        (34, "POST", "/api/v1/tasks", task, "403"),
        (34, "POST", "/pause", "{}", "403"),
        (35, "POST", "/api/v1/tasks", task, "201"),
        (
            35,
            "POST",
            "/api/v1/claim",
            r#"{"queues":["default"]}"#,
            "200",
        ),
        (35, "GET", "/status", "", "403"),
        (36, "GET", "/status", "", "403"),
        (0, "POST", "/pause", r#"{"queue":"default"}"#, "200"),
    ] {
        assert_eq!(
            ask(uid, method, path, body),
            status,
            "{uid} {method} {path}"
        );
    }
    assert!(site.daemon.stop().success());
    let log = site.daemon.logged();
    for told in [
        "an admin's request was answered",
        "/pause",
        r#"asked="{\"queue\":\"default\"}""#,
        "uid 0",
        "uid 34",
        "uid 36",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
}

/// A connection of the user with this number, who is so only in a thread of its own.
fn connected_as(uid: u32, socket: &Path) -> std::io::Result<BufReader<UnixStream>> {
    let socket = socket.to_owned();
    let connect = move || {
        rustix::thread::set_thread_groups(&[])?;
        let (user, group) = (
            rustix::fs::Uid::from_raw(uid),
            rustix::fs::Gid::from_raw(uid),
        );
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(BufReader::new(stream))
    };
    std::thread::spawn(connect).join().expect("it ends")
}

/// The status of a request on a connection that stays open.
fn ask_on(stream: &mut BufReader<UnixStream>, method: &str, path: &str) -> u16 {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    stream
        .get_mut()
        .write_all(request.as_bytes())
        .expect("send");
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a head");
        if line == "\r\n" {
            break;
        }
        head.push(line.to_ascii_lowercase());
    }
    let length = |line: &String| line.strip_prefix("content-length: ")?.trim().parse().ok();
    let mut body = vec![0; head.iter().find_map(length).unwrap_or(0)];
    stream.read_exact(&mut body).expect("a body");
    let status = head[0].split(' ').nth(1).expect("a status");
    status.parse().expect("a number")
}

/// Needs root, like the test above.
#[test]
fn a_reload_reaches_users_who_are_connected_already() {
    if !rustix::process::geteuid().is_root() {
        return skip(NOT_ROOT).unwrap_or_default();
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scratch.path(), open).expect("chmod");
    let file = scratch.path().join("settings.toml");
    let set = |settings: &str| fs::write(&file, settings).expect("settings");
    set("");
    let args = [
        "--log-level",
        "info",
        "--config",
        &file.display().to_string(),
    ];
    let mut daemon = Daemon::start_in(scratch, &args);
    let socket = daemon.socket();
    let reload = || assert_eq!(daemon.admin("POST", "/reload", "").0, 200);

    let closed = connected_as(34, &socket).expect_err("the file's mode says no");
    assert_eq!(closed.kind(), std::io::ErrorKind::PermissionDenied);
    set("[admin.users]\n34 = [\"read\"]\n");
    reload();
    let mut user = connected_as(34, &socket).expect("the first user opens the file to all");
    assert_eq!(ask_on(&mut user, "GET", "/status"), 200);
    assert_eq!(ask_on(&mut user, "POST", "/pause"), 403);
    set("[admin.users]\n34 = [\"admin\"]\n");
    reload();
    assert_eq!(ask_on(&mut user, "POST", "/pause"), 200);
    let mut listener = connected_as(34, &socket).expect("connect");
    let listen = b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    listener.get_mut().write_all(listen).expect("send");
    let mut line = String::new();
    listener.read_line(&mut line).expect("a status");
    assert!(line.contains("200"), "{line}");
    set("");
    reload();
    assert_eq!(ask_on(&mut user, "GET", "/status"), 403);
    // The stream is over.
    listener.read_to_string(&mut line).expect("its end");
    let closed = connected_as(34, &socket).expect_err("closed again");
    assert_eq!(closed.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(daemon.stop().success());
    let log = daemon.logged();
    let told = |line: &&str| line.contains("a credential was refused") && line.contains("/status");
    assert!(log.lines().any(|line| told(&line)), "{log}");
}
