//! [`Files`]: which task files are not yet as they should be. The write-behind half of "the journal makes it durable, the
//! files make it visible".
//!
//! Pure bookkeeping: it knows for each changed task where its file was when the change began, and since which frame of the
//! journal that is so. What the file should be is read from the queue when the change is due.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{
    by_id::ById,
    failing::{FIRST, Failing},
};
use crate::{
    store::Seq,
    task::{
        Area, ExecTime, Location, Millis, Now, Options, Payload, Priority, QueueName, Record,
        Source, Submitted, TaskId, Tick, WallMillis,
    },
};

/// What was written to the place of a task's file since a change of it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// Nothing.
    Former,
    /// Perhaps what the daemon itself was writing there.
    Ours,
    /// Something has come there that is not the daemon's.
    Strange,
}

/// A task's file that is not as it should be.
#[derive(Debug, Clone)]
pub(super) struct FileChange {
    /// Where the file is; `None`: there is none.
    pub(super) old: Option<Location>,
    /// Dropped files to be removed: the one that the task came in, and those in which it came again.
    pub(super) sources: Vec<Source>,
    /// Other files of the task that a crash left between the writing of a new one and the removal of the old.
    pub(super) strays: Vec<Location>,
    /// The file is written also where it is in its place: nobody can say whether it is whole.
    pub(super) rewrite: bool,
    /// The file was not where it was taken to be: until it has been read, none of its places is given up.
    pub(super) sought: bool,
    /// What has come to the file's place.
    writing: Writing,
    /// What is to stand in `done/`, for a task that was completed where that is kept.
    pub(super) done: Option<Box<DoneTask>>,
    /// Bytes of the payload that is only in memory and in the journal until then.
    bytes: u64,
    /// The first frame that this change is about: its segment must stay until the change is made, or until a checkpoint holds
    /// what the change is about.
    first: Seq,
    /// The same, whatever checkpoints hold.
    begun: Seq,
    /// The last one: the change may be made when that is durable.
    last: Seq,
    since: Tick,
}

impl FileChange {
    /// Whether there is nothing on the disk to be changed, should the task have ended.
    fn is_nothing(&self) -> bool {
        self.old.is_none()
            && self.sources.is_empty()
            && self.strays.is_empty()
            && self.done.is_none()
            && !self.rewrite
            && !self.sought
    }

    /// Whether there was, as far as is known, a file of the task's own before the change; its new one may be at `goal`.
    fn had_own(&self, goal: Option<&Location>) -> bool {
        self.old.is_some() || self.strays.iter().any(|stray| Some(stray) != goal)
    }

    /// Counts it among those that depend on frames from `seq` on.
    fn depend_from(&mut self, seq: Seq, unsettled: &mut BTreeMap<Seq, u64>) {
        let before = std::mem::replace(&mut self.first, seq);
        *unsettled.entry(seq).or_default() += 1;
        settle(unsettled, before);
    }

    /// When a file in the place of one that is to be removed was written, if it is another one; `None`: nothing says that there is
    /// one. A time to come is told by a clock that was set back since. Of a file that was written in the moment of the task's end nobody
    /// can tell which it is: it counts as the task's own, as a look through the directory tells of those, too.
    pub(super) fn strange(&self, now: Now) -> Option<Range<WallMillis>> {
        let is_doubtful = self.writing == Writing::Strange;
        is_doubtful.then(|| wall_of(self.since, now)..now.wall)
    }

    /// Whether all that is to be done is that the file goes elsewhere.
    pub(super) const fn is_move(&self) -> bool {
        self.has_file() && self.strays.is_empty()
    }

    /// Whether the task's file is whole somewhere, and no other stands for it.
    pub(super) const fn has_file(&self) -> bool {
        self.old.is_some() && !self.rewrite && self.sources.is_empty()
    }

    /// For a checkpoint, of a task that has ended: it came and went, and its files are to be removed.
    pub(super) fn ended_records(&self, id: TaskId) -> Vec<Record> {
        let came_in: Vec<Option<&Source>> = if self.sources.is_empty() {
            vec![None]
        } else {
            self.sources.iter().map(Some).collect()
        };
        let queue = self.old.as_ref().map(|old| old.queue.clone());
        let came = |source: Option<&Source>| Submitted {
            id,
            made_here: false,
            queue: queue.clone().unwrap_or_default(),
            priority: Priority::default(),
            exectime: ExecTime::ASAP,
            options: Options::default(),
            payload: Payload::null(),
            source: source.cloned(),
            past: None,
        };
        let records = came_in.into_iter().flat_map(|source| {
            let came = Record::Submitted(came(source).into());
            [came, Record::Cancelled { id, gone: false }]
        });
        records.collect()
    }
}

/// A completed task whose file is kept.
#[derive(Debug, Clone)]
pub(super) struct DoneTask {
    pub(super) at: Location,
    pub(super) payload: Option<Payload>,
    pub(super) priority: Priority,
    pub(super) options: Options,
    pub(super) attempts: u32,
    pub(super) result: Option<Payload>,
    pub(super) completed_at: WallMillis,
}

/// Which task files are not as they should be.
#[derive(Debug, Default)]
pub(super) struct Files {
    waiting: ById<FileChange>,
    order: VecDeque<(Tick, TaskId)>,
    in_flight: ById<FileChange>,
    later: BTreeSet<(Tick, TaskId)>,
    unsettled: BTreeMap<Seq, u64>,
    /// Tasks that ended before they had a file, by the frame that says so.
    ended: VecDeque<(Seq, TaskId)>,
    bytes: u64,
    /// Dropped files that have been taken and are still there.
    sources: HashMap<PathBuf, Source, FixedState>,
    /// Those of a former life, until the first look through their folders has ended: that look may have seen one of them
    /// just before it was removed, and tell of it after.
    former: HashMap<PathBuf, Source, FixedState>,
    failing: Failing,
    /// Changes that could not be made since somebody began to wait for all up to some frame; `None`: nobody does.
    hindered: Option<Vec<TaskId>>,
    /// Changes that the present checkpoint, or the last one, holds.
    covered: Vec<TaskId>,
}

/// How many changes that found no room are tried again in the time that one rests.
const TRIES_A_ROUND: u64 = 256;

/// So many places a queue keeps, also when it is empty.
const LEAST_CAPACITY: usize = 8192;

/// Gives memory back after a burst.
fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > LEAST_CAPACITY && queue.len() < queue.capacity() / 8 {
        queue.shrink_to(queue.len() * 2);
    }
}

impl Files {
    /// The file of `id` was at `old` until frame `seq` changed that.
    pub(super) fn note(
        &mut self,
        id: TaskId,
        old: Option<Location>,
        seq: Seq,
        now: Tick,
    ) -> &mut FileChange {
        let writing = if self.in_flight.contains_key(&id) {
            Writing::Ours
        } else {
            Writing::Former
        };
        let change = self.waiting.get_or_insert_with(id, || {
            *self.unsettled.entry(seq).or_default() += 1;
            self.order.push_back((now, id));
            FileChange {
                old,
                sources: Vec::new(),
                strays: Vec::new(),
                rewrite: false,
                sought: false,
                writing,
                done: None,
                bytes: 0,
                first: seq,
                begun: seq,
                last: seq,
                since: now,
            }
        });
        change.last = change.last.max(seq);
        change
    }

    /// Like [`Files::note`], of a task that came in a dropped file.
    pub(super) fn note_source(&mut self, id: TaskId, source: Source, seq: Seq, now: Tick) {
        self.sources.insert(source.path.clone(), source.clone());
        self.note(id, None, seq, now).sources.push(source);
    }

    /// The change of `id` is about a new payload of `bytes`.
    pub(super) fn note_payload(&mut self, id: TaskId, bytes: usize) {
        if let Some(change) = self.waiting.get_mut(&id) {
            change.bytes += bytes as u64;
            self.bytes += bytes as u64;
        }
    }

    /// The file of `id` is not where it was, and its task has ended: what comes there next is not ours to remove.
    pub(super) fn note_gone(&mut self, id: TaskId) {
        if let Some(change) = self.waiting.get_mut(&id) {
            change.old = None;
        }
    }

    /// Something has come to where the file of a task is that has ended: that may be another one.
    pub(super) fn note_crossed(&mut self, id: TaskId) {
        let change = self.waiting.get_mut(&id);
        if let Some(change) = change.filter(|change| change.writing == Writing::Former) {
            change.writing = Writing::Strange;
        }
    }

    /// The task of a change has ended in frame `seq`. If it has no file yet, it will not get one.
    pub(super) fn note_end(&mut self, id: TaskId, seq: Seq) {
        self.forget_payload(id);
        if self.waiting.get(&id).is_some_and(FileChange::is_nothing) {
            self.ended.push_back((seq, id));
        }
    }

    /// The payload of a task that has ended waits for no file, unless `done/` is to have it.
    pub(super) fn forget_payload(&mut self, id: TaskId) {
        let change = self.waiting.get_mut(&id);
        if let Some(change) = change.filter(|change| change.done.is_none()) {
            self.bytes -= std::mem::take(&mut change.bytes);
        }
    }

    /// Lets changes go of tasks that ended before they had a file, now that their ends are durable: before that, a
    /// checkpoint might let go of the only word that there is of such a task. `exists` tells of a task that came back under
    /// the same id.
    pub(super) fn settle_ended(&mut self, durable: Seq, exists: impl Fn(TaskId) -> bool) {
        while let Some((_, id)) = self.ended.pop_front_if(|(seq, _)| *seq <= durable) {
            let waits = self
                .waiting
                .get(&id)
                .is_some_and(|change| change.last <= durable && change.is_nothing());
            if waits
                && !exists(id)
                && let Some(change) = self.waiting.remove(&id)
            {
                self.bytes -= change.bytes;
                settle(&mut self.unsettled, change.first);
                self.failing.made(id);
            }
        }
        while let Some((since, id)) = self.order.front()
            && self
                .waiting
                .get(id)
                .is_none_or(|change| change.since != *since)
        {
            self.order.pop_front();
        }
    }

    /// The task's file was found at `place`, where it should not be, and nowhere else so far.
    pub(super) fn found(&mut self, id: TaskId, place: Location, seq: Seq, now: Tick) {
        let change = self.note(id, Some(place.clone()), seq, now);
        change.sought = true;
        change.strays.retain(|stray| *stray != place);
        let before = change.old.replace(place);
        change
            .strays
            .extend(before.filter(|before| Some(before) != change.old.as_ref()));
    }

    /// There is no file where that of a task was before its change: it may be where it goes (a former life was interrupted
    /// behind that, and this one has not seen it), or at another of its places.
    pub(super) fn look_elsewhere(&mut self, id: TaskId, goal: Location) {
        if let Some(change) = self.waiting.get_mut(&id)
            && let Some(old) = change.old.take()
        {
            if old != goal && !change.strays.contains(&goal) {
                change.strays.push(goal);
            }
            change.strays.push(old);
            change.old = Some(change.strays.remove(0));
            change.sought = true;
        }
    }

    /// Bytes of payloads that are in no file yet.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Since when the first change waits that nobody has looked at yet.
    pub(super) fn oldest_waiting(&self) -> Option<Tick> {
        self.order.front().map(|(since, _)| *since)
    }

    /// Whether this dropped file was taken already.
    pub(super) fn is_taken(&self, source: &Source) -> bool {
        let taken =
            |taken: &HashMap<PathBuf, Source, FixedState>| taken.get(&source.path) == Some(source);
        taken(&self.sources) || taken(&self.former)
    }

    /// A start has found all that a former life left to be done. Gives the dropped files that it took and did not remove.
    pub(super) fn remember_sources(&mut self) -> impl Iterator<Item = (TaskId, &Source)> {
        self.former.clone_from(&self.sources);
        let changes = self.waiting.iter();
        changes.flat_map(|(id, change)| change.sources.iter().map(move |source| (*id, source)))
    }

    /// A look through a folder has ended: all that it saw there was told.
    pub(super) fn looked_through(&mut self, folder: &Path) {
        self.former.retain(|path, _| path.parent() != Some(folder));
    }

    /// Whether the task's file is as the queue has it, as far as is known.
    pub(super) fn is_settled(&self, id: TaskId) -> bool {
        !self.waiting.contains_key(&id) && !self.in_flight.contains_key(&id)
    }

    /// Whether files of the task are to be removed.
    pub(super) fn removes(&self, id: TaskId) -> bool {
        let removes = |change: &FileChange| change.had_own(None) || !change.sources.is_empty();
        self.waiting.get(&id).is_some_and(removes) || self.in_flight.get(&id).is_some_and(removes)
    }

    /// Whether the task had, as far as is known, a file of its own before the changes that are not made; its new one may be at `goal`.
    pub(super) fn had_own(&self, id: TaskId, goal: Option<&Location>) -> bool {
        let changes = [self.waiting.get(&id), self.in_flight.get(&id)];
        let mut changes = changes.into_iter().flatten();
        changes.any(|change| change.had_own(goal))
    }

    /// The dropped files that a change that is being made removes.
    pub(super) fn sources_in_flight(&self, id: TaskId) -> &[Source] {
        let change = self.in_flight.get(&id);
        change.map_or(&[], |change| &change.sources)
    }

    /// In how many places the task's file is looked for, while a change waits for its payload; `None`: it may be in a dropped one.
    pub(super) fn places(&self, id: TaskId) -> Option<usize> {
        let change = self.waiting.get(&id)?;
        change.sources.is_empty().then(|| 1 + change.strays.len())
    }

    /// Whether the task's file is in its place, and only waits to be written there once more.
    pub(super) fn is_rewritten(&self, place: &Location) -> bool {
        let rewritten = |change: &FileChange| {
            change.rewrite
                && change.old.as_ref() == Some(place)
                && change.strays.is_empty()
                && change.sources.is_empty()
        };
        let id = place.name.id;
        !self.in_flight.contains_key(&id) && self.waiting.get(&id).is_some_and(rewritten)
    }

    /// Whether the task's file is being changed.
    pub(super) fn is_in_flight(&self, id: TaskId) -> bool {
        self.in_flight.contains_key(&id)
    }

    /// Where the task's file is, if it is not where the queue has it.
    pub(super) fn place_of(&self, id: TaskId) -> Option<&Location> {
        let change = self.waiting.get(&id).or_else(|| self.in_flight.get(&id));
        change.and_then(|change| change.old.as_ref())
    }

    /// Tasks whose files were in this queue's folder before changes that are not made.
    pub(super) fn were_in(&self, queue: &QueueName) -> impl Iterator<Item = TaskId> {
        let changes = self.waiting.iter().chain(self.in_flight.iter());
        let were = changes.filter(move |(_, change)| {
            let old = change.old.as_ref();
            old.is_some_and(|old| old.area == Area::Tasks && old.queue == *queue)
        });
        were.map(|(id, _)| *id)
    }

    /// Whether `place` is a file of ours that is about to change.
    pub(super) fn knows(&self, place: &Location) -> bool {
        let id = place.name.id;
        let old = |change: &FileChange| {
            change.old.as_ref() == Some(place) || change.strays.contains(place)
        };
        self.waiting.get(&id).is_some_and(old) || self.in_flight.contains_key(&id)
    }

    /// How many changes are not made.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// How many changes were not tried yet, or are being made: those that failed may not be made for long.
    pub(super) fn untried(&self) -> usize {
        self.len().saturating_sub(self.later.len())
    }

    /// How many changes failed and are not made yet.
    pub(super) fn failing(&self) -> usize {
        self.failing.len()
    }

    /// How many changes are being made.
    pub(super) fn in_flight_len(&self) -> usize {
        self.in_flight.len()
    }

    /// How long the oldest change has been waiting.
    pub(super) fn lag(&self, now: Tick) -> Millis {
        let oldest = self.order.front().map(|(since, _)| *since);
        // Those that are to be tried again are no more in that order.
        let again = self.later.iter().filter_map(|(_, id)| self.waiting.get(id));
        let flying = self.in_flight.values().chain(again);
        let flying = flying.map(|change| change.since).min();
        let oldest = [oldest, flying].into_iter().flatten().min();
        oldest.map_or(Millis(0), |since| now.since(since))
    }

    /// The first frame that something on the disk still depends on.
    pub(super) fn first_unsettled(&self) -> Option<Seq> {
        self.unsettled.keys().next().copied()
    }

    /// When the next change is due.
    pub(super) fn next_due(&self, delay: Millis, durable: Seq) -> Option<Tick> {
        let front = self.order.front().filter(|(_, id)| {
            self.waiting
                .get(id)
                .is_none_or(|change| change.last <= durable)
        });
        let front = front.map(|(since, _)| since.plus(delay));
        let later = self.later.first();
        let later = later.filter(|(_, id)| {
            self.waiting
                .get(id)
                .is_none_or(|change| change.last <= durable)
        });
        let later = later.map(|(tick, _)| *tick);
        [front, later].into_iter().flatten().min()
    }

    /// Takes the next change that is due and durable; it is in flight from now on.
    pub(super) fn take_due(
        &mut self,
        now: Tick,
        delay: Millis,
        durable: Seq,
    ) -> Option<(TaskId, FileChange)> {
        while let Some((since, id)) = self.order.front().copied() {
            let Some(change) = self.waiting.get(&id).filter(|change| change.since == since) else {
                self.order.pop_front();
                continue;
            };
            if since.plus(delay) > now || change.last > durable {
                break;
            }
            self.order.pop_front();
            // One change of a task at a time: the next comes when this one has been made.
            if !self.in_flight.contains_key(&id) {
                return self.launch(id);
            }
        }
        loop {
            let (tick, id) = self.later.first().copied()?;
            if tick > now
                || self
                    .waiting
                    .get(&id)
                    .is_some_and(|change| change.last > durable)
            {
                return None;
            }
            self.later.remove(&(tick, id));
            // Made meanwhile, or in flight: then it comes back when that has been made.
            if self.waiting.contains_key(&id) && !self.in_flight.contains_key(&id) {
                return self.launch(id);
            }
        }
    }

    fn launch(&mut self, id: TaskId) -> Option<(TaskId, FileChange)> {
        let change = self.waiting.remove(&id)?;
        self.in_flight.insert(id, change.clone());
        Some((id, change))
    }

    /// A change that is in flight writes to `place`. Where it fails halfway, there may be a file: then it is a stray.
    pub(super) fn aim(&mut self, id: TaskId, place: Location) {
        if let Some(change) = self.in_flight.get_mut(&id)
            && !change.strays.contains(&place)
        {
            change.strays.push(place);
        }
    }

    /// A change has been made, or was not needed. Gives whether it had been told that it failed.
    pub(super) fn made(&mut self, id: TaskId) -> bool {
        if let Some(change) = self.in_flight.remove(&id) {
            for source in &change.sources {
                // Another one that was taken at its path since is still there.
                if self.sources.get(&source.path) == Some(source) {
                    self.sources.remove(&source.path);
                }
            }
            self.bytes -= change.bytes;
            settle(&mut self.unsettled, change.first);
            if let Some(next) = self.waiting.get(&id) {
                self.later.insert((next.since, id));
            }
        }
        give_back(&mut self.order);
        give_back(&mut self.ended);
        self.failing.made(id)
    }

    /// A change could not be made: it will be tried again, later each time. Gives whether the reason is news.
    pub(super) fn failed(&mut self, id: TaskId, now: Tick, reason: &Arc<str>) -> bool {
        let (pause, is_new) = self.failing.failed(id, reason);
        self.put_back(id, now.plus(pause), true);
        is_new
    }

    /// A change found no room, like `others` of its kind: all together they are tried a few hundred times a second, so
    /// that those that would find room have their turn.
    pub(super) fn refused(&mut self, id: TaskId, now: Tick, others: usize) {
        self.failing.roomless(id);
        let rounds = 1 + others as u64 / TRIES_A_ROUND;
        self.put_back(id, now.plus(Millis(FIRST.0 * rounds.min(60))), true);
    }

    /// There may be room now: the change is tried again at once.
    pub(super) fn hurry(&mut self, id: TaskId, now: Tick) {
        if self.waiting.contains_key(&id) {
            self.later.insert((now, id));
        }
    }

    /// Somebody waits for all changes: those that failed are tried at once, whatever their rest.
    pub(super) fn hurry_failing(&mut self, now: Tick) {
        let waiting = &self.waiting;
        let ids = self.failing.ids().filter(|id| waiting.contains_key(id));
        self.later.extend(ids.map(|id| (now, id)));
    }

    /// What a completed task was is not kept: there is no room for it.
    pub(super) fn without_done(&mut self, id: TaskId) -> bool {
        self.waiting
            .get_mut(&id)
            .is_some_and(|change| change.done.take().is_some())
    }

    /// From now on, changes that can't be made are told to who waits for all of them. Gives those that could not be made before.
    /// What another checkpoint held is waited for again: this one takes its place, perhaps at the same frame.
    pub(super) fn tell_hindered(&mut self) -> Vec<TaskId> {
        for id in std::mem::take(&mut self.covered) {
            for changes in [&mut self.waiting, &mut self.in_flight] {
                if let Some(change) = changes.get_mut(&id) {
                    change.depend_from(change.begun, &mut self.unsettled);
                }
            }
        }
        self.hindered = Some(Vec::new());
        let waiting = &self.waiting;
        let failing = self.failing.ids();
        failing.filter(|id| waiting.contains_key(id)).collect()
    }

    /// The changes that could not be made since this was last asked.
    pub(super) fn hindered(&mut self) -> Vec<TaskId> {
        self.hindered
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Nobody waits for changes any more.
    pub(super) fn tell_no_more(&mut self) {
        self.hindered = None;
    }

    /// The change of a task that is about a frame up to `seq`, if there is one.
    pub(super) fn change_until(&self, id: TaskId, seq: Seq) -> Option<&FileChange> {
        let changes = [self.in_flight.get(&id), self.waiting.get(&id)];
        let mut changes = changes.into_iter().flatten();
        changes.find(|change| change.first <= seq)
    }

    /// A checkpoint of all frames before `seq` holds what the change of this task is about: nothing on the disk depends on those
    /// frames for its sake.
    pub(super) fn covered(&mut self, id: TaskId, seq: Seq) {
        for changes in [&mut self.waiting, &mut self.in_flight] {
            let Some(change) = changes.get_mut(&id).filter(|change| change.first < seq) else {
                continue;
            };
            change.depend_from(seq, &mut self.unsettled);
        }
        self.covered.push(id);
    }

    /// The dropped file that a task came in, while that is still there.
    pub(super) fn source_of(&self, id: TaskId) -> Option<&Source> {
        let changes = [self.waiting.get(&id), self.in_flight.get(&id)];
        changes
            .into_iter()
            .flatten()
            .find_map(|change| change.sources.first())
    }

    /// A change can't be made yet. `hinders`: nobody can say when it can.
    pub(super) fn put_back(&mut self, id: TaskId, when: Tick, hinders: bool) {
        let Some(mut change) = self.in_flight.remove(&id) else {
            return;
        };
        change.writing = Writing::Ours;
        if let Some(newer) = self.waiting.remove(&id) {
            settle(&mut self.unsettled, newer.first);
            change.last = newer.last;
            change.bytes += newer.bytes;
            change.done = newer.done.or(change.done);
            change.sources.extend(newer.sources);
            change.rewrite |= newer.rewrite;
            change.sought |= newer.sought;
            change.strays.extend(newer.strays);
        }
        self.waiting.insert(id, change);
        self.later.insert((when, id));
        if let Some(hindered) = self.hindered.as_mut().filter(|_| hinders) {
            hindered.push(id);
        }
    }
}

/// What the wall clock shows now of an earlier moment.
fn wall_of(then: Tick, now: Now) -> WallMillis {
    let ago = i64::try_from(now.tick.since(then).0).unwrap_or(i64::MAX);
    WallMillis(now.wall.0.saturating_sub(ago))
}

fn settle(unsettled: &mut BTreeMap<Seq, u64>, seq: Seq) {
    if let Some(count) = unsettled.get_mut(&seq) {
        *count -= 1;
        if *count == 0 {
            unsettled.remove(&seq);
        }
    }
}
