//! What a process can't have any more while it runs: descriptors, further processes, a file system that takes writes, memory of
//! its group. Each time: what is answered, that nothing spins, and an account of every task that was acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    common::{
        Daemon, Way,
        account::{Line, all, id_of},
        cgroup::Group,
        cpu_ticks,
        mount::{Mount, ext4, limit_descriptors, may_mount, tool},
        names, refused, until,
    },
    handlers::Worker,
    limits::{complete_all, refusals, with},
};

/// How long processor time is measured.
const MEASURED: Duration = Duration::from_secs(2);
/// A third of it, in ticks of a hundredth of a second: far less than what spins takes, on one core.
const SPINS: u64 = 66;

/// Holds that a process is at rest, more or less.
fn does_not_spin(pid: u32, when: &str) {
    let before = cpu_ticks(pid);
    thread::sleep(MEASURED);
    let used = cpu_ticks(pid) - before;
    assert!(used < SPINS, "{when}: {used} ticks in {MEASURED:?}");
}

fn submit(line: &mut Line, body: &Value) -> (u16, Value) {
    line.ask("POST", "/api/v1/tasks", &body.to_string())
        .expect("an answer")
}

fn id(task: &Value) -> String {
    task["id"].as_str().expect("an id").to_owned()
}

/// Claims a task, for long: its id and its token.
fn claim(line: &mut Line) -> (String, Value) {
    let body = json!({"lease": 3600}).to_string();
    let (status, answer) = line.ask("POST", "/api/v1/claim", &body).expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let task = &answer["tasks"][0];
    (id(task), task["token"].clone())
}

fn complete(line: &mut Line, (id, token): &(String, Value)) {
    let path = format!("/api/v1/tasks/{id}/complete");
    let body = json!({"token": token}).to_string();
    let (status, answer) = line.ask("POST", &path, &body).expect("an answer");
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn without_descriptors_for_files_submits_are_refused_and_all_goes_on_when_there_are_some() {
    let mut daemon =
        with("spool_delay = \"0s\"\njournal_segment = \"64KiB\"\ncheckpoint_bytes = \"1MiB\"\n");
    let mut line = Line::open(&daemon.address).expect("a connection");
    let mut taken: BTreeSet<String> = (0..3)
        .map(|number| id(&submit(&mut line, &json!({"payload": number})).1))
        .collect();
    let held: Vec<(String, Value)> = (0..3).map(|_| claim(&mut line)).collect();
    let before = daemon.descriptor_limit();

    limit_descriptors(daemon.pid(), "3");
    daemon.drop_file("dropped.txt", b"dropped meanwhile");
    let payload = "x".repeat(500);
    let refusal = (0..5000).find_map(|_| {
        let (status, answer) = submit(&mut line, &json!({"payload": payload}));
        if status == 201 {
            taken.insert(id(&answer));
        }
        (status != 201).then_some((status, answer))
    });
    let (status, answer) = refusal.expect("it can't go on for ever");
    assert_eq!(
        (status, &answer["type"]),
        (507, &json!("/problems/no-room")),
        "{answer}"
    );
    does_not_spin(daemon.pid(), "without descriptors");
    // No room is left to note that a task is handed out, but what was handed out has its room to end.
    for one in &held {
        complete(&mut line, one);
    }
    let ended: BTreeSet<String> = held.into_iter().map(|(id, _)| id).collect();
    assert!(ended.is_subset(&taken));
    until("the log to say why", || {
        let said = daemon.logged().contains("Too many open files");
        said.then_some(())
    });
    let lines = daemon.logged().lines().count();
    assert!(lines < 100, "{lines} lines of log");

    limit_descriptors(daemon.pid(), &before);
    until("a submit to be taken again", || {
        let (status, answer) = submit(&mut line, &json!({"payload": "after"}));
        if status == 201 {
            taken.insert(id(&answer));
        }
        (status == 201).then_some(())
    });
    let dropped = until("the dropped file to be a task", || {
        let tasks = all(&daemon);
        tasks
            .iter()
            .find(|(_, task)| task["payload"] == "dropped meanwhile")
            .map(|(id, _)| id.clone())
    });
    taken.insert(dropped);
    let left: BTreeSet<String> = taken.difference(&ended).cloned().collect();
    until("a file for each task, and for no other", || {
        let files: BTreeSet<String> = names(&daemon.tasks())
            .iter()
            .filter_map(|name| id_of(name))
            .collect();
        (files == left).then_some(())
    });
    assert_eq!(daemon.text("/readyz").0, 200);
    daemon.crash_and_restart();
    assert_eq!(all(&daemon).into_keys().collect::<BTreeSet<_>>(), left);
    assert_eq!(complete_all(&daemon, "default"), left);
    assert!(daemon.stop().success());
}

#[test]
fn where_files_may_not_be_large_small_tasks_are_taken_and_large_ones_when_they_may() {
    const LIMIT: usize = 200_000;
    let way = Way {
        under: vec!["prlimit".into(), format!("--fsize={LIMIT}:")],
        ..Way::default()
    };
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let mut daemon = Daemon::start_so(scratch, way);
    let mut line = Line::open(&daemon.address).expect("a connection");
    // More than one segment of the journal holds.
    let mut taken: BTreeSet<String> = (0..600)
        .map(|_| {
            let (status, answer) = submit(&mut line, &json!({"payload": "x".repeat(1000)}));
            assert_eq!(status, 201, "{answer}");
            id(&answer)
        })
        .collect();
    let large = json!({"payload": "y".repeat(2 * LIMIT)});
    let (status, answer) = submit(&mut line, &large);
    assert_eq!(
        (status, &answer["type"]),
        (507, &json!("/problems/no-room")),
        "{answer}"
    );
    let held = claim(&mut line);
    complete(&mut line, &held);
    assert!(taken.remove(&held.0));
    assert_eq!(daemon.text("/readyz").0, 200);

    tool(
        "prlimit",
        &["--pid", &daemon.pid().to_string(), "--fsize=unlimited:"],
    );
    until("a large one to be taken", || {
        let (status, answer) = submit(&mut line, &large);
        if status == 201 {
            taken.insert(id(&answer));
        }
        (status == 201).then_some(())
    });
    daemon.set_way(Way::default());
    daemon.crash_and_restart();
    assert_eq!(all(&daemon).into_keys().collect::<BTreeSet<_>>(), taken);
    assert_eq!(complete_all(&daemon, "default"), taken);
    assert!(daemon.stop().success());
}

#[test]
fn payloads_that_cannot_be_read_for_want_of_descriptors_come_later_and_no_task_dies_of_it() {
    let daemon = with("spool_delay = \"0s\"\npayload_cache = 0\n");
    let mut line = Line::open(&daemon.address).expect("a connection");
    let taken: BTreeSet<String> = (0..100)
        .map(|number| id(&submit(&mut line, &json!({"payload": number})).1))
        .collect();
    until("all files to be written", || {
        (daemon.admin("GET", "/status", "").1["spool_pending"] == 0).then_some(())
    });
    let before = daemon.descriptor_limit();
    limit_descriptors(daemon.pid(), "3");
    // As long as a file that can't be read is tried before its task is given up, and longer.
    let (status, answer) = line
        .ask("POST", "/api/v1/claim", r#"{"wait": 8, "max": 100}"#)
        .expect("an answer");
    assert_eq!(status, 200, "{answer}");
    let claimed: BTreeSet<String> = answer["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(id)
        .collect();
    assert!(claimed.len() < taken.len(), "it could read all of them");
    limit_descriptors(daemon.pid(), &before);
    let tasks = all(&daemon);
    assert_eq!(tasks.keys().cloned().collect::<BTreeSet<_>>(), taken);
    let dead = tasks.values().find(|task| task["state"] == "dead");
    assert_eq!(dead, None);
    let rest = complete_all(&daemon, "default");
    assert!(rest.is_disjoint(&claimed));
    assert_eq!(rest.len() + claimed.len(), taken.len());
}

/// What handlers noted: how often each task was done.
fn noted(daemon: &Daemon) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(daemon.scratch.path().join("done")).unwrap_or_default();
    let mut count = BTreeMap::new();
    for id in text.lines() {
        *count.entry(id.to_owned()).or_default() += 1;
    }
    count
}

#[test]
fn without_processes_a_worker_says_so_at_rest_and_goes_on_when_there_are_some() {
    let Some(group) = Group::new("pids") else {
        return;
    };
    let daemon = with("");
    let worker = Worker::start_with(
        &daemon,
        "echo $WORKQUEUE_TASK_ID >>\"$OUT/done\"",
        "",
        "concurrency = 4\n",
    );
    let first = daemon.submit(r#"{"payload": "before"}"#);
    until("the first to be done", || {
        all(&daemon).is_empty().then_some(())
    });
    group.take(worker.pid());
    group.no_more_processes();
    // In one request, as the worker begins to try with the first of them.
    let tasks: Vec<Value> = (0..40)
        .map(|number| json!({"payload": number, "backoff": {"base": 1, "max": 1}}))
        .collect();
    let begun = Instant::now();
    let (status, answer) = daemon.post("/api/v1/tasks", &json!(tasks).to_string());
    assert_eq!(status, 201, "{answer}");
    let mut taken: BTreeSet<String> = all(&daemon).into_keys().collect();
    assert_eq!(taken.len(), 40);
    does_not_spin(worker.pid(), "without processes");
    // It waits for room with the few that it holds, and uses up no other's attempts.
    let tried = |daemon: &Daemon| {
        let tasks = all(daemon);
        let tried = tasks.values().filter(|task| task["attempts"] != 0);
        tried.count()
    };
    // A start is tried for 10 s. Where this test was held up for as long, more may have been tried.
    let few = tried(&daemon);
    assert!(
        few == 4 || begun.elapsed() > Duration::from_secs(9),
        "{few} were tried"
    );
    let total = |what: &str| {
        let (_, queue) = daemon.get("/api/v1/queues/default");
        queue["totals"][what].as_u64().expect("a total")
    };
    until("a task to be given back", || {
        (total("released") > 0).then_some(())
    });
    does_not_spin(worker.pid(), "while tasks are given back");
    // What was given back has used up no attempt, so only those count that are held now.
    let held = tried(&daemon);
    assert!(held <= 4, "{held} were tried");
    assert_eq!(total("failed"), 0);

    group.any_number_of_processes();
    until("all to be done", || all(&daemon).is_empty().then_some(()));
    taken.insert(first);
    let done = noted(&daemon);
    assert!(done.values().all(|count| *count == 1), "{done:?}");
    assert_eq!(done.into_keys().collect::<BTreeSet<_>>(), taken);
    worker.stop();
}

/// A limit that is too low for a start, as `TasksMax=` may be.
#[test]
fn with_too_few_threads_a_start_ends_with_its_reason_and_with_just_enough_all_is_served() {
    let Some(group) = Group::new("pids") else {
        return;
    };
    let starts = |count: usize| {
        group.most_processes(count);
        let scratch = tempfile::tempdir().expect("scratch");
        let mut way = Way::with(&["--log-level", "warn"]);
        way.under = group.runner();
        let mut starting = Daemon::start_or_end(scratch.path(), way);
        match starting.wait_ready_or_end() {
            Some(status) => {
                let log = fs::read_to_string(scratch.path().join("log")).expect("the log");
                assert_eq!(status.code(), Some(71), "{count} threads: {log}");
                assert!(!log.contains("panicked"), "{count} threads: {log}");
                assert!(
                    log.contains("temporarily unavailable"),
                    "{count} threads: {log}"
                );
                None
            }
            None => Some(starting.ready(scratch)),
        }
    };
    let (threads, mut daemon) = (1..100)
        .find_map(|count| Some((count, starts(count)?)))
        .expect("a start");
    assert!(threads > 5, "it starts with {threads}");
    let told = daemon.submit(r#"{"payload": "told"}"#);
    daemon.drop_file("dropped.txt", b"dropped");
    until("both to be there", || {
        (all(&daemon).len() == 2).then_some(())
    });

    // A worker finds the same.
    let out = daemon.scratch.path().join("out");
    let url = format!("unix:{}", daemon.socket().display());
    let runner = group.runner();
    let work = |more: usize| {
        group.most_processes(threads + more);
        let worker = std::process::Command::new(&runner[0])
            .args(&runner[1..])
            .args([env!("CARGO_BIN_EXE_workqueue-worker"), "--url", &url])
            .args(["--until-empty", "--logfile"])
            .arg(&out)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&worker.stderr).into_owned();
        assert!(!said.contains("panicked"), "{more} threads: {said}");
        if !worker.status.success() {
            assert_eq!(worker.status.code(), Some(71), "{more} threads: {said}");
            assert!(
                said.contains("temporarily unavailable"),
                "{more} threads: {said}"
            );
        }
        worker.status.success()
    };
    let more = (1..20)
        .find(|more| work(*more))
        .expect("a worker that starts");
    assert!(more > 1, "it starts with {more}");
    let lines = fs::read_to_string(&out).expect("what it did");
    assert_eq!(lines.lines().count(), 2, "{lines}");
    assert!(
        lines.contains(": told\n") && lines.contains(": dropped\n"),
        "{told}: {lines}"
    );
    assert!(all(&daemon).is_empty());
    assert!(daemon.stop().success());
}

/// Heads that never end are held before anybody knows what they ask for: there may be as many connections as memory allows.
#[test]
fn heads_that_never_end_are_turned_away_before_memory_is_gone() {
    const LIMIT: u64 = 160 << 20;
    let Some(group) = Group::new("memory") else {
        return;
    };
    group.limit_memory(LIMIT);
    let scratch = tempfile::tempdir().expect("scratch");
    let mut way = Way::with(&["--log-level", "warn"]);
    way.under = group.runner();
    let mut daemon = Daemon::start_so(scratch, way);
    let first = daemon.submit(r#"{"payload": "before"}"#);
    let head = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: {}",
        "a".repeat(60_000)
    );
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let many = own.unwrap_or(4000).min(4000) as usize - 200;
    let mut held = Vec::new();
    let mut turned_away = 0;
    for _ in 0..many {
        let Ok(mut stream) = std::net::TcpStream::connect(&daemon.address) else {
            continue;
        };
        if std::io::Write::write_all(&mut stream, head.as_bytes()).is_err() {
            turned_away += 1;
        }
        held.push(stream);
    }
    let (status, _) = daemon.admin("GET", "/status", "");
    assert_eq!(status, 200);
    drop(held);
    let refused = until("it serves again", || {
        let mut line = Line::open(&daemon.address)?;
        let (status, _) = line.ask("GET", "/api/v1/queues", "")?;
        (status == 200).then(|| {
            crate::limits::metric(
                &daemon,
                r#"workqueue_connections_refused_total{limit="all"}"#,
            )
        })
    });
    assert!(refused > 0 || turned_away > 0);
    assert_eq!(group.killed_for_memory(), 0);
    assert_eq!(all(&daemon).into_keys().collect::<Vec<_>>(), [first]);
    assert!(daemon.stop().success());
}

/// A file system that its own errors have made read-only, as ext4 does it.
fn abort(mount: &std::path::Path) {
    tool(
        "mount",
        &["-o", "remount,abort", &mount.display().to_string()],
    );
}

#[test]
fn a_file_system_that_turns_read_only_stops_writes_and_has_all_that_was_acknowledged() {
    if !may_mount() {
        return;
    }
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let (data, image) = (scratch.path().join("data"), scratch.path().join("image"));
    let mounted = || Mount::image(&data, &image);
    if ext4(&image, 64, &[]).is_none() {
        return;
    }
    let Some(mount) = mounted() else { return };
    let mut daemon = Daemon::start_in(scratch, &["--log-level", "warn"]);
    let mut line = Line::open(&daemon.address).expect("a connection");
    let mut taken: BTreeSet<String> = (0..50)
        .map(|number| id(&submit(&mut line, &json!({"payload": number})).1))
        .collect();
    let held = claim(&mut line);
    complete(&mut line, &held);
    let (ended, _) = held;
    taken.remove(&ended);

    abort(&data);
    let (status, answer) = submit(&mut line, &json!({"payload": "later"}));
    assert_eq!(
        (status, &answer["type"]),
        (503, &json!("/problems/fault")),
        "{answer}"
    );
    let (status, why) = daemon.text("/readyz");
    assert_eq!(status, 503, "{why}");
    assert!(daemon.text("/metrics").1.contains("workqueue_up 0"));
    until("the log to say so", || {
        let said = daemon.logged().contains("no more writes are taken");
        said.then_some(())
    });
    does_not_spin(daemon.pid(), "on a read-only file system");
    assert_eq!(daemon.stop().code(), Some(74), "{}", daemon.logged());

    // On what is still read-only no daemon starts, and it says why.
    let (code, said) = refused(daemon.scratch.path(), &[]);
    assert!([73, 74, 77].contains(&code), "{code}: {said}");
    assert!(
        said.to_lowercase().contains("read-only file system"),
        "{said}"
    );

    mount.unmount();
    let Some(_mount) = mounted() else {
        panic!("it was mounted before")
    };
    daemon.restart();
    // The one that was answered 503 may be there.
    let there: BTreeSet<String> = all(&daemon).into_keys().collect();
    assert!(
        taken.is_subset(&there) && there.len() <= taken.len() + 1,
        "{there:?}"
    );
    assert!(!there.contains(&ended), "what was completed is back");
    assert_eq!(complete_all(&daemon, "default"), there);
    assert!(daemon.stop().success());
}

#[test]
fn at_the_limit_of_its_groups_memory_the_daemon_refuses_and_the_kernel_kills_nobody() {
    const LIMIT: u64 = 128 << 20;
    let Some(group) = Group::new("memory") else {
        return;
    };
    group.limit_memory(LIMIT);
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let settings = scratch.path().join("settings.toml");
    // The disk never slows it down, and all payloads would like to stay in memory. No limit is set: the daemon finds the group's.
    fs::write(
        &settings,
        "payload_cache = \"4GiB\"\ndurability = \"none\"\n",
    )
    .expect("settings");
    let mut way = Way::with(&[
        "--log-level",
        "warn",
        "--config",
        &settings.display().to_string(),
    ]);
    way.under = group.runner();
    let mut daemon = Daemon::start_so(scratch, way);
    let body = json!({"payload": "x".repeat(500_000)});
    // Two at a time, and far more than there is room for.
    let results: Vec<(BTreeSet<String>, u64)> = thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let mut line = Line::open(&daemon.address).expect("a connection");
                let body = &body;
                scope.spawn(move || {
                    let (mut taken, mut refused) = (BTreeSet::new(), 0);
                    for _ in 0..200 {
                        let (status, answer) = submit(&mut line, body);
                        if status == 201 {
                            assert!(taken.insert(id(&answer)));
                        } else {
                            assert_eq!(
                                (status, &answer["type"]),
                                (507, &json!("/problems/no-memory")),
                                "{answer}"
                            );
                            refused += 1;
                        }
                    }
                    (taken, refused)
                })
            })
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("a client"))
            .collect()
    });
    let refused: u64 = results.iter().map(|(_, refused)| refused).sum();
    let mut taken: BTreeSet<String> = results.into_iter().flat_map(|(taken, _)| taken).collect();
    assert!(
        refused > 0,
        "400 payloads of 500 kB found room in {LIMIT} bytes"
    );
    assert!(taken.len() > 20, "only {} were taken", taken.len());
    assert_eq!(refusals(&daemon, "max_memory"), refused);
    let request = crate::common::request(
        "POST",
        "/api/v1/tasks",
        "application/json",
        &body.to_string(),
    );
    // Near the limit, now one is refused and now one is taken.
    let head = until("a refusal", || {
        let (status, head, answer) = daemon.raw(&request);
        if status == 201 {
            let task: Value = serde_json::from_str(&answer).expect("a task");
            taken.insert(id(&task));
        }
        (status == 507).then_some(head)
    });
    assert!(
        head.to_ascii_lowercase().contains("retry-after: "),
        "{head}"
    );
    assert_eq!(all(&daemon).into_keys().collect::<BTreeSet<_>>(), taken);

    assert_eq!(complete_all(&daemon, "default"), taken);
    let again = until("there to be memory again", || {
        let (status, task) = daemon.post("/api/v1/tasks", &body.to_string());
        (status == 201).then(|| id(&task))
    });
    taken = BTreeSet::from([again]);
    assert_eq!(group.killed_for_memory(), 0);
    assert!(daemon.stop().success());
    daemon.restart();
    assert_eq!(complete_all(&daemon, "default"), taken);
    assert!(daemon.stop().success());
    assert_eq!(group.killed_for_memory(), 0);
}
