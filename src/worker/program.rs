//! The process `workqueue-worker`: arguments, log, signals, service manager, exit code.

use std::{
    fs,
    io::{self, Write as _},
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use clap::Parser as _;
use futures_util::StreamExt as _;
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
};
use signal_hook_tokio::Signals;
use tokio_util::sync::CancellationToken;

use super::{Args, Config, Counts, HandlerConfig, WorkerError, handler};
use crate::{
    runtime::{self, SoftLimit},
    systemd::{catalog, logging, notify},
};

/// Exit codes of sysexits.h.
const EX_UNAVAILABLE: u8 = 69;
const EX_OSERR: u8 = 71;
const EX_CANTCREAT: u8 = 73;
const EX_TEMPFAIL: u8 = 75;
const EX_CONFIG: u8 = 78;

/// How long the last lines of the log may take.
const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// What comes after `shutdown_grace`: handlers that are stopped have 5 s until they are killed, and reports a few to be delivered.
const END: Duration = Duration::from_secs(15);

/// Runs the worker with the process's arguments. The exit code: 0 after a stop or when nothing is due (`--until-empty`), 69 the
/// daemon can't be used, 71 the system refuses something, 73 the log file can't be written, 75 so many tasks were given back that the
/// rest was not looked for (`--until-empty`), 78 the configuration is wrong.
#[must_use]
pub fn main() -> ExitCode {
    if let Some((code, error)) = handler::enter() {
        tell(&error);
        return ExitCode::from(code);
    }
    let args = Args::parse();
    let ended = start(&args);
    logging::finish(LOG_PATIENCE);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, text)) => {
            tell(&text);
            ExitCode::from(code)
        }
    }
}

fn start(args: &Args) -> Result<(), (u8, String)> {
    let config = Config::load(args).map_err(|error| (EX_CONFIG, error.to_string()))?;
    if args.check_config {
        tell("the configuration is good");
        return Ok(());
    }
    logging::init(&config.log_level, config.log_format).map_err(|error| {
        let code = if error.is_of_the_system() {
            EX_OSERR
        } else {
            EX_CONFIG
        };
        (code, error.to_string())
    })?;
    runtime::outlive_large_files()
        .and_then(|()| see_children_end())
        .map_err(|error| (EX_OSERR, format!("cannot take signals: {error}")))?;
    if let Err(error) = runtime::raise_limit_of_files() {
        tracing::debug!(%error, "can't raise the limit on open files");
    }
    let runtime =
        runtime::of_one().map_err(|error| (EX_OSERR, format!("cannot start: {error}")))?;
    let ended = runtime.block_on(work(config));
    // What still blocks ends with the process.
    runtime.shutdown_background();
    ended
}

async fn work(config: Config) -> Result<(), (u8, String)> {
    let stop = CancellationToken::new();
    let hurry = CancellationToken::new();
    let signals = Signals::new(heeded())
        .map_err(|error| (EX_OSERR, format!("cannot take signals: {error}")))?;
    let patience = config.shutdown_grace.as_duration() + END;
    let listener = tokio::spawn(listen(signals, stop.clone(), hurry.clone(), patience));
    tracing::info!(message_id = catalog::WORKER_STARTS.id, url = %config.url, concurrency = config.concurrency, "{}", catalog::WORKER_STARTS.line);
    mind_open_files(&config, runtime::limit_of_files());
    let mut is_ready = false;
    let ended = super::run_with(config, stop, hurry, |counts| {
        if !is_ready {
            // The first observation: the handler and the client can be used.
            notify::ready("waiting for tasks");
            is_ready = true;
        }
        notify::status(&status(counts));
    })
    .await;
    listener.abort();
    match ended {
        Ok(counts) => {
            tracing::info!(
                message_id = catalog::WORKER_ENDS.id,
                completed = counts.completed,
                failed = counts.failed,
                released = counts.released,
                "{}",
                catalog::WORKER_ENDS.line
            );
            Ok(())
        }
        Err(WorkerError::Handler(text)) => Err((EX_CANTCREAT, text)),
        Err(WorkerError::Client(error)) => Err((EX_UNAVAILABLE, error.to_string())),
        Err(error @ WorkerError::TooManyDeferred(_)) => Err((EX_TEMPFAIL, error.to_string())),
    }
}

/// Where a worker is started with the end of its children ignored, which it inherits, the kernel takes their status, and how a handler
/// has ended nobody knows. A signal that is caught handlers get as it was at first.
fn see_children_end() -> io::Result<()> {
    flag::register(SIGCHLD, Arc::new(AtomicBool::new(false))).map(drop)
}

/// What the worker itself opens at most: its log, its connections to the daemon, what it looks at for a moment.
const OWN_FILES: u64 = 64;

/// Says when all handlers together may not have as many open files as they need.
fn mind_open_files(config: &Config, limit: SoftLimit) {
    let wanted = files_wanted(config);
    if let Some(limit) = limit.filter(|limit| *limit < wanted) {
        tracing::warn!(
            limit,
            wanted,
            "so many handlers at once need more open files than the worker may have: lower concurrency, or raise the hard limit (LimitNOFILE= of the unit, ulimit -Hn)"
        );
    }
}

fn files_wanted(config: &Config) -> u64 {
    let each = match config.handler {
        HandlerConfig::Log(_) => 0,
        HandlerConfig::Http(_) => 1,
        // Three pipes, and what tells its end.
        HandlerConfig::Exec(_) => 4,
    };
    OWN_FILES + each * u64::from(config.concurrency)
}

/// The signals that stop: all that would end the worker and leave its handlers running with nobody to end them. A hang-up or a
/// quit that is ignored, as under nohup(1) or behind a script, stays ignored.
fn heeded() -> Vec<i32> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = ignored(&status);
    let is_heeded = |signal: &i32| ignored & (1 << (signal - 1)) == 0;
    let mut heeded = vec![SIGTERM, SIGINT];
    heeded.extend([SIGHUP, SIGQUIT].into_iter().filter(is_heeded));
    heeded
}

/// The set of ignored signals in the text of `/proc/PID/status` (proc(5)), signal 1 in the lowest bit.
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

/// The first signal stops, any further one hurries, but for a hang-up: a terminal that is closed sends two of them, its shell's
/// and the kernel's, and a service manager one right after SIGTERM (`SendSIGHUP=`). The service manager is to have `patience`
/// from the first one on, however short the unit's own timeout is, so that `shutdown_grace` is the one number to set.
async fn listen(
    mut signals: Signals,
    stop: CancellationToken,
    hurry: CancellationToken,
    patience: Duration,
) {
    while let Some(signal) = signals.next().await {
        if stop.is_cancelled() {
            if signal != SIGHUP {
                hurry.cancel();
            }
        } else {
            notify::stopping();
            notify::extend_timeout(patience);
            stop.cancel();
        }
    }
}

fn status(counts: &Counts) -> String {
    let Counts {
        running,
        unreported,
        completed,
        failed,
        released,
        lost,
    } = counts;
    format!(
        "{running} running, {completed} completed, {failed} failed, {released} released, {lost} lost, {unreported} to report"
    )
}

/// One line on stderr. Where stderr is closed there is nobody to tell.
fn tell(text: &str) {
    writeln!(io::stderr(), "workqueue-worker: {text}").unwrap_or_default();
}
