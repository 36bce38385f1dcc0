//! Many at once: more than a queue of events holds, more than may wait, more than there may be tasks.

use std::{fs, time::Instant};

use serde_json::json;

use super::{aside, files_in, looked_through_full, ready, rejected, serves_on, task, work_off};
use crate::{
    common::{Daemon, mount::say, until},
    limits::with,
};

/// How many files come at once: the environment's `WORKQUEUE_DROPS`, which `tests/soak` sets to 200 000; or as many as a daemon that
/// is not optimised takes and writes in about a minute on a disk that others use, too.
fn count(usual: usize) -> usize {
    std::env::var("WORKQUEUE_DROPS").map_or(usual, |text| text.parse().expect("a number"))
}

/// The most memory that a process has had, in MiB.
fn peak(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.expect("a number").parse::<u64>().expect("kB") >> 10
}

/// Moves in files with these payloads, all made before the first is moved.
fn drop_all(daemon: &Daemon, numbers: std::ops::Range<usize>) {
    let paths: Vec<_> = numbers
        .map(|number| {
            aside(
                daemon,
                &format!("{number:06}.json"),
                task(&number.to_string()),
            )
        })
        .collect();
    for path in paths {
        let name = path.file_name().expect("a name");
        fs::rename(&path, daemon.tasks().join(name)).expect("dropped");
    }
}

/// Files that are still what was dropped. Only names are read: the daemon has the machine to itself.
fn waiting(daemon: &Daemon) -> usize {
    let entries = fs::read_dir(daemon.tasks()).expect("the directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .filter(|name| name.len() == "000000.json".len())
        .count()
}

fn wait_for(daemon: &Daemon, count: usize) {
    // However many they are: as long as they become more, it is waited.
    let mut before = 0;
    while before < count as u64 {
        before = until("more tasks to be there", || {
            let now = ready(daemon, "default");
            (now > before || now >= count as u64).then_some(now)
        });
    }
}

/// Waits until no more dropped files than these are there. However many they are: as long as they become fewer.
fn gone_down_to(daemon: &Daemon, left: usize) {
    let mut before = usize::MAX;
    while before > left {
        before = until("fewer files to be there", || {
            let now = waiting(daemon);
            (now < before || now <= left).then_some(now)
        });
    }
}

fn all_taken_once(daemon: &Daemon, files: usize) {
    wait_for(daemon, files);
    gone_down_to(daemon, 0);
    let payloads = work_off(daemon, "default", files);
    assert_eq!(payloads.len(), files);
    assert!(payloads.values().all(|count| *count == 1));
    assert!(rejected(daemon).is_empty());
    serves_on(daemon);
}

#[test]
fn a_heap_of_files_at_once_is_taken_once_each() {
    let count = count(20_000);
    let daemon = Daemon::start(&["--log-level", "warn"]);
    let begun = Instant::now();
    drop_all(&daemon, 0..count);
    let made = begun.elapsed();
    wait_for(&daemon, count);
    let taken = begun.elapsed();
    gone_down_to(&daemon, 0);
    say(&format!(
        "{count} files: made in {made:?}, taken after {taken:?}, gone after {:?}, at most {} MiB of memory",
        begun.elapsed(),
        peak(daemon.pid())
    ));
    all_taken_once(&daemon, count);
}

#[test]
fn files_beyond_the_limit_of_tasks_are_all_taken_when_it_is_raised() {
    let files = count(11_000);
    let daemon = with("max_tasks = 5\nspool_delay = \"0s\"\nrescan_every = \"0s\"\n");
    drop_all(&daemon, 0..files);
    gone_down_to(&daemon, files - 5);
    looked_through_full(&daemon);
    let raised = "max_tasks = 1000000\nspool_delay = \"0s\"\nrescan_every = \"0s\"\n";
    fs::write(daemon.scratch.path().join("settings.toml"), raised).expect("settings");
    daemon.signal("-HUP");
    all_taken_once(&daemon, files);
}

#[test]
fn files_that_come_during_a_drain_are_all_taken_after_it() {
    let files = count(11_000);
    let daemon = with("spool_delay = \"0s\"\nrescan_every = \"0s\"\n");
    let (status, answer) = daemon.admin("POST", "/drain", "{}");
    assert!(status < 300, "{answer}");
    drop_all(&daemon, 0..files);
    looked_through_full(&daemon);
    assert_eq!(waiting(&daemon), files);
    let (status, answer) = daemon.admin("POST", "/undrain", "{}");
    assert!(status < 300, "{answer}");
    all_taken_once(&daemon, files);
}

/// A file that waits is another's as long as it is not taken: he may change it, give it another name, or take it away.
#[test]
fn a_file_that_waits_is_taken_as_it_is_when_there_is_room() {
    let daemon = with("max_tasks = 1\nspool_delay = \"0s\"\nrescan_every = \"0s\"\n");
    let at = |name: &str| daemon.tasks().join(name);
    for name in ["1.json", "2.json", "3.json", "4.json"] {
        fs::rename(aside(&daemon, name, task(name)), at(name)).expect("dropped");
        if name == "1.json" {
            until("the first to be taken", || {
                (ready(&daemon, "default") == 1).then_some(())
            });
        }
    }
    until("they wait", || {
        daemon.logged().contains("dropped files wait").then_some(())
    });
    looked_through_full(&daemon);
    fs::remove_file(at("2.json")).expect("taken away");
    fs::rename(at("3.json"), at("renamed.json")).expect("renamed");
    fs::rename(aside(&daemon, "new", task("changed")), at("4.json")).expect("replaced");
    looked_through_full(&daemon);
    let payloads = work_off(&daemon, "default", 3);
    let expected = [("1.json", 1), ("3.json", 1), ("changed", 1)];
    let expected = expected.map(|(payload, count)| (payload.to_owned(), count));
    assert_eq!(payloads.into_iter().collect::<Vec<_>>(), expected);
    until("no file to be left", || {
        files_in(&daemon.tasks()).is_empty().then_some(())
    });
    serves_on(&daemon);
}

#[test]
fn more_events_than_the_kernel_keeps_are_made_good_by_a_scan() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("the limit");
    let limit: usize = limit.trim().parse().expect("a number");
    // Each file that is written in place makes four events: made, opened or changed, changed, closed.
    let files = limit.min(32_768) / 2;
    let daemon = with("rescan_every = \"0s\"\n");
    daemon.signal("-STOP");
    for number in 0..files {
        let content = task(&number.to_string());
        fs::write(daemon.tasks().join(format!("{number:06}.json")), content).expect("a file");
    }
    daemon.signal("-CONT");
    until("it is told", || {
        daemon.logged().contains("more events came").then_some(())
    });
    all_taken_once(&daemon, files);
}

#[test]
fn a_heap_of_bad_files_of_one_name_is_rejected_and_none_replaces_another() {
    const FILES: usize = 300;
    let daemon = with("");
    for number in 0..FILES {
        let queue = daemon.tasks().join(format!("q{number}"));
        fs::create_dir(&queue).expect("a queue");
        fs::rename(
            aside(&daemon, "bad", number.to_string()),
            queue.join("bad.json"),
        )
        .expect("dropped");
    }
    let folder = daemon.data().join("rejected");
    until("all to be rejected", || {
        (files_in(&folder).len() == 2 * FILES).then_some(())
    });
    let mut texts: Vec<usize> = files_in(&folder)
        .iter()
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| {
            fs::read_to_string(path)
                .expect("its text")
                .parse()
                .expect("a number")
        })
        .collect();
    texts.sort_unstable();
    assert_eq!(texts, (0..FILES).collect::<Vec<_>>());
    // A file is counted when it has been moved and its reason written.
    until("all to be counted", || {
        let (_, view) = daemon.admin("GET", "/status", "");
        (view["rejected"] == json!(FILES)).then_some(())
    });
    serves_on(&daemon);
}
