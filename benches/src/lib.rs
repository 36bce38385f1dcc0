//! How fast workqueue is, beside its own limits and its peers. `./benches/run` builds and starts this.
//!
//! Each bench starts what it measures, checks every reply, and tells ratios of things measured in turn in one run, because
//! machines differ and this one is never quiet.

pub mod account;
pub mod beanstalkd;
pub mod behind;
pub mod ceiling;
pub mod depth;
pub mod drops;
pub mod http;
pub mod latency;
pub mod machine;
pub mod many;
pub mod measure;
pub mod null;
pub mod peers;
pub mod phase;
pub mod postgres;
pub mod redis;
pub mod report;
pub mod server;
pub mod slow;
pub mod wire;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::OnceLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use report::Report;

/// How a run was asked for.
#[derive(Debug, Clone)]
pub struct Context {
    quick: bool,
    deep: bool,
    minutes: f64,
}

impl Context {
    /// Whether numbers are only to be seen, not kept.
    #[must_use]
    pub const fn quick(&self) -> bool {
        self.quick
    }

    /// Whether ten million tasks are wanted, too.
    #[must_use]
    pub const fn deep(&self) -> bool {
        self.deep
    }

    /// How long the long run is to be; 0: as short as the others.
    #[must_use]
    pub const fn minutes(&self) -> f64 {
        self.minutes
    }

    /// How many turns.
    #[must_use]
    pub const fn turns(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// How many of anything.
    #[must_use]
    pub const fn count(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }

    /// How many seconds.
    #[must_use]
    pub fn time(&self, full: f64, quick: f64) -> Duration {
        Duration::from_secs_f64(if self.quick { quick } else { full })
    }
}

/// Says on standard error what goes on, with `BENCH_TRACE` in the environment.
pub fn trace(text: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    if std::env::var_os("BENCH_TRACE").is_some() {
        let start = START.get_or_init(Instant::now);
        eprintln!("    {:8.3} {text}", start.elapsed().as_secs_f64());
    }
}

type Bench = fn(&Context, &mut Report) -> anyhow::Result<()>;

const BENCHES: [(&str, Bench); 7] = [
    ("ceiling", ceiling::run),
    ("peers", peers::run),
    ("depth", depth::run),
    ("drops", drops::run),
    ("latency", latency::run),
    ("behind", behind::run),
    ("many", many::run),
];

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("benches: {error:#}");
            ExitCode::from(70)
        }
    }
}

fn start() -> anyhow::Result<ExitCode> {
    let mut context = Context {
        quick: false,
        deep: false,
        minutes: 0.0,
    };
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "null-server" => {
                null::serve()?;
                return Ok(ExitCode::SUCCESS);
            }
            "--quick" => context.quick = true,
            "--deep" => context.deep = true,
            "--minutes" => {
                let value = arguments.next().context("--minutes needs a number")?;
                context.minutes = value.parse().context("--minutes")?;
            }
            name if BENCHES.iter().any(|(known, _)| *known == name) => {
                names.push(name.to_owned());
            }
            other => {
                let known: Vec<&str> = BENCHES.iter().map(|(name, _)| *name).collect();
                bail!(
                    "{other}: not one of {}, --quick, --deep, --minutes N",
                    known.join(", ")
                );
            }
        }
    }
    measure_all(&context, &names)
}

fn measure_all(context: &Context, names: &[String]) -> anyhow::Result<ExitCode> {
    let results = std::env::var_os("BENCH_RESULTS").map(PathBuf::from);
    let how = std::env::var("BENCH_HOW").unwrap_or_default();
    let mut misses = 0;
    let mut failures = 0;
    for (name, bench) in BENCHES {
        if !names.is_empty() && !names.iter().any(|one| one == name) {
            continue;
        }
        println!("\n== {name}");
        let start = Instant::now();
        let mut report = Report::default();
        if let Err(error) = bench(context, &mut report) {
            // The others are measured all the same; the run as a whole has failed.
            eprintln!("  {name}: {error:#}");
            failures += 1;
            continue;
        }
        misses += report.misses();
        println!("  ({:.0} s)", start.elapsed().as_secs_f64());
        if let Some(file) = &results {
            report.keep(file, name, &how)?;
        }
    }
    println!("\n{misses} targets missed, {failures} benches failed");
    Ok(ExitCode::from(u8::from(failures > 0)))
}
