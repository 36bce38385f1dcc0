//! How long one request takes beside one sync of the disk, and how steady it stays under half of the most load.

use std::{
    fs::File,
    io::Write as _,
    os::unix::fs::FileExt as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use hdrhistogram::Histogram;

use crate::{
    Context,
    account::Account,
    ceiling::{CONNECTIONS, load},
    http::{Cycle, Submit},
    machine::{Pauses, Watch},
    measure::Pair,
    report::{Report, Target, micros, show},
    server::{Daemon, Scratch},
    wire::{self, Lane, Pace, Run},
};

/// Bytes of a bare write: about a journal record.
const RECORD: usize = 256;

/// A file whose blocks are all there and written, so that a sync is of the data alone.
struct Bare {
    file: File,
    at: u64,
    size: u64,
    _scratch: Scratch,
}

impl Bare {
    fn new() -> anyhow::Result<Self> {
        let scratch = Scratch::new("bare")?;
        let size = 16 << 20;
        let mut file = File::create(scratch.path().join("file"))?;
        file.write_all(&vec![0; size as usize])?;
        file.sync_all()?;
        Ok(Self {
            file,
            at: 0,
            size,
            _scratch: scratch,
        })
    }

    /// Write and fdatasync, one after the other.
    fn measure(&mut self, count: u64, all: &mut Histogram<u64>) -> anyhow::Result<()> {
        for _ in 0..count {
            let start = Instant::now();
            self.file.write_all_at(&[7; RECORD], self.at)?;
            self.file.sync_data()?;
            all.record(start.elapsed().as_nanos() as u64)?;
            self.at = (self.at + RECORD as u64) % (self.size - RECORD as u64);
        }
        Ok(())
    }
}

/// The bench.
pub fn run(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let pauses = Pauses::measure(context.time(10.0, 1.0))?;
    let detail = format!(
        "{:.2} % of the time in pauses of 1 ms and more",
        pauses.share * 100.0
    );
    let worst = micros(pauses.worst);
    report.row(
        "the machine by itself, longest pause",
        worst,
        "us",
        Target::None,
        &detail,
    );
    let daemon = Daemon::start("latency", "")?;
    one_connection(context, report, &daemon)?;
    half_load(context, report, &daemon)
}

fn one_connection(context: &Context, report: &mut Report, daemon: &Daemon) -> anyhow::Result<()> {
    let mut bare = Bare::new()?;
    let mut all = [wire::histogram()?, wire::histogram()?, wire::histogram()?];
    let (mut submits, mut claims) = (Pair::new(), Pair::new());
    let count = context.count(300, 60);
    for _ in 0..context.turns(11, 5) {
        let mut turn = wire::histogram()?;
        bare.measure(count, &mut turn)?;
        let account = Account::of(count);
        let submit = load(daemon.address, 1, None, |_| Submit::to(&account, "default"))?;
        account.check_submitted(count)?;
        // What was submitted is claimed by the same run, so that the queue is as long as before.
        let account = Account::of(count);
        let claim = load(daemon.address, 1, None, |number| {
            Cycle::of(&account, "default", number).timing_claims()
        })?;
        account.check_claimed(count)?;
        let middle = turn.value_at_quantile(0.5) as f64;
        submits.add(submit.quantile(0.5).as_nanos() as f64, middle);
        claims.add(claim.quantile(0.5).as_nanos() as f64, middle);
        for (all, one) in all.iter_mut().zip([&turn, &submit.latency, &claim.latency]) {
            all.add(one)?;
        }
    }
    let [bare, submit, claim] = &all;
    report.row(
        "bare write + fdatasync, p50",
        bare.value_at_quantile(0.5) as f64 / 1e3,
        "us",
        Target::None,
        &tail(bare),
    );
    for (what, pair, all) in [("submit", submits, submit), ("claim", claims, claim)] {
        let what = format!("{what}, one connection, p50 to that of bare");
        report.row(&what, pair.ratio(), "x", Target::AtMost(2.0), &tail(all));
    }
    Ok(())
}

fn tail(all: &Histogram<u64>) -> String {
    let at = |quantile| show(all.value_at_quantile(quantile) as f64 / 1e3, "us");
    format!("p50 {}, p99 {}, p99.9 {}", at(0.5), at(0.99), at(0.999))
}

/// Submits and claims at this rate, whatever the replies do.
fn paced(daemon: &Daemon, rate: f64, time: Duration) -> anyhow::Result<Run> {
    let account = Account::of(u64::MAX);
    let mut lanes = (0..CONNECTIONS)
        .map(|number| Lane::open(daemon.address, Cycle::of(&account, "default", number)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    wire::drive(&mut lanes, Pace::Open(rate), Some(time))
}

fn half_load(context: &Context, report: &mut Report, daemon: &Daemon) -> anyhow::Result<()> {
    let account = Account::of(u64::MAX);
    let time = context.time(3.0, 1.0);
    let most = load(daemon.address, CONNECTIONS, Some(time), |number| {
        Cycle::of(&account, "default", number)
    })?;
    let rate = most.requests as f64 / most.took.as_secs_f64() / 2.0;
    let mut ratios = Vec::new();
    let mut all = wire::histogram()?;
    for _ in 0..context.turns(3, 2) {
        let run = paced(daemon, rate, context.time(10.0, 3.0))?;
        ratios.push(micros(run.quantile(0.999)) / micros(run.quantile(0.5)));
        all.add(&run.latency)?;
    }
    let detail = format!("{} requests/s; {}", show(rate, ""), tail(&all));
    let ratio = crate::measure::median(&ratios);
    report.row(
        "at half load, 64 connections, p99.9 to p50",
        ratio,
        "x",
        Target::AtMost(10.0),
        &detail,
    );
    let time = if context.minutes() > 0.0 {
        Duration::from_secs_f64(context.minutes() * 60.0)
    } else {
        context.time(30.0, 4.0)
    };
    worst_second(report, daemon, rate, time)
}

/// A long run, second by second.
fn worst_second(
    report: &mut Report,
    daemon: &Daemon,
    rate: f64,
    time: Duration,
) -> anyhow::Result<()> {
    let before = daemon.metric("workqueue_journal_bytes")?;
    let watch = Watch::start(daemon.process.pid())?;
    let run = paced(daemon, rate, time)?;
    let processors = watch.stop()?;
    // The first and the last second are not whole.
    let whole = run.seconds.len().saturating_sub(1);
    let seconds = run.seconds.get(1..whole).unwrap_or_default();
    let worst = (1..whole).min_by_key(|second| run.seconds[*second].count);
    let fewest = worst.map_or(0, |second| run.seconds[second].count);
    let had = worst
        .and_then(|second| processors.get(second))
        .context("no look at the processors in the worst second")?;
    let longest = seconds.iter().map(|second| second.worst_ns).max();
    let detail = format!(
        "in it {:.0} % idle, {:.0} % other programs', {:.0} % taken by the host, speed {:.2}x; longest reply {}; p99.9 {}; {} tasks; journal {} to {}",
        had.idle * 100.0,
        had.others * 100.0,
        had.stolen * 100.0,
        had.speed,
        show(longest.unwrap_or(0) as f64 / 1e3, "us"),
        show(micros(run.quantile(0.999)), "us"),
        show(run.count as f64, ""),
        show(before, "MiB"),
        show(daemon.metric("workqueue_journal_bytes")?, "MiB"),
    );
    let what = format!(
        "worst of {} s at half load: tasks done to tasks due",
        time.as_secs()
    );
    let share = fewest as f64 / (rate / 2.0);
    report.row(&what, share, "x", Target::AtLeast(0.9), &detail);
    Ok(())
}
