//! Servers under test: each is started here, on loopback, in a scratch directory of its own, and ended by its pid.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{http, trace};

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long the files of some ten thousand tasks may take on a slow disk.
const SETTLING: Duration = Duration::from_mins(5);
/// Bytes of journal that are too few for a checkpoint where nothing happens: a sixteenth of the default `checkpoint_bytes`.
const SHORT_JOURNAL: f64 = (4 << 20) as f64;

/// A command whose process the kernel ends when the bench is killed; setpriv(1) arranges that and becomes the program.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A process, ended when this is dropped.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts `command` in a process group of its own, so that a Ctrl-C at the bench does not reach it first.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let name = format!("{command:?}");
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        Ok(Self(
            child.with_context(|| format!("{name} does not start"))?,
        ))
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> anyhow::Result<Option<std::process::ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// Ends it in good order.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.signal(rustix::process::Signal::TERM)?;
        let start = Instant::now();
        while self.0.try_wait()?.is_none() {
            if start.elapsed() > PATIENCE {
                bail!("process {} does not stop", self.pid());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.0);
        Ok(rustix::process::kill_process(pid, signal)?)
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmRSS")?.trim().parse::<u64>()? << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // SIGINT is "fast shutdown" to PostgreSQL, whose helpers would outlive a SIGKILL; to the others it is the end.
            let asked = self.signal(rustix::process::Signal::INT).is_ok();
            let start = Instant::now();
            while asked && start.elapsed() < Duration::from_secs(5) {
                if !matches!(self.0.try_wait(), Ok(None)) {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// A directory for one server, removed when it is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one below the target directory: the disk that the project lies on.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let root = PathBuf::from(
            std::env::var_os("BENCH_SCRATCH")
                .context("BENCH_SCRATCH is not set: start the benches with ./benches/run")?,
        );
        let path = root.join(format!("{}-{name}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// A port that nobody listens on.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until somebody listens there.
pub fn listening(process: &mut Process, address: SocketAddr) -> anyhow::Result<()> {
    let start = Instant::now();
    while let Err(error) = TcpStream::connect(address) {
        if let Some(status) = process.ended()? {
            bail!("the server at {address} has ended: {status}");
        }
        if start.elapsed() > PATIENCE {
            return Err(error).with_context(|| format!("nobody listens at {address}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The address on the line `page`, which is printed when a server is ready.
fn address(process: &mut Process) -> anyhow::Result<SocketAddr> {
    let out = process.0.stdout.take().context("no standard output")?;
    for line in BufReader::new(out).lines() {
        let line = line?;
        if let Some(url) = line.trim().strip_prefix("page") {
            let text = url.trim().trim_start_matches("http://");
            return Ok(text.trim_end_matches('/').parse()?);
        }
    }
    bail!("a server has ended before it was ready")
}

/// The daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub process: Process,
    /// Where it serves.
    pub address: SocketAddr,
    /// From the start of the process to the line that says it is ready.
    pub started_in: Duration,
    scratch: Scratch,
    holds_files: bool,
}

impl Daemon {
    /// Starts one with these lines of configuration besides `durability = "sync"`.
    pub fn start(name: &str, config: &str) -> anyhow::Result<Self> {
        Self::on(Scratch::new(name)?, config)
    }

    /// Starts one on what is in `scratch`.
    pub fn on(scratch: Scratch, config: &str) -> anyhow::Result<Self> {
        let program = std::env::var_os("BENCH_WORKQUEUED")
            .context("BENCH_WORKQUEUED is not set: start the benches with ./benches/run")?;
        let file = scratch.path().join("workqueued.toml");
        fs::write(&file, format!("durability = \"sync\"\n{config}\n"))?;
        let log = fs::File::create(scratch.path().join("log"))?;
        let mut command = command(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WORKQUEUE_") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(scratch.path())
            .args(["--listen", "127.0.0.1:0", "--log-level", "warn"])
            .args(["--admin-socket", "admin.sock", "--data-dir"])
            .arg(scratch.path().join("data"))
            .arg("--config")
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(log);
        let start = Instant::now();
        let mut process = Process::start(&mut command)?;
        let address = address(&mut process).with_context(|| {
            let log = fs::read_to_string(scratch.path().join("log"));
            format!("workqueued: {}", log.unwrap_or_default())
        })?;
        Ok(Self {
            process,
            address,
            started_in: start.elapsed(),
            scratch,
            holds_files: config.contains("spool_delay"),
        })
    }

    /// Whether its configuration holds task files back, so that waiting for them would take long.
    #[must_use]
    pub const fn holds_files(&self) -> bool {
        self.holds_files
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Stops it in good order; what it keeps stays.
    pub fn stop(self) -> anyhow::Result<Scratch> {
        self.process.stop()?;
        Ok(self.scratch)
    }

    /// One number of `/metrics`, over all labels.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let (status, text) = http::call(self.address, "GET", "/metrics", "text/plain", b"")?;
        if status != 200 {
            bail!("/metrics answers {status}");
        }
        let text = String::from_utf8(text)?;
        let mut sum = None;
        for line in text.lines().filter(|line| line.starts_with(name)) {
            let named = line[name.len()..].starts_with([' ', '{']);
            if let (true, Some((_, value))) = (named, line.rsplit_once(' ')) {
                sum = Some(sum.unwrap_or(0.0) + value.parse::<f64>()?);
            }
        }
        sum.with_context(|| format!("/metrics has no {name}"))
    }

    /// Waits until all file changes are written.
    pub fn settle(&self) -> anyhow::Result<()> {
        self.wait_for("workqueue_spool_pending_files", 0.0)?;
        trace(&format!("{}: settled", self.address));
        Ok(())
    }

    /// Waits until it has made the checkpoint that it makes when nothing happens.
    pub fn rest(&self) -> anyhow::Result<()> {
        self.wait_for("workqueue_journal_bytes", SHORT_JOURNAL)
    }

    fn wait_for(&self, metric: &str, most: f64) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.metric(metric)? > most {
            if start.elapsed() > SETTLING {
                bail!("{metric} does not fall to {most}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// The ceiling: a process of this program.
pub fn null() -> anyhow::Result<(Process, SocketAddr)> {
    let mut command = command(std::env::current_exe()?);
    command.arg("null-server").stdout(Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let address = address(&mut process)?;
    Ok((process, address))
}
