//! Each limit: what is answered above it, that it is counted, and that all goes on when there is room again.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::{
    common::{
        Daemon, PATIENCE,
        account::{Line, all},
        request, until,
    },
    told::Told,
};

/// A daemon with these settings.
pub(crate) fn with(settings: &str) -> Daemon {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("settings.toml");
    fs::write(&file, settings).expect("settings");
    let file = file.display().to_string();
    Daemon::start_in(scratch, &["--log-level", "warn", "--config", &file])
}

/// What `/metrics` on TCP says of this, a name and its labels.
pub(crate) fn metric(daemon: &Daemon, name: &str) -> u64 {
    let (status, text) = daemon.text("/metrics");
    assert_eq!(status, 200);
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    number.expect("the metric").parse().expect("a number")
}

/// How often a limit refused something.
pub(crate) fn refusals(daemon: &Daemon, limit: &str) -> u64 {
    let name = format!("workqueue_limit_refusals_total{{limit=\"{limit}\"}}");
    metric(daemon, &name)
}

/// Claims all tasks of these queues and completes each. Gives their ids, none twice.
pub(crate) fn complete_all(daemon: &Daemon, queue: &str) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    loop {
        let tasks = daemon.claim(queue, 100);
        if tasks.is_empty() {
            return ids;
        }
        for task in tasks {
            let id = task["id"].as_str().expect("an id").to_owned();
            let body = json!({"token": task["token"]}).to_string();
            let path = format!("/api/v1/tasks/{id}/complete");
            assert!(daemon.post(&path, &body).0 < 300);
            assert!(ids.insert(id), "handed out twice");
        }
    }
}

fn submit(daemon: &Daemon, queue: &str) -> (u16, Value) {
    let task = json!({"payload": 1, "queue": queue}).to_string();
    daemon.post("/api/v1/tasks", &task)
}

#[test]
fn tasks_beyond_those_of_a_queue_and_of_all_are_refused_and_taken_when_others_ended() {
    let daemon = with("max_tasks = 3\nmax_queue_tasks = 2\n");
    let mut taken = BTreeSet::new();
    for _ in 0..2 {
        let (status, task) = submit(&daemon, "a");
        assert_eq!(status, 201);
        taken.insert(task["id"].as_str().expect("an id").to_owned());
    }
    let (status, problem) = submit(&daemon, "a");
    assert_eq!(
        (status, &problem["type"]),
        (507, &json!("/problems/too-many"))
    );
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("queue a: the limit of 2 tasks"), "{detail}");
    assert_eq!(submit(&daemon, "b").0, 201);
    let body = json!({"payload": 1, "queue": "c"}).to_string();
    let (status, head, body) =
        daemon.raw(&request("POST", "/api/v1/tasks", "application/json", &body));
    assert_eq!(status, 507, "{body}");
    assert!(
        head.to_ascii_lowercase().contains("retry-after: 30"),
        "{head}"
    );
    assert!(
        body.contains("tasks: the limit of 3 (max_tasks) is reached"),
        "{body}"
    );
    assert_eq!(
        (
            refusals(&daemon, "max_queue_tasks"),
            refusals(&daemon, "max_tasks")
        ),
        (1, 1)
    );
    assert_eq!(complete_all(&daemon, "a"), taken);
    assert_eq!(submit(&daemon, "c").0, 201);
    assert_eq!(all(&daemon).len(), 2);
}

/// Queues come and go: with one that has ended its tasks there is room for another, by a request and by a file.
#[test]
fn queues_beyond_the_limit_are_refused_until_another_has_nothing() {
    let daemon = with("max_queues = 3\nspool_delay = \"0s\"\n");
    let names = || -> Vec<String> {
        let queues = daemon.get("/api/v1/queues").1;
        let queues = queues["queues"].as_array().expect("queues").clone();
        let name = |queue: &Value| queue["queue"].as_str().expect("a name").to_owned();
        queues.iter().map(name).collect()
    };
    let mut taken = BTreeSet::new();
    for queue in ["a", "b"] {
        let (status, task) = submit(&daemon, queue);
        assert_eq!(status, 201);
        taken.insert(task["id"].as_str().expect("an id").to_owned());
    }
    let (status, problem) = submit(&daemon, "c");
    assert_eq!(status, 507);
    let detail = problem["detail"].as_str().expect("a detail");
    assert!(detail.contains("the limit of 3 (max_queues)"), "{detail}");
    assert_eq!(refusals(&daemon, "max_queues"), 1);
    fs::create_dir(daemon.tasks().join("d")).expect("a folder");
    fs::write(daemon.tasks().join("d/.file"), "text").expect("a file");
    let file = daemon.tasks().join("d/file.txt");
    fs::rename(daemon.tasks().join("d/.file"), &file).expect("to move it in");
    let mut done = complete_all(&daemon, "a");
    until("the file to be taken", || (!file.exists()).then_some(()));
    assert_eq!(names(), ["b", "d", "default"]);
    assert_eq!(submit(&daemon, "a").0, 507);
    for queue in ["b", "d"] {
        done.extend(complete_all(&daemon, queue));
    }
    assert_eq!(done.len(), 3);
    assert!(taken.is_subset(&done));
    // As many as one likes, one after the other.
    for number in 0..20 {
        let queue = format!("q{number}");
        assert_eq!(submit(&daemon, &queue).0, 201);
        assert_eq!(complete_all(&daemon, &queue).len(), 1);
    }
    assert_eq!(names(), ["default", "q18", "q19"]);
    assert_eq!(all(&daemon).len(), 0);
}

#[test]
fn dropped_files_above_the_limit_wait_where_they_are_and_are_all_taken_once() {
    let daemon = with("max_tasks = 5\nspool_delay = \"0s\"\n");
    for number in 0..23 {
        daemon.drop_file(&format!("drop-{number}.txt"), b"text");
    }
    let waiting = || {
        let entries = fs::read_dir(daemon.tasks()).expect("the directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("drop-"))
            .count()
    };
    until("five to be taken", || (waiting() == 18).then_some(()));
    assert_eq!(submit(&daemon, "default").0, 507);
    let mut done = BTreeSet::new();
    until("all to be taken and completed", || {
        for id in complete_all(&daemon, "default") {
            assert!(done.insert(id), "completed twice");
        }
        (done.len() == 23).then_some(())
    });
    until("no file to be left", || (waiting() == 0).then_some(()));
    assert_eq!(all(&daemon).len(), 0);
}

/// What a claim asks for is kept while it waits. A sixteenth of what there is above the daemon's own is for all of them.
#[test]
fn claims_that_wait_take_no_more_memory_than_there_is_for_them() {
    let daemon = with("max_memory = \"64MiB\"\n");
    let queues: Vec<String> = (0..100).map(|at| format!("{at:064}")).collect();
    let claim = json!({"queues": queues, "wait": 60}).to_string();
    let refused = std::thread::scope(|scope| {
        let (answered, answers) = std::sync::mpsc::channel();
        for _ in 0..30 {
            let answered = answered.clone();
            let (daemon, claim) = (&daemon, &claim);
            scope.spawn(move || {
                let mut line = Line::open(&daemon.address).expect("a connection");
                let answer = line.ask("POST", "/api/v1/claim", claim).expect("an answer");
                answered.send(answer).expect("the test listens");
            });
        }
        let waiting = until("all to wait or to be refused", || {
            let waiting = metric(&daemon, "workqueue_waiting_claims");
            (waiting + refusals(&daemon, "max_memory") == 30).then_some(waiting)
        });
        let refused: Vec<_> = (waiting..30)
            .map(|_| answers.recv().expect("one"))
            .collect();
        // One with few queues may still wait, and is answered when there is a task.
        let small = scope.spawn(|| {
            let mut line = Line::open(&daemon.address).expect("a connection");
            line.ask("POST", "/api/v1/claim", r#"{"wait": 60}"#)
        });
        until("it to wait", || {
            (metric(&daemon, "workqueue_waiting_claims") == waiting + 1).then_some(())
        });
        daemon.submit(r#"{"payload": 1}"#);
        assert_eq!(small.join().expect("an answer").expect("whole").0, 200);
        assert!((10..25).contains(&waiting), "{waiting} wait");
        for _ in 0..waiting {
            assert_eq!(submit(&daemon, &queues[7]).0, 201);
            assert_eq!(answers.recv().expect("one").0, 200);
        }
        refused
    });
    for (status, problem) in refused {
        assert_eq!(status, 503, "{problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("bytes of waiting claims"), "{detail}");
        assert!(detail.contains("(max_memory)"), "{detail}");
    }
}

#[test]
fn claims_beyond_those_that_may_wait_are_told_to_come_again() {
    let daemon = with("max_waiting = 1\n");
    let address = daemon.address.clone();
    let first = std::thread::spawn(move || {
        let mut line = Line::open(&address).expect("a connection");
        line.ask("POST", "/api/v1/claim", r#"{"wait": 60}"#)
            .expect("an answer")
    });
    until("the first to wait", || {
        let (_, text) = daemon.text("/metrics");
        text.contains("workqueue_waiting_claims 1").then_some(())
    });
    let body = r#"{"wait": 60}"#;
    let (status, head, body) =
        daemon.raw(&request("POST", "/api/v1/claim", "application/json", body));
    assert_eq!(status, 503, "{body}");
    assert!(
        head.to_ascii_lowercase().contains("retry-after: 1"),
        "{head}"
    );
    assert!(
        body.contains("waiting claims: the limit of 1 (max_waiting)"),
        "{body}"
    );
    assert_eq!(
        daemon.claim("default", 1).len(),
        0,
        "without a wait it is answered"
    );
    assert_eq!(refusals(&daemon, "max_waiting"), 1);
    let id = daemon.submit(r#"{"payload": 1}"#);
    let (status, answer) = first.join().expect("the first");
    assert_eq!(
        (status, answer["tasks"][0]["id"].as_str()),
        (200, Some(&*id))
    );
}

#[test]
fn listeners_beyond_the_limit_are_refused_until_one_has_gone() {
    let mut daemon = with("max_listeners = 1\n");
    let mut told = Told::begin(&daemon);
    let listen = || {
        let mut stream = TcpStream::connect(&daemon.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let head = "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(head.as_bytes()).expect("sent");
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("an answer");
        (String::from_utf8_lossy(&start).into_owned(), stream)
    };
    let (first, stream) = listen();
    assert_eq!(first, "HTTP/1.1 200");
    assert_eq!(listen().0, "HTTP/1.1 503");
    assert_eq!(refusals(&daemon, "max_listeners"), 1);
    told.submit(&daemon);
    drop(stream);
    until("the place to be free", || {
        (listen().0 == "HTTP/1.1 200").then_some(())
    });
    told.submit(&daemon);
    told.hold(&mut daemon);
}

#[test]
fn deep_and_large_payloads_are_refused_by_name() {
    let daemon = with("max_payload = \"1KiB\"\nmax_depth = 7\n");
    let nested = |depth: usize| {
        let payload = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        daemon.post("/api/v1/tasks", &format!("{{\"payload\": {payload}}}"))
    };
    assert_eq!(nested(7).0, 201);
    let (status, problem) = nested(8);
    assert_eq!((status, &problem["field"]), (400, &json!("payload")));
    let large = json!({"payload": "x".repeat(2000)}).to_string();
    let (status, problem) = daemon.post("/api/v1/tasks", &large);
    assert_eq!((status, &problem["field"]), (413, &json!("payload")));
    assert_eq!(
        (
            refusals(&daemon, "max_depth"),
            refusals(&daemon, "max_payload")
        ),
        (1, 1)
    );
    assert_eq!(all(&daemon).len(), 1);
}

#[test]
fn only_so_many_workers_are_remembered() {
    let daemon = with("max_workers = 3\n");
    for number in 0..20 {
        let body = json!({"worker": format!("worker-{number}")}).to_string();
        assert_eq!(daemon.post("/api/v1/claim", &body).0, 200);
    }
    let (status, answer) = daemon.get("/api/v1/workers");
    assert_eq!(status, 200);
    let workers = answer["workers"].as_array().expect("workers");
    assert_eq!(workers.len(), 3, "{answer}");
    assert_eq!(metric(&daemon, "workqueue_workers_forgotten_total"), 17);
    let last = workers.iter().any(|one| one["worker"] == "worker-19");
    assert!(last, "the newest is among them: {answer}");
}

#[test]
fn unique_keys_beyond_those_that_may_be_held_are_refused_and_dropped_files_with_one_wait() {
    let daemon = with("max_unique_keys = 2\nspool_delay = \"0s\"\ndefaults.max_attempts = 1\n");
    let keyed = |key: &str| {
        let body = json!({"payload": key, "unique_key": key}).to_string();
        daemon.post("/api/v1/tasks", &body)
    };
    assert_eq!((keyed("a").0, keyed("b").0), (201, 201));
    let (status, problem) = keyed("c");
    assert_eq!(
        (status, &problem["type"]),
        (507, &json!("/problems/too-many"))
    );
    let detail = problem["detail"].as_str().expect("a detail");
    assert_eq!(
        detail,
        "unique keys: the limit of 2 (max_unique_keys) is reached"
    );
    assert_eq!(keyed("a").0, 200, "a key that is held is that task");
    assert_eq!(submit(&daemon, "default").0, 201, "without a key");
    let both = json!([{"payload": 1}, {"payload": 2, "unique_key": "d"}]).to_string();
    assert_eq!(daemon.post("/api/v1/tasks", &both).0, 507);
    assert_eq!(all(&daemon).len(), 3, "all of an array or none");
    for name in ["e", "f", "g"] {
        let file = json!({"payload": name, "unique_key": name}).to_string();
        daemon.drop_file(&format!("{name}.json"), file.as_bytes());
    }
    until("it is told that they wait", || {
        let text = daemon.logged();
        text.contains("dropped files wait where they are until there is less")
            .then_some(())
    });
    until("they are counted", || {
        let (_, view) = daemon.admin("GET", "/status", "");
        let said = view["troubles"].to_string().contains("drops-waiting");
        (said && view["drops_waiting"] == 3).then_some(())
    });
    // A dead task holds no key, and gets none while as many are held as may.
    let task = daemon.claim("default", 1).remove(0);
    let id = task["id"].as_str().expect("an id").to_owned();
    let body = json!({"token": task["token"], "error": "no"}).to_string();
    assert_eq!(
        daemon.post(&format!("/api/v1/tasks/{id}/fail"), &body).0,
        200
    );
    until("a dropped file to take its place", || {
        let shown = all(&daemon);
        (shown.len() == 4).then_some(())
    });
    assert_eq!(
        daemon.post(&format!("/api/v1/tasks/{id}/retry"), "").0,
        507,
        "its key would be one too many"
    );
    let mut done = BTreeSet::new();
    until("all others to be completed", || {
        done.extend(complete_all(&daemon, "default"));
        (done.len() == 5).then_some(())
    });
    assert_eq!(daemon.post(&format!("/api/v1/tasks/{id}/retry"), "").0, 200);
    assert!(refusals(&daemon, "max_unique_keys") >= 3);
    assert_eq!(all(&daemon).len(), 1);
}

#[test]
fn payloads_beyond_the_bytes_that_all_may_have_are_refused_also_after_a_start() {
    let settings = "max_spool = \"64KiB\"\nmax_payload = \"32KiB\"\nspool_delay = \"0s\"\nlog_level = \"warn\"\n";
    let mut daemon = with(settings);
    let large = "x".repeat(30 << 10);
    let body = json!({"payload": large}).to_string();
    for _ in 0..2 {
        assert_eq!(daemon.post("/api/v1/tasks", &body).0, 201);
    }
    let (status, head, answer) =
        daemon.raw(&request("POST", "/api/v1/tasks", "application/json", &body));
    assert_eq!(status, 507, "{answer}");
    assert!(
        head.to_ascii_lowercase().contains("retry-after: 30"),
        "{head}"
    );
    assert!(
        answer.contains("bytes of payloads: the limit of 65536 (max_spool) is reached"),
        "{answer}"
    );
    assert_eq!(submit(&daemon, "default").0, 201, "a small one still fits");
    daemon.drop_file("large.txt", large.as_bytes());
    until("it is told that it waits", || {
        let text = daemon.logged();
        text.contains("dropped files wait where they are until there is less")
            .then_some(())
    });
    until("the files to be written", || {
        let (_, text) = daemon.text("/metrics");
        text.contains("workqueue_spool_pending_files 0\n")
            .then_some(())
    });
    daemon.crash_and_restart();
    assert_eq!(
        daemon.post("/api/v1/tasks", &body).0,
        507,
        "their files count"
    );
    assert_eq!(refusals(&daemon, "max_spool"), 1);
    let mut done = BTreeSet::new();
    until("all to be taken and completed", || {
        done.extend(complete_all(&daemon, "default"));
        (done.len() == 4).then_some(())
    });
    assert_eq!(daemon.post("/api/v1/tasks", &body).0, 201);
    assert_eq!(all(&daemon).len(), 1);
}
