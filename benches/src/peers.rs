//! The daemon beside its peers: the same 64 connections, the same payload, each in its own clients' natural way.

use std::{
    fs::{self, File},
    io::Write as _,
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, ensure};

use crate::{
    Context,
    account::{Account, write_payload},
    beanstalkd::{self, Beanstalkd},
    ceiling::{CONNECTIONS, load},
    http::{self, Claim, Cycle, Submit},
    measure::Pair,
    phase::{Codec, Kind, Phase},
    postgres::{self, Postgres},
    redis::{self, Queue, Redis},
    report::{Report, Target, show},
    server::{Daemon, Process, Scratch},
    trace,
    wire::{self, Lane, Pace, Run},
};

/// Tasks a second in each phase.
type Rates = [f64; 3];

/// A server that is up, and how it is measured.
struct Peer {
    name: &'static str,
    /// What share of the tasks it gets: a slow one would take all the time.
    share: f64,
    /// What the daemon's rate has to be, phase by phase, as a multiple of this one's.
    targets: [Target; 3],
    measure: Box<dyn Fn(u64) -> anyhow::Result<Rates>>,
    _process: Process,
    _scratch: Option<Scratch>,
}

/// Three phases over connections that `connect` makes.
fn phases<C: Codec>(
    count: u64,
    connect: impl Fn(usize) -> anyhow::Result<(TcpStream, C)>,
) -> anyhow::Result<Rates> {
    let mut rates = [0.0; 3];
    let mut account = Account::of(count);
    for (kind, rate) in Kind::ALL.into_iter().zip(&mut rates) {
        if kind == Kind::Cycle {
            account.check_drained()?;
            account = Account::of(count);
        }
        let mut lanes = (0..CONNECTIONS)
            .map(|number| {
                let (stream, codec) = connect(number)?;
                Lane::over(stream, Phase::new(codec, account.clone(), kind))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let run = wire::drive(&mut lanes, Pace::Closed, None)?;
        *rate = whole(&run, count, kind)?;
    }
    account.check_drained()?;
    Ok(rates)
}

fn whole(run: &Run, count: u64, kind: Kind) -> anyhow::Result<f64> {
    ensure!(
        run.count == count,
        "{} of {count} tasks went through {}",
        run.count,
        kind.name()
    );
    trace(&format!("  {}: {}", kind.name(), show(run.rate(), "/s")));
    Ok(run.rate())
}

/// The daemon's three phases.
fn ours(daemon: &Daemon, count: u64) -> anyhow::Result<Rates> {
    let address = daemon.address;
    let account = Account::of(count);
    let submit = load(address, CONNECTIONS, None, |_| {
        Submit::to(&account, "default")
    })?;
    let drain = load(address, CONNECTIONS, None, |number| {
        Claim::from(&account, "default", 1, number)
    })?;
    account.check_drained()?;
    let account = Account::of(count);
    let cycle = load(address, CONNECTIONS, None, |number| {
        Cycle::of(&account, "default", number)
    })?;
    account.check_drained()?;
    daemon.settle()?;
    Ok([
        whole(&submit, count, Kind::Submit)?,
        whole(&drain, count, Kind::Drain)?,
        whole(&cycle, count, Kind::Cycle)?,
    ])
}

fn start_beanstalkd(sync: Option<u32>) -> anyhow::Result<Peer> {
    let scratch = sync
        .map(|sync| Scratch::new(&format!("beanstalkd-{sync}")))
        .transpose()?;
    let log = scratch.as_ref().map(Scratch::path).zip(sync);
    let (process, address) = beanstalkd::start(log)?;
    let none = [Target::None; 3];
    let (name, share, targets) = match sync {
        None => (
            "beanstalkd in memory",
            1.0,
            [Target::None, Target::Above(1.0), Target::Above(1.0)],
        ),
        Some(0) => ("beanstalkd -f0", 0.1, [Target::AtLeast(8.0); 3]),
        Some(_) => ("beanstalkd -f50", 1.0, none),
    };
    let measure = move |count| {
        phases(count, |_| {
            Ok((TcpStream::connect(address)?, Beanstalkd::default()))
        })
    };
    Ok(Peer {
        name,
        share,
        targets,
        measure: Box::new(measure),
        _process: process,
        _scratch: scratch,
    })
}

fn start_redis(name: &'static str, queue: Queue) -> anyhow::Result<Peer> {
    let scratch = Scratch::new(&format!("redis-{queue:?}"))?;
    let (process, address) = redis::start(scratch.path())?;
    let script = redis::load(address)?;
    let measure = move |count| {
        phases(count, |number| {
            let codec = Redis::new(queue, &script, number);
            Ok((TcpStream::connect(address)?, codec))
        })
    };
    Ok(Peer {
        name,
        share: 1.0,
        targets: [Target::Above(1.0); 3],
        measure: Box::new(measure),
        _process: process,
        _scratch: Some(scratch),
    })
}

fn start_postgres() -> anyhow::Result<Peer> {
    let scratch = Scratch::new("postgresql")?;
    let (process, address) = postgres::start(scratch.path())?;
    let measure = move |count| {
        phases(count, |_| {
            Ok((postgres::prepared(address)?, Postgres::default()))
        })
    };
    Ok(Peer {
        name: "PostgreSQL SKIP LOCKED",
        share: 0.2,
        targets: [Target::AtLeast(4.0); 3],
        measure: Box::new(measure),
        _process: process,
        _scratch: Some(scratch),
    })
}

/// The bench.
pub fn run(context: &Context, report: &mut Report) -> anyhow::Result<()> {
    let turns = context.turns(4, 2);
    let count = context.count(60_000, 6_000);
    let daemon = Daemon::start("peers", "")?;
    let peers = [
        start_beanstalkd(None)?,
        start_beanstalkd(Some(50))?,
        start_beanstalkd(Some(0))?,
        start_redis("Redis list, appendfsync always", Queue::List)?,
        start_redis("Redis sorted set, appendfsync always", Queue::SortedSet)?,
        start_postgres()?,
    ];
    let mut pairs = vec![[const { Pair::new() }; 3]; peers.len()];
    for _ in 0..turns {
        let mut rates = [0.0; 3];
        for (index, (peer, pairs)) in peers.iter().zip(&mut pairs).enumerate() {
            if index % 2 == 0 {
                trace("workqueued");
                rates = ours(&daemon, count)?;
            }
            trace(peer.name);
            let share = (count as f64 * peer.share) as u64;
            let theirs = (peer.measure)(share).context(peer.name)?;
            for (pair, (ours, theirs)) in pairs.iter_mut().zip(rates.into_iter().zip(theirs)) {
                pair.add(ours, theirs);
            }
        }
    }
    for (peer, pairs) in peers.iter().zip(&pairs) {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            let what = format!("{}, to {}", kind.name(), peer.name);
            tell(report, &what, &pairs[index], peer.targets[index]);
        }
    }
    one_at_a_time(context, report, daemon.address)
}

fn tell(report: &mut Report, what: &str, pair: &Pair, target: Target) {
    let (low, high) = pair.spread();
    let detail = format!(
        "{} to {}; {low:.2} to {high:.2}",
        show(pair.ours(), "/s"),
        show(pair.theirs(), "/s")
    );
    report.row(what, pair.ratio(), "x", target, &detail);
}

/// The original's endpoints, one task at a time on one connection, beside a loop that keeps one file per task.
fn one_at_a_time(
    context: &Context,
    report: &mut Report,
    address: SocketAddr,
) -> anyhow::Result<()> {
    let turns = context.turns(5, 2);
    let count = context.count(400, 60);
    let mut pair = Pair::new();
    for _ in 0..turns {
        let account = Account::of(count);
        let codec = http::Original::default();
        let phase = Phase::new(codec, account.clone(), Kind::Cycle);
        let mut lanes = [Lane::open(address, phase)?];
        let run = wire::drive(&mut lanes, Pace::Closed, None)?;
        account.check_drained()?;
        let scratch = Scratch::new("files")?;
        pair.add(run.rate(), files(scratch.path(), count)?);
    }
    tell(
        report,
        "one at a time, original's API, to a file per task with fsync",
        &pair,
        Target::None,
    );
    Ok(())
}

/// Write, fsync, rename, fsync the directory; then read it, and unlink: what a careful program without a journal does.
fn files(directory: &Path, count: u64) -> anyhow::Result<f64> {
    let start = Instant::now();
    let parent = File::open(directory)?;
    let mut payload = Vec::new();
    for number in 0..count {
        payload.clear();
        write_payload(number, &mut payload);
        let temporary = directory.join("new.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&payload)?;
        file.sync_all()?;
        let path = directory.join(format!("{number:020}.json"));
        fs::rename(&temporary, &path)?;
        parent.sync_all()?;
        ensure!(fs::read(&path)? == payload, "the file has changed");
        fs::remove_file(&path)?;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
