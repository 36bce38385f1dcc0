//! `kill -9` at any moment, under load, with clients that keep account of every reply: nothing acknowledged is lost, nothing
//! that was acknowledged as completed returns, nobody is handed what another holds.
//!
//! 200 crashes by default, as many as asked for with `WORKQUEUE_CRASHES`; `WORKQUEUE_SEED` tries a run again (the moments of
//! the crashes depend on the machine too).

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{
    Daemon,
    account::{Account, Chance, a_moment, all, seed},
    mount::say,
    request,
};
use serde_json::json;

const CLIENTS: usize = 8;

/// Where the crashes fell.
#[derive(Default)]
struct Tally {
    under_load: AtomicU32,
    in_a_checkpoint: AtomicU32,
    in_a_start: AtomicU32,
    in_a_stop: AtomicU32,
}

impl Tally {
    fn count(what: &AtomicU32) {
        what.fetch_add(1, Ordering::Relaxed);
    }
}

/// A daemon with small segments and checkpoints, so that many of them are met, and files as far behind as asked for.
fn small(spool_delay: &str) -> Daemon {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let settings = format!(
        "spool_delay = \"{spool_delay}\"\njournal_segment = \"64KiB\"\ncheckpoint_bytes = \"1MiB\"\npayload_cache = 20000\n"
    );
    let path = scratch.path().join("settings.toml");
    fs::write(&path, settings).expect("settings");
    let path = path.display().to_string();
    Daemon::start_in(scratch, &["--log-level", "warn", "--config", &path])
}

/// Asks for a checkpoint and does not wait for it. Dropped after the daemon is dead, it tells whether that came first.
struct Asked(UnixStream);

impl Asked {
    fn checkpoint(daemon: &Daemon) -> Self {
        let mut stream = UnixStream::connect(daemon.socket()).expect("the admin socket");
        let text = request("POST", "/checkpoint", "application/json", "");
        stream.write_all(text.as_bytes()).expect("send");
        Self(stream)
    }

    fn was_answered(mut self) -> bool {
        let mut text = String::new();
        let read = std::io::Read::read_to_string(&mut self.0, &mut text);
        read.is_ok() && text.starts_with("HTTP/1.1 2")
    }
}

/// One daemon's crashes, `rounds` of them.
fn crash_again_and_again(spool_delay: &str, rounds: u32, seed: u64, tally: &Tally) {
    let mut chance = Chance(seed);
    let mut daemon = small(spool_delay);
    let account = Account::default();
    let mut start_takes = Duration::from_millis(50);
    for round in 0..rounds {
        let when = format!("spool_delay {spool_delay}, round {round}");
        let kind = round % 4;
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (address, seed) = (daemon.address.clone(), chance.next());
                let account = &account;
                scope.spawn(move || account.client(&address, number, seed));
            }
            // The moment of the crash is an amount of work done, another each time.
            let goal = account.replies() + chance.below(250);
            account.wait_for(goal);
            match kind {
                1 => {
                    let asked = Asked::checkpoint(&daemon);
                    account.wait_for(goal + chance.below(25));
                    daemon.kill();
                    if !asked.was_answered() {
                        Tally::count(&tally.in_a_checkpoint);
                    }
                }
                2 => {
                    daemon.signal("-TERM");
                    a_moment(&mut chance, Duration::from_millis(40));
                    if daemon.kill_if_alive() {
                        Tally::count(&tally.in_a_stop);
                    }
                }
                _ => {
                    daemon.kill();
                    Tally::count(&tally.under_load);
                }
            }
        });
        if kind == 3 {
            for _ in 0..=chance.below(3) {
                daemon.restart_unready();
                a_moment(&mut chance, start_takes);
                daemon.kill();
                Tally::count(&tally.in_a_start);
            }
        }
        let begin = Instant::now();
        daemon.restart();
        start_takes = begin.elapsed();
        account.hold(&daemon, &when);
        if round % 8 == 7 && spool_delay != "60s" {
            account.hold_files(&daemon, &when);
        }
    }
    assert!(account.completions() > 0);
    assert!(daemon.stop().success());
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let rounds: u32 = std::env::var("WORKQUEUE_CRASHES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(200);
    let seed = seed("kill_9_loses_nothing_that_was_acknowledged");
    let tally = Tally::default();
    let delays = ["0ms", "5ms", "100ms", "60s"];
    thread::scope(|scope| {
        for (number, delay) in delays.into_iter().enumerate() {
            let tally = &tally;
            let rounds = rounds.div_ceil(delays.len() as u32);
            scope.spawn(move || crash_again_and_again(delay, rounds, seed ^ number as u64, tally));
        }
    });
    let fell = [
        ("under load", &tally.under_load),
        ("in a checkpoint", &tally.in_a_checkpoint),
        ("in a start", &tally.in_a_start),
        ("in a stop", &tally.in_a_stop),
    ]
    .map(|(what, count)| (what, count.load(Ordering::Relaxed)));
    say(&format!("crashes: {fell:?}"));
    if rounds >= 100 {
        for (what, count) in fell {
            assert!(count >= rounds / 20, "too few crashes {what}: {fell:?}");
        }
    }
}

#[test]
fn killed_while_it_loads_a_large_spool_it_starts_with_all_of_it() {
    let mut chance = Chance(seed("killed_while_it_loads_a_large_spool"));
    let mut daemon = Daemon::start(&["--log-level", "warn"]);
    // Half of them with their files written and a checkpoint, half only in the journal.
    let lines = |from: u32| -> String {
        let task = |number| json!({"payload": number, "max_attempts": 3}).to_string();
        let lines: Vec<String> = (from..from + 5000).map(task).collect();
        lines.join("\n")
    };
    for from in [0, 5000] {
        let (status, _, body) = daemon.raw(&request(
            "POST",
            "/api/v1/tasks",
            "application/x-ndjson",
            &lines(from),
        ));
        assert!(matches!(status, 200 | 201), "{status}: {body}");
        if from == 0 {
            // The checkpoint answers when all files are written: nobody waits so long for one answer.
            daemon.until_files_are_written();
            daemon.checkpoint();
        }
    }
    let before = all(&daemon);
    assert_eq!(before.len(), 10_000);
    daemon.kill();
    let begin = Instant::now();
    daemon.restart();
    let start_takes = begin.elapsed();
    daemon.kill();
    for _ in 0..12 {
        daemon.restart_unready();
        a_moment(&mut chance, start_takes);
        daemon.kill();
    }
    daemon.restart();
    let after = all(&daemon);
    assert_eq!(after.len(), before.len());
    for (id, task) in before {
        assert_eq!(after[&id], task);
    }
}

#[test]
fn a_stop_under_load_loses_nothing_and_ends_with_0() {
    let mut daemon = Daemon::start(&["--log-level", "warn"]);
    let account = Account::default();
    thread::scope(|scope| {
        for number in 0..16 {
            let address = daemon.address.clone();
            let account = &account;
            scope.spawn(move || account.client(&address, number, 1));
        }
        account.wait_for(1000);
        assert!(daemon.stop().success());
    });
    let log = daemon.logged();
    assert!(!log.contains("left behind"), "a request held it up: {log}");
    daemon.restart();
    account.hold(&daemon, "after the stop");
    account.hold_files(&daemon, "after the stop");
}
