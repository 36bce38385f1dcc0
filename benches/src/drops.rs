//! Files that are moved into the task directory: how many a second are taken in, and how soon a waiting claim has one.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};

use crate::{
    Context,
    account::write_payload,
    ceiling::empty,
    http::Waiting,
    report::{Report, Target, micros, show},
    server::Daemon,
    wire::{self},
};

/// Writes files beside the task directory, on its disk; gives where each is and where it goes.
fn prepare(daemon: &Daemon, turn: usize, count: u64) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
    let aside = daemon.data().with_file_name("aside");
    fs::create_dir_all(&aside)?;
    let tasks = daemon.data().join("tasks");
    (0..count)
        .map(|number| {
            let name = format!("{turn}-{number}.json");
            let path = aside.join(&name);
            let mut text = br#"{"payload":""#.to_vec();
            write_payload(number, &mut text);
            text.extend_from_slice(b"\"}");
            fs::write(&path, text)?;
            Ok((path, tasks.join(name)))
        })
        .collect()
}

/// The bench.
pub fn run(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let daemon = Daemon::start("drops", "")?;
    let count = context.count(60_000, 5_000);
    let (mut rates, mut renames) = (Vec::new(), Vec::new());
    for turn in 0..context.turns(3, 2) {
        let (rate, renamed) = rate(&daemon, turn, count)?;
        rates.push(rate);
        renames.push(renamed);
    }
    let detail = format!(
        "the bench itself renames {}",
        show(crate::measure::median(&renames), "/s")
    );
    let rate = crate::measure::median(&rates);
    report.row("taken in", rate, "/s", Target::AtLeast(30_000.0), &detail);
    latency(context, report, &daemon)
}

/// Moves files in as fast as the disk takes it. Gives how many a second were taken in, and how many were moved.
fn rate(daemon: &Daemon, turn: usize, count: u64) -> anyhow::Result<(f64, f64)> {
    let files = prepare(daemon, turn, count)?;
    let start = Instant::now();
    for (from, to) in &files {
        fs::rename(from, to)?;
    }
    let moved = start.elapsed();
    let wanted = count as f64;
    while daemon.metric("workqueue_tasks")? < wanted {
        if start.elapsed() > Duration::from_mins(5) {
            bail!("the files are not taken in");
        }
        thread::sleep(Duration::from_millis(10));
    }
    let took = start.elapsed();
    daemon.settle()?;
    let rejected = daemon.metric("workqueue_rejected_files_total")?;
    ensure!(rejected == 0.0, "{rejected} files rejected");
    let left = empty(daemon.address)?;
    ensure!(
        left == count,
        "{count} files moved in, {left} tasks claimed"
    );
    daemon.settle()?;
    ensure!(
        empty_directory(&daemon.data().join("tasks"))?,
        "finished tasks' files stay"
    );
    Ok((wanted / took.as_secs_f64(), wanted / moved.as_secs_f64()))
}

fn empty_directory(path: &Path) -> anyhow::Result<bool> {
    for entry in fs::read_dir(path)? {
        if entry?.file_type()?.is_file() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// From the rename of one file to the answer of a claim that waits.
fn latency(context: &Context, report: &mut Report, daemon: &Daemon) -> anyhow::Result<()> {
    let count = context.count(1000, 100);
    let files = prepare(daemon, usize::MAX, count)?;
    let mut found = wire::histogram()?;
    let mut claim = Waiting::open(daemon.address)?;
    for (from, to) in &files {
        claim.ask()?;
        // So that the claim waits when the file comes.
        thread::sleep(Duration::from_millis(4));
        let start = Instant::now();
        fs::rename(from, to)?;
        claim.hear()?;
        found.record(start.elapsed().as_nanos() as u64)?;
    }
    claim.finish(count)?;
    let at = |quantile| micros(Duration::from_nanos(found.value_at_quantile(quantile)));
    let detail = format!("p50 {}, worst {}", show(at(0.5), "us"), show(at(1.0), "us"));
    let p99 = at(0.99);
    let target = Target::AtMost(5000.0);
    report.row(
        "rename to a waiting claim's answer, p99",
        p99,
        "us",
        target,
        &detail,
    );
    Ok(())
}
