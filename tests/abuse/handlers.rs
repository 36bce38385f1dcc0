//! Handlers that misbehave, and payloads that would like them to: the worker ends what it has to, keeps its memory, and each
//! task is accounted for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    cgroups::Delegated,
    common::{Daemon, account::all, mount::skip, package::there_is, until, wait},
};

/// What a handler may find in its environment, beside `LC_*`.
const ENVIRONMENT: [&str; 14] = [
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "WORKQUEUE_RUN",
    "WORKQUEUE_TASK_ID",
    "WORKQUEUE_QUEUE",
    "WORKQUEUE_ATTEMPT",
    "WORKQUEUE_PRIORITY",
    "TRACEPARENT",
    "TRACESTATE",
    "OUT",
    "_",
];

/// A worker whose handler is this script of a shell, and which is killed at the end of the test.
pub(crate) struct Worker(Child);

impl Worker {
    fn start(daemon: &Daemon, script: &str, of_handler: &str) -> Self {
        Self::start_with(daemon, script, of_handler, "")
    }

    /// With further settings of the handler and of the worker.
    pub(crate) fn start_with(
        daemon: &Daemon,
        script: &str,
        of_handler: &str,
        of_worker: &str,
    ) -> Self {
        Self::start_by(daemon, script, of_handler, of_worker, |program| {
            Command::new(program)
        })
    }

    /// Started by another program than this one.
    pub(crate) fn start_by(
        daemon: &Daemon,
        script: &str,
        of_handler: &str,
        of_worker: &str,
        command: impl FnOnce(&str) -> Command,
    ) -> Self {
        let handler = daemon.scratch.path().join("handler");
        fs::write(&handler, script).expect("a handler");
        let handler = handler.display().to_string();
        let shell = ["/bin/sh", &handler];
        Self::start_command(daemon, &shell, of_handler, of_worker, command)
    }

    /// With a handler of its own.
    fn start_command(
        daemon: &Daemon,
        handler: &[&str],
        of_handler: &str,
        of_worker: &str,
        command: impl FnOnce(&str) -> Command,
    ) -> Self {
        let scratch = daemon.scratch.path();
        let settings = scratch.join("worker.toml");
        let text = format!(
            "url = \"unix:{}\"\nlog_level = \"error\"\n{of_worker}[handler]\ntype = \"exec\"\n\
             command = {}\nenvironment = {{ OUT = \"{}\" }}\n{of_handler}",
            daemon.socket().display(),
            json!(handler),
            scratch.display(),
        );
        fs::write(&settings, text).expect("settings");
        let child = command(env!("CARGO_BIN_EXE_workqueue-worker"))
            .arg("--config")
            .arg(&settings)
            .env("DATABASE_PASSWORD", "a secret of the worker")
            .env("LD_LIBRARY_PATH", "/nowhere")
            .env("BASH_ENV", "/nowhere")
            .env("CREDENTIALS_DIRECTORY", "/nowhere")
            .env_remove("WORKQUEUE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("the worker starts"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The most memory that it has had, in bytes.
    fn most_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.0.id());
        let text = fs::read_to_string(path).expect("the worker's status");
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.expect("a number").parse::<u64>().expect("kB") << 10
    }

    pub(crate) fn stop(mut self) {
        crate::soak::signal(self.0.id(), "-TERM");
        assert!(wait(&mut self.0).success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// Waits until the worker has ended all tasks but the dead.
pub(crate) fn worked_off(daemon: &Daemon) -> BTreeMap<String, Value> {
    until("all tasks have ended", || {
        let left = all(daemon);
        let is_over = left.values().all(|task| task["state"] == "dead");
        is_over.then_some(left)
    })
}

/// Whether the process is there and not only waits for its parent to look at it.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

pub(crate) fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn payloads_reach_no_shell_and_no_environment() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let scratch = daemon.scratch.path();
    let bait = scratch.join("bait").display().to_string();
    let payloads = [
        format!("$(touch {bait})"),
        format!("`touch {bait}`"),
        format!("'; touch {bait}; '"),
        format!("\" && touch {bait} #"),
        format!("x\ntouch {bait}\n"),
        format!("| touch {bait}"),
        format!("() {{ :;}}; touch {bait}"),
        "--help".to_owned(),
        "PATH=/nowhere\0LD_PRELOAD=/nowhere.so".to_owned(),
        "%s%n${IFS}*?[a]~\u{1b}[2J\u{202e}".to_owned(),
        "$".repeat(300_000),
    ];
    let script = "cat >\"$OUT/payload-$WORKQUEUE_TASK_ID\"\n\
                  cat </proc/$$/environ >\"$OUT/environment-$WORKQUEUE_TASK_ID\"\n\
                  tr '\\0' '\\n' </proc/$$/cmdline >>\"$OUT/arguments\"\n\
                  echo \"$WORKQUEUE_TASK_ID\" >>\"$OUT/book\"\n";
    let taken: BTreeMap<String, &String> = payloads
        .iter()
        .map(|payload| {
            let task = json!({"payload": payload}).to_string();
            (daemon.submit(&task), payload)
        })
        .collect();
    let worker = Worker::start(&daemon, script, "");
    assert!(worked_off(&daemon).is_empty());
    worker.stop();
    for (id, payload) in &taken {
        let got = fs::read(scratch.join(format!("payload-{id}"))).expect("the payload");
        assert!(got == payload.as_bytes(), "{payload:.100} is not as it was");
        let bytes = fs::read(scratch.join(format!("environment-{id}"))).expect("variables");
        let text = String::from_utf8(bytes).expect("UTF-8");
        for variable in text.split_terminator('\0') {
            let (name, value) = variable.split_once('=').expect("a variable");
            assert!(
                ENVIRONMENT.contains(&name) || name.starts_with("LC_"),
                "{variable:.200}"
            );
            assert!(!value.contains(payload.as_str()), "{variable:.200}");
        }
    }
    assert!(!Path::new(&bait).exists(), "a payload was run");
    let handler = scratch.join("handler").display().to_string();
    for argument in lines(&scratch.join("arguments")) {
        assert!(argument == "/bin/sh" || argument == handler, "{argument}");
    }
    let ran: BTreeSet<String> = lines(&scratch.join("book")).into_iter().collect();
    assert_eq!(ran, taken.into_keys().collect());
    assert_eq!(lines(&scratch.join("book")).len(), payloads.len(), "twice");
}

#[test]
fn a_flood_of_output_is_read_and_forgotten() {
    const LIMIT: u64 = 64 << 20;
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let book = daemon.scratch.path().join("book");
    // A GiB of errors; and an attempt that fails after as much of both as a disk would notice.
    let script = "read -r how errors output\n\
                  head -c \"$errors\" /dev/zero | tr '\\0' x >&2\n\
                  head -c \"$output\" /dev/zero | tr '\\0' x\n\
                  echo \"$how\" >>\"$OUT/book\"\n\
                  [ \"$how\" = ends ]\n";
    let flood = json!({"payload": format!("ends {} 1000", 1 << 30), "priority": 2});
    daemon.submit(&flood.to_string());
    let failing = daemon
        .submit(r#"{"payload": "fails 20000000 20000000", "priority": 1, "max_attempts": 1}"#);
    let worker = Worker::start(&daemon, script, "");
    let dead = worked_off(&daemon);
    assert!(worker.most_memory() < LIMIT, "{}", worker.most_memory());
    worker.stop();
    assert_eq!(dead.keys().collect::<Vec<_>>(), [&failing]);
    let error = dead[&failing]["last_error"].as_str().unwrap_or_default();
    assert!(
        error.starts_with("exit status 1: …x") && error.len() < 2200,
        "{:?}",
        dead[&failing]
    );
    assert_eq!(lines(&book), ["ends", "fails"]);
}

#[test]
fn a_handler_that_will_not_end_is_ended_with_all_that_it_started() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let pids = daemon.scratch.path().join("pids");
    // Itself, a child in its group, one in a session of its own, and one that has forked twice and belongs to nobody: all
    // deaf to signals, with the pipes closed.
    let script = "trap '' TERM INT HUP\n\
                  exec 0<&- 1>&- 2>&-\n\
                  case $1 in\n\
                  '') sh \"$0\" stay & setsid sh \"$0\" stay & (setsid sh \"$0\" daemonise &) ;;\n\
                  daemonise) (setsid sh \"$0\" stay &) ; exit ;;\n\
                  esac\n\
                  echo $$ >>\"$OUT/pids\"\n\
                  while :; do sleep 1000; done\n";
    let id = daemon.submit(r#"{"payload": 1, "max_attempts": 1}"#);
    // All four have that time to start.
    let worker = Worker::start(&daemon, script, "timeout = \"15s\"\n");
    until("all four run", || (lines(&pids).len() == 4).then_some(()));
    let all_four = lines(&pids);
    let dead = worked_off(&daemon);
    let left: Vec<&String> = all_four.iter().filter(|pid| runs(pid)).collect();
    for pid in &left {
        crate::soak::signal(pid.parse().expect("a number"), "-KILL");
    }
    assert!(left.is_empty(), "{left:?} of {all_four:?} go on");
    assert_eq!(dead[&id]["last_error"], "timeout after 15s", "{dead:?}");
    worker.stop();
}

#[test]
fn a_handler_may_close_its_pipes_and_go_on() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let book = daemon.scratch.path().join("book");
    let script = "exec 0<&- 1>&- 2>&-\nsleep 1\necho \"$WORKQUEUE_TASK_ID\" >>\"$OUT/book\"\n";
    let payload = "x".repeat(500_000);
    let id = daemon.submit(&json!({"payload": payload}).to_string());
    let worker = Worker::start(&daemon, script, "");
    assert!(worked_off(&daemon).is_empty());
    worker.stop();
    assert_eq!(lines(&book), [id]);
}

/// A file that may be executed.
fn executable(path: &Path, content: &[u8]) {
    fs::write(path, content).expect("a handler");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// The head of a program for another machine than this one.
fn foreign() -> Vec<u8> {
    let mut program = fs::read("/proc/self/exe").expect("this test");
    program.truncate(4096);
    // e_machine: that of a processor of the sixties.
    program[18] = 1;
    program[19] = 0;
    program
}

/// execvp(3) would have the shell read it: an empty one would be done at once, with nothing done.
#[test]
fn a_file_that_is_no_program_fails_and_no_shell_runs_it() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let scratch = daemon.scratch.path();
    let foreign = foreign();
    let files = [
        ("empty", &b""[..]),
        ("script", b"echo ran >>\"$OUT/ran\"\n"),
        ("foreign", &foreign),
    ];
    let path = format!("{}:/usr/bin:/bin", scratch.display());
    let group = Delegated::new();
    let mut ways = vec![None];
    ways.extend(group.as_ref().map(Some));
    for way in ways {
        for (name, content) in files {
            let file = scratch.join(name);
            executable(&file, content);
            for command in [name, &file.display().to_string()] {
                let worker = Worker::start_command(&daemon, &[command], "", "", |program| {
                    let mut worker =
                        way.map_or_else(|| Command::new(program), |group| group.command(program));
                    worker.env("PATH", &path);
                    worker
                });
                let id = daemon.submit(r#"{"payload": 1, "max_attempts": 1}"#);
                let dead = until("it has failed", || worked_off(&daemon).remove(&id));
                let expected = format!("cannot start {command}: Exec format error (os error 8)");
                assert_eq!(dead["last_error"], expected, "{}", way.is_some());
                worker.stop();
            }
        }
    }
    assert!(!scratch.join("ran").exists());
}

/// Holds up whoever opens a file, also to execute it, as a file system does that does not answer: has a lease on it (`F_SETLEASE`
/// of fcntl(2)) and keeps it, while the kernel lets it, for 45 s.
struct Slow {
    holder: Child,
    says: BufReader<ChildStdout>,
}

impl Slow {
    /// None where this machine has no leases on files.
    fn new(file: &Path) -> Option<Self> {
        if !there_is("python3") {
            return skip("no python3 to hold up a file");
        }
        let script = "import fcntl, os, signal, sys\n\
                      file = os.open(sys.argv[1], os.O_RDWR)\n\
                      signal.signal(signal.SIGIO, lambda *_: print('asked', flush=True))\n\
                      fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                      print('held', flush=True)\n\
                      sys.stdin.read()\n";
        let mut holder = Command::new("python3")
            .args(["-c", script])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let says = BufReader::new(holder.stdout.take().expect("its output"));
        let mut slow = Self { holder, says };
        match slow.line().as_str() {
            "held" => Some(slow),
            _ => skip("no leases on files here"),
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// The worker has one thread, and other tasks and signals to heed: it is not to wait itself.
#[test]
fn a_program_that_does_not_come_to_start_ends_by_its_timeout_and_by_a_stop() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let scratch = daemon.scratch.path();
    let plain = |program: &str| Command::new(program);
    let file = scratch.join("timed");
    executable(&file, b"#!/bin/sh\n: >\"$OUT/ran\"\n");
    let Some(mut slow) = Slow::new(&file) else {
        return;
    };
    let command = file.display().to_string();
    let worker = Worker::start_command(&daemon, &[&command], "timeout = \"2s\"\n", "", plain);
    let id = daemon.submit(r#"{"payload": 1, "max_attempts": 1}"#);
    assert_eq!(slow.line(), "asked");
    let dead = until("it is over", || worked_off(&daemon).remove(&id));
    assert_eq!(dead["last_error"], "timeout after 2s", "{dead:?}");
    worker.stop();

    let file = scratch.join("stopped");
    executable(&file, b"#!/bin/sh\n: >\"$OUT/ran\"\n");
    let mut second = Slow::new(&file).expect("as before");
    let command = file.display().to_string();
    let grace = "shutdown_grace = \"100ms\"\n";
    let worker = Worker::start_command(&daemon, &[&command], "", grace, plain);
    let id = daemon.submit(r#"{"payload": 2, "max_attempts": 1}"#);
    assert_eq!(second.line(), "asked");
    worker.stop();
    let task = all(&daemon).remove(&id).expect("it was given back");
    assert_eq!(
        (&task["state"], &task["attempts"]),
        (&json!("ready"), &json!(0))
    );
    drop((slow, second));
    assert!(
        !scratch.join("ran").exists(),
        "it was run when all was over"
    );
}

/// A child of `parent` that waits for something.
fn has_sleeping_child(parent: u32) -> bool {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let stats = entries.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let start = format!("S {parent} ");
    stats
        .filter_map(|stat| stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()))
        .any(|rest| rest.starts_with(&start))
}

#[test]
fn a_program_whose_file_is_just_being_written_is_started_when_it_is_there() {
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let file = daemon.scratch.path().join("handler");
    executable(&file, b"#!/bin/sh\n");
    let mut written = fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .expect("it is written");
    let command = file.display().to_string();
    let worker = Worker::start_command(&daemon, &[&command], "", "", |program| {
        Command::new(program)
    });
    let id = daemon.submit(r#"{"payload": 1, "max_attempts": 1}"#);
    until("its start is tried again in a while", || {
        assert_ne!(all(&daemon)[&id]["state"], "dead", "{:?}", all(&daemon));
        has_sleeping_child(worker.pid()).then_some(())
    });
    let ran = daemon.scratch.path().join("ran");
    writeln!(written, ": >\"$OUT/ran\"").expect("the rest");
    drop(written);
    assert!(worked_off(&daemon).is_empty());
    assert!(ran.exists(), "all of it was run");
    worker.stop();
}
