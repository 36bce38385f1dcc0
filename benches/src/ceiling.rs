//! How near the daemon comes to what HTTP alone costs here: the same HTTP stack over a backend that answers at once.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;

use crate::{
    Context,
    account::Account,
    http::{self, Claim, Submit},
    measure::Pair,
    report::{Report, Target, show},
    server::{self, Daemon},
    trace,
    wire::{self, Lane, Pace, Run, Talk},
};

/// As many connections as all benches under load have.
pub const CONNECTIONS: usize = 64;
/// Task files are held back for longer than a turn takes: what is left of the cost is the queue, the journal and its sync.
const HELD: &str = "spool_delay = \"60s\"";
/// As many as may be held back, and some room.
const HELD_TASKS: u64 = 80_000;

/// Opens a lane for each number and drives all of them.
pub fn load<T: Talk>(
    address: SocketAddr,
    connections: usize,
    time: Option<Duration>,
    talk: impl Fn(usize) -> T,
) -> anyhow::Result<Run> {
    let mut lanes = (0..connections)
        .map(|number| Lane::open(address, talk(number)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    wire::drive(&mut lanes, Pace::Closed, time)
}

/// Submits up to `most` tasks for `time`, and holds the ids against each other. Gives tasks a second.
fn submit(address: SocketAddr, time: Duration, most: u64) -> anyhow::Result<(f64, u64)> {
    let account = Account::of(most);
    let run = load(address, CONNECTIONS, Some(time), |_| {
        Submit::to(&account, "default")
    })?;
    account.check_submitted(run.count)?;
    trace(&format!(
        "{address}: {} submits in {:?}",
        run.count, run.took
    ));
    Ok((run.rate(), run.count))
}

/// Claims for `time` or until nothing is there, `max` at once. Gives tasks a second, and how many.
fn claim(address: SocketAddr, time: Duration, max: u64) -> anyhow::Result<(f64, u64)> {
    let account = Account::default();
    let run = load(address, CONNECTIONS, Some(time), |number| {
        Claim::from(&account, "default", max, number)
    })?;
    account.check_claimed(run.count)?;
    trace(&format!(
        "{address}: {} claims in {:?}",
        run.count, run.took
    ));
    Ok((run.rate(), run.count))
}

/// Takes whatever is left, and says how much it was.
pub fn empty(address: SocketAddr) -> anyhow::Result<u64> {
    let account = Account::default();
    let run = load(address, 4, None, |number| {
        Claim::from(&account, "default", 100, number)
    })?;
    account.check_claimed(run.count)?;
    trace(&format!(
        "{address}: emptied of {} in {:?}",
        run.count, run.took
    ));
    Ok(run.count)
}

/// The bench.
pub fn run(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let turns = context.turns(7, 3);
    let time = context.time(2.5, 1.0);
    let (_null, ceiling) = server::null()?;
    let daemon = Daemon::start("ceiling", "")?;
    let (mut files, mut none) = (Pair::default(), Pair::default());
    for _ in 0..turns {
        let (theirs, _) = submit(ceiling, time, u64::MAX)?;
        let (ours, submitted) = submit(daemon.address, time, u64::MAX)?;
        files.add(ours, theirs);
        let left = empty(daemon.address)?;
        ensure!(left == submitted, "{submitted} submitted, {left} claimed");
        daemon.settle()?;
        let held = Daemon::start("ceiling-held", HELD)?;
        let (ours, _) = submit(held.address, time, HELD_TASKS)?;
        none.add(ours, theirs);
    }
    tell(report, "submit", &files, Target::AtLeast(0.85));
    let name = "submit, no file written meanwhile";
    tell(report, name, &none, Target::None);

    for (max, target) in [(1, Target::AtLeast(0.7)), (10, Target::None)] {
        let (mut files, mut none) = (Pair::default(), Pair::default());
        for _ in 0..turns {
            let (theirs, there) = claim(ceiling, time, max)?;
            // As many as it needs for a steady rate; their files take a while to be written.
            let there = there.min(context.count(60_000, 20_000));
            files.add(claim_of(&daemon, there, time, max)?, theirs);
            let held = Daemon::start("ceiling-held", HELD)?;
            none.add(claim_of(&held, there, time, max)?, theirs);
        }
        let name = format!("claim + complete, {max} at once");
        tell(report, &name, &files, target);
        let name = format!("{name}, tasks without files");
        tell(report, &name, &none, Target::None);
    }
    Ok(())
}

/// Claims from `there` tasks that lie ready, their files written, except where they are held back.
fn claim_of(daemon: &Daemon, there: u64, time: Duration, max: u64) -> anyhow::Result<f64> {
    http::fill(daemon.address, "default", there)?;
    if !daemon.holds_files() {
        daemon.settle()?;
    }
    let (rate, claimed) = claim(daemon.address, time, max)?;
    let left = empty(daemon.address)?;
    ensure!(
        claimed + left == there,
        "{there} submitted, {claimed} + {left} claimed"
    );
    if !daemon.holds_files() {
        daemon.settle()?;
    }
    Ok(rate)
}

/// A row of a ratio to the ceiling.
fn tell(report: &mut Report, what: &str, pair: &Pair, target: Target) {
    let (low, high) = pair.spread();
    let detail = format!(
        "{} of {}; {low:.2} to {high:.2}",
        show(pair.ours(), "/s"),
        show(pair.theirs(), "/s")
    );
    report.row(what, pair.ratio(), "x", target, &detail);
}
