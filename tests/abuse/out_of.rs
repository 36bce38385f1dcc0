//! A machine that runs out of something: what is refused, that the rest goes on, and that nothing acknowledged is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    common::{
        Daemon,
        account::Line,
        account::all,
        mount::{Frozen, Mount, ext4, has, may_mount, say, skip},
        request, until,
    },
    limits::{complete_all, refusals, with},
};

/// Memory of its own that a process has, in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    memory_as(pid, "RssAnon:")
}

/// What the kernel says of a process's memory under this name, in bytes.
pub(crate) fn memory_as(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon's status");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.expect("a number").parse::<u64>().expect("kB") << 10
}

#[test]
fn memory_stays_near_its_limit_and_what_was_taken_can_end() {
    const LIMIT: u64 = 96 << 20;
    // The disk never slows this down: all payloads stay in memory.
    let daemon = with(&format!(
        "max_memory = {LIMIT}\npayload_cache = \"4GiB\"\ndurability = \"none\"\n"
    ));
    let payload = "x".repeat(500_000);
    let body = json!({"payload": payload}).to_string();
    let mut taken = BTreeSet::new();
    let (mut refused, mut most) = (0, 0);
    for _ in 0..600 {
        let (status, answer) = daemon.post("/api/v1/tasks", &body);
        match status {
            201 => {
                taken.insert(answer["id"].as_str().expect("an id").to_owned());
            }
            507 => {
                assert_eq!(answer["type"], json!("/problems/no-memory"));
                assert!(
                    answer["detail"]
                        .as_str()
                        .expect("why")
                        .contains("max_memory")
                );
                refused += 1;
            }
            other => panic!("{other}: {answer}"),
        }
        most = most.max(memory(daemon.pid()));
    }
    assert!(refused > 0 && !taken.is_empty(), "{refused} of 600 refused");
    assert_eq!(refusals(&daemon, "max_memory"), refused);
    assert!(most < LIMIT + (64 << 20), "{most} bytes of memory");
    assert_eq!(all(&daemon).len(), taken.len());
    assert_eq!(complete_all(&daemon, "default"), taken);
    assert_eq!(daemon.text("/healthz").0, 200);
}

/// A daemon with these settings whose data directory is to be mounted by `mount`.
fn mounted(
    settings: &str,
    mount: impl FnOnce(&tempfile::TempDir) -> Option<Mount>,
) -> Option<(Mount, Daemon)> {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let file = scratch.path().join("settings.toml");
    fs::write(&file, settings).expect("settings");
    let file = file.display().to_string();
    let mount = mount(&scratch)?;
    let daemon = Daemon::start_in(scratch, &["--log-level", "warn", "--config", &file]);
    Some((mount, daemon))
}

#[test]
fn without_inodes_submits_are_refused_and_what_was_taken_can_end() {
    if !may_mount() {
        return skip("mounting needs root").unwrap_or_default();
    }
    let settings = "spool_delay = \"0s\"\njournal_segment = \"64KiB\"\n";
    let made = mounted(settings, |scratch| {
        Mount::tmpfs(&scratch.path().join("data"), "64m,nr_inodes=200")
    });
    let Some((_mount, daemon)) = made else { return };
    let mut line = Line::open(&daemon.address).expect("a connection");
    let mut taken = BTreeSet::new();
    let refused = (0..20_000).find_map(|_| {
        let (status, answer) = line
            .ask("POST", "/api/v1/tasks", r#"{"payload": 1}"#)
            .expect("an answer");
        if status != 201 {
            return Some((status, answer));
        }
        taken.insert(answer["id"].as_str().expect("an id").to_owned());
        None
    });
    let (status, answer) = refused.expect("a refusal");
    assert_eq!(
        (status, &answer["type"]),
        (507, &json!("/problems/no-room"))
    );
    assert_eq!(refusals(&daemon, "room"), 1);
    assert!(taken.len() > 100, "{} were taken", taken.len());
    assert_eq!(complete_all(&daemon, "default"), taken);
    until("submits to be taken again", || {
        let (status, _) = daemon.post("/api/v1/tasks", r#"{"payload": 2}"#);
        (status == 201).then_some(())
    });
    assert_eq!(all(&daemon).len(), 1);
}

/// How long the disk takes no write: as long as a sync of a disk that fails may take.
const STUCK: Duration = Duration::from_secs(30);
/// How much more memory of its own a daemon may have meanwhile: what may wait, a body of each client and the task that was read
/// from it, and half as much again for the rest.
const GROWTH: u64 = 64 << 20;

/// Submits until it is taken, as a client does that minds `Retry-After`; gives the task, and counts refusals.
fn submit_patiently(daemon: &Daemon, number: usize, refused: &AtomicU64) -> Value {
    let payload = format!("{number:03}{}", "x".repeat(200_000));
    let body = json!({"payload": payload}).to_string();
    let asked = request("POST", "/api/v1/tasks", "application/json", &body);
    loop {
        let (status, head, body) = daemon.raw(&asked);
        if status == 201 {
            return serde_json::from_str(&body).expect("a task");
        }
        assert_eq!(status, 503, "{body}");
        let problem: Value = serde_json::from_str(&body).expect("a problem");
        assert_eq!(problem["type"], "/problems/busy", "{body}");
        assert!(body.contains("(max_submitting)"), "{body}");
        refused.fetch_add(1, Ordering::Relaxed);
        let head = head.to_ascii_lowercase();
        let after = head
            .lines()
            .find_map(|line| line.strip_prefix("retry-after: ")?.parse().ok());
        thread::sleep(Duration::from_secs(after.expect("when to come again")));
    }
}

#[test]
fn while_the_disk_is_stuck_health_says_so_and_what_waits_is_bounded() {
    const CLIENTS: usize = 100;
    // So many may wait for the disk.
    const WAITING: usize = 1_048_576 / 200_512;
    if !may_mount() || !has("fsfreeze") {
        return skip("mounting needs root").unwrap_or_default();
    }
    let settings = "max_submitting = \"1MiB\"\nmax_body = \"1MiB\"\nmax_payload = \"512KiB\"\n";
    let made = mounted(settings, |scratch| {
        let image = scratch.path().join("image");
        ext4(&image, 256, &[])?;
        Mount::image(&scratch.path().join("data"), &image)
    });
    let Some((_mount, mut daemon)) = made else {
        return;
    };
    let first = daemon.submit(r#"{"payload": 0}"#);
    daemon.until_files_are_written();
    let before = memory(daemon.pid());
    let refused = AtomicU64::new(0);
    let (tell, told) = mpsc::channel();
    let (begun, frozen) = (Instant::now(), Frozen::new(daemon.data()));
    let mut taken = thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (tell, daemon, refused) = (tell.clone(), &daemon, &refused);
            scope.spawn(move || {
                let task = submit_patiently(daemon, number, refused);
                tell.send((number, task)).expect("the test to listen");
            });
        }
        let words = until("health to say so", || {
            let (status, text) = daemon.text("/healthz");
            assert_eq!(status, 200, "a restart would not help the disk");
            text.contains("the disk has not answered for")
                .then_some(text)
        });
        let said = begun.elapsed();
        assert!(words.starts_with("ok, but "), "{words}");
        assert_eq!(daemon.text("/readyz").0, 503);
        let mut most = 0;
        while begun.elapsed() < STUCK {
            most = most.max(memory(daemon.pid()));
            thread::park_timeout(Duration::from_millis(100));
        }
        let (status, text) = daemon.text("/healthz");
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("the disk has not answered for"), "{text}");
        assert!(said < STUCK, "said after {said:?}");
        let turned_away = refused.load(Ordering::Relaxed);
        say(&format!(
            "health said so after {said:?}; {turned_away} refused; {} KiB more memory",
            most.saturating_sub(before) >> 10
        ));
        assert!(most < before + GROWTH, "{before} bytes before, {most} then");
        assert!(
            turned_away >= (CLIENTS - WAITING) as u64,
            "{turned_away} refused"
        );
        assert!(
            told.try_recv().is_err(),
            "one was acknowledged without a disk"
        );
        drop(frozen);
        let mut taken = BTreeMap::new();
        for (number, task) in told.iter().take(CLIENTS) {
            let id = task["id"].as_str().expect("an id").to_owned();
            assert_eq!(taken.insert(id, number), None, "{task:.100}");
        }
        taken
    });
    assert_eq!(taken.len(), CLIENTS);
    assert_eq!(
        refusals(&daemon, "max_submitting"),
        refused.load(Ordering::Relaxed)
    );
    assert_eq!(daemon.text("/healthz").1.trim(), "ok");
    taken.insert(first, 0);
    let ids: BTreeSet<String> = taken.keys().cloned().collect();
    daemon.crash_and_restart();
    let there = all(&daemon);
    assert_eq!(there.keys().cloned().collect::<BTreeSet<_>>(), ids);
    for (id, number) in taken {
        if let Some(payload) = there[&id]["payload"].as_str() {
            assert!(payload.starts_with(&format!("{number:03}x")), "{id}");
        }
    }
    assert_eq!(complete_all(&daemon, "default"), ids);
    daemon.crash_and_restart();
    assert!(all(&daemon).is_empty(), "what was completed is back");
}
