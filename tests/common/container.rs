//! A machine for a test: Debian with a real systemd as its first process, booted by `systemd-nspawn` on a copy that is thrown
//! away, with a network of its own that has only loopback.
//!
//! Needs root, `debootstrap` and `systemd-nspawn` (`tests/run` installs them), and no systemd on the machine that the test
//! runs on. The root file system is made once (`tests/common/make-root`) and kept below `target/`; each machine is an overlay
//! on it that lives in a mount namespace of its own, so that nothing is left mounted however the test ends.
//!
//! Where none can be made, [`Machine::boot`] says so on standard error past the harness's capture, and gives `None`. With
//! `WORKQUEUE_NEED_CONTAINER` in the environment it panics instead.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// How long a boot, a command or an end may take.
pub const LIMIT: Duration = Duration::from_secs(40);

/// A booted machine. It ends when this is dropped, or with the test's process.
pub struct Machine {
    scratch: PathBuf,
    /// The pid of its first process, as we see it.
    leader: u32,
    /// Gone when `systemd-nspawn` has ended.
    ended: Mutex<mpsc::Receiver<()>>,
    nspawn: u32,
    console: Arc<Mutex<String>>,
}

impl Machine {
    /// Boots one, after `prepare` has put files into its root. `None`, and a loud line, where none can be made.
    pub fn boot(prepare: impl FnOnce(&Path)) -> Option<Self> {
        match Self::try_boot(prepare) {
            Ok(machine) => Some(machine),
            Err(reason) => {
                assert!(
                    std::env::var_os("WORKQUEUE_NEED_CONTAINER").is_none(),
                    "no container: {reason}"
                );
                // Not `eprintln`: what a test that passes prints is not shown.
                let line = format!(
                    "\nSKIPPED, NOT TESTED: no booted systemd, so everything in {} that needs one: {reason}\n",
                    std::env::current_exe()
                        .ok()
                        .and_then(|exe| Some(exe.file_stem()?.to_str()?.to_owned()))
                        .unwrap_or_default()
                );
                io::stderr().write_all(line.as_bytes()).expect("stderr");
                None
            }
        }
    }

    fn try_boot(prepare: impl FnOnce(&Path)) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can boot one: run the tests as root".to_owned());
        }
        let target = target_dir();
        let containers = target.join("containers");
        let base = base_root(&containers)?;
        let scratch = scratch(&containers).map_err(|error| format!("target/: {error}"))?;
        // What an installer writes and debootstrap does not.
        put(
            &scratch.join("upper"),
            "/etc/hosts",
            "127.0.0.1 localhost\n::1 localhost\n",
        );
        prepare(&scratch.join("upper"));
        let (ended, nspawn, console) = nspawn(&base, &scratch);
        let mut machine = Self {
            scratch,
            leader: 0,
            ended: Mutex::new(ended),
            nspawn,
            console,
        };
        machine.leader = machine.wait_for_leader()?;
        machine.wait_for_boot()?;
        Ok(machine)
    }

    /// The console's output, for a message.
    pub fn console(&self) -> String {
        self.console
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn has_ended(&self, patience: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(
            ended.recv_timeout(patience),
            Err(mpsc::RecvTimeoutError::Timeout)
        )
    }

    fn wait_for_leader(&self) -> Result<u32, String> {
        let begin = Instant::now();
        loop {
            if let Some(pid) = first_process(self.nspawn) {
                return Ok(pid);
            }
            if self.has_ended(Duration::from_millis(20)) || begin.elapsed() > LIMIT {
                return Err(format!("systemd-nspawn: {}", self.console().trim()));
            }
        }
    }

    fn wait_for_boot(&self) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let output = self
                .command("systemctl is-system-running --wait")
                .output()
                .map_err(|error| format!("nsenter: {error}"))?;
            let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            if state == "running" || state == "degraded" {
                return Ok(());
            }
            // Before the bus is there, there is nobody to ask.
            if self.has_ended(Duration::from_millis(50)) || begin.elapsed() > LIMIT {
                return Err(format!("it does not boot: {}", self.console().trim()));
            }
        }
    }

    /// Its root directory, as we can reach it.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.leader))
    }

    /// A file or directory of it, as we can reach it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside.trim_start_matches('/'))
    }

    /// Writes a file of root's with mode 0644 and the directories above it.
    pub fn write(&self, inside: &str, content: impl AsRef<[u8]>) {
        put(&self.root(), inside, content);
    }

    /// What a file of it holds; empty if there is none.
    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_default()
    }

    /// A shell command in it, as root, to be run by the caller.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.leader.to_string(), "-a", "--"])
            .args([
                "/usr/bin/env",
                "-i",
                "HOME=/root",
                "LANG=C.UTF-8",
                "TERM=dumb",
            ])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args([
                "SYSTEMD_PAGER=cat",
                "SYSTEMD_COLORS=0",
                "DEBIAN_FRONTEND=noninteractive",
            ])
            .args(["/bin/sh", "-c", script])
            .stdin(Stdio::null());
        command
    }

    /// Runs a shell command in it as root, for at most [`LIMIT`].
    pub fn run(&self, script: &str) -> Output {
        let mut child = self
            .command(script)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("nsenter runs");
        let pid = child.id();
        let mut out = child.stdout.take().expect("its output");
        let mut err = child.stderr.take().expect("its errors");
        let (tell, told) = mpsc::channel::<()>();
        let watch = std::thread::spawn(move || {
            let late = told.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                drop(
                    Command::new("kill")
                        .args(["-9", &format!("-{pid}")])
                        .status(),
                );
            }
        });
        let errors = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            err.read_to_end(&mut bytes)
                .map(|_| bytes)
                .expect("its errors")
        });
        let mut stdout = Vec::new();
        out.read_to_end(&mut stdout).expect("its output");
        let status = child.wait().expect("it ends");
        drop(tell);
        watch.join().expect("a thread");
        assert_ne!(
            status.signal(),
            Some(9),
            "took longer than {LIMIT:?}: {script}"
        );
        Output {
            status,
            stdout,
            stderr: errors.join().expect("a thread"),
        }
    }

    /// Runs a shell command that must succeed; gives what it wrote, without the last line's end.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(script);
        let out = String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned();
        assert!(
            output.status.success(),
            "{script}\n{}\n{out}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            // Of a unit that fails, systemctl says little.
            String::from_utf8_lossy(&self.run("journalctl -n 60 --no-pager").stdout)
        );
        out
    }

    /// Whether a shell command succeeds.
    pub fn is(&self, script: &str) -> bool {
        self.run(script).status.success()
    }

    /// One property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> String {
        self.sh(&format!("systemctl show --value -p {property} {unit}"))
    }

    /// The pid of a unit's main process, as we see it.
    pub fn main_pid(&self, unit: &str) -> u32 {
        let inside: u32 = self.show(unit, "MainPID").parse().expect("a pid");
        assert_ne!(inside, 0, "{unit} does not run");
        self.outside(inside)
    }

    /// What we call a process that it calls `inside`.
    pub fn outside(&self, inside: u32) -> u32 {
        let ours = namespace(self.leader).expect("the first process");
        pids()
            .into_iter()
            .find(|pid| {
                nspid(*pid).last() == Some(&inside) && namespace(*pid).as_ref() == Some(&ours)
            })
            .unwrap_or_else(|| panic!("no process {inside}"))
    }

    /// Runs `work` in a thread whose network is the machine's; threads that it starts are there, too.
    pub fn network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.leader)).expect("its network");
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    rustix::thread::move_into_link_name_space(
                        network.as_fd(),
                        Some(rustix::thread::LinkNameSpaceType::Network),
                    )
                    .expect("enter its network");
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Looks again and again until there is something to see, with what `unit` logged in the message when there is not.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            if begin.elapsed() > LIMIT {
                let log = self.sh("journalctl -b --no-pager -n 40 -o verbose | grep -E '^    (_COMM|MESSAGE|ERROR|UNIT|TASK_ID)='");
                panic!("waited too long until {what}\n{log}");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// `systemctl poweroff`, and how long that took until all was gone. Its files stay, at the path that is given.
    pub fn power_off(&self) -> (Duration, PathBuf) {
        let begin = Instant::now();
        self.sh("systemctl poweroff --no-block");
        assert!(
            self.has_ended(LIMIT),
            "it does not end:\n{}",
            self.console()
        );
        (begin.elapsed(), self.scratch.join("upper"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process dies with it, and all the others with that one.
        drop(
            Command::new("kill")
                .args(["-9", &self.nspawn.to_string()])
                .stderr(Stdio::null())
                .status(),
        );
        self.has_ended(LIMIT);
        drop(fs::remove_dir_all(&self.scratch));
    }
}

/// Writes a file below `root` with mode 0644 and the directories above it.
pub fn put(root: &Path, inside: &str, content: impl AsRef<[u8]>) {
    let path = root.join(inside.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a directory")).expect("make directories");
    fs::write(path, content).expect("write a file");
}

/// Copies a program or a file below `root` with its mode.
pub fn copy(root: &Path, from: &Path, inside: &str) {
    let path = root.join(inside.trim_start_matches('/'));
    fs::create_dir_all(path.parent().expect("a directory")).expect("make directories");
    fs::copy(from, path).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

fn target_dir() -> PathBuf {
    // target/debug/workqueued, or target/release/workqueued
    let program = Path::new(env!("CARGO_BIN_EXE_workqueued"));
    program
        .ancestors()
        .nth(2)
        .expect("the target directory")
        .to_owned()
}

/// The root file system that all machines share: made once.
fn base_root(containers: &Path) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/make-root");
    let run = |arg: &Path| -> Result<String, String> {
        let output = Command::new(&script)
            .arg(arg)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("tests/common/make-root: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    };
    let base = containers.join(format!("root-{}", run(Path::new("--key"))?));
    run(&base)?;
    Ok(base)
}

/// A directory for one machine. Those of processes that are gone are removed.
fn scratch(containers: &Path) -> io::Result<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    for entry in fs::read_dir(containers)? {
        let path = entry?.path();
        let owner = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("run-")?.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another test program may be at it as well.
            drop(fs::remove_dir_all(&path));
        }
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let scratch = containers.join(format!("run-{}-{number}", std::process::id()));
    for part in ["upper", "work", "root"] {
        fs::create_dir_all(scratch.join(part))?;
    }
    Ok(scratch)
}

/// Starts `systemd-nspawn` from a thread that stays with it, in a pid namespace that is told to die with its parent, which is the
/// thread: however the test ends, no process of the machine is left.
fn nspawn(base: &Path, scratch: &Path) -> (mpsc::Receiver<()>, u32, Arc<Mutex<String>>) {
    // Where systemd runs, it gives the container a scope of its own; elsewhere the cgroup is the one that we are in.
    let keep = if Path::new("/run/systemd/system").exists() {
        ""
    } else {
        "--keep-unit"
    };
    let name = scratch
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    let script = format!(
        "mount -t overlay overlay -o lowerdir='{base}',upperdir='{dir}/upper',workdir='{dir}/work' '{dir}/root' || exit\n\
         systemd-nspawn --quiet --register=no {keep} --private-network --link-journal=no \
         --machine=wq-{name} --directory='{dir}/root' --boot --console=pipe",
        base = base.display(),
        dir = scratch.display(),
    );
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let console = Arc::new(Mutex::new(String::new()));
    let (tell_pid, pid) = mpsc::channel();
    let (tell_end, ended) = mpsc::channel();
    let seen = Arc::clone(&console);
    std::thread::spawn(move || {
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("setpriv runs");
        tell_pid.send(child.id()).expect("the test waits");
        let errors = child.stderr.take().expect("its errors");
        let other = Arc::clone(&seen);
        std::thread::spawn(move || gather(errors, &other));
        gather(child.stdout.take().expect("its output"), &seen);
        child.wait().expect("it ends");
        drop(tell_end);
    });
    (ended, pid.recv().expect("a pid"), console)
}

fn gather(mut from: impl io::Read, into: &Mutex<String>) {
    let mut bytes = [0; 4096];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&bytes[..count]);
        into.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(&text);
    }
}

fn pids() -> Vec<u32> {
    fs::read_dir("/proc")
        .expect("/proc")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

fn status_field(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim_start_matches(':').trim().to_owned())
}

fn nspid(pid: u32) -> Vec<u32> {
    status_field(pid, "NSpid")
        .map(|text| {
            text.split_whitespace()
                .filter_map(|one| one.parse().ok())
                .collect()
        })
        .unwrap_or_default()
}

fn namespace(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// The process below `ancestor` that is the first of its pid namespace and runs systemd already.
fn first_process(ancestor: u32) -> Option<u32> {
    pids().into_iter().find(|pid| {
        nspid(*pid).last() == Some(&1)
            && fs::read_link(format!("/proc/{pid}/exe"))
                .is_ok_and(|exe| exe.ends_with("lib/systemd/systemd"))
            && is_below(*pid, ancestor)
    })
}

fn is_below(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 && pid != ancestor {
        let parent = status_field(pid, "PPid").and_then(|parent| parent.parse().ok());
        pid = parent.unwrap_or(0);
    }
    pid == ancestor
}
