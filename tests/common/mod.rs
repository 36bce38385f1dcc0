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

pub mod container;
pub mod installed;
pub mod load;
pub mod package;

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

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon and its scratch directory.
pub struct Daemon {
    child: Child,
    pub address: String,
    pub scratch: tempfile::TempDir,
    extra: Vec<String>,
}

impl Daemon {
    /// Starts one with these further arguments.
    pub fn start(extra: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a scratch directory"), extra)
    }

    /// Starts one on what another left.
    pub fn start_in(scratch: tempfile::TempDir, extra: &[&str]) -> Self {
        let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
        let (child, address) = spawn(scratch.path(), &extra);
        Self {
            child,
            address,
            scratch,
            extra,
        }
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
        let (child, address) = spawn(self.scratch.path(), &self.extra);
        self.child = child;
        self.address = address;
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

    /// Moves a file into the task directory, as users do: written elsewhere, then renamed.
    pub fn drop_file(&self, name: &str, content: &[u8]) {
        let aside = self.scratch.path().join("aside");
        fs::write(&aside, content).expect("write a file");
        fs::rename(&aside, self.tasks().join(name)).expect("move it in");
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

fn command(scratch: &Path, extra: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_workqueued"));
    command
        .arg("--data-dir")
        .arg(scratch.join("data"))
        .arg("--admin-socket")
        .arg(scratch.join("admin.sock"))
        .env_remove("WORKQUEUE_SETTINGS")
        .env("XDG_CONFIG_HOME", scratch)
        .stdin(Stdio::null());
    if !extra.iter().any(|arg| arg == "--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    command.args(extra);
    command
}

fn spawn(scratch: &Path, extra: &[String]) -> (Child, String) {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(scratch.join("log"))
        .expect("a log");
    let mut child = command(scratch, extra)
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the daemon starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output"));
    let mut address = None;
    let mut line = String::new();
    loop {
        line.clear();
        let count = lines.read_line(&mut line).expect("its output");
        if count == 0 {
            let log = fs::read_to_string(scratch.join("log")).unwrap_or_default();
            panic!("the daemon ended before it was ready: {log}");
        }
        if let Some(url) = line.trim().strip_prefix("page") {
            address = Some(
                url.trim()
                    .trim_start_matches("http://")
                    .trim_end_matches('/')
                    .to_owned(),
            );
        }
        if line.trim().starts_with("try") {
            break;
        }
    }
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
    (child, address.unwrap_or_default())
}

/// Runs the daemon where it is expected to refuse: its exit code and what it said.
pub fn refused(scratch: &Path, extra: &[&str]) -> (i32, String) {
    let extra: Vec<String> = extra.iter().map(ToString::to_string).collect();
    let mut child = command(scratch, &extra)
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
        std::thread::park_timeout(Duration::from_millis(2));
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
