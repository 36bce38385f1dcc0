//! Everything at once: a load whose every answer is kept account of, and beside it crashes, restarts, suspensions, a disk that is full,
//! has no inodes or is stuck, no descriptors, hostile requests and files, and a worker that fares no better. At the end the account: nothing lost, nothing completed
//! twice, memory and descriptors as they were.
//!
//! `tests/soak --mixed --hours N` runs it for long (`WORKQUEUE_HOURS`); in the tests it is short, so that it does not rot.

mod away;
mod clients;
mod hands;
mod ledger;
mod measure;
mod rough;
mod short;

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub(crate) use self::{away::exchange, hands::signal};
use serde_json::Value;

use self::{clients::Client, hands::Hands, ledger::Ledger, measure::Measure, rough::Rough};
use crate::common::{
    Daemon, Way,
    account::{Chance, seed},
    mount::{Mount, may_mount, say, skip},
};

const CLIENTS: u64 = 4;
/// How long it takes in the tests.
const SHORT: Duration = Duration::from_secs(20);
/// How long the end may take to work everything off, beside the leases that must expire.
const DRAIN: Duration = Duration::from_mins(3);
/// By how much the last third may be above the first, before it counts as growth: a moment's buffers, and, of what is usual, what an
/// allocator keeps.
const SLACK: measure::Seen = measure::Seen {
    memory: 32 << 20,
    descriptors: 64,
    checkpoint: 0,
    usual_memory: Some(8 << 20),
};

const SETTINGS: &str = "spool_delay = \"20ms\"\njournal_segment = \"256KiB\"\ncheckpoint_bytes = \"2MiB\"\n\
                        payload_cache = \"256KiB\"\nrescan_every = \"10s\"\n\
                        max_in_flight = \"1MiB\"\n";

/// Tells all threads to end, also when this one panics.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the thread that makes the faults has.
struct Soak<'a> {
    daemon: Daemon,
    mount: Option<&'a Mount>,
    ledger: &'a Ledger,
    address: &'a RwLock<String>,
    pid: &'a AtomicU32,
    book: std::path::PathBuf,
    chance: Chance,
    length: Duration,
    restarts: u64,
}

#[test]
fn a_soak_of_everything_at_once_loses_nothing() {
    let length = std::env::var("WORKQUEUE_HOURS")
        .ok()
        .and_then(|text| text.parse::<f64>().ok())
        .map_or(SHORT, |hours| Duration::from_secs_f64(hours * 3600.0));
    let mut chance = Chance(seed("a_soak_of_everything_at_once_loses_nothing"));
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let data = scratch.path().join("data");
    let mount = may_mount()
        .then(|| short::small_disk(scratch.path(), &data))
        .flatten();
    if mount.is_none() {
        skip::<()>("the disk never gets full or stuck").unwrap_or_default();
    }
    let settings = scratch.path().join("settings.toml");
    fs::write(&settings, SETTINGS).expect("settings");
    let way = Way::with(&[
        "--log-level",
        "error",
        "--config",
        &settings.display().to_string(),
    ]);
    let daemon = Daemon::start_so(scratch, way);
    let (ledger, measure) = (Ledger::default(), Measure::default());
    let address = RwLock::new(daemon.address.clone());
    let (pid, worker_pid) = (AtomicU32::new(daemon.pid()), AtomicU32::new(0));
    let (stop, measured) = (AtomicBool::new(false), AtomicBool::new(false));
    let journal = daemon.data().join("journal");
    let mut worker = Hands::start(daemon.scratch.path(), &daemon.socket());
    let lease = (length / 10).clamp(Duration::from_secs(5), Duration::from_mins(1));
    let mut soak = Soak {
        mount: mount.as_ref(),
        ledger: &ledger,
        address: &address,
        pid: &pid,
        book: worker.book(),
        chance: Chance(chance.next()),
        length,
        restarts: 0,
        daemon,
    };
    thread::scope(|scope| {
        let _measured = End(&measured);
        scope.spawn(|| measure.watch(&pid, &journal, &measured));
        let load = thread::scope(|scope| {
            let _end = End(&stop);
            for number in 0..CLIENTS {
                let client = Client {
                    ledger: &ledger,
                    address: &address,
                    stop: &stop,
                    chance: Chance(chance.next()),
                    lease,
                    for_worker_at: (number == 0).then(Instant::now),
                };
                scope.spawn(move || client.live());
            }
            let mut rough = || Rough {
                ledger: &ledger,
                address: &address,
                stop: &stop,
                chance: Chance(chance.next()),
            };
            let (malformed, slow, files) = (rough(), rough(), rough());
            let tasks = soak.daemon.tasks();
            scope.spawn(move || malformed.malformed());
            scope.spawn(move || slow.slow());
            scope.spawn(move || files.files(&tasks));
            let mut luck = Chance(chance.next());
            let (ledger, stop) = (&ledger, &stop);
            let (worker, worker_pid) = (&mut worker, &worker_pid);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let more = luck.below(10_000);
                    ledger.wait_for(more, Duration::from_secs(4));
                    worker.suffer(ledger, &mut luck, worker_pid);
                }
            });
            let begin = Instant::now();
            while begin.elapsed() < length {
                soak.fault(begin.elapsed());
            }
            begin.elapsed()
        });
        let peaks = measure.thirds();
        soak.settle(lease);
        worker.stop(&ledger);
        soak.check("at the end");
        ledger.close();
        report(&soak, load, peaks);
    });
    assert!(soak.daemon.stop().success());
    let findings = ledger.findings();
    assert_eq!(findings.count(), 0, "{findings:#?}");
    stays_flat(measure.thirds());
}

/// Neither memory nor descriptors grow with time.
fn stays_flat([first, _, last]: [measure::Seen; 3]) {
    assert!(
        last.memory <= first.memory * 3 / 2 + SLACK.memory,
        "memory grew"
    );
    if let (Some(first), Some(last), Some(slack)) =
        (first.usual_memory, last.usual_memory, SLACK.usual_memory)
    {
        assert!(last <= first * 5 / 4 + slack, "memory grew for good");
    }
    assert!(
        last.descriptors <= first.descriptors + SLACK.descriptors,
        "descriptors grew"
    );
}

impl Soak<'_> {
    /// One fault of the daemon, after some work. Restarts come in the first half of each sixth of the time, so that the
    /// second half sees a daemon that has run for long.
    fn fault(&mut self, at: Duration) {
        let more = self.chance.below(4000);
        self.ledger.wait_for(more, Duration::from_secs(3));
        let cycle = (self.length / 6).max(Duration::from_secs(10));
        let in_cycle = Duration::from_nanos((at.as_nanos() % cycle.as_nanos()) as u64);
        let first = if in_cycle * 2 < cycle { 0 } else { 2 };
        match first + self.chance.below(11 - first) {
            0 => {
                self.daemon.kill();
                self.restarted("daemon: kill -9");
            }
            1 => {
                if !self.daemon.stop().success() {
                    self.ledger.wrong("a stop failed".to_owned());
                }
                self.restarted("daemon: restart");
            }
            2 => {
                self.daemon.signal("-STOP");
                // Longer than the leases that are left to expire.
                thread::sleep(Duration::from_millis(200 + self.chance.below(2000)));
                self.daemon.signal("-CONT");
                self.ledger.fault("daemon: suspended");
            }
            3 => {
                self.daemon.signal("-HUP");
                self.ledger.fault("daemon: reload");
            }
            4 => self.fill(),
            5 => {
                for path in ["/checkpoint", "/rescan"] {
                    let (status, answer) = self.daemon.admin("POST", path, "");
                    self.ledger.asked(Some(status));
                    if !matches!(status, 200..=299 | 503 | 507) {
                        self.ledger.wrong(format!("{path}: {status}: {answer}"));
                    }
                }
                self.ledger.fault("checkpoint and rescan asked for");
            }
            6 => self.away(),
            7 => self.without_inodes(),
            8 => self.without_descriptors(),
            9 => self.stuck(),
            _ => self.export(),
        }
    }

    /// Starts the daemon again, and holds the account against it before a client goes on.
    fn restarted(&mut self, how: &'static str) {
        self.ledger.fault(how);
        let address = self.address;
        let mut gate = address.write().expect("no client holds it for long");
        self.start_again();
        self.hold(how);
        gate.clone_from(&self.daemon.address);
    }

    fn start_again(&mut self) {
        self.restarts += 1;
        self.daemon.restart();
        self.pid.store(self.daemon.pid(), Ordering::Relaxed);
    }

    /// Holds the account while the clients wait.
    fn check(&self, when: &str) {
        let gate = self.address.write().expect("no client holds it for long");
        self.hold(when);
        drop(gate);
    }

    fn hold(&self, when: &str) {
        match self.snapshot() {
            Ok(there) => self.ledger.hold(&there, || Hands::ran(&self.book), when),
            Err(answer) => self.ledger.wrong(format!("{when}: an export: {answer}")),
        }
    }

    /// All tasks as they were at one moment. Pages would not do: a lease that expires meanwhile moves its task.
    fn snapshot(&self) -> Result<BTreeMap<String, Value>, String> {
        let get = "GET /api/v1/export HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (status, _, body) = self.daemon.raw(get);
        self.ledger.asked(Some(status));
        let mut lines = body.lines().collect::<Vec<_>>();
        let is_whole = lines.pop().is_some_and(|last| last.starts_with("{\"end\""));
        if status != 200 || !is_whole {
            return Err(format!("{status}: {body:.500}"));
        }
        let mut there = BTreeMap::new();
        for line in lines.into_iter().skip(1) {
            let mut line: Value = serde_json::from_str(line).map_err(|cause| cause.to_string())?;
            let task = line["task"].take();
            let id = task["id"].as_str().unwrap_or_default().to_owned();
            if let Some(twin) = there.insert(id, task) {
                return Err(format!("there twice: {twin}"));
            }
        }
        Ok(there)
    }

    /// Reads an export to its end, while all goes on.
    fn export(&mut self) {
        if let Err(answer) = self.snapshot() {
            self.ledger.wrong(format!("an export: {answer}"));
        }
        self.ledger.fault("export");
    }

    /// Works everything off, once nothing disturbs any more.
    fn settle(&mut self, lease: Duration) {
        self.check("after the load");
        let end = Instant::now() + lease + DRAIN;
        let (_, answer) = self.daemon.admin("POST", "/rescan", "");
        loop {
            clients::drain(self.ledger, &self.daemon.address);
            let (open, files) = self.ledger.open();
            if open == 0 && files == 0 {
                return;
            }
            if Instant::now() >= end {
                let text = format!("{open} tasks and {files} files are left: {answer}");
                return self.ledger.wrong(text);
            }
            // Leases that no client knows of have to expire, and the worker needs its time.
            thread::park_timeout(Duration::from_millis(200));
            self.check("while the rest is worked off");
        }
    }
}

fn report(soak: &Soak<'_>, load: Duration, peaks: [measure::Seen; 3]) {
    let (counts, findings) = (soak.ledger.counts(), soak.ledger.findings());
    let faults: u64 = counts.faults.values().sum();
    let (seconds, requests) = (load.as_secs(), counts.requests);
    let mut lines = vec![
        format!("soaked for {seconds} s"),
        format!("requests               {requests}"),
        format!("  without an answer    {}", counts.unanswered),
        format!("  refused (429,503,507) {}", counts.refused),
        format!("tasks acknowledged     {}", counts.acknowledged),
        format!("files dropped          {}", counts.dropped_files),
        format!("tasks completed        {}", counts.completed),
        format!("lost                   {}", findings.lost.len()),
        format!("completed twice        {}", findings.twice.len()),
        format!("other findings         {}", findings.wrong.len()),
        format!("checks of the account  {}", counts.checks),
        format!("restarts of the daemon {}", soak.restarts),
        format!("faults injected        {faults}"),
    ];
    lines.extend(
        counts
            .faults
            .iter()
            .map(|(kind, count)| format!("  {count:>8} {kind}")),
    );
    let most = peaks.iter().fold((0, 0), |most, peak| {
        (most.0.max(peak.memory), most.1.max(peak.descriptors))
    });
    let mebibytes = |bytes: [u64; 3]| bytes.map(|bytes| format!("{} MiB", bytes >> 20)).join(", ");
    let memory = mebibytes(peaks.map(|peak| peak.memory));
    let usual = peaks.map(|peak| match peak.usual_memory {
        Some(bytes) => format!("{} MiB", bytes >> 20),
        None => "-".to_owned(),
    });
    let usual = usual.join(", ");
    let descriptors = peaks.map(|peak| peak.descriptors.to_string());
    let checkpoints = peaks.map(|peak| format!("{} KiB", peak.checkpoint >> 10));
    lines.push(format!(
        "peak memory            {} MiB (beginning, middle, end: {memory})",
        most.0 >> 20
    ));
    lines.push(format!(
        "memory half of the time up to {usual} (of a process that runs for long)"
    ));
    lines.push(format!(
        "peak descriptors       {} (beginning, middle, end: {})",
        most.1,
        descriptors.join(", ")
    ));
    lines.push(format!(
        "largest checkpoint     {} (what is carried from life to life)",
        checkpoints.join(", ")
    ));
    say(&lines.join("\n"));
}
