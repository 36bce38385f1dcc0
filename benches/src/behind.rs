//! Files behind the journal: how many are made when tasks end soon, and whether they stay within bounds when none does.

use std::{
    mem::MaybeUninit,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::inotify;

use crate::{
    Context,
    account::Account,
    ceiling::{CONNECTIONS, load},
    http::{Cycle, Submit},
    report::{Report, Target, show},
    server::Daemon,
};

/// The bench.
pub fn run(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    keeping_up(context, report)?;
    no_workers(context, report)
}

/// Counts files that come to be in the task directory until `stop`.
fn count_files(watch: &rustix::fd::OwnedFd, stop: &AtomicBool) -> anyhow::Result<u64> {
    let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let mut count = 0;
    loop {
        match reader.next() {
            Ok(event) if event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW) => {
                bail!("more events than the kernel keeps")
            }
            Ok(_) => count += 1,
            Err(rustix::io::Errno::AGAIN) if stop.load(Ordering::Relaxed) => return Ok(count),
            Err(rustix::io::Errno::AGAIN) => thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error).context("inotify"),
        }
    }
}

/// Full load with workers that keep up: a task that ends within `spool_delay` costs no file.
fn keeping_up(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let daemon = Daemon::start("behind-cycle", "")?;
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
    let moved = inotify::WatchFlags::MOVED_TO;
    inotify::add_watch(&watch, daemon.data().join("tasks"), moved)?;
    let stop = Arc::new(AtomicBool::new(false));
    let counter = thread::spawn({
        let stop = Arc::clone(&stop);
        move || count_files(&watch, &stop)
    });
    let account = Account::of(u64::MAX);
    let run = load(
        daemon.address,
        CONNECTIONS,
        Some(context.time(8.0, 2.0)),
        |number| Cycle::of(&account, "default", number),
    );
    let settled = daemon.settle();
    stop.store(true, Ordering::Relaxed);
    let files = counter
        .join()
        .map_err(|_| anyhow::anyhow!("the counter has panicked"))??;
    settled?;
    let run = run?;
    account.check_drained()?;
    let detail = format!(
        "{} files for {} tasks at {}",
        show(files as f64, ""),
        show(run.count as f64, ""),
        show(run.rate(), "/s")
    );
    let each = files as f64 / run.count as f64 * 1000.0;
    report.row(
        "workers keep up: files made for 1000 tasks",
        each,
        "files",
        Target::AtMost(1.0),
        &detail,
    );
    Ok(())
}

/// What was seen at one moment of a run without workers.
#[derive(Debug, Clone, Copy)]
struct Sample {
    lag: f64,
    pending: f64,
    tasks: f64,
    resident: f64,
}

fn watch(daemon: &Daemon, stop: &AtomicBool) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        samples.push(Sample {
            lag: daemon.metric("workqueue_spool_lag_seconds")?,
            pending: daemon.metric("workqueue_spool_pending_files")?,
            tasks: daemon.metric("workqueue_tasks")?,
            resident: daemon.process.resident()? as f64,
        });
        thread::sleep(Duration::from_millis(100));
    }
    Ok(samples)
}

/// Full load and no workers: the files lag, but not without end, and what is not yet on the disk has a bounded place in
/// memory.
fn no_workers(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let daemon = Daemon::start("behind-submit", "payload_cache = \"1MiB\"")?;
    let empty = daemon.process.resident()? as f64;
    let stop = AtomicBool::new(false);
    let account = Account::of(u64::MAX);
    let time = context.time(10.0, 3.0);
    let (run, samples) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&daemon, &stop));
        let run = load(daemon.address, CONNECTIONS, Some(time), |_| {
            Submit::to(&account, "default")
        });
        stop.store(true, Ordering::Relaxed);
        let samples = watcher
            .join()
            .map_err(|_| anyhow::anyhow!("the watcher has panicked"));
        (run, samples)
    });
    let (run, samples) = (run?, samples??);
    account.check_submitted(run.count)?;
    ensure!(!samples.is_empty(), "nothing was seen");
    let highest = |value: fn(&Sample) -> f64| samples.iter().map(value).fold(0.0, f64::max);
    let detail = format!(
        "{} tasks at {}; worst reply {}",
        show(run.count as f64, ""),
        show(run.rate(), "/s"),
        show(crate::report::micros(run.quantile(1.0)), "us")
    );
    report.row(
        "no workers: the files lag by at most",
        highest(|sample| sample.lag),
        "s",
        Target::AtMost(10.0),
        &detail,
    );
    report.row(
        "no workers: file changes that wait, at most",
        highest(|sample| sample.pending),
        "",
        Target::AtMost(440_000.0),
        "submits wait from 400 000 on",
    );
    let catching_up = Instant::now();
    daemon.settle()?;
    report.row(
        "no workers: then all files are there after",
        catching_up.elapsed().as_secs_f64(),
        "s",
        Target::None,
        "",
    );
    // What waits for its file is in memory with its payload; 160 bytes a task are its own.
    let over = samples
        .iter()
        .map(|sample| sample.resident - empty - sample.tasks * 160.0)
        .fold(0.0, f64::max);
    report.row(
        "no workers: memory beside 160 B a task, at most",
        over,
        "MiB",
        Target::AtMost(f64::from(128 << 20)),
        &format!("{} before", show(empty, "MiB")),
    );
    Ok(())
}
