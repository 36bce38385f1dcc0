//! Files of tasks on a real disk: written, moved, removed, and what others put in their places.

use std::{fs, io};

use super::*;
use crate::{
    store::{Boot, Found, RealDisk, memory_disk::MemoryDisk, recover},
    task::{Options, Payload, PayloadLimits, QueueName},
};

const NAME: &str = "1970-01-01T00:00:00_00000100_0198c0de-0000-7000-8000-000000000001.json";
const LATER: &str = "2026-11-24T20:10:48_00000005_0198c0de-0000-7000-8000-000000000001.json";

struct Bench {
    scratch: tempfile::TempDir,
    spool: Spool<RealDisk>,
}

impl Bench {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        crate::store::prepare(scratch.path()).unwrap();
        let disk = Arc::new(RealDisk::open(scratch.path()).unwrap());
        let limits = DropLimits {
            payloads: PayloadLimits::bytes(100),
            max_file: 1000,
        };
        Self {
            scratch,
            spool: Spool::new(disk, limits),
        }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.scratch.path().join(path)
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn source(&self, path: &str) -> Source {
        let meta = self.spool.disk.look(Path::new(path)).unwrap();
        Source {
            path: path.into(),
            inode: meta.inode,
            modified: meta.modified,
            size: meta.size,
        }
    }
}

fn at(area: Area, queue: &str, name: &str) -> Location {
    Location {
        area,
        queue: QueueName::parse(queue).unwrap(),
        name: FileName::parse(name).unwrap(),
    }
}

fn file(at: &Location, payload: &str) -> TaskFile {
    TaskFile {
        payload: Payload::from_text(payload),
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

fn put(old: Option<&Location>, at: &Location, payload: &str) -> FileOp {
    FileOp::Put {
        old: old.cloned(),
        at: at.clone(),
        file: file(at, payload),
    }
}

#[test]
fn a_file_is_written_moved_and_removed_and_each_step_may_be_done_twice() {
    let bench = Bench::new();
    let (first, second) = (
        at(Area::Tasks, "emails", NAME),
        at(Area::Tasks, "emails", LATER),
    );
    for _ in 0..2 {
        bench.spool.run(&put(None, &first, "a")).unwrap();
        assert_eq!(bench.names("tasks/emails"), [NAME]);
    }
    let task = bench.spool.load(&first, WallMillis(0)).unwrap();
    assert_eq!(
        (task.payload.as_json(), task.queue.as_str()),
        ("\"a\"", "emails")
    );
    for _ in 0..2 {
        bench.spool.run(&put(Some(&first), &second, "b")).unwrap();
        assert_eq!(bench.names("tasks/emails"), [LATER]);
    }
    let dead = at(Area::Dead, "emails", LATER);
    bench.spool.run(&put(Some(&second), &dead, "b")).unwrap();
    assert_eq!(bench.names("dead/emails"), [LATER]);
    for _ in 0..2 {
        bench
            .spool
            .run(&FileOp::Remove {
                at: dead.clone(),
                strange: None,
            })
            .unwrap();
        assert!(bench.names("dead/emails").is_empty());
    }
    assert!(bench.names("tasks/emails").is_empty());
}

#[test]
fn a_put_over_its_own_place_keeps_the_file_and_a_leftover_does_not_stop_it() {
    let bench = Bench::new();
    let place = at(Area::Tasks, "default", NAME);
    let leftover = bench.path("tasks").join(temporary_name(place.name.id));
    fs::write(&leftover, "half").unwrap();
    let again = put(Some(&place), &place, "a");
    // It was seen there, and is not: somebody has it elsewhere.
    assert_eq!(bench.spool.run(&again).unwrap(), Ran::Astray);
    assert_eq!(bench.names("tasks"), [NAME]);
    assert_eq!(bench.spool.run(&again).unwrap(), Ran::Whole);
    fs::write(bench.path(place.path()), "half").unwrap();
    assert_eq!(bench.spool.run(&again).unwrap(), Ran::Whole);
    assert!(bench.spool.load(&place, WallMillis(0)).is_ok());
}

#[test]
fn what_can_not_be_renamed_leaves_no_temporary_file() {
    let bench = Bench::new();
    let place = at(Area::Tasks, "default", NAME);
    fs::create_dir(bench.path(place.path())).unwrap();
    bench.spool.run(&put(None, &place, "a")).unwrap_err();
    assert_eq!(bench.names("tasks"), [NAME]);
}

#[test]
fn a_directory_that_was_removed_comes_back_with_the_next_file() {
    let bench = Bench::new();
    fs::remove_dir(bench.path("tasks")).unwrap();
    bench
        .spool
        .run(&put(None, &at(Area::Tasks, "emails", NAME), "a"))
        .unwrap();
    assert_eq!(bench.names("tasks/emails"), [NAME]);
}

#[test]
fn a_taken_source_is_removed_and_another_file_at_its_path_stays() {
    let bench = Bench::new();
    fs::write(bench.path("tasks/a.json"), "1").unwrap();
    let source = bench.source("tasks/a.json");
    for _ in 0..2 {
        bench
            .spool
            .run(&FileOp::RemoveSource(source.clone()))
            .unwrap();
        assert!(bench.names("tasks").is_empty());
    }
    fs::write(bench.path("tasks/a.json"), "1").unwrap();
    let source = bench.source("tasks/a.json");
    fs::write(bench.path("other"), "1").unwrap();
    fs::rename(bench.path("other"), bench.path("tasks/a.json")).unwrap();
    bench.spool.run(&FileOp::RemoveSource(source)).unwrap();
    assert_eq!(bench.names("tasks"), ["a.json"]);
}

#[test]
fn what_is_not_a_tasks_file_is_told_by_kind() {
    let bench = Bench::new();
    let place = at(Area::Dead, "default", NAME);
    let path = bench.path(place.path());
    let load = || bench.spool.load(&place, WallMillis(0));
    assert!(matches!(load(), Err(LoadError::Missing)));
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(load(), Err(LoadError::Irregular(Kind::Symlink))));
    fs::remove_file(&path).unwrap();
    fs::write(&path, "{").unwrap();
    assert!(matches!(
        load(),
        Err(LoadError::Invalid(Refusal::Malformed { .. }))
    ));
    let sparse = fs::File::create(&path).unwrap();
    sparse.set_len(MOST_OWN + 1).unwrap();
    assert!(matches!(
        load(),
        Err(LoadError::Invalid(Refusal::TooLarge { .. }))
    ));
    fs::write(&path, r#"{"payload":1,"attempts":5,"last_error":"no"}"#).unwrap();
    assert_eq!(load().unwrap().id, Some(place.name.id));
}

#[test]
fn retention_removes_the_old_and_only_what_is_ours() {
    let bench = Bench::new();
    assert_eq!(bench.spool.purge_done(WallMillis(i64::MAX)).unwrap(), 0);
    let (old, new) = (
        at(Area::Done, "default", NAME),
        at(Area::Done, "emails", LATER),
    );
    for place in [&old, &new] {
        bench.spool.run(&put(None, place, "a")).unwrap();
    }
    fs::write(bench.path("done/notes.txt"), "mine").unwrap();
    for path in [old.path(), "done/notes.txt".into()] {
        let file = fs::File::options()
            .write(true)
            .open(bench.path(path))
            .unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    assert_eq!(bench.spool.purge_done(WallMillis(1)).unwrap(), 1);
    assert_eq!(bench.names("done"), ["emails", "notes.txt"]);
    assert_eq!(bench.names("done/emails"), [LATER]);
}

#[test]
fn a_file_whose_time_is_over_and_that_can_not_be_removed_keeps_no_other() {
    let disk = Arc::new(MemoryDisk::new());
    let limits = DropLimits {
        payloads: PayloadLimits::bytes(100),
        max_file: 1000,
    };
    let spool = Spool::new(Arc::clone(&disk), limits);
    for name in [NAME, LATER] {
        spool
            .run(&put(None, &at(Area::Done, "default", name), "a"))
            .unwrap();
    }
    let left = || spool.files(Area::Done, |_| true).unwrap().len();
    assert_eq!(left(), 2);
    disk.fail_next("remove", io::ErrorKind::PermissionDenied);
    assert!(spool.purge_done(WallMillis(1)).is_err());
    assert_eq!(left(), 1);
}

#[test]
fn another_file_in_the_place_of_one_that_is_to_be_removed_stays() {
    let bench = Bench::new();
    let own = at(Area::Tasks, "default", NAME);
    let run = |strange| {
        let at = own.clone();
        bench.spool.run(&FileOp::Remove { at, strange }).unwrap()
    };
    fs::write(bench.path(own.path()), "another").unwrap();
    let written = bench.source(own.path().to_str().unwrap()).modified / 1_000_000;
    let written = i64::try_from(written).unwrap();
    let around = |before, after| Some(WallMillis(written + before)..WallMillis(written + after));
    assert_eq!(run(around(-1, 0)), Ran::Strange);
    assert_eq!(bench.names("tasks").len(), 1);
    // One that is no newer than the task's end is its own; so is one of a time to come.
    for strange in [around(0, 5), around(-5, -1), None] {
        fs::write(bench.path("tasks/.aside"), "own").unwrap();
        let aside = fs::File::open(bench.path("tasks/.aside")).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(written as u64);
        aside.set_modified(time).unwrap();
        fs::rename(bench.path("tasks/.aside"), bench.path(own.path())).unwrap();
        assert_eq!(run(strange), Ran::Whole);
        assert_eq!(bench.names("tasks").len(), 0);
    }
    assert_eq!(run(around(-1, 0)), Ran::Astray);
}

#[test]
fn who_took_the_name_of_a_first_file_is_rejected() {
    let bench = Bench::new();
    let own = at(Area::Tasks, "default", NAME);
    fs::write(bench.path(own.path()), r#"{"payload":"of another"}"#).unwrap();
    let first = put(None, &own, "a");
    assert_eq!(bench.spool.run(&first).unwrap(), Ran::Whole);
    let text = |path: PathBuf| fs::read_to_string(path).unwrap();
    assert!(text(bench.path(own.path())).contains("\"a\""));
    let rejected = bench.names("rejected");
    assert_eq!(rejected.len(), 2, "{rejected:?}");
    assert!(text(bench.path("rejected").join(NAME)).contains("of another"));
    // Done once more, it finds its own.
    assert_eq!(bench.spool.run(&first).unwrap(), Ran::Whole);
    assert_eq!(bench.names("rejected").len(), 2);
    assert_eq!(bench.names("tasks"), [NAME]);
}

#[test]
fn temporary_files_of_a_former_life_are_swept_and_no_others() {
    let bench = Bench::new();
    fs::create_dir(bench.path("tasks/emails")).unwrap();
    fs::create_dir_all(bench.path("done")).unwrap();
    for path in [
        "tasks/.wq-a.tmp",
        "tasks/emails/.wq-b.tmp",
        "dead/.wq-c.tmp",
        "done/.wq-d.tmp",
    ] {
        fs::write(bench.path(path), "").unwrap();
    }
    for path in ["tasks/wq-a.tmp", "tasks/emails/.wq-b.json"] {
        fs::write(bench.path(path), "").unwrap();
    }
    let mut found = Vec::new();
    recover(&*bench.spool.disk, &Boot::default(), &mut |one| {
        if let Found::Temporary(path) = one {
            found.push(path);
        }
    })
    .unwrap();
    assert_eq!(bench.spool.sweep(found).unwrap(), 4);
    assert_eq!(bench.names("tasks/emails"), [".wq-b.json"]);
    assert_eq!(bench.names("tasks"), ["emails", "wq-a.tmp"]);
}
