//! What goes to the service manager and what comes from it, with a real notify socket and real descriptors.
//!
//! Both depend on the environment of a process, so each test starts this very program again with `--exact CHILD`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::AsRawFd as _,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Daemon, Way};
use workqueue::systemd::{listen, notify};

const CHILD: &str = "WORKQUEUE_TEST_CHILD";

fn is_child(name: &str) -> bool {
    env::var(CHILD).is_ok_and(|child| child == name)
}

#[test]
fn child_notifies() {
    if is_child("notify") {
        assert_eq!(notify::watchdog_interval(), Some(Duration::from_secs(1)));
        notify::ready("2 tasks");
        notify::reloading();
        notify::watchdog();
        notify::extend_timeout(Duration::from_millis(5));
        notify::status("busy");
        notify::stopping();
    }
}

#[test]
fn the_manager_hears_each_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child_notifies"])
        .env(CHILD, "notify")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "2000000")
        .env_remove("WATCHDOG_PID")
        .status()
        .unwrap();
    assert!(status.success());
    socket.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(length) = socket.recv(&mut buffer) {
        heard.push(
            String::from_utf8_lossy(&buffer[..length])
                .trim_end()
                .to_owned(),
        );
    }
    let stamped = heard.get(1).cloned().unwrap_or_default();
    assert!(
        stamped.starts_with("RELOADING=1\nMONOTONIC_USEC="),
        "{heard:?}"
    );
    heard.remove(1);
    assert_eq!(
        heard,
        [
            "READY=1\nSTATUS=2 tasks",
            "WATCHDOG=1",
            "EXTEND_TIMEOUT_USEC=5000",
            "STATUS=busy",
            "STOPPING=1"
        ]
    );
}

/// A service manager's socket, in a directory.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn listen(dir: &Path) -> Self {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_mins(1)))
            .unwrap();
        Self { path, socket }
    }

    /// Leaves no room for more, until somebody reads.
    fn fill(&self) {
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"filler", &self.path).is_ok() {}
    }

    /// What it is told, up to the first that begins so.
    fn hear_until(&self, begin: &str) -> Vec<String> {
        let mut heard: Vec<String> = Vec::new();
        let mut buffer = [0; 1024];
        while heard.last().is_none_or(|last| !last.starts_with(begin)) {
            let length = self.socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8_lossy(&buffer[..length]);
            heard.push(text.trim_end().to_owned());
        }
        heard
    }

    /// The daemon, started by this manager.
    fn start(&self, data: &Path, dir: &Path, stdout: impl Into<Stdio>) -> Child {
        Command::new(env!("CARGO_BIN_EXE_workqueued"))
            .arg("--data-dir")
            .arg(data)
            .arg("--admin-socket")
            .arg(dir.join("admin.sock"))
            .args(["--listen", "none"])
            .env("NOTIFY_SOCKET", &self.path)
            .env("XDG_CONFIG_HOME", dir)
            .stdout(stdout)
            .spawn()
            .unwrap()
    }
}

/// Starts the daemon with a notify socket, until it is ready, and kills it; gives what it told before.
fn told_until_ready(data: &Path) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    let mut child = manager.start(data, dir.path(), Stdio::null());
    let heard = manager.hear_until("READY=1");
    child.kill().unwrap();
    child.wait().unwrap();
    heard
}

#[test]
fn a_manager_that_does_not_read_holds_up_neither_the_daemon_nor_a_worker() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    manager.fill();
    let path = manager.path.display().to_string();
    let way = Way {
        environment: [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "20000")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        ..Way::default()
    };
    let mut daemon = Daemon::start_so(tempfile::tempdir().unwrap(), way);
    for _ in 0..30 {
        daemon.submit(r#"{"payload":1}"#);
    }
    let (status, answer) = daemon.admin("POST", "/reload", "");
    assert!(status < 300, "{answer}");
    // More of a task's life than there is room for what is told about it.
    let mut worker = Command::new(env!("CARGO_BIN_EXE_workqueue-worker"))
        .args(["--url", &format!("http://{}/api", daemon.address)])
        .arg("--logfile")
        .arg(dir.path().join("log"))
        .arg("--until-empty")
        .env("NOTIFY_SOCKET", &path)
        .spawn()
        .unwrap();
    assert!(common::wait(&mut worker).success());
    let done = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(done.lines().count(), 30);
    // Nothing of what counts is lost when it reads at last.
    manager.hear_until("RELOADING=1");
    manager.hear_until("READY=1");
    manager.hear_until("WATCHDOG=1");
    manager.fill();
    assert!(daemon.stop().success());
    let warnings = daemon.logged().matches("could not be told").count();
    assert_eq!(warnings, 1, "{}", daemon.logged());
}

#[test]
fn a_standard_output_that_is_full_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::listen(dir.path());
    let (_unread, mut full) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[b'x'; 512]).is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let mut child = manager.start(&dir.path().join("data"), dir.path(), full);
    manager.hear_until("READY=1");
    assert!(UnixStream::connect(dir.path().join("admin.sock")).is_ok());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(common::wait(&mut child).success());
}

#[test]
fn a_long_load_is_told_and_asks_for_time() {
    let scratch = tempfile::tempdir().unwrap();
    write_tasks(scratch.path(), 4200);
    let heard = told_until_ready(scratch.path());
    assert_eq!(
        heard[..2],
        [
            "STATUS=loading: 4096 records and files read",
            "EXTEND_TIMEOUT_USEC=60000000"
        ],
    );
    // Killed, so its journal is there to be read: little of it, so it is told once, when all of it is read.
    let scratch = tempfile::tempdir().unwrap();
    told_until_ready(scratch.path());
    let heard = told_until_ready(scratch.path());
    assert_eq!(
        heard[..2],
        [
            "STATUS=loading the journal: 100 %",
            "EXTEND_TIMEOUT_USEC=60000000"
        ],
    );
}

/// A file for each of so many tasks, as a daemon with no journal finds them.
fn write_tasks(data: &Path, count: u64) {
    let tasks = data.join("tasks");
    fs::create_dir_all(&tasks).unwrap();
    for number in 0..count {
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        let name = format!("1970-01-01T00:00:00_00000100_{id}.json");
        fs::write(tasks.join(name), r#"{"payload":1}"#).unwrap();
    }
}

/// By itself the signal ends a process, and a service manager takes that for a clean end.
#[test]
fn a_hang_up_while_it_loads_is_a_reload_once_it_serves() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    write_tasks(&data, 30_000);
    let manager = Manager::listen(dir.path());
    let mut child = manager.start(&data, dir.path(), Stdio::null());
    manager.hear_until("STATUS=loading: 4096 records and files read");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    manager.hear_until("READY=1");
    manager.hear_until("RELOADING=1");
    manager.hear_until("READY=1");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(common::wait(&mut child).success());
}

#[test]
fn child_takes_sockets() {
    if is_child("listen") {
        let mut passed = listen::take().unwrap();
        assert_eq!((passed.http.len(), passed.admin.len()), (1, 1));
        // Each has one connection waiting, and a second accept does not wait for another.
        let (mut tcp, _) = passed.http.remove(0).accept().unwrap();
        tcp.write_all(b"t").unwrap();
        let admin = passed.admin.remove(0);
        let (mut unix, _) = admin.accept().unwrap();
        unix.write_all(b"u").unwrap();
        assert_eq!(
            admin.accept().unwrap_err().kind(),
            std::io::ErrorKind::WouldBlock
        );
        assert!(listen::take().unwrap().is_empty(), "taken once");
    }
    if is_child("odd") {
        assert!(
            matches!(listen::take(), Err(listen::ListenError::UnknownName(name)) if name == "odd")
        );
    }
    if is_child("deaf") {
        assert!(matches!(listen::take(), Err(listen::ListenError::Deaf(name)) if name == "http"));
    }
    if is_child("many") {
        assert!(matches!(
            listen::take(),
            Err(listen::ListenError::Nameless { count: 2, names: 1 })
        ));
    }
}

/// Starts the child with `tcp` and `unix` as descriptors 3 and 4, as the manager would.
fn pass(child: &str, names: &str, tcp: &TcpListener, unix: &UnixListener) {
    // The two are inherited: the caller took their close-on-exec away.
    let (tcp, unix) = (tcp.as_raw_fd(), unix.as_raw_fd());
    let script = format!(
        // By way of numbers that neither has: the one may well be 3 or 4 already.
        "exec 100<&{tcp} 101<&{unix}; exec 3<&100 4<&101 100<&- 101<&-; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES={names}; exec \"$0\" --exact child_takes_sockets"
    );
    let status = Command::new("bash")
        .args(["-c", &script])
        .arg(env::current_exe().unwrap())
        .env(CHILD, child)
        .status()
        .unwrap();
    assert!(status.success(), "{child}");
}

#[test]
fn sockets_are_taken_by_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    for descriptor in [
        rustix::fd::AsFd::as_fd(&tcp),
        rustix::fd::AsFd::as_fd(&unix),
    ] {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty()).unwrap();
    }
    let mut to_tcp = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let mut to_unix = UnixStream::connect(&path).unwrap();
    pass("listen", "http:admin", &tcp, &unix);
    let mut byte = [0];
    to_tcp.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"t");
    to_unix.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"u");
    pass("odd", "http:odd", &tcp, &unix);
    pass("many", "http", &tcp, &unix);
    let deaf = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    );
    let deaf = TcpListener::from(deaf.unwrap());
    pass("deaf", "http:admin", &deaf, &unix);
}
