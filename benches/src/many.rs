//! Ten thousand claims that wait, or connections that are slow, and what they cost those that work.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    Context,
    account::Account,
    ceiling::{CONNECTIONS, load},
    http::{Cycle, Waiting},
    measure::Pair,
    report::{Report, Target, show},
    server::Daemon,
    slow::Slow,
};

/// Shorter than the default, so that slow connections are turned away while it is measured, and come again.
const CONFIG: &str = "header_timeout = \"10s\"\nbody_timeout = \"10s\"";

/// Lets this process, and what it starts, open so many files.
fn allow(files: u64) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|limit| limit >= files);
    if enough(limit.current) {
        return Ok(());
    }
    let maximum = if enough(limit.maximum) {
        limit.maximum
    } else {
        Some(files)
    };
    let new = Rlimit {
        current: Some(files),
        maximum,
    };
    setrlimit(Resource::Nofile, new)
        .with_context(|| format!("{files} open files are not allowed here (ulimit -n)"))
}

/// The bench.
pub fn run(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let idle = context.count(10_000, 2_000);
    allow(idle + 1000)?;
    let daemon = Daemon::start("many", CONFIG)?;
    let mut pair = Pair::new();
    let mut each = Vec::new();
    let time = context.time(3.0, 1.0);
    for _ in 0..context.turns(5, 2) {
        let without = cycle(&daemon, time)?;
        let before = daemon.process.resident()? as f64;
        let waiting = (0..idle)
            .map(|_| {
                let mut claim = Waiting::of(daemon.address, "idle")?;
                claim.ask()?;
                Ok(claim)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        until_waiting(&daemon, |count| count >= idle as f64)?;
        let after = daemon.process.resident()? as f64;
        each.push((after - before) / idle as f64);
        let with = cycle(&daemon, time)?;
        let still = daemon.metric("workqueue_waiting_claims")?;
        ensure!(still >= idle as f64, "only {still} claims still wait");
        pair.add(with, without);
        drop(waiting);
        until_waiting(&daemon, |count| count == 0.0)?;
    }
    tell(report, &pair, idle, "claims that wait", "");
    // The first turn is the one that had to take the memory from the system.
    let first = each.first().copied().unwrap_or(0.0);
    report.row(
        "memory of a connection that waits",
        first,
        "B",
        Target::None,
        "",
    );
    slow(context, report, &daemon, idle)
}

/// The same beside connections that send a byte every five seconds, until the daemon's patience of ten seconds ends, and then come again.
fn slow(context: &Context, report: &mut Report, daemon: &Daemon, count: u64) -> anyhow::Result<()> {
    let mut pair = Pair::new();
    let mut reopened = 0;
    let time = context.time(10.0, 1.0);
    for _ in 0..context.turns(5, 2) {
        let without = cycle(daemon, time)?;
        let connections = Slow::open(daemon.address, count)?;
        let with = cycle(daemon, time)?;
        reopened += connections.end()?;
        pair.add(with, without);
    }
    let again = format!("; {reopened} were turned away and came again");
    tell(report, &pair, count, "slow connections", &again);
    Ok(())
}

fn tell(report: &mut Report, pair: &Pair, count: u64, beside: &str, more: &str) {
    let (low, high) = pair.spread();
    let detail = format!(
        "{} to {}; {low:.2} to {high:.2}{more}",
        show(pair.ours(), "/s"),
        show(pair.theirs(), "/s")
    );
    let what = format!("cycle with {} {beside}, to without", show(count as f64, ""));
    report.row(&what, pair.ratio(), "x", Target::AtLeast(0.9), &detail);
}

fn cycle(daemon: &Daemon, time: Duration) -> anyhow::Result<f64> {
    let account = Account::of(u64::MAX);
    let run = load(daemon.address, CONNECTIONS, Some(time), |number| {
        Cycle::of(&account, "default", number)
    })?;
    account.check_drained()?;
    Ok(run.rate())
}

fn until_waiting(daemon: &Daemon, there: impl Fn(f64) -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let count = daemon.metric("workqueue_waiting_claims")?;
        if there(count) {
            return Ok(());
        }
        if start.elapsed() > Duration::from_mins(1) {
            bail!("{count} claims wait");
        }
        thread::sleep(Duration::from_millis(20));
    }
}
