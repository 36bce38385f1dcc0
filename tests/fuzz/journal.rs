//! Data directories whose journal, checkpoint and names have changed, with right checksums and with wrong ones: a start reads
//! them or refuses with file and byte, `workqueuectl check` says the same, and a repair loses no byte.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use workqueue::{
    backend::PageQuery,
    engine::{Engine, Input, Loader, Request, Settings, Ticket},
    store::{Boot, Found, JournalStart, RecoverError, inspect, recover, set_aside},
    task::{Millis, Now, Record, Tick, WallMillis},
};

use crate::{
    corpus,
    disk::MapDisk,
    image::{self, Image},
    mutate::Mutator,
    run::{Subject, Target, fuzz},
    text,
};

/// Names that are near those of the journal, or at the edges of what they can say.
const NAMES: [&str; 9] = [
    "journal/18446744073709551615.wal",
    "journal/00000000000000000000.wal",
    "journal/00000000000000000003.wal",
    "journal/18446744073709551615.checkpoint",
    "journal/00000000000000000000.checkpoint",
    "journal/00000000000000000001.wal.damaged",
    "journal/00000000000000000004.checkpoint.tmp",
    "tasks/9999-12-31T23:59:59_-2147483648_0198c0de-0000-7000-8000-00000000000a.json",
    "tasks/.wq-0198c0de-0000-7000-8000-00000000000a.tmp",
];

/// How many inputs are shown to the real `workqueuectl check`: those that were answered in a new way.
const MOST_CHECKED: usize = 20;

const NOW: Now = Now {
    wall: WallMillis(1_900_000_000_000),
    tick: Tick(5_000_000_000_000),
};

struct Journal {
    told: HashSet<String>,
}

impl Subject for Journal {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = corpus::of("journal");
        // Without comments, as those are that follow.
        for seed in &mut seeds {
            *seed = image::read(seed).write();
        }
        seeds
    }

    fn mutate(&self, mutator: &mut Mutator, seed: &[u8], pool: &[Vec<u8>]) -> Vec<u8> {
        let mut image = image::read(seed);
        for _ in 0..=mutator.chance.below(2) {
            if !image.files.is_empty() {
                change(mutator, &mut image, pool);
            }
        }
        image.write()
    }

    fn handle(&mut self, input: &[u8]) -> String {
        let image = image::read(input);
        let told = start(&image);
        if self.told.len() < MOST_CHECKED && self.told.insert(told.clone()) {
            check(&image);
        }
        told
    }
}

fn change(mutator: &mut Mutator, image: &mut Image, pool: &[Vec<u8>]) {
    let at = mutator.chance.below(image.files.len() as u64) as usize;
    match mutator.chance.below(12) {
        0 => drop(image.files.remove(at)),
        1 => image.files[at].0 = (*mutator.chance.pick(&NAMES)).to_owned(),
        2 => {
            let copy = image.files[at].clone();
            let name = *mutator.chance.pick(&NAMES);
            image.files.push((name.to_owned(), copy.1));
        }
        3 => {
            let other: &Vec<u8> = mutator.chance.pick(pool);
            let other = image::read(other);
            image.files.extend(other.files.into_iter().take(1));
        }
        4..=6 => records(mutator, image, at),
        _ => {
            let (_, bytes) = &mut image.files[at];
            mutator.change(bytes, &[], &[]);
        }
    }
    // Three in four reach what a wrong checksum hides.
    if !mutator.chance.one_in(4) {
        for (path, bytes) in &mut image.files {
            image::repair(path, bytes);
        }
    }
}

/// Changes the records of one frame, with others from the same file at hand.
fn records(mutator: &mut Mutator, image: &mut Image, at: usize) {
    let (path, bytes) = &mut image.files[at];
    let all = image::records(path, bytes);
    if all.is_empty() {
        return;
    }
    let frame = mutator.chance.below(all.len() as u64) as usize;
    let mut changed = all[frame].clone();
    mutator.change(&mut changed, &all, &[]);
    image::replace_records(bytes, frame, &changed);
}

/// A start, and what comes before and after one.
fn start(image: &Image) -> String {
    let disk = MapDisk::of(&image.files);
    let before = disk.all();
    let looked = inspect(&Arc::new(disk.clone()), &mut |_| {});
    assert_eq!(disk.all(), before, "looking changes nothing");
    match load(&disk) {
        Ok((start, engine, found)) => {
            looked.expect("a look sees what a start sees");
            lives(engine);
            let again = load(&disk).expect("what a start has settled is read again");
            assert_eq!(again.2, found, "and reads the same");
            assert_eq!(again.0.torn, None, "its tail is cut");
            format!("started: {:?} {:?}", start.torn, start.passed_over)
        }
        Err(error) => {
            assert_eq!(
                disk.all(),
                before,
                "a start that is refused changes nothing"
            );
            let same = looked.expect_err("a look sees what a start sees");
            assert_eq!(same.to_string(), error.to_string());
            text::plain(&error.to_string());
            mend(&disk, &before, &error);
            error.to_string()
        }
    }
}

type Started = (JournalStart, Engine, Vec<Found>);

fn load(disk: &MapDisk) -> Result<Started, RecoverError> {
    let boot = Boot {
        id: [7; 16],
        tick: NOW.tick,
    };
    let mut loader = Loader::new(Settings::default(), Box::new(|| 4), NOW);
    let mut found = Vec::new();
    let start = recover(disk, &boot, &mut |one| {
        loader.take(one.clone());
        // That of a reboot which only an empty segment, removed by now, would show is told again.
        let passes = matches!(
            one,
            Found::Progress { .. } | Found::Temporary(_) | Found::Tail(_, Record::Rebooted { .. })
        );
        if !passes {
            found.push(one);
        }
    })?;
    let (engine, _) = loader.finish(&start);
    Ok((start, engine, found))
}

/// Whatever was loaded, the engine goes on with it: leases end, tasks become due, pages are shown.
fn lives(mut engine: Engine) {
    let mut out = Vec::new();
    for (ticket, hours) in [0_u64, 1, 24 * 400].into_iter().enumerate() {
        let now = Now {
            wall: WallMillis(NOW.wall.0 + hours as i64 * 3_600_000),
            tick: NOW.tick.plus(Millis::from_secs(hours * 3600)),
        };
        let page = Request::Tasks(PageQuery {
            queue: None,
            state: None,
            id_prefix: None,
            limit: 100,
            after: None,
        });
        for (part, request) in [page, Request::Queues, Request::Status]
            .into_iter()
            .enumerate()
        {
            let ticket = Ticket((10 * ticket + part) as u64);
            engine.step(now, Input::Request(ticket, request), &mut out);
        }
        engine.step(now, Input::Flush, &mut out);
    }
    assert!(!out.is_empty());
}

/// What is damaged is set aside, with every byte of it, and a start is possible then.
fn mend(disk: &MapDisk, before: &BTreeMap<PathBuf, Vec<u8>>, error: &RecoverError) {
    let mut moved = Vec::new();
    match set_aside(&Arc::new(disk.clone()), &mut moved) {
        Ok(()) => {}
        // A newer program, or who renamed it, may know better.
        Err(RecoverError::Version { .. } | RecoverError::Misnamed { .. }) => return,
        Err(other) => panic!("it can't be set aside: {other}; at first: {error}"),
    }
    let now = disk.all();
    // Where nothing was, something was put.
    for one in moved.iter().filter(|one| one.file != one.now) {
        assert_eq!(now.get(&one.now), before.get(&one.file), "{one:?}");
    }
    for (path, bytes) in before {
        // Of the reserve a checkpoint is made that was missing.
        let stays = now.get(path) == Some(bytes) || path.ends_with("reserve");
        let aside = moved.iter().any(|one| one.file == *path);
        assert!(stays || aside, "{} is neither", path.display());
    }
    load(disk).expect("a start after a repair");
}

/// The real program says it in words that a terminal can show, and ends with one of its codes.
fn check(image: &Image) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    for (path, bytes) in &image.files {
        let path = Path::new(path);
        let good = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if !good || path.components().count() > 3 {
            return;
        }
        let path = scratch.path().join(path);
        let parent = path.parent().expect("it is in a directory");
        if fs::create_dir_all(parent).is_err() || path.is_dir() || fs::write(&path, bytes).is_err()
        {
            return;
        }
    }
    for repair in [&[][..], &["--repair"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_workqueuectl"))
            .arg("check")
            .arg(scratch.path())
            .args(repair)
            .output()
            .expect("it runs");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        let lines = said.split('\n').filter(|line| !line.is_empty());
        lines.for_each(text::plain);
    }
}

#[test]
fn a_start_reads_a_changed_journal_or_refuses_it_and_a_repair_loses_nothing() {
    let target = Target {
        name: "journal",
        inputs: 1200,
        per_byte: 50,
        besides: 2 << 20,
        longest: 24 << 10,
    };
    let told = HashSet::new();
    fuzz(&target, Journal { told });
}
