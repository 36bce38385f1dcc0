//! What the watcher saw: dropped files become tasks, files that went cancel theirs.

use std::collections::BTreeSet;

use super::{
    Engine,
    astray::own_place,
    io::{BadFile, Output},
    requests::bytes_of,
    taken::DropFile,
};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use crate::{
    queue::Verdict,
    store::{Digest, Room, Sighting, shown},
    systemd::catalog,
    task::{
        Area, Cursor, DirMark, Left, Location, NewTask, Now, PageQuery, QueueName, Record, Refusal,
        Source, State, TaskId,
    },
};

/// How many dropped files may wait in memory for a payload that they are compared with. More stay in the directory, and are
/// found by the next look through it.
const MOST_RIVALS: usize = 1000;
/// How many things that are left alone are remembered, to be shown.
const MOST_IRREGULAR: usize = 1000;

/// How many tasks are held against a folder's files in one step: more take their turn after other work.
const LOOK: usize = 2000;

/// A dropped file that was read.
#[derive(Debug)]
pub(super) struct Dropped {
    pub(super) source: Source,
    /// When it was made, in nanoseconds since 1970.
    pub(super) born: Option<i128>,
    pub(super) content: Digest,
    pub(super) task: NewTask,
    /// Whether the own file of the task with its id is in its place, where the watcher was asked.
    pub(super) own: Option<bool>,
}

/// A look through a queue's folder, of which some tasks are still to be compared.
#[derive(Debug)]
pub(super) struct Look {
    queue: QueueName,
    /// Whose files were there.
    there: HashSet<TaskId, FixedState>,
    state: State,
    after: Option<Cursor>,
    /// Another directory is where theirs was.
    anew: bool,
    /// Which directory that is.
    mark: Option<DirMark>,
}

impl Engine {
    pub(super) fn sighting(&mut self, now: Now, sighting: Sighting, out: &mut Vec<Output>) {
        if self.fault.is_some() {
            return;
        }
        match sighting {
            Sighting::Drop {
                source,
                born,
                content,
                task,
                own,
            } => {
                let dropped = Dropped {
                    source,
                    born,
                    content,
                    task,
                    own,
                };
                self.dropped(now, dropped, out);
            }
            Sighting::Malformed { source, reason } => reject(source, reason, out),
            Sighting::Irregular { path, reason } => {
                tracing::warn!(message_id = catalog::FILE_LEFT_ALONE.id, file = %shown(&path), reason, "{}", catalog::FILE_LEFT_ALONE.line);
                if self.irregular.len() < MOST_IRREGULAR {
                    self.irregular.insert(path, reason);
                }
            }
            Sighting::Freed(paths) => {
                for path in paths {
                    self.irregular.remove(&path);
                }
            }
            Sighting::Seen(places) => {
                let strangers: Vec<Location> = places
                    .into_iter()
                    .filter(|place| !self.is_ours(place))
                    .collect();
                if !strangers.is_empty() {
                    out.push(Output::Inspect(strangers));
                }
            }
            Sighting::Gone { places, asked } => {
                let unsure: Vec<Location> = places
                    .into_iter()
                    .filter(|place| !self.gone(now, place, asked, out))
                    .collect();
                self.ask_again(unsure, out);
                // Somebody may wait for the payload of a task that has ended by it.
                self.resume_ended(now, out);
            }
            Sighting::Folder(queue) => self.open(queue),
            Sighting::Scanned {
                queue,
                ids,
                anew,
                mark,
            } => self.scanned(now, queue, ids, anew, mark),
            Sighting::Replaced { folders, mark } => self.replaced(now, &folders, mark),
            Sighting::LookedAgain => self.kept.answered(),
            Sighting::Deaf(why) => self.deaf = why.map(Into::into),
            Sighting::Trouble(text) => {
                tracing::warn!(reason = text, "trouble with watching the task directory");
            }
        }
    }

    fn open(&mut self, queue: QueueName) {
        if self.queue.is_known(&queue) {
            return;
        }
        // A folder alone takes nobody's place: with a file it will.
        let limit = self.settings.limits.max_queues;
        if self.queue.queue_count() < limit {
            self.queue.apply(&Record::Opened { queue });
        } else if self.queue.may_open(&queue) {
            tracing::info!(queue = %queue, limit, "as many queues as may be: this folder is one when it has a file");
        } else {
            tracing::warn!(queue = %queue, limit, "as many queues as may be have tasks: files in this folder wait until one has none, or max_queues is higher");
        }
    }

    /// Whether a file with a canonical name is one of ours, as it is or as it was.
    fn is_ours(&mut self, place: &Location) -> bool {
        let id = place.name.id;
        if self.queue.location(id).as_ref() == Some(place) {
            self.here_again(id);
            return true;
        }
        if !self.files.knows(place) {
            if self.queue.get(id).is_some() {
                self.misnamed.insert(id, place.clone());
            }
            return false;
        }
        let is_former = self.files.place_of(id) == Some(place);
        if is_former {
            self.here_again(id);
        }
        // Somebody has just moved it there, or it is being removed, or it is another one that has come to its place since: that is
        // known when the change is made.
        let has_ended = self.queue.get(id).is_none();
        if self.files.is_in_flight(id) && (has_ended || !is_former) {
            self.astray.wait(id, place.path());
        } else if has_ended {
            self.files.note_crossed(id);
        }
        true
    }

    pub(super) fn dropped(&mut self, now: Now, dropped: Dropped, out: &mut Vec<Output>) {
        if self.files.is_taken(&dropped.source) {
            return;
        }
        // One with an id may be the task's own file: while there is that task, it is compared.
        let file = DropFile::of(&dropped);
        let files = &self.files;
        let is_there = |id| files.source_of(id).is_some();
        if let Some(id) = self.taken.task_of(file, now.tick, is_there)
            && (dropped.task.id.is_none() || self.queue.get(id).is_none())
        {
            tracing::info!(task_id = %id, file = %shown(&dropped.source.path), "a dropped file that was taken has another name or time: it is removed");
            return self.remove_too(now, id, dropped.source);
        }
        // A second file of a task that is there: one of them may turn up when that is done.
        if let Some(id) = dropped.task.id
            && self.queue.get(id).is_some()
            && own_place(id, &dropped.source.path).is_some()
        {
            self.astray.note_restless(id, now.tick);
        }
        let Some(dropped) = self.take_astray(now, dropped, out) else {
            return;
        };
        if self.take_own(now, &dropped, out) {
            return;
        }
        // The same id, or a held key: the payloads are compared, so that of the first must be here.
        let rival = dropped
            .task
            .id
            .filter(|id| self.queue.get(*id).is_some() && self.bodies.get(*id).is_none());
        if let Some(id) = rival {
            self.load(now, [id], out);
            return self.wait_for_rival(dropped, out);
        }
        let Dropped {
            source, task, own, ..
        } = dropped;
        if self.is_closed(&task.queue) {
            return self.keep_for_queue(source, &task.queue, out);
        }
        let bytes = bytes_of(&task);
        let room = self.ledger.room_for_new(bytes, 1);
        if room != Room::Yes || self.is_crowded() {
            self.wait_for_room(now, room, |ledger| ledger.room_for_new(bytes, 1));
            return self.keep_for_room(source, out);
        }
        let size = task.payload.len() as u64;
        match self.take(now, vec![task], Some(&source)) {
            Ok(verdicts) => {
                for verdict in verdicts {
                    match verdict {
                        Verdict::New(task) => {
                            let files = &self.files;
                            let is_there = |id| files.source_of(id).is_some();
                            self.taken.note(file, task.id, now.tick, is_there);
                            let records = self.astray.unseen.take(task.id, now.tick);
                            if !records.is_empty() {
                                tracing::info!(task_id = %task.id, changes = records.len(), "a task's file came back: what had been done to it is true again");
                                self.commit(now, &records);
                            }
                        }
                        Verdict::Existing(id) => {
                            self.dropped_again(now, id, source.clone(), own, out);
                        }
                    }
                }
            }
            Err(Refusal::IdInUse(id)) => self.drop_in_use(now, source, id, own, out),
            Err(refusal) => {
                if let Err((source, refusal)) = self.keep_for_limit(source, size, refusal, out) {
                    reject(source, refusal.to_string(), out);
                }
            }
        }
    }

    /// A file with a task that is there already: the file is not needed, unless it is the task's own.
    fn dropped_again(
        &mut self,
        now: Now,
        id: TaskId,
        source: Source,
        own_there: Option<bool>,
        out: &mut Vec<Output>,
    ) {
        let own = self
            .queue
            .location(id)
            .is_some_and(|place| place.path() == source.path);
        if own {
            return;
        }
        // The task's own file is not in its place, and it was not cancelled for that.
        if let Some(place) = moved_own(id, &source, own_there) {
            return self.adopt(now, id, place, out);
        }
        if let Some(source) = self.doubt(source, id, own_there, out) {
            tracing::info!(task_id = %id, file = %shown(&source.path), "a dropped file holds a task that is here already");
            self.remove_too(now, id, source);
        }
    }

    /// A file with the id of a task that is there, and with something else in it, or in the folder of another queue.
    fn drop_in_use(
        &mut self,
        now: Now,
        source: Source,
        id: TaskId,
        own_there: Option<bool>,
        out: &mut Vec<Output>,
    ) {
        let Some(source) = self.doubt(source, id, own_there, out) else {
            return;
        };
        let own = self.queue.location(id).filter(|_| {
            moved_own(id, &source, own_there).is_some() && !self.astray.behind.is_lost(id)
        });
        let Some(own) = own else {
            return reject(source, Refusal::IdInUse(id).to_string(), out);
        };
        // That somebody has moved it cancels the task there, and makes it one here.
        if self.astray.is_new_doubt(id, now.tick) {
            self.ask_again(vec![own], out);
            out.push(Output::Again(vec![source.path]));
        } else {
            // What is to be known first may take its time: the next look through the directory tells of it again.
            out.push(Output::Forget(source));
        }
    }

    /// Has a dropped file removed that is of no more use, with the next change of a task's file.
    pub(super) fn remove_too(&mut self, now: Now, id: TaskId, source: Source) {
        let seq = self
            .ledger
            .pending_seq()
            .unwrap_or_else(|| self.ledger.synced_seq());
        let place = self
            .queue
            .location(id)
            .filter(|_| self.files.is_settled(id));
        self.files.note(id, place, seq, now.tick);
        self.files.note_source(id, source, seq, now.tick);
    }

    fn wait_for_rival(&mut self, dropped: Dropped, out: &mut Vec<Output>) {
        if self.rivals.len() < MOST_RIVALS {
            self.rivals.push_back(dropped);
        } else {
            out.push(Output::Forget(dropped.source));
        }
    }

    /// Looks again at dropped files that waited for a payload.
    pub(super) fn take_rivals(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.fault.is_some() {
            return;
        }
        for dropped in std::mem::take(&mut self.rivals) {
            self.dropped(now, dropped, out);
        }
    }

    /// The number of the next question to the watcher.
    pub(super) const fn question(&mut self) -> u64 {
        self.questions += 1;
        self.questions
    }

    /// Asks the watcher whether files are where they should be.
    pub(super) fn ask_for(&mut self, places: Vec<Location>, out: &mut Vec<Output>) {
        if !places.is_empty() {
            out.push(Output::Confirm(self.question(), places));
        }
    }

    /// The same of files that were not there: those that are not there then, either, are gone. An answer to an earlier question
    /// is none: their files may have been written between the two.
    fn ask_again(&mut self, places: Vec<Location>, out: &mut Vec<Output>) {
        let next = self.questions + 1;
        let ids = places.iter().map(|place| (place.name.id, next));
        self.missed.extend(ids);
        self.ask_for(places, out);
    }

    /// A task's file was removed by somebody else: that cancels the task, unless a worker holds it. Gives `false` when the
    /// watcher is to look again first: the file may have moved away and back since it looked.
    fn gone(
        &mut self,
        now: Now,
        place: &Location,
        asked: Option<u64>,
        out: &mut Vec<Output>,
    ) -> bool {
        let id = place.name.id;
        let Some(entry) = self.queue.get(id) else {
            return true;
        };
        if self.queue.location(id).as_ref() != Some(place) || self.astray.behind.is_lost(id) {
            return true;
        }
        // Nobody has removed it: that is found when all have been compared with the directory that is there now.
        if self.looks.iter().any(|look| look.anew) {
            return true;
        }
        if !self.files.is_settled(id) {
            // It may be there and gone again before its making was told: then it is looked for.
            if self.files.is_in_flight(id) {
                self.vanished.insert(id);
                return true;
            }
            // One that was seen by a start, and is to be written again; or one that was removed while a worker held its task, and
            // whose payload went with a crash before it was written again.
            let was_nowhere = entry.state != State::Leased && self.is_nowhere(id);
            if !was_nowhere && !self.files.is_rewritten(place) {
                return true;
            }
        }
        match (self.missed.get(&id), asked) {
            (Some(since), Some(asked)) if asked >= *since => drop(self.missed.remove(&id)),
            // The answer is on its way.
            (Some(_), Some(_)) => return true,
            _ => return false,
        }
        let state = entry.state;
        if self.astray.has_just_moved(now.tick)
            && let Some(former) = self.misnamed.remove(&id)
        {
            self.adopt(now, id, former, out);
            return true;
        }
        if state == State::Leased {
            // Its worker holds it: the file comes back, so that the directory tells the truth. The moved one is somewhere.
            self.astray.note_restless(id, now.tick);
            self.astray.missed(id, now);
            if self.bodies.get(id).is_some() {
                let seq = self.ledger.synced_seq();
                self.files.note(id, None, seq, now.tick);
            }
            return true;
        }
        tracing::info!(task_id = %id, file = %place, "a task's file was removed: it is cancelled");
        self.cancel_gone(now, id);
        true
    }

    /// Cancels a task whose file is not where it was. Where the journal has no room at all, the next look finds it missing again.
    pub(super) fn cancel_gone(&mut self, now: Now, id: TaskId) {
        if self.room_to_end().is_err() {
            tracing::warn!(task_id = %id, "the journal has no room to say that it is cancelled");
            return;
        }
        // Claims that wait for it are to hear of the next one, or that there is none.
        let queue = self
            .queue
            .get(id)
            .map(|entry| self.queue.queue_of(entry).clone());
        self.stirred.extend(queue);
        self.commit(now, &[Record::Cancelled { id, gone: true }]);
        self.taken.forget(id, now.tick);
    }

    /// After a look through a queue's folder: tasks whose files were not there are looked at once more, a part at a time.
    fn scanned(
        &mut self,
        now: Now,
        queue: QueueName,
        there: HashSet<TaskId, FixedState>,
        anew: bool,
        mark: Option<DirMark>,
    ) {
        self.files.looked_through(&Area::Tasks.folder(&queue));
        if anew {
            self.moved(now);
            self.arrived(now, &queue, mark);
        }
        // With the default queue's directory go the others: that it is another one counts when all have been compared.
        let mark = mark.filter(|_| !(anew && queue.is_default()));
        self.looks.push_back(Look {
            queue,
            there,
            state: State::Ready,
            after: None,
            anew,
            mark,
        });
    }

    /// A queue's files are in another folder from now on. Should the daemon end before a checkpoint tells of that, and find the
    /// former folder in its place, it is to know that there was another.
    fn arrived(&mut self, now: Now, queue: &QueueName, mark: Option<DirMark>) {
        if let Some(mark) = mark {
            let queue = queue.clone();
            self.commit(now, &[Record::Housed { queue, mark }]);
        }
        // Of a task that is dead by now, or in another queue, only the file was here.
        let folder = Area::Tasks.folder(queue);
        let elsewhere = |id: &TaskId| {
            let at = self.queue.location(*id);
            at.is_some_and(|at| at.folder() != folder)
        };
        let were_here: Vec<TaskId> = self.files.were_in(queue).filter(elsewhere).collect();
        for id in were_here {
            self.leave_behind(now, id);
        }
    }

    /// The file of a task went with its directory. Gives whether its payload is here.
    fn leave_behind(&mut self, now: Now, id: TaskId) -> bool {
        let here = self.bodies.get(id).is_some();
        let left = if here { Left::Copy } else { Left::Only };
        self.astray.behind.note(id, left, now.wall);
        here
    }

    /// Another task directory is where theirs was: queues that have no folder in it have no files either.
    fn replaced(&mut self, now: Now, folders: &BTreeSet<QueueName>, mark: Option<DirMark>) {
        let elsewhere: Vec<QueueName> = self
            .queue
            .queue_names()
            .filter(|queue| !queue.is_default() && !folders.contains(queue))
            .cloned()
            .collect();
        for queue in elsewhere {
            self.scanned(now, queue, HashSet::default(), true, None);
        }
        self.astray.arriving = mark;
        self.arrive();
    }

    /// Tasks whose files went with their directory (moved away, or a mount that is no more) were not cancelled by anybody.
    /// Their files are written into the one that is there now, as far as the payloads are in memory; the others come back
    /// with the directory.
    fn write_again(&mut self, now: Now, places: &[Location], out: &mut Vec<Output>) {
        let mut lost = 0;
        for place in places {
            let id = place.name.id;
            if self.leave_behind(now, id) {
                let seq = self.ledger.synced_seq();
                // Also one whose file is just being written: nobody can say into which directory.
                // Should the task end before that, what is there by then goes.
                let place = Some(place.clone());
                self.files.note(id, place, seq, now.tick).rewrite = true;
            } else {
                lost += 1;
            }
        }
        if !places.is_empty() {
            tracing::warn!(
                files = places.len(),
                lost,
                "another directory is where tasks had their files: they are written again, but for those that are only in the former one"
            );
        }
        if lost > 0 {
            // One of them may be such a task's own, under a former name.
            self.take_rivals(now, out);
        }
    }

    /// All tasks of a queue have been compared with its files.
    fn looked(&mut self, now: Now) {
        let Some(look) = self.looks.pop_front() else {
            return;
        };
        let is_news = self.astray.behind.housed(look.queue, look.mark);
        // What a start finds is held against that, and what was left behind is kept by it.
        self.checkpoint_wanted |= is_news || look.anew;
        self.arrive();
        if self.looks.is_empty() && !self.astray.has_just_moved(now.tick) {
            self.misnamed = HashMap::default();
        }
    }

    /// Another task directory is where the files are, once all tasks have been compared with what is in it. What a start finds
    /// before that is held against the former one.
    fn arrive(&mut self) {
        if self.looks.iter().any(|look| look.anew) {
            return;
        }
        if let Some(mark) = self.astray.arriving.take() {
            let is_news = self.astray.behind.housed(QueueName::default(), Some(mark));
            self.checkpoint_wanted |= is_news;
        }
    }

    /// Goes on with comparing tasks and files. What moves past meanwhile is met by the next look.
    pub(super) fn look_on(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(look) = self.looks.front_mut() else {
            return;
        };
        let query = PageQuery {
            queue: Some(look.queue.clone()),
            state: Some(look.state),
            id_prefix: None,
            limit: LOOK,
            after: look.after,
        };
        // A queue that is not known has no task whose file could be missing.
        let (ids, next) = self.queue.page(&query).unwrap_or_default();
        let missing = ids
            .into_iter()
            .filter(|id| !look.there.contains(id) && (look.anew || self.files.is_settled(*id)));
        let places: Vec<Location> = missing.filter_map(|id| self.queue.location(id)).collect();
        let anew = look.anew;
        look.after = next;
        if next.is_none() {
            match look.state {
                State::Ready => look.state = State::Scheduled,
                // One that is removed while a worker holds its task comes back by itself. This one was not.
                State::Scheduled if anew => look.state = State::Leased,
                _ => self.looked(now),
            }
        }
        if anew {
            return self.write_again(now, &places, out);
        }
        self.ask_again(places, out);
    }
}

/// Where a dropped file is, if it is by all signs the task's own, which is not in its place.
fn moved_own(id: TaskId, source: &Source, own_there: Option<bool>) -> Option<Location> {
    own_place(id, &source.path).filter(|_| own_there == Some(false))
}

pub(super) fn reject(source: Source, reason: String, out: &mut Vec<Output>) {
    out.push(Output::Reject(BadFile {
        path: source.path.clone(),
        known: Some(source),
        reason,
    }));
}
