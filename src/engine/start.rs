//! [`Loader`]: a start, from what the store found to an engine that goes on.
//!
//! What was found comes in the order in which it is believed: the checkpoint, the names of files, the journal's tail. All
//! of it goes through the queue's one `apply`; the files' bookkeeping goes on as if the daemon had never been away, so
//! that every difference between journal and directory is written or removed behind like any other change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::{
    Engine, Entropy, Settings, astray::Astray, bodies::Bodies, claims::Waiting, files::Files,
    full::Full, kept::Kept, pace::Pace, past::Past, sizes::Sizes, taken::Taken, unmoved::Unmoved,
    unseen::Unseen, workers::Workers,
};
use crate::{
    defect::{Defect, planted},
    queue::Queues,
    store::{DirId, Disk, DiskError, Found, JournalStart, Ledger, LedgerSettings, Seq, shown},
    task::{
        Area, DirMark, Distribution, IdSource, Left, Location, Now, QueueName, Record, State,
        TaskId, WallMillis,
    },
};

/// How long a file may have been on its way to the disk when its task was completed, in milliseconds: a crash may have come between
/// its writing and its removal.
const WRITING: i64 = 10_000;

/// How many tasks are looked through in one piece.
const WALKED: u32 = 1 << 16;

/// Whether there is no file at a place, as far as the disk can tell.
fn is_missing(disk: &impl Disk, place: &Location) -> bool {
    let looked = disk.look(&place.path());
    looked.is_err_and(|error| error.is_missing())
}

/// A start on its way.
#[derive(Debug)]
pub struct Loader {
    engine: Engine,
    now: Now,
    /// Tasks of the checkpoint whose files have not been seen.
    unseen: HashSet<TaskId, FixedState>,
    /// Files whose task has another file already.
    doubles: Vec<Location>,
    /// The tasks that the journal's tail speaks of, or the checkpoint as a whole.
    touched: HashSet<TaskId, FixedState>,
    /// Those that ended, by the tail, and when, where it says so.
    ended: Vec<(TaskId, Option<WallMillis>)>,
    /// No later than what the tail tells of next: the last time that it named.
    told_at: Option<WallMillis>,
    /// Those that were cancelled because their files were gone, by the tail: what lies under their names now is not theirs.
    gone: HashSet<TaskId, FixedState>,
    /// How many files of tasks are here that ended, by the tail.
    survived: u64,
    /// What the tail tells of tasks that are not known. It means something if their files may be in a directory that is not there.
    unknown: Unseen,
    /// Whether that may be.
    elsewhere: bool,
    /// In which other folders files have been since the checkpoint.
    visited: Vec<(QueueName, DirMark)>,
    /// In which they are now, and were not by the checkpoint.
    arrived: Vec<Record>,
    files: u64,
    sorted: bool,
}

impl Loader {
    /// A start at `now`.
    #[must_use]
    pub fn new(settings: Settings, entropy: Entropy, now: Now) -> Self {
        let segment_bytes = settings.segment_bytes;
        let mut queue = Queues::new(settings.limits.clone());
        // So that what is due is ready at once, and not first sorted among the scheduled.
        queue.advance(now, 0);
        let engine = Engine {
            queue,
            ledger: Ledger::new(
                &JournalStart::default(),
                LedgerSettings {
                    segment_bytes,
                    sync: true,
                },
            ),
            ids: IdSource::default(),
            entropy,
            files: Files::default(),
            pace: Pace::default(),
            bodies: Bodies::default(),
            sizes: settings.max_spool.map(Sizes::new),
            waiting: Waiting::default(),
            workers: Workers::new(settings.max_workers),
            past: Past::default(),
            held: VecDeque::new(),
            parked: Vec::new(),
            roomless: VecDeque::new(),
            waits_since: None,
            segment_waiters: Vec::new(),
            put_off: 0,
            rivals: VecDeque::new(),
            astray: Astray::default(),
            taken: Taken::default(),
            kept: Kept::default(),
            unmoved: Unmoved::default(),
            deaf: None,
            irregular: BTreeMap::new(),
            missed: HashMap::default(),
            questions: 0,
            misnamed: HashMap::default(),
            vanished: HashSet::default(),
            stirred: BTreeSet::new(),
            prefetch_in: HashMap::default(),
            checkpointing: None,
            checkpoint_wanted: false,
            checkpoint_callers: Vec::new(),
            checkpoint_from: 0,
            checkpoint_at: None,
            is_brief: false,
            room_checkpoint_at: None,
            last_sealed: Seq(0),
            sealed_at: now.tick,
            writes: Distribution::new(Distribution::SHORT),
            room_refused: None,
            to_set_aside: false,
            claims_want_room: false,
            expiries_want_room: false,
            free: None,
            full: Full::default(),
            looks: VecDeque::new(),
            scans: VecDeque::new(),
            crowded: false,
            listening: false,
            export: None,
            told: None,
            syncs: 0,
            records: 0,
            rejected: 0,
            next_purge: None,
            starting: true,
            fault: None,
            stopping: false,
            closing: false,
            closed: false,
            settings,
        };
        Self {
            engine,
            now,
            unseen: HashSet::default(),
            doubles: Vec::new(),
            touched: HashSet::default(),
            ended: Vec::new(),
            told_at: None,
            gone: HashSet::default(),
            survived: 0,
            unknown: Unseen::default(),
            elsewhere: false,
            visited: Vec::new(),
            arrived: Vec::new(),
            files: 0,
            sorted: false,
        }
    }

    /// Takes one thing that was found.
    pub fn take(&mut self, found: Found) {
        match found {
            Found::LastId(id) => self.engine.ids.advance_past(id),
            Found::Checkpoint(record) => self.checkpointed(&record),
            Found::File(place) => self.file(place),
            Found::Tail(seq, record) => {
                self.sort_files();
                if let Some(id) = record.id() {
                    let alive = self.engine.queue.get(id).is_some();
                    // A task that is submitted in the tail has its payload there.
                    if matches!(record, Record::Submitted(_)) || !alive {
                        self.unseen.remove(&id);
                    }
                    if !alive {
                        self.note_unseen(id, &record);
                    }
                }
                self.changed(seq, &record);
            }
            Found::Temporary(_) | Found::Progress { .. } => {}
        }
    }

    /// The tail tells of a task that is not known.
    fn note_unseen(&mut self, id: TaskId, record: &Record) {
        let known = &mut self.engine.astray.unseen;
        let unseen = if known.has(id) {
            known
        } else {
            &mut self.unknown
        };
        unseen.note(record);
    }

    fn checkpointed(&mut self, record: &Record) {
        match record {
            // A task whose file could not be written: here is all of it. Or one that has ended, and whose files could not be
            // removed.
            Record::Submitted(_) | Record::Cancelled { .. } => self.changed(Seq(0), record),
            Record::Restored(task) => {
                if !self.touched.contains(&task.id) {
                    self.unseen.insert(task.id);
                }
                self.engine.queue.apply(record);
            }
            Record::Housed { .. } | Record::LeftBehind { .. } => {
                self.engine.astray.recall(record, self.now);
            }
            Record::DropBehind { .. } => {
                let now = self.engine.no_earlier_than_known(self.now);
                self.engine.taken.recall_missed(record, now);
            }
            _ if record.id().is_some() => self.engine.astray.unseen.note(record),
            _ => self.engine.queue.apply(record),
        }
    }

    /// All files were told of: what follows is about tasks in their order.
    fn sort_files(&mut self) {
        if std::mem::replace(&mut self.sorted, true) {
            return;
        }
        self.engine.queue.found_all();
        let (queues, limit) = (
            self.engine.queue.queue_count(),
            self.engine.settings.limits.max_queues,
        );
        if queues > limit {
            tracing::warn!(
                queues,
                limit,
                "there are more queues than max_queues: all go on, and no new one is taken until fewer have something"
            );
        }
        let unseen = &self.engine.astray.unseen;
        let found = unseen
            .ids()
            .filter(|id| self.engine.queue.get(*id).is_some());
        for id in found.collect::<Vec<_>>() {
            for record in self.engine.astray.unseen.take(id, self.now.tick) {
                self.changed(Seq(0), &record);
            }
        }
    }

    /// Makes a record true of which frame `seq` tells.
    fn changed(&mut self, seq: Seq, record: &Record) {
        self.touched.extend(record.id());
        match record {
            Record::Cancelled { id, gone: true } => {
                self.doubles.extend(self.found_place(*id));
                self.gone.insert(*id);
            }
            Record::Completed { id, at, .. } => {
                self.told_at = self.told_at.max(Some(*at));
                self.ended.push((*id, Some(*at)));
                self.ended(*id, Some(*at));
            }
            Record::Cancelled { id, .. } => {
                self.ended.push((*id, None));
                self.ended(*id, self.told_at);
            }
            Record::Claimed(claimed) => self.told_at = self.told_at.max(Some(claimed.at)),
            Record::Submitted(task) => {
                let made = task.id.made_at().filter(|_| task.made_here);
                self.told_at = self.told_at.max(made);
                self.gone.remove(&task.id);
            }
            Record::Housed { queue, mark } => self.visited.push((queue.clone(), *mark)),
            _ => {}
        }
        if matches!(record, Record::Completed { .. }) && planted(Defect::BelieveSurvivingFile) {
            return;
        }
        self.engine.make_true(self.now, record, seq);
        if let Record::Submitted(task) = record {
            // Its file was not synced: after a power cut there may be a name and nothing in it.
            let change = self.engine.files.note(task.id, None, seq, self.now.tick);
            change.rewrite = true;
        }
    }

    /// The journal tells of a task's end, which was at that time or later; none: at a time that it does not tell. The former life may
    /// have missed its file when it was to be removed, or have ended before it looked: then somebody has moved it, and it may come back
    /// under any name. It may have been on its way to the disk when the task ended. One that is here may be another, written since by
    /// that life.
    fn ended(&mut self, id: TaskId, at: Option<WallMillis>) {
        self.survived += u64::from(self.found_place(id).is_some());
        let now = self.now.wall;
        let written = at.map_or(now, |at| {
            at.max(WallMillis(at.0.saturating_add(WRITING)).min(now))
        });
        self.engine.astray.perhaps_missed(id, written, self.now);
    }

    /// Where the file of a task was found.
    fn found_place(&self, id: TaskId) -> Option<Location> {
        if self.unseen.contains(&id) {
            return None;
        }
        let engine = &self.engine;
        let place = if engine.files.is_settled(id) {
            engine.queue.location(id)
        } else {
            engine.files.place_of(id).cloned()
        };
        place.filter(|place| place.area == Area::Tasks)
    }

    fn file(&mut self, place: Location) {
        self.files += 1;
        let id = place.name.id;
        let engine = &mut self.engine;
        engine.astray.behind.seen(id);
        match engine.queue.location(id) {
            // Whether it is the one that was left behind is not told by its name.
            None if place.area == Area::Tasks && engine.astray.may_come_back(id, self.now.tick) => {
                self.doubles.push(place);
            }
            // By the checkpoint it had ended, and its file could not be removed.
            None if self.touched.contains(&id) => self.doubles.push(place),
            None => engine.queue.found(&place),
            Some(known) if self.unseen.remove(&id) => {
                // The file has moved on since the checkpoint; the tail will say so.
                if known != place {
                    engine.files.note(id, Some(place), Seq(0), self.now.tick);
                }
            }
            Some(_) => self.doubles.push(place),
        }
    }

    /// Holds the directories in which files are against those that the last checkpoint tells of: after all that was found was
    /// taken. Where one is another, what is not here was left behind in the former one, and nobody has removed it. `read` is the
    /// task directory whose names were read. `each` is called for each file that is looked for.
    pub fn compare(&mut self, disk: &impl Disk, read: Option<DirId>, each: &mut dyn FnMut()) {
        self.spare_later(disk, each);
        // A folder that may not be listed, or a mount that came meanwhile, has them.
        let queue = &self.engine.queue;
        self.unseen.retain(|id| {
            each();
            queue
                .location(*id)
                .is_some_and(|place| is_missing(disk, &place))
        });
        let others = self.others(disk, read);
        if others.is_empty() {
            return;
        }
        let at = self.now.wall;
        self.elsewhere = true;
        self.engine.moved(self.now);
        for (id, _) in std::mem::take(&mut self.ended) {
            if self.engine.queue.get(id).is_none() {
                self.engine.astray.behind.note(id, Left::Ended, at);
            }
        }
        let whole = others.contains(&QueueName::default());
        let (mut from, mut lost, mut copies) = (Some(0), 0_u64, 0_u64);
        while let Some(start) = from {
            let (ids, next) = self.engine.queue.walk(start, WALKED);
            from = next;
            for id in ids {
                let moved = |place: &Location| {
                    place.area == Area::Tasks && (whole || others.contains(&place.queue))
                };
                let Some(place) = self.engine.place_now(id).filter(moved) else {
                    continue;
                };
                each();
                let missing = is_missing(disk, &place);
                let here = self.engine.bodies.get(id).is_some();
                // One that has a file here may have another in the former directory.
                let left = if missing && !here {
                    Left::Only
                } else {
                    Left::Copy
                };
                lost += u64::from(left == Left::Only);
                copies += u64::from(missing && here);
                self.engine.astray.behind.note(id, left, at);
            }
        }
        self.engine.checkpoint_wanted = true;
        if lost + copies == 0 {
            return tracing::info!(
                "the task directory, or a queue's, is another one than when the daemon last ran"
            );
        }
        tracing::warn!(
            lost,
            files = lost + copies,
            "another directory is where tasks had their files when the daemon last ran: those whose payloads are only in the former one wait for it"
        );
    }

    /// A file that has the name of a task's which was completed, and was written long after that, is another one that somebody has put
    /// there: it is not removed, but judged like any dropped file. It makes no task, as the former life may have been writing the task's
    /// own for so long, to a disk that stood still.
    fn spare_later(&mut self, disk: &impl Disk, each: &mut dyn FnMut()) {
        // A task may have had the id of one that ended before: its file is judged by its own end.
        let mut judged = HashSet::<TaskId, FixedState>::default();
        for (id, at) in self.ended.iter().rev() {
            if !judged.insert(*id) {
                continue;
            }
            let engine = &mut self.engine;
            let (Some(at), None) = (at, engine.queue.get(*id)) else {
                continue;
            };
            let Some(place) = engine.files.place_of(*id).cloned() else {
                continue;
            };
            each();
            let later = WallMillis(at.0.saturating_add(WRITING))..self.now.wall;
            let looked = disk.look(&place.path());
            if place.area == Area::Tasks && looked.is_ok_and(|meta| meta.is_written_within(&later))
            {
                engine.files.note_gone(*id);
                engine.astray.doubtful(*id, self.now);
                self.gone.insert(*id);
                self.doubles.push(place);
                self.survived = self.survived.saturating_sub(1);
            }
        }
    }

    /// The queues whose files were in another directory than now, which is noted. With the default one go all.
    fn others(&mut self, disk: &impl Disk, read: Option<DirId>) -> Vec<QueueName> {
        let Some(read) = read else { return Vec::new() };
        let mark_of = |queue: &QueueName| -> Result<Option<DirMark>, DiskError> {
            let now = match disk.directory(&Area::Tasks.folder(queue)) {
                Ok(now) => now,
                Err(error) if error.is_missing() => return Ok(None),
                Err(error) => return Err(error),
            };
            // A folder of its own is only what is mounted.
            let counts = queue.is_default() || !now.is_beside(&read);
            Ok(counts.then(|| now.mark()))
        };
        let engine = &mut self.engine;
        let homes = engine.astray.behind.homes();
        let Some(root) = homes.get(&QueueName::default()) else {
            // What no checkpoint tells of can't be another one.
            return Vec::new();
        };
        let visited = &self.visited;
        let was_elsewhere = |queue: &QueueName, now: Option<DirMark>| {
            let marks = visited.iter().filter(|(visited, _)| visited == queue);
            marks.into_iter().any(|(_, mark)| Some(*mark) != now)
        };
        let has_moved = *root != read.mark();
        let names = engine.queue.queue_names().chain(homes.keys());
        let names: BTreeSet<QueueName> = names.cloned().collect();
        let mut others = Vec::new();
        for queue in names {
            match mark_of(&queue) {
                Ok(now) => {
                    let news = engine.astray.behind.housed(queue.clone(), now);
                    let arrived = news || (has_moved && queue.is_default());
                    if arrived && let Some(mark) = now {
                        let queue = queue.clone();
                        self.arrived.push(Record::Housed { queue, mark });
                    }
                    if arrived || was_elsewhere(&queue, now) {
                        others.push(queue);
                    }
                }
                Err(error) => {
                    let folder = Area::Tasks.folder(&queue);
                    tracing::warn!(folder = %shown(&folder), %error, "can't tell whether a directory is the one that it was");
                }
            }
        }
        others
    }

    /// Looks how large the tasks' files are, if a limit asks for that: after all that was found was taken. `each` is called for
    /// each file.
    pub fn measure(&mut self, disk: &impl Disk, each: &mut dyn FnMut()) {
        for id in self.engine.unmeasured() {
            each();
            let Some(place) = self.engine.queue.location(id) else {
                continue;
            };
            match disk.look(&place.path()) {
                Ok(meta) => self.engine.note_size(id, meta.size),
                Err(error) => {
                    // None that is missing stays a task, but one that a worker holds.
                    if !error.is_missing() {
                        tracing::warn!(file = %place, %error, "a task's file can't be looked at: max_spool does not count it");
                    }
                    self.engine.note_size(id, 0);
                }
            }
        }
    }

    /// The engine, ready to go on, and the canonical files that are no task's: to be looked at as drops.
    #[must_use]
    pub fn finish(mut self, start: &JournalStart) -> (Engine, Vec<Location>) {
        self.sort_files();
        let engine = &mut self.engine;
        let sync = engine.settings.durability == super::Durability::Sync;
        let segment_bytes = engine.settings.segment_bytes;
        engine.ledger = Ledger::new(
            start,
            LedgerSettings {
                segment_bytes,
                sync,
            },
        );
        engine.last_sealed = engine.ledger.synced_seq();
        engine.ledger.set_counts(
            engine.queue.len() as u64,
            engine.queue.leased_count() as u64,
        );
        engine.held.clear();
        engine.starting = false;
        let now = engine.no_earlier_than_known(self.now);
        for (id, source) in engine.files.remember_sources() {
            // None of them is removed yet.
            engine.taken.recall(source, id, now, |_| true);
        }
        // The former life may have written their files once more, because somebody had moved them.
        for (id, _) in engine.queue.leased() {
            engine.astray.note_restless(id, now.tick);
        }
        engine.queue.forget_counts();
        engine.workers = Workers::new(engine.settings.max_workers);
        engine.past.forget_times();
        if self.elsewhere {
            engine.astray.unseen.join(&self.unknown);
        }
        if engine.astray.unseen.has_forgotten() {
            tracing::warn!(
                "of tasks whose files are in a directory that is not there, more has happened than is kept: some of it is forgotten"
            );
        }
        if !self.arrived.is_empty() {
            engine.commit(self.now, &self.arrived);
        }
        // A task that only the checkpoint knows had its file on the disk; somebody removed it while no daemon ran.
        for id in std::mem::take(&mut self.unseen) {
            let leased = engine
                .queue
                .get(id)
                .is_none_or(|entry| entry.state == State::Leased);
            if !leased && !engine.astray.behind.is_lost(id) {
                tracing::info!(task_id = %id, "a task's file was removed while the daemon was down: it is cancelled");
                engine.commit(self.now, &[Record::Cancelled { id, gone: true }]);
            }
        }
        // A second file of a task that the tail speaks of is what a crash left of a move: it must not come back as a drop.
        let seq = engine.ledger.synced_seq();
        let (touched, gone) = (&self.touched, &self.gone);
        let queue = &engine.queue;
        let ours = |place: &mut Location| {
            let id = place.name.id;
            // In dead/ nobody drops anything: that is what a crash left of a retry, also where a checkpoint came in between.
            let is_left = place.area == Area::Dead && queue.get(id).is_some();
            is_left || (touched.contains(&id) && !gone.contains(&id))
        };
        for place in self.doubles.extract_if(.., ours) {
            let id = place.name.id;
            let now = engine.queue.location(id);
            let change = engine.files.note(id, now, seq, self.now.tick);
            // A task that was cancelled, and is there again by a file in this place.
            if change.old.as_ref() != Some(&place) {
                change.strays.push(place);
            }
        }
        if self.survived > 0 {
            tracing::info!(
                files = self.survived,
                "files of tasks that have ended are still here: they are removed"
            );
        }
        let queue = &engine.queue;
        self.doubles.retain(|place| {
            place.area == Area::Tasks && queue.location(place.name.id).as_ref() != Some(place)
        });
        (self.engine, self.doubles)
    }

    /// How many task files were found so far.
    #[must_use]
    pub const fn files(&self) -> u64 {
        self.files
    }
}

impl Engine {
    /// `now`, but for a wall clock that was set back since the last id was made: what a former life has seen was there before that.
    fn no_earlier_than_known(&self, now: Now) -> Now {
        let made = self.ids.last().and_then(|id| id.made_at());
        let wall = made.map_or(now.wall, |made| made.max(now.wall));
        Now { wall, ..now }
    }
}
