//! What a deep queue costs: the latency of a claim, memory, and the time of a start.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::ensure;

use crate::{
    Context,
    account::Account,
    ceiling::load,
    http::{self, Cycle},
    report::{Report, Target, micros, show},
    server::Daemon,
    trace,
};

/// Payloads are not to stay in memory, so that what a task costs by itself is seen.
const CONFIG: &str = "payload_cache = \"1MiB\"";

/// Latencies of claims, middle and high.
#[derive(Debug, Default)]
struct Claims {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Claims {
    fn p50(&self) -> f64 {
        crate::measure::median(&self.p50)
    }

    fn p99(&self) -> f64 {
        crate::measure::median(&self.p99)
    }

    /// Submits and claims in turn, so that the depth stays; only claims are timed.
    fn measure(&mut self, daemon: &Daemon, connections: usize, count: u64) -> anyhow::Result<()> {
        let account = Account::of(count);
        let run = load(daemon.address, connections, None, |number| {
            Cycle::of(&account, "default", number).timing_claims()
        })?;
        account.check_claimed(count)?;
        self.p50.push(micros(run.quantile(0.5)));
        self.p99.push(micros(run.quantile(0.99)));
        Ok(())
    }
}

/// Fills a queue in pieces, the files of each written before the next comes.
fn deepen(daemon: &Daemon, queue: &str, mut more: u64) -> anyhow::Result<()> {
    while more > 0 {
        let piece = more.min(50_000);
        http::fill(daemon.address, queue, piece)?;
        more -= piece;
    }
    daemon.settle()
}

/// The bench.
pub fn run(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let depths = if context.quick() {
        [1_000, 10_000, 40_000]
    } else {
        [1_000, 100_000, 1_000_000]
    };
    let daemons = depths
        .iter()
        .map(|depth| Daemon::start(&format!("depth-{depth}"), CONFIG))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut resident = 0.0;
    for (daemon, depth) in daemons.iter().zip(depths) {
        let before = depths[1].min(depth);
        deepen(daemon, "default", before)?;
        resident = daemon.process.resident()? as f64;
        deepen(daemon, "default", depth - before)?;
        trace(&format!("{depth} tasks lie there"));
    }
    claims(context, report, &daemons, depths)?;
    let [_, middle, deepest] = depths;
    let Some(deep) = daemons.into_iter().next_back() else {
        return Ok(());
    };
    let more = deep.process.resident()? as f64 - resident;
    let each = more / (deepest - middle) as f64;
    let detail = format!(
        "{} at {}, {} more at {}",
        show(resident, "MiB"),
        show(middle as f64, ""),
        show(more, "MiB"),
        show(deepest as f64, "")
    );
    report.row(
        "memory of a pending task",
        each,
        "B",
        Target::AtMost(160.0),
        &detail,
    );
    start(context, report, deep, deepest)?;
    if context.deep() {
        ten_queues(context, report)?;
    }
    Ok(())
}

fn claims(
    context: &Context,
    report: &mut Report,
    daemons: &[Daemon],
    depths: [u64; 3],
) -> anyhow::Result<()> {
    for connections in [1, 8] {
        let mut found = [const {
            Claims {
                p50: Vec::new(),
                p99: Vec::new(),
            }
        }; 3];
        let turns = context.turns(9, 3);
        for _ in 0..turns {
            for (daemon, claims) in daemons.iter().zip(&mut found) {
                claims.measure(daemon, connections, context.count(400, 100))?;
            }
        }
        let first = found[0].p50();
        for (claims, depth) in found.iter().zip(depths) {
            let target = if depth == depths[2] {
                Target::AtMost(1.2)
            } else {
                Target::None
            };
            let what = format!(
                "claim at {}, {connections} connections, p50",
                show(depth as f64, "")
            );
            let detail = format!(
                "p50 {}, p99 {}",
                show(claims.p50(), "us"),
                show(claims.p99(), "us")
            );
            report.row(&what, claims.p50() / first, "x", target, &detail);
        }
    }
    Ok(())
}

/// How long a start takes, beside reading the names, both with a warm cache: of a daemon that had a quiet moment before it was
/// stopped, and of one that was stopped out of its work.
fn start(context: &Context, report: &mut Report, daemon: Daemon, depth: u64) -> anyhow::Result<()> {
    daemon.rest()?;
    let daemon = starts(report, daemon, depth, "start", Target::AtMost(3.0))?;
    let more = context.count(200_000, 2_000);
    http::fill(daemon.address, "default", more)?;
    daemon.settle()?;
    starts(
        report,
        daemon,
        depth + more,
        "start, stopped out of work",
        Target::None,
    )?;
    Ok(())
}

/// Stops the daemon and starts it again, some times.
fn starts(
    report: &mut Report,
    mut daemon: Daemon,
    depth: u64,
    what: &str,
    target: Target,
) -> anyhow::Result<Daemon> {
    let tasks = daemon.data().join("tasks");
    let mut pair = crate::measure::Pair::new();
    for _ in 0..3 {
        let scratch = daemon.stop()?;
        let names = names(&tasks, depth)?;
        daemon = Daemon::on(scratch, CONFIG)?;
        let ready = daemon.metric("workqueue_tasks")?;
        ensure!(
            ready >= depth as f64,
            "{ready} tasks after a start, not {depth}"
        );
        pair.add(daemon.started_in.as_secs_f64(), names.as_secs_f64());
    }
    let detail = format!("{:.2} s, and {:.2} s", pair.ours(), pair.theirs());
    let what = format!("{what} at {}, to reading the names", show(depth as f64, ""));
    report.row(&what, pair.ratio(), "x", target, &detail);
    Ok(daemon)
}

/// Reads all names of a directory.
fn names(directory: &Path, least: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        entry?;
        count += 1;
    }
    ensure!(count >= least, "{count} names, not {least}");
    Ok(start.elapsed())
}

/// Ten queues of a million tasks each.
fn ten_queues(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let each = context.count(1_000_000, 1_000);
    let shallow = Daemon::start("depth-shallow", CONFIG)?;
    let deep = Daemon::start("depth-ten", CONFIG)?;
    deepen(&shallow, "default", 1_000)?;
    let filling = Instant::now();
    for number in 0..10 {
        let queue = if number == 0 {
            "default".to_owned()
        } else {
            format!("queue-{number}")
        };
        deepen(&deep, &queue, each)?;
    }
    let filling = filling.elapsed().as_secs_f64();
    let (mut near, mut far) = (Claims::default(), Claims::default());
    for _ in 0..context.turns(9, 3) {
        near.measure(&shallow, 1, 400)?;
        far.measure(&deep, 1, 400)?;
    }
    let what = format!(
        "claim at {} over ten queues, p50",
        show(each as f64 * 10.0, "")
    );
    let detail = format!(
        "p50 {}, p99 {}, {} resident; filled in {filling:.0} s",
        show(far.p50(), "us"),
        show(far.p99(), "us"),
        show(deep.process.resident()? as f64, "MiB")
    );
    report.row(
        &what,
        far.p50() / near.p50(),
        "x",
        Target::AtMost(1.2),
        &detail,
    );
    let scratch = deep.stop()?;
    let deep = Daemon::on(scratch, CONFIG)?;
    let what = format!("start at {} over ten queues", show(each as f64 * 10.0, ""));
    report.row(&what, deep.started_in.as_secs_f64(), "s", Target::None, "");
    Ok(())
}
