//! The watcher against a real directory and the kernel's real events. Nothing sleeps: a test waits for what it is told,
//! and a last drop (`mark`) shows that nothing else was told before it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::PathBuf,
    sync::atomic::{AtomicI64, Ordering},
};

use crossbeam_channel::Receiver;

use super::*;
use crate::{
    store::{DropLimits, FileOp, RealDisk, Spool, prepare},
    task::{Area, ExecTime, FileName, Options, Payload, PayloadLimits, Priority, TaskFile},
};

const PATIENCE: Duration = Duration::from_secs(10);
const LIMITS: DropLimits = DropLimits {
    payloads: PayloadLimits::bytes(1000),
    max_file: 2000,
};

fn settings() -> WatchSettings {
    WatchSettings {
        limits: LIMITS.into(),
        rescan_every: None,
        read: None,
    }
}

struct Bench {
    scratch: tempfile::TempDir,
    disk: Arc<RealDisk>,
    marks: std::cell::Cell<u32>,
}

struct Watched<'a> {
    bench: &'a Bench,
    // Before the watcher, so that it is dropped first and the sink never blocks.
    sightings: Receiver<Sighting>,
    watcher: Watcher,
}

/// What was told, in short: `drop PATH`, `malformed PATH`, …
type Told = Vec<String>;

impl Bench {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        prepare(scratch.path()).unwrap();
        let disk = Arc::new(RealDisk::open(scratch.path()).unwrap());
        let marks = std::cell::Cell::new(0);
        Self {
            scratch,
            disk,
            marks,
        }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.scratch.path().join(path)
    }

    /// Writes outside the task directory and renames.
    fn rename_in(&self, path: impl AsRef<Path>, content: &[u8]) {
        fs::write(self.path("outside"), content).unwrap();
        fs::rename(self.path("outside"), self.path(path)).unwrap();
    }

    /// With a clock that stands far from every file's time: no file is too young.
    fn watch(&self) -> Watched<'_> {
        self.watch_with(|| WallMillis(0))
    }

    fn watch_with(&self, clock: impl Fn() -> WallMillis + Send + 'static) -> Watched<'_> {
        let (tell, sightings) = crossbeam_channel::unbounded();
        let sink = move |sighting| tell.send(sighting).is_ok();
        let disk = Arc::clone(&self.disk);
        let watcher = Watcher::start(
            disk,
            self.scratch.path(),
            settings(),
            Arc::default(),
            clock,
            sink,
        )
        .unwrap();
        Watched {
            bench: self,
            sightings,
            watcher,
        }
    }
}

impl Watched<'_> {
    fn next(&self) -> Sighting {
        self.sightings
            .recv_timeout(PATIENCE)
            .expect("a sighting within 10 s")
    }

    /// All that is told until `last` is.
    fn until(&self, last: &str) -> Told {
        let mut told = Told::new();
        loop {
            match self.sightings.recv_timeout(PATIENCE) {
                Ok(sighting) => told.extend(short(&sighting)),
                Err(error) => panic!("{error} before {last:?}, after {told:?}"),
            }
            if told.last().is_some_and(|told| told == last) {
                return told;
            }
        }
    }

    /// All that is told up to now: until a drop that is made here is told, which is left out.
    fn so_far(&self) -> Told {
        let number = self.bench.marks.get();
        self.bench.marks.set(number + 1);
        let mark = format!("tasks/mark-{number}.txt");
        self.bench.rename_in(&mark, b"mark");
        let mut told = self.until(&format!("drop {mark}"));
        told.pop();
        told
    }

    /// Waits for the end of the first scan.
    fn ready(self) -> Self {
        self.until("scanned default");
        self
    }
}

fn short(sighting: &Sighting) -> Vec<String> {
    match sighting {
        Sighting::Drop { source, .. } => vec![format!("drop {}", shown(&source.path))],
        Sighting::Malformed { source, reason } => {
            assert!(!reason.is_empty() && !reason.contains(char::is_control));
            vec![format!("malformed {}", shown(&source.path))]
        }
        Sighting::Irregular { path, .. } => vec![format!("irregular {}", shown(path))],
        Sighting::Seen(places) => places.iter().map(|at| format!("seen {at}")).collect(),
        Sighting::Gone { places, asked } => {
            let why = asked.map_or_else(String::new, |number| format!(" (question {number})"));
            let told = places.iter().map(|at| format!("gone {at}{why}"));
            told.collect()
        }
        Sighting::Folder(queue) => vec![format!("folder {queue}")],
        Sighting::LookedAgain => vec!["looked again".to_owned()],
        Sighting::Deaf(why) => vec![format!("deaf {why:?}")],
        Sighting::Freed(paths) => paths
            .iter()
            .map(|path| format!("freed {}", shown(path)))
            .collect(),
        Sighting::Scanned { queue, .. } => vec![format!("scanned {queue}")],
        Sighting::Replaced { folders, .. } => vec![format!("replaced, with {folders:?}")],
        Sighting::Trouble(text) => vec![format!("trouble {text}")],
    }
}

fn canonical(number: u8) -> FileName {
    FileName {
        exectime: ExecTime::ASAP,
        priority: Priority::DEFAULT,
        id: TaskId::from_bytes([number; 16]),
    }
}

pub(super) fn place_of(queue: &str, number: u8) -> Location {
    Location {
        area: Area::Tasks,
        queue: QueueName::parse(queue).unwrap(),
        name: canonical(number),
    }
}

fn file_of(at: &Location) -> TaskFile {
    TaskFile {
        payload: Payload::from_text("x"),
        priority: at.name.priority,
        exectime: at.name.exectime,
        id: at.name.id,
        options: Options::default(),
        attempts: None,
        last_error: None,
        result: None,
        completed_at: None,
    }
}

#[test]
fn what_was_there_before_is_told_in_name_order_and_only_once() {
    let bench = Bench::new();
    fs::create_dir(bench.path("tasks/emails")).unwrap();
    for name in ["c.json", "a.txt", "b.json", "emails/d.txt"] {
        fs::write(bench.path("tasks").join(name), r#"{"payload":1}"#).unwrap();
    }
    let own = place_of("default", 1);
    fs::write(bench.path(own.path()), "{").unwrap();
    let watched = bench.watch();
    let expected = [
        &*format!("seen {own}"),
        "drop tasks/a.txt",
        "drop tasks/b.json",
        "drop tasks/c.json",
        "scanned default",
        "folder emails",
        "drop tasks/emails/d.txt",
        "scanned emails",
    ];
    let told = watched.until("scanned emails");
    assert_eq!(told, expected);
    watched.watcher.rescan();
    let told = watched.until("scanned emails");
    assert_eq!(told, [expected[0], "scanned default", "scanned emails"]);
}

#[test]
fn a_file_is_taken_when_it_is_renamed_in_or_closed_after_writing_and_not_before() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    let mut slow = fs::File::create(bench.path("tasks/slow.json")).unwrap();
    slow.write_all(br#"{"payload":"#).unwrap();
    bench.rename_in("tasks/a.json", br#"{"payload":{"a":1},"priority":7}"#);
    match watched.next() {
        Sighting::Drop { source, task, .. } => {
            assert_eq!(source.path, Path::new("tasks/a.json"));
            assert_eq!(source.size, 32);
            let priority = task.priority.get();
            assert_eq!((task.payload.as_json(), priority), (r#"{"a":1}"#, 7));
        }
        other => panic!("{other:?}"),
    }
    slow.write_all(b"1}").unwrap();
    drop(slow);
    assert_eq!(watched.so_far(), ["drop tasks/slow.json"]);
}

#[test]
fn names_that_ask_to_be_left_alone_are_left_alone() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    for name in [".a.json", "b.json.tmp", "c.part", ".d.swp", "e.txt~"] {
        fs::write(bench.path("tasks").join(name), "{").unwrap();
    }
    fs::create_dir(bench.path("tasks/.hidden")).unwrap();
    fs::write(bench.path("tasks/.hidden/a.json"), "{").unwrap();
    watched.watcher.rescan();
    watched.until("scanned default");
    assert!(watched.so_far().is_empty());
    let (from, to) = (bench.path("tasks/b.json.tmp"), bench.path("tasks/b.txt"));
    fs::rename(from, to).unwrap();
    assert_eq!(watched.so_far(), ["drop tasks/b.txt"]);
}

#[test]
fn what_is_no_task_is_told_with_its_reason() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    let reason = |path: &str, content: &[u8]| {
        bench.rename_in(path, content);
        match watched.next() {
            Sighting::Malformed { source, reason } if source.path == Path::new(path) => reason,
            other => panic!("{path}: {other:?}"),
        }
    };
    assert!(reason("tasks/a.json", b"nonsense").contains("not JSON"));
    assert!(reason("tasks/b.json", b"{}").contains("payload"));
    assert!(reason("tasks/c.txt", b"caf\xe9").contains("UTF-8"));
    assert_eq!(
        reason("tasks/d.json", &[b' '; 2001]),
        "2001 bytes, the limit is 2000"
    );
    assert!(reason("tasks/e.txt", &[b'x'; 1500]).contains("1000"));
    assert!(reason("tasks/f.yaml", b"payload: 1").contains(".json"));
    assert!(reason("tasks/g.json", b"{\"payload\":1,\"a\\u001bb\":2}").contains("\\u{1b}"));
}

#[test]
fn what_is_no_file_of_its_own_is_left_alone_and_told_once() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    fs::write(bench.path("outside-1"), "secret").unwrap();
    symlink(bench.path("outside-1"), bench.path("tasks/link.txt")).unwrap();
    let fifo = bench.path("tasks/fifo.json");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    fs::hard_link(bench.path("outside-1"), bench.path("tasks/hard.txt")).unwrap();
    let told = watched.so_far();
    let expected = [
        "irregular tasks/link.txt",
        "irregular tasks/fifo.json",
        "irregular tasks/hard.txt",
    ];
    assert_eq!(told, expected);
    watched.watcher.rescan();
    assert_eq!(watched.until("scanned default"), ["scanned default"]);
    // With its other name gone, the file is one of its own.
    fs::remove_file(bench.path("outside-1")).unwrap();
    watched.watcher.rescan();
    let told = watched.until("scanned default");
    assert_eq!(told, ["drop tasks/hard.txt", "scanned default"]);
}

#[test]
fn a_new_folder_is_a_queue_with_what_was_moved_in_right_away() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    fs::create_dir(bench.path("tasks/emails")).unwrap();
    bench.rename_in("tasks/emails/a.txt", b"a");
    let told = watched.until("drop tasks/emails/a.txt");
    assert_eq!(told[0], "folder emails");
    let told = watched.so_far();
    assert!(
        told.len() <= 1 && told.iter().all(|told| told == "scanned emails"),
        "{told:?}"
    );
    bench.rename_in("tasks/emails/b.txt", b"b");
    assert_eq!(watched.so_far(), ["drop tasks/emails/b.txt"]);
    fs::create_dir_all(bench.path("made")).unwrap();
    fs::write(bench.path("made/c.txt"), "c").unwrap();
    fs::rename(bench.path("made"), bench.path("tasks/sms.tmp")).unwrap();
    let expected = [
        "folder sms.tmp",
        "drop tasks/sms.tmp/c.txt",
        "scanned sms.tmp",
    ];
    assert_eq!(watched.so_far(), expected);
}

#[test]
fn a_folder_that_moves_is_gone_here_and_watched_there() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    fs::create_dir(bench.path("tasks/a")).unwrap();
    watched.until("scanned a");
    fs::rename(bench.path("tasks/a"), bench.path("tasks/b")).unwrap();
    let told = watched.so_far();
    assert_eq!(told, ["scanned a", "folder b", "scanned b"]);
    bench.rename_in("tasks/b/x.txt", b"x");
    assert_eq!(watched.so_far(), ["drop tasks/b/x.txt"]);
    for _ in 0..50 {
        fs::remove_dir_all(bench.path("tasks/b")).unwrap();
        fs::create_dir(bench.path("tasks/b")).unwrap();
    }
    watched.so_far();
    bench.rename_in("tasks/b/y.txt", b"y");
    watched.until("drop tasks/b/y.txt");
}

#[test]
fn the_folder_default_feeds_the_default_queue() {
    let bench = Bench::new();
    fs::create_dir(bench.path("tasks/default")).unwrap();
    let name = canonical(1).to_string();
    fs::write(bench.path("tasks/default").join(&name), r#"{"payload":1}"#).unwrap();
    let watched = bench.watch();
    let told = watched.until(&format!("drop tasks/default/{name}"));
    assert_eq!(told[0], "scanned default");
    fs::write(bench.path("tasks/default/a.txt"), "a").unwrap();
    match watched.next() {
        Sighting::Drop { task, .. } => assert!(task.queue.is_default()),
        other => panic!("{other:?}"),
    }
    assert!(watched.so_far().is_empty());
}

#[test]
fn folders_that_can_not_be_queues_are_left_alone() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("tasks/Not A Queue")).unwrap();
    fs::create_dir_all(bench.path("tasks/emails/deeper")).unwrap();
    fs::create_dir(bench.path("elsewhere")).unwrap();
    symlink(bench.path("elsewhere"), bench.path("tasks/linked")).unwrap();
    for path in [
        "tasks/Not A Queue/a.txt",
        "tasks/emails/deeper/b.txt",
        "elsewhere/c.txt",
    ] {
        fs::write(bench.path(path), "x").unwrap();
    }
    let watched = bench.watch();
    let expected = [
        "irregular tasks/linked",
        "scanned default",
        "irregular tasks/Not A Queue",
        "folder emails",
        "irregular tasks/emails/deeper",
        "scanned emails",
    ];
    assert_eq!(watched.until("scanned emails"), expected);
    assert!(watched.so_far().is_empty());
}

#[test]
fn the_daemons_own_writes_do_not_come_back_and_removals_by_others_do() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    let spool = Spool::new(Arc::clone(&bench.disk), LIMITS);
    let (here, there) = (place_of("default", 1), place_of("emails", 2));
    for at in [&here, &there] {
        let (at, file) = (at.clone(), file_of(at));
        spool
            .run(&FileOp::Put {
                old: None,
                at,
                file,
            })
            .unwrap();
    }
    watched.until("scanned emails");
    let at = place_of("default", 3);
    let file = file_of(&at);
    spool
        .run(&FileOp::Put {
            old: None,
            at,
            file,
        })
        .unwrap();
    assert!(watched.so_far().is_empty());
    fs::remove_file(bench.path(here.path())).unwrap();
    fs::rename(bench.path(there.path()), bench.path("elsewhere")).unwrap();
    let told = watched.so_far();
    assert_eq!(told, [format!("gone {here}"), format!("gone {there}")]);
    let at = place_of("default", 3);
    watched.watcher.confirm(7, vec![at.clone(), here.clone()]);
    let answer = format!("gone {here} (question 7)");
    assert_eq!(watched.until(&answer).len(), 1);
    // What the kernel tells afterwards answers nothing.
    fs::remove_file(bench.path(at.path())).unwrap();
    assert_eq!(watched.so_far(), [format!("gone {at}")]);
}

#[test]
fn a_canonical_file_of_anothers_making_is_seen_and_read_when_asked() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    let at = place_of("default", 1);
    fs::write(bench.path(at.path()), r#"{"payload":"x","priority":3}"#).unwrap();
    assert_eq!(watched.so_far(), [format!("seen {at}")]);
    for _ in 0..2 {
        watched.watcher.inspect(vec![at.clone()]);
    }
    match watched.next() {
        Sighting::Drop { source, task, .. } => {
            assert_eq!(source.path, at.path());
            assert_eq!((task.id, task.priority.get()), (Some(at.name.id), 3));
        }
        other => panic!("{other:?}"),
    }
    assert!(watched.so_far().is_empty());
}

#[test]
fn a_file_in_anothers_place_is_another_file() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    for content in ["one", "two"] {
        bench.rename_in("tasks/a.txt", content.as_bytes());
        match watched.next() {
            Sighting::Drop { task, .. } => {
                assert_eq!(task.payload.as_json(), format!("{content:?}"));
            }
            other => panic!("{other:?}"),
        }
    }
    fs::remove_file(bench.path("tasks/a.txt")).unwrap();
    bench.rename_in("tasks/a.txt", b"two");
    assert_eq!(watched.so_far(), ["drop tasks/a.txt"]);
}

#[test]
fn odd_names_are_names() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    let long = format!("{}.txt", "x".repeat(251));
    let names = [b"new\nline.txt", &b"b\xff\xfe.txt"[..], long.as_bytes()];
    for name in names {
        let path = Path::new("tasks").join(OsStr::from_bytes(name));
        bench.rename_in(&path, b"x");
        match watched.next() {
            Sighting::Drop { source, .. } => assert_eq!(source.path, path),
            other => panic!("{other:?}"),
        }
    }
    fs::create_dir(bench.path(Path::new("tasks").join(OsStr::from_bytes(b"q\xff")))).unwrap();
    assert_eq!(watched.so_far(), ["irregular tasks/q\\xff"]);
}

#[test]
fn each_file_of_a_burst_is_told_exactly_once() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    for number in 0..5000 {
        bench.rename_in(format!("tasks/{number:04}.txt"), b"x");
    }
    let mut counts = BTreeMap::new();
    for told in watched.so_far() {
        if told.starts_with("drop") {
            *counts.entry(told).or_insert(0) += 1;
        } else {
            assert!(
                told.starts_with("trouble") || told.starts_with("scanned"),
                "{told}"
            );
        }
    }
    while counts.len() < 5000 {
        for told in short(&watched.next()) {
            *counts.entry(told).or_insert(0) += 1;
        }
    }
    assert!(
        counts
            .iter()
            .all(|(told, count)| !told.starts_with("drop") || *count == 1)
    );
}

#[test]
fn a_file_that_a_later_scan_finds_young_is_read_when_it_has_settled() {
    let bench = Bench::new();
    let clock = Arc::new(AtomicI64::new(0));
    let watched = {
        let clock = Arc::clone(&clock);
        bench.watch_with(move || WallMillis(clock.load(Ordering::Relaxed)))
    };
    let watched = watched.ready();
    // Never closed while the test runs, so no event tells that it is whole.
    let mut open = fs::File::create(bench.path("tasks/a.txt")).unwrap();
    open.write_all(b"x").unwrap();
    // However late the scan comes, it finds the file as young as it is now.
    let written = open.metadata().unwrap().modified().unwrap();
    let written = written.duration_since(std::time::UNIX_EPOCH).unwrap();
    clock.store(written.as_millis() as i64, Ordering::Relaxed);
    watched.watcher.rescan();
    assert_eq!(watched.until("scanned default"), ["scanned default"]);
    assert_eq!(watched.until("drop tasks/a.txt").len(), 1);
    drop(open);
    assert!(watched.so_far().is_empty());
}

#[test]
fn a_task_directory_that_went_away_and_came_back_is_watched_again() {
    let bench = Bench::new();
    let watched = bench.watch().ready();
    fs::rename(bench.path("tasks"), bench.path("aside")).unwrap();
    match watched.next() {
        Sighting::Trouble(text) => assert!(text.contains("gone"), "{text}"),
        other => panic!("{other:?}"),
    }
    fs::create_dir(bench.path("tasks")).unwrap();
    watched.until("replaced, with {}");
    bench.rename_in("tasks/a.txt", b"x");
    let mut told = watched.so_far();
    // Another scan may follow a second after the directory was found.
    told.retain(|told| told != "scanned default");
    assert_eq!(told, ["drop tasks/a.txt"]);
}

#[test]
fn without_listeners_the_thread_ends_and_without_a_handle_too() {
    let bench = Bench::new();
    let Watched {
        sightings, watcher, ..
    } = bench.watch();
    drop(sightings);
    watcher.rescan();
    drop(watcher);
    let watched = bench.watch().ready();
    drop(watched.watcher);
    while watched.sightings.recv_timeout(PATIENCE).is_ok() {}
    let error = watched.sightings.try_recv().unwrap_err();
    assert!(error.is_disconnected());
}

#[test]
fn a_data_directory_without_a_task_directory_can_not_be_watched() {
    let bench = Bench::new();
    fs::remove_dir(bench.path("tasks")).unwrap();
    let disk = Arc::clone(&bench.disk);
    let root = bench.scratch.path();
    let started = Watcher::start(
        disk,
        root,
        settings(),
        Arc::default(),
        || WallMillis(0),
        |_| true,
    );
    assert!(matches!(started, Err(WatchError::Events { path, .. }) if path.ends_with("tasks")));
}

#[test]
fn a_task_directory_that_is_another_one_than_a_start_has_read_is_told_at_once() {
    let bench = Bench::new();
    fs::create_dir(bench.path("other")).unwrap();
    let other = bench.disk.directory(Path::new("other")).unwrap();
    let same = bench.disk.directory(Path::new("tasks")).unwrap();
    for (read, expected) in [(None, false), (Some(same), false), (Some(other), true)] {
        let (tell, sightings) = crossbeam_channel::unbounded();
        let watcher = Watcher::start(
            Arc::clone(&bench.disk),
            bench.scratch.path(),
            WatchSettings { read, ..settings() },
            Arc::default(),
            || WallMillis(0),
            move |sighting| tell.send(sighting).is_ok(),
        );
        let first = sightings.recv_timeout(PATIENCE).unwrap();
        assert!(
            matches!(&first, Sighting::Scanned { anew, mark: Some(mark), .. }
                if *anew == expected && *mark == same.mark()),
            "{first:?}"
        );
        drop((sightings, watcher));
    }
}
