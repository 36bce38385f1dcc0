//! A daemon for a test: on a free port, in a scratch directory, waited for until it says that it is ready, and killed when
//! the test is over. Nothing here sleeps in place of an event.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test program uses its own part of this"
)]
#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

pub mod account;
pub mod cgroup;
pub mod container;
pub mod installed;
pub mod load;
pub mod mount;
pub mod package;
pub mod python;
pub mod terminal;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take before a test gives up on it: long, because machines are slow at times, and only a failure takes it.
/// Where something else would happen in that time and be taken for what is waited for, a test has a limit of its own.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A daemon and its scratch directory.
pub struct Daemon {
    child: Child,
    pub address: String,
    pub scratch: tempfile::TempDir,
    way: Way,
}

/// How a daemon is started.
#[derive(Default, Clone)]
pub struct Way {
    /// Further arguments.
    pub extra: Vec<String>,
    /// A program that runs it, with its arguments.
    pub under: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

impl Way {
    pub fn with(extra: &[&str]) -> Self {
        Self {
            extra: extra.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// Under strace, which writes into `trace`. `-D`: the daemon is our child, and strace watches from beside.
    pub fn traced(mut self, trace: &Path, options: &[&str]) -> Self {
        let trace = trace.display().to_string();
        let under = ["strace", "-D", "-f", "-qq", "-o", &trace];
        self.under = under
            .iter()
            .chain(options)
            .map(ToString::to_string)
            .collect();
        self
    }
}

impl Daemon {
    /// Starts one with these further arguments.
    pub fn start(extra: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a scratch directory"), extra)
    }

    /// Starts one on what another left.
    pub fn start_in(scratch: tempfile::TempDir, extra: &[&str]) -> Self {
        Self::start_so(scratch, Way::with(extra))
    }

    /// Starts one in another way.
    pub fn start_so(scratch: tempfile::TempDir, way: Way) -> Self {
        let (child, address) = spawn(scratch.path(), &way);
        Self {
            child,
            address,
            scratch,
            way,
        }
    }

    /// How many descriptors it may have.
    pub fn descriptor_limit(&self) -> String {
        let limits = fs::read_to_string(format!("/proc/{}/limits", self.pid())).expect("limits");
        let limit = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"));
        let soft = limit.and_then(|rest| rest.split_whitespace().next());
        soft.expect("a number").to_owned()
    }

    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    pub fn tasks(&self) -> PathBuf {
        self.data().join("tasks")
    }

    pub fn socket(&self) -> PathBuf {
        self.scratch.path().join("admin.sock")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success(), "kill {name}");
    }

    /// SIGTERM, and the exit.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal("-TERM");
        wait(&mut self.child)
    }

    /// SIGKILL, and a new one on the same data.
    pub fn crash_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("it is dead");
    }

    pub fn restart(&mut self) {
        let (child, address) = spawn(self.scratch.path(), &self.way);
        self.child = child;
        self.address = address;
    }

    /// Starts a new one on the same data without waiting until it is ready: for those who don't let it get so far.
    pub fn restart_unready(&mut self) {
        self.child = command(self.scratch.path(), &self.way)
            .stdout(Stdio::null())
            .stderr(self.log())
            .spawn()
            .expect("the daemon starts");
    }

    /// The same data, another way to be started from now on.
    pub fn set_way(&mut self, way: Way) {
        self.way = way;
    }

    fn log(&self) -> fs::File {
        open_log(self.scratch.path())
    }

    /// What it has logged.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    /// Kills it, and gives whether it was still alive.
    pub fn kill_if_alive(&mut self) -> bool {
        self.child.kill().expect("kill -9, also of what has ended");
        let status = self.child.wait().expect("it is dead");
        std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
    }

    pub fn wait(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    /// One request on a connection of its own: status, head and body.
    pub fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.write_all(request.as_bytes()).expect("send");
        answer(&mut stream)
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        (status, json(&body))
    }

    pub fn text(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.raw(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        (status, body)
    }

    pub fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, _, body) = self.raw(&request(method, path, "application/json", body));
        (status, json(&body))
    }

    pub fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.send("POST", path, body)
    }

    pub fn form(&self, path: &str, body: &str) -> (u16, String, String) {
        self.raw(&request(
            "POST",
            path,
            "application/x-www-form-urlencoded",
            body,
        ))
    }

    /// Submits a task and gives its id.
    pub fn submit(&self, body: &str) -> String {
        let (status, task) = self.post("/api/v1/tasks", body);
        assert_eq!(status, 201, "{task}");
        task["id"].as_str().expect("an id").to_owned()
    }

    /// Claims at most `max` tasks of `queue` without waiting.
    pub fn claim(&self, queue: &str, max: u32) -> Vec<Value> {
        let (status, answer) = self.post(
            "/api/v1/claim",
            &format!(r#"{{"queues":["{queue}"],"max":{max}}}"#),
        );
        assert_eq!(status, 200, "{answer}");
        answer["tasks"].as_array().expect("tasks").clone()
    }

    /// Has a checkpoint made.
    pub fn checkpoint(&self) {
        let (status, answer) = self.admin("POST", "/checkpoint", "");
        assert!(status < 300, "{status}: {answer}");
    }

    /// One request on the admin socket.
    pub fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(self.socket()).expect("connect to the admin socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
            .write_all(request(method, path, "application/json", body).as_bytes())
            .expect("send");
        let (status, _, body) = answer(&mut stream);
        (status, json(&body))
    }

    /// Its numbers, asked where no limit for clients from the network holds.
    pub fn metrics(&self) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("connect to the admin socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
            .write_all(request("GET", "/metrics", "text/plain", "").as_bytes())
            .expect("send");
        let (status, _, text) = answer(&mut stream);
        assert_eq!(status, 200, "{text}");
        text
    }

    /// Waits until no changes of files wait.
    pub fn until_files_are_written(&self) {
        until_none("fewer changes of files to wait", || {
            let (status, view) = self.admin("GET", "/status", "");
            assert_eq!(status, 200, "{view}");
            view["spool_pending"].as_u64().expect("a count")
        });
    }

    /// Waits until exactly so many files were rejected. A file is seen in its place before that, while its reason is not written
    /// yet.
    pub fn until_rejected(&self, count: usize) {
        until("the files are rejected", || {
            let (_, view) = self.admin("GET", "/status", "");
            (view["rejected"] == count).then_some(())
        });
    }

    /// Moves a file into the task directory, as users do: written elsewhere, then renamed.
    pub fn drop_file(&self, name: &str, content: &[u8]) {
        let aside = self.scratch.path().join("aside");
        fs::write(&aside, content).expect("write a file");
        fs::rename(&aside, self.tasks().join(name)).expect("move it in");
    }
}

/// A daemon of which nobody knows yet whether it gets ready or ends.
pub struct Starting {
    child: Child,
    address: Option<String>,
    way: Way,
}

impl Starting {
    /// Waits for the one or the other: `None` is ready.
    pub fn wait_ready_or_end(&mut self) -> Option<ExitStatus> {
        let lines = self.child.stdout.take().expect("its output");
        self.address = ready_address(&mut BufReader::new(lines));
        match self.address {
            Some(_) => None,
            None => Some(wait(&mut self.child)),
        }
    }

    /// The daemon that got ready.
    pub fn ready(self, scratch: tempfile::TempDir) -> Daemon {
        Daemon {
            child: self.child,
            address: self.address.expect("it is ready"),
            scratch,
            way: self.way,
        }
    }
}

impl Daemon {
    /// Starts one that may refuse to.
    pub fn start_or_end(scratch: &Path, way: Way) -> Starting {
        let child = command(scratch, &way)
            .stdout(Stdio::piped())
            .stderr(open_log(scratch))
            .spawn()
            .expect("the daemon starts");
        Starting {
            child,
            address: None,
            way,
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A request with a body, or without one when that is empty.
pub fn request(method: &str, path: &str, content: &str, body: &str) -> String {
    let typed = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: {content}\r\n")
    };
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{typed}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn answer(stream: &mut impl std::io::Read) -> (u16, String, String) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let text = String::from_utf8(bytes).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status line in {text:?}"));
    is_guarded(head);
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if chunked {
        dechunk(body)
    } else {
        body.to_owned()
    };
    (status, head.to_owned(), body)
}

/// What every answer says to browsers, whatever was asked and whatever became of it. Answers on the way to another (1xx) are none.
fn is_guarded(head: &str) {
    const FIELDS: [&str; 4] = [
        "x-content-type-options: nosniff",
        "referrer-policy: same-origin",
        "cache-control: ",
        "content-security-policy: ",
    ];
    let lower = head.to_ascii_lowercase();
    let is_last = lower.starts_with("http/") && !lower.contains("http/1.1 1");
    for field in FIELDS {
        assert!(!is_last || lower.contains(field), "no {field}in {head}");
    }
    assert!(
        !is_last || lower.contains("frame-ancestors 'none'"),
        "{head}"
    );
}

fn dechunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        out.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    out
}

fn json(body: &str) -> Value {
    if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }
}

fn command(scratch: &Path, way: &Way) -> Command {
    let program = env!("CARGO_BIN_EXE_workqueued");
    let mut command = match way.under.split_first() {
        None => Command::new(program),
        Some((under, args)) => {
            let mut command = Command::new(under);
            command.args(args).arg(program);
            command
        }
    };
    let variables = way.environment.iter();
    command
        .envs(variables.map(|(name, value)| (name, value)))
        .arg("--data-dir")
        .arg(scratch.join("data"))
        .arg("--admin-socket")
        .arg(scratch.join("admin.sock"))
        .env_remove("WORKQUEUE_SETTINGS")
        .env("XDG_CONFIG_HOME", scratch)
        .stdin(Stdio::null());
    if !way.extra.iter().any(|arg| arg == "--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(&way.extra);
    command
}

fn open_log(scratch: &Path) -> fs::File {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(scratch.join("log"))
        .expect("a log")
}

fn spawn(scratch: &Path, way: &Way) -> (Child, String) {
    let mut child = command(scratch, way)
        .stdout(Stdio::piped())
        .stderr(open_log(scratch))
        .spawn()
        .expect("the daemon starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output"));
    let Some(address) = ready_address(&mut lines) else {
        let log = fs::read_to_string(scratch.join("log")).unwrap_or_default();
        panic!("the daemon ended before it was ready: {log}");
    };
    // Kept open and emptied, so that the daemon's worker can go on writing.
    let path = scratch.join("out");
    std::thread::spawn(move || {
        let mut out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("a file for its output");
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|count| count > 0) {
            drop(out.write_all(line.as_bytes()));
            line.clear();
        }
    });
    (child, address)
}

/// Reads what a daemon says until it is ready: its address, empty where it has none. `None`: it ended before.
fn ready_address(lines: &mut impl std::io::BufRead) -> Option<String> {
    let mut address = String::new();
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line).expect("its output") == 0 {
            return None;
        }
        if let Some(url) = line.trim().strip_prefix("page") {
            url.trim()
                .trim_start_matches("http://")
                .trim_start_matches("https://")
                .trim_end_matches('/')
                .clone_into(&mut address);
        }
        if line.trim().starts_with("try") {
            return Some(address);
        }
    }
}

/// Runs the daemon where it is expected to refuse: its exit code and what it said.
pub fn refused(scratch: &Path, extra: &[&str]) -> (i32, String) {
    let mut child = command(scratch, &Way::with(extra))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let status = wait(&mut child);
    assert!(status.code().is_some(), "it did not end by itself");
    let output = child.wait_with_output().expect("it has ended");
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Waits for a child, not forever.
pub fn wait(child: &mut Child) -> ExitStatus {
    let (tell, told) = std::sync::mpsc::channel();
    let pid = child.id();
    std::thread::spawn(move || {
        if told.recv_timeout(PATIENCE).is_err() {
            drop(Command::new("kill").args(["-9", &pid.to_string()]).status());
        }
    });
    let status = child.wait().expect("it ends");
    // The watcher may have given up just now: then there is nobody to tell.
    tell.send(()).unwrap_or_default();
    status
}

/// Looks again and again until there is something to see: for what another process does to a directory.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Waits until nothing is left, however much it is: as long as it becomes less.
pub fn until_none(what: &str, left: impl Fn() -> u64) {
    let mut before = u64::MAX;
    while before > 0 {
        before = until(what, || {
            let now = left();
            (now < before).then_some(now)
        });
    }
}

/// The names in a directory, sorted, without those of a queue's folder.
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

/// Runs a program of ours to its end.
pub fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("it runs")
}

/// What a program wrote.
pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The CPU time that a process has used, in clock ticks of the kernel (usually hundredths of a second).
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
    let rest = stat.rsplit(')').next().expect("fields");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

/// Voluntary context switches of all threads of a process: how often it slept and woke.
pub fn wakes(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let mut sum = 0;
    for thread in threads.filter_map(Result::ok) {
        let mut text = String::new();
        if fs::File::open(thread.path().join("status"))
            .and_then(|mut file| file.read_to_string(&mut text))
            .is_ok()
        {
            let line = text
                .lines()
                .find(|line| line.starts_with("voluntary_ctxt_switches"));
            sum += line
                .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    sum
}
