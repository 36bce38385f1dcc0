//! `check`: looks through a data directory without a daemon.
//!
//! Names and JSON it reads as people do; the journal it has read by the store, with the code of a start. With `--repair`
//! damaged pieces of the journal are set aside, never deleted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    console::{Colour, Console},
    error::CtlError,
    shape::{self, Shape},
    table::{Side, Table, escaped},
};
use crate::{
    store::{self, Found, Lock, Moved, RealDisk, RecoverError, Seq, TornTail},
    task::{Area, FileName, PayloadLimits, QueueName, TaskId, WallMillis, read_dropped},
};

/// What was found.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Report {
    data_dir: String,
    /// The daemon that runs on it.
    locked_by: Option<u32>,
    /// Whether a daemon runs on it, also where its pid can't be told.
    locked: bool,
    /// Files of tasks by area and queue.
    files: BTreeMap<String, BTreeMap<String, u64>>,
    /// Files that wait to be taken in: dropped, under names of their own.
    dropped: u64,
    /// Files that are still being written, or are none of ours.
    ignored: u64,
    /// The daemon's own files that a crash left half written; the next start removes them.
    temporary: u64,
    rejected: u64,
    journal_files: u64,
    journal_bytes: u64,
    /// Whether the journal was read as a start would read it: not while a daemon writes to it.
    journal_read: bool,
    /// What is not well.
    problems: Vec<Problem>,
    /// What a crash left, and the next start settles by itself.
    unsettled: Vec<Problem>,
    /// Where each task's file was seen.
    #[serde(skip)]
    seen: BTreeMap<TaskId, PathBuf>,
    /// Further files of tasks.
    #[serde(skip)]
    doubles: Vec<(TaskId, PathBuf, PathBuf)>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Problem {
    path: String,
    what: String,
}

/// The fields of what is found.
pub(super) fn fields() -> Vec<String> {
    shape::fields::<Report>()
}

pub(super) fn run(
    data: Option<PathBuf>,
    repair: bool,
    shape: &Shape,
    console: &mut Console,
) -> Result<(), CtlError> {
    let data = match data {
        Some(data) => data,
        None => match console.surroundings.data_dir() {
            Ok((data, _)) => data,
            Err(error) => return Err(CtlError::Usage(error.to_string())),
        },
    };
    if repair {
        mend(&data, console)?;
    }
    let report = look(&data).map_err(|cause| CtlError::File {
        path: data.clone(),
        cause,
    })?;
    if !shape.tell(&report, console)? {
        let text = screen(&report, console);
        console.out.write_all(text.as_bytes())?;
    }
    match report.problems.len() {
        0 => Ok(()),
        count => Err(CtlError::NotWell(format!(
            "{}: {count} found that are not well",
            data.display()
        ))),
    }
}

fn look(data: &Path) -> io::Result<Report> {
    let mut report = Report {
        data_dir: data.display().to_string(),
        ..Report::default()
    };
    // The directory itself has to be readable; what is wrong below it is a finding.
    fs::read_dir(data)?;
    let is_missing = |part: &str| matches!(data.join(part).try_exists(), Ok(false));
    if is_missing("tasks") && is_missing("journal") {
        let what = "no data directory of a daemon: it has neither tasks/ nor journal/";
        report.problem(data, what);
    }
    lock(data, &mut report);
    for area in [Area::Tasks, Area::Dead, Area::Done] {
        folders(&data.join(area.dir()), area, &mut report);
    }
    rejected(&data.join("rejected"), &mut report);
    journal(&data.join("journal"), &mut report);
    Ok(report)
}

/// Rejected files, each with its reason beside it.
fn rejected(path: &Path, report: &mut Report) {
    let (files, _) = listing(path, report);
    let all: BTreeSet<&PathBuf> = files.iter().collect();
    for file in &files {
        let mut beside = file.clone().into_os_string();
        beside.push(".reason");
        let has_reason = all.contains(&PathBuf::from(beside));
        // A rejected file may be called so itself: then it has a reason of its own.
        if has_extension(file, "reason") && !has_reason {
            if !all.contains(&file.with_extension("")) {
                report.problem(file, "a reason without its file");
            }
            continue;
        }
        report.rejected += 1;
        if !has_reason {
            report.problem(file, "no reason beside it");
        }
    }
}

/// Whether a daemon holds the lock, and what is wrong with its file.
fn lock(data: &Path, report: &mut Report) {
    let path = data.join("lock");
    let mut is_holders = false;
    match store::holder(data) {
        Ok(Some(holder)) => {
            report.locked = true;
            report.locked_by = holder.pid;
            // Where it is another one, it says nothing of that daemon.
            is_holders = holder.path == path;
        }
        Ok(None) => {}
        Err(error) => report.problem(&path, &error.to_string()),
    }
    if let Some(what) = store::no_file(&path) {
        let what = format!("{what}, and has to be a file: remove it, and the next start makes one");
        return report.problem(&path, &what);
    }
    let journal = data.join("journal");
    match (store::moved_journal(data), is_holders) {
        (Ok(None), _) | (Ok(Some(Moved::Other)), false) => {}
        (Ok(Some(_)), true) => {
            let what = "another directory than the daemon began with, which writes to that one: put it back before the next start";
            report.problem(&journal, what);
        }
        (Ok(Some(Moved::Empty)), false) => {
            let what = "without a journal, and another directory than the last daemon wrote to: was that moved, or is it not mounted?";
            report.problem(&journal, what);
        }
        (Ok(Some(Moved::Older)), false) => {
            let what = "another directory than the last daemon wrote to, with a journal that ends before that one's: was that moved, or is it not mounted?";
            report.problem(&journal, what);
        }
        (Err(error), _) => report.problem(&path, &error.to_string()),
    }
}

/// An area: the default queue's files, and a folder for each further queue.
fn folders(path: &Path, area: Area, report: &mut Report) {
    let queue = QueueName::default();
    let (files, folders) = listing(path, report);
    for file in files {
        task_file(&file, area, &queue, report);
    }
    for inner in folders {
        let name = inner.file_name().and_then(|name| name.to_str());
        match name.and_then(|name| QueueName::parse(name).ok()) {
            // Files may be dropped there, too; no task's file stays.
            Some(name) if name.is_default() && area == Area::Tasks => {
                files_of(&inner, report, dropped_file);
            }
            Some(name) if !name.is_default() => files_of(&inner, report, |file, report| {
                task_file(file, area, &name, report);
            }),
            _ => report.problem(&inner, "a folder whose name is no queue's"),
        }
    }
}

/// The files of a queue's folder, which has no folders of its own.
fn files_of(path: &Path, report: &mut Report, each: impl Fn(&Path, &mut Report)) {
    let (files, folders) = listing(path, report);
    for file in files {
        each(&file, report);
    }
    for inner in folders {
        report.problem(&inner, "a folder whose name is no queue's");
    }
}

fn name_of(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// A file that is no task's yet.
fn dropped_file(path: &Path, report: &mut Report) {
    if is_unfinished(name_of(path)) {
        report.ignored += 1;
    } else if has_extension(path, "json") || has_extension(path, "txt") {
        report.dropped += 1;
    } else {
        report.problem(path, "a name that is no task's");
    }
}

fn task_file(path: &Path, area: Area, queue: &QueueName, report: &mut Report) {
    let name = name_of(path);
    let Some(parsed) = FileName::parse(name) else {
        match area {
            _ if name.starts_with(".wq-") && has_extension(path, "tmp") => report.temporary += 1,
            Area::Tasks => dropped_file(path, report),
            _ if is_unfinished(name) => report.ignored += 1,
            _ => report.problem(path, "a name that is no task's"),
        }
        return;
    };
    let by_queue = report.files.entry(area.dir().to_owned()).or_default();
    *by_queue.entry(queue.to_string()).or_default() += 1;
    // A daemon at work may be just moving it; done/ may keep what a later task with the same id has not to do with.
    if area != Area::Done
        && !report.locked
        && let Some(other) = report.seen.insert(parsed.id, path.to_owned())
    {
        let double = (parsed.id, path.to_owned(), other);
        report.doubles.push(double);
    }
    if let Some(what) = content_problem(path, parsed, queue) {
        report.problem(path, &what);
    }
}

fn has_extension(path: &Path, end: &str) -> bool {
    path.extension().is_some_and(|found| found == end)
}

/// As the watcher has it: these are still being written.
fn is_unfinished(name: &str) -> bool {
    name.starts_with('.')
        || [".tmp", ".part", ".swp", "~"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// What a daemon would find wrong with a task's file: it is read by the same code, but for the limit of payloads, which is a
/// setting.
fn content_problem(path: &Path, name: FileName, queue: &QueueName) -> Option<String> {
    let text = match fs::read(path) {
        Ok(text) => text,
        // Gone since it was listed: a daemon is at work.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return None,
        Err(cause) => return Some(cause.to_string()),
    };
    let task = match read_dropped(
        &text,
        queue,
        Some(name),
        WallMillis(0),
        PayloadLimits::own(usize::MAX),
    ) {
        Ok(task) => task,
        Err(refusal) => return Some(refusal.to_string()),
    };
    if let Some(id) = task.id.filter(|id| *id != name.id) {
        return Some(format!("its id, {id}, is not that of its name"));
    }
    (task.priority != name.priority)
        .then(|| format!("its priority, {}, is not that of its name", task.priority))
}

/// Has the journal read as a start would read it.
fn journal(path: &Path, report: &mut Report) {
    let (files, folders) = listing(path, report);
    for folder in folders {
        report.problem(&folder, "a folder where only files belong");
    }
    for file in files {
        match fs::metadata(&file) {
            Ok(meta) => {
                report.journal_files += 1;
                report.journal_bytes += meta.len();
            }
            Err(cause) => report.problem(&file, &cause.to_string()),
        }
    }
    // While a daemon writes, its last frame may look torn or damaged to somebody else.
    report.journal_read = !report.locked;
    let Some(data) = path.parent().filter(|_| !report.locked && path.exists()) else {
        return doubles(&BTreeSet::new(), report);
    };
    let mut told = BTreeSet::new();
    let mut sink = |found| {
        if let Found::Tail(_, record) = found {
            told.extend(record.id());
        }
    };
    let disk = match RealDisk::open(data) {
        Ok(disk) => Arc::new(disk),
        Err(error) => return report.problem(data, &error.to_string()),
    };
    match store::inspect(&disk, &mut sink) {
        Ok(start) => {
            if let Some(TornTail {
                file,
                offset,
                reason,
            }) = start.torn
            {
                let what = format!("{reason}, at byte {offset}: what follows is cut off");
                report.unsettled(&data.join(file), what);
            }
            if let Some(file) = start.passed_over {
                let what = "damaged, and passed over: the journal is whole without it".to_owned();
                report.unsettled(&data.join(file), what);
            }
        }
        Err(error) => report.problem(data, &foreseen(&disk, &error)),
    }
    doubles(&told, report);
}

/// What stops a start, and what a repair would keep, where that is not told by the damage alone.
fn foreseen(disk: &RealDisk, error: &RecoverError) -> String {
    match store::kept_behind(disk, error) {
        Ok(Some(cut)) => format!("{error}, and {}", stand_in(cut)),
        Ok(None) => error.to_string(),
        Err(other) => format!("{error}; {other}"),
    }
}

/// What becomes of a damaged checkpoint behind whose cut the journal is there.
fn stand_in(cut: Seq) -> String {
    format!(
        "an empty checkpoint takes its place, so that all that the journal tells from frame {} on is kept, and the tasks' files; \
         lost is what only the damaged one told: attempts and errors, leases (such a task is handed out again), what is paused or \
         draining, tasks whose files were not written yet, and that tasks had ended whose files were not removed yet (they come back)",
        cut.next()
    )
}

/// Further files of tasks: those of which the journal's tail tells are what a crash left of a move.
fn doubles(told: &BTreeSet<TaskId>, report: &mut Report) {
    for (id, path, other) in std::mem::take(&mut report.doubles) {
        let what = format!("task {id} has another file: {}", other.display());
        if told.contains(&id) {
            report.unsettled(&path, what);
        } else {
            report.problem(&path, &what);
        }
    }
}

/// Sets damaged pieces of the journal aside, and says what and where to.
fn mend(data: &Path, console: &mut Console) -> Result<(), CtlError> {
    let not_well = |text: String| CtlError::NotWell(format!("{}: {text}", data.display()));
    // Without one nothing is to be repaired, and no lock to be left in a directory that is perhaps none of ours.
    if !data.join("journal").is_dir() {
        return Ok(());
    }
    let _lock = Lock::take(data).map_err(|error| not_well(error.to_string()))?;
    let disk = RealDisk::open(data).map_err(|error| not_well(error.to_string()))?;
    let mut moved = Vec::new();
    let done = store::set_aside(&Arc::new(disk), &mut moved);
    for one in &moved {
        let kept = match (one.kept, one.replayed_after) {
            (_, Some(cut)) => format!("; {}", stand_in(cut)),
            (0, None) => String::new(),
            (bytes, None) => format!("; its first {bytes} bytes are whole and stay in use"),
        };
        let done = if one.file == one.now {
            format!("put {} in place", one.file.display())
        } else {
            format!("set aside {} as {}", one.file.display(), one.now.display())
        };
        let line = format!("{done}: {}{kept}", one.reason);
        writeln!(console.err, "{}", escaped(&line))?;
    }
    if moved.iter().any(|one| one.replayed_after.is_none()) {
        let note = "the tasks' files are untouched; what only these pieces knew (attempts, leases, tasks and completions \
                    without a file yet) is lost";
        writeln!(console.err, "{note}")?;
    }
    if !moved.is_empty() {
        let note = "look through the tasks before workers start";
        writeln!(console.err, "{note}")?;
    }
    done.map_err(|error| not_well(error.to_string()))?;
    // Also those of a repair that was killed.
    store::give_journal_away(data).map_err(|error| not_well(error.to_string()))
}

/// Regular files and folders of a folder, by name. One that is missing is empty: the daemon makes it when it needs it.
fn listing(path: &Path, report: &mut Report) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return (files, folders),
        Err(cause) => {
            report.problem(path, &cause.to_string());
            return (files, folders);
        }
    };
    for entry in entries {
        match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
            Ok((path, kind)) if kind.is_file() => files.push(path),
            Ok((path, kind)) if kind.is_dir() => folders.push(path),
            Ok((path, _)) => report.problem(&path, "neither a regular file nor a folder"),
            Err(cause) => report.problem(path, &cause.to_string()),
        }
    }
    files.sort();
    folders.sort();
    (files, folders)
}

impl Report {
    fn unsettled(&mut self, path: &Path, what: String) {
        self.unsettled.push(Problem {
            path: path.display().to_string(),
            what,
        });
    }

    fn problem(&mut self, path: &Path, what: &str) {
        self.problems.push(Problem {
            path: path.display().to_string(),
            what: what.to_owned(),
        });
    }
}

fn screen(report: &Report, console: &Console) -> String {
    let lock = match (report.locked, report.locked_by) {
        (true, Some(pid)) => {
            format!("held by process {pid}: a daemon is at work, so counts may be on the move")
        }
        (true, None) => "held by a process outside of this container".to_owned(),
        (false, _) => "free: no daemon runs on it".to_owned(),
    };
    let mut text = format!(
        "{}\nlock       {lock}\njournal    {} files, {} bytes\ndropped    {} files wait to be taken in\nunfinished \
         {} files are still being written\ntemporary  {} files of a former life, \
         which the next start removes\nrejected   {} files\n\n",
        escaped(&report.data_dir),
        report.journal_files,
        report.journal_bytes,
        report.dropped,
        report.ignored,
        report.temporary,
        report.rejected
    );
    let mut table = Table::new([
        ("WHERE", Side::Left),
        ("QUEUE", Side::Left),
        ("TASKS", Side::Right),
    ]);
    for (area, queues) in &report.files {
        for (queue, count) in queues {
            table.row([area.into(), queue.into(), count.to_string().into()]);
        }
    }
    if report.files.is_empty() {
        text.push_str("no files of tasks\n");
    } else {
        text.push_str(&table.render(console.colour));
    }
    text.push('\n');
    for problem in &report.problems {
        let line = format!("{}: {}", escaped(&problem.path), escaped(&problem.what));
        text.push_str(&console.paint(Colour::Red, &line));
        text.push('\n');
    }
    for one in &report.unsettled {
        let line = format!(
            "{}: {}; the next start settles this",
            escaped(&one.path),
            escaped(&one.what)
        );
        text.push_str(&console.paint(Colour::Yellow, &line));
        text.push('\n');
    }
    match (report.problems.is_empty(), report.journal_read) {
        (true, true) => {
            text.push_str(&console.paint(Colour::Green, "all is well"));
            text.push('\n');
        }
        (true, false) => {
            let line =
                "nothing is wrong but for the journal, which was not read: a daemon writes to it";
            text.push_str(&console.paint(Colour::Yellow, line));
            text.push('\n');
        }
        (false, _) => {}
    }
    text
}
