//! Bringing the disk after the journal: task files, and the checkpoint that lets old segments go.

use std::sync::Arc;

use super::{
    Engine,
    files::FileChange,
    io::{Failed, FileWork, Output, Response, Ticket},
    unmoved::left_alone,
};
use crate::{
    backend::Error,
    defect::{Defect, planted},
    store::{Checkpoint, Cut, FileOp, Pieces, Ran, Seq},
    task::{
        Area, Location, Millis, NewTask, Now, QueueName, Record, Refusal, Restored, State,
        Submitted, TaskFile, TaskId, Tick,
    },
};

/// How many file changes go out in one output, and how many may be out at once: enough to keep the disk busy, few enough
/// that a change of mind (a task that ends meanwhile) still saves work.
const FILE_BATCH: usize = 256;
const FILES_IN_FLIGHT: usize = 1024;

/// How long changes of files stand back at most while requests come fast.
const HELD_MOST: Millis = Millis::from_secs(10);
/// And until the journal holds how many times the bytes after which a checkpoint is made.
const HELD_CHECKPOINTS: u64 = 4;
/// Bytes of payloads that may wait for their files, however small the cache of payloads is.
const LEAST_PENDING_BYTES: u64 = 16 << 20;

/// What a file takes of the disk beside its payload, at most: a block, on most file systems.
const FILE_BYTES: u64 = 4096;
/// The part of the room that the disk has left which files to be written may take. Tasks whose files then find none are whole in
/// the next checkpoint, which has to find room itself.
const ROOM_PART: u64 = 4;
/// So much they may take of a full disk: with their payloads a checkpoint still finds room in what is set aside for it.
const LEAST_ROOM: u64 = 128 << 10;

/// What a task takes in a checkpoint, whose file's name does not tell all of it: measured without options and an error's text, and
/// some more.
const RESTORED_BYTES: u64 = 160;

/// How long nothing was written to the journal when a checkpoint is made although the journal is not long yet, and from which
/// part of its usual length on: the next start then has little to read, and nobody waits for the disk meanwhile.
const QUIET: Millis = Millis::from_secs(5);
const QUIET_PART: u64 = 16;

/// How far apart checkpoints are begun for want of room: each makes the whole disk durable, and may let little go.
const FOR_ROOM: Millis = Millis::from_secs(5);

/// A checkpoint on its way.
#[derive(Debug)]
pub(super) struct Checkpointing {
    cut: Cut,
    /// What it tells of was true after this frame: it may not be durable before that is.
    told: Seq,
    /// What stands for files that can't be changed: goes before the rest.
    hindered: Pieces,
    records: Pieces,
    last_id: Option<TaskId>,
    sent: bool,
    /// Who asked before its cut: it stands for what they had seen.
    callers: Vec<Ticket>,
}

impl Checkpointing {
    pub(super) const fn callers(&mut self) -> &mut Vec<Ticket> {
        &mut self.callers
    }
}

impl Engine {
    /// Not before the journal has room at a start: files may not take what the life before gave back for the ends of tasks.
    pub(super) fn can_change_files(&self) -> bool {
        self.files.in_flight_len() < FILES_IN_FLIGHT && !self.ledger.is_opening()
    }

    /// Hands out the file changes that are due.
    pub(super) fn change_files(&mut self, now: Now, out: &mut Vec<Output>) {
        let durable = self.ledger.synced_seq();
        let held = self
            .files_held_until()
            .is_some_and(|until| until > now.tick);
        let mut work = Vec::new();
        while !held && self.can_change_files() {
            let Some((id, change)) = self.files.take_due(now.tick, self.spool_delay(), durable)
            else {
                break;
            };
            match self.ops(id, &change) {
                Some(ops) if ops.is_empty() => self.file_made(id),
                Some(ops) => {
                    if let Some(place) = self.queue.location(id) {
                        self.files.aim(id, place);
                    }
                    work.push(FileWork { id, ops });
                    if planted(Defect::SettleBeforeWrite) {
                        self.file_made(id);
                    }
                }
                None => self.load_for_file(now, id, out),
            }
            if work.len() == FILE_BATCH {
                out.push(Output::Files(std::mem::take(&mut work)));
            }
        }
        if !work.is_empty() {
            out.push(Output::Files(work));
        }
        // Changes that came to nothing make room too, and no answer of the disk's will tell.
        self.after_files(now, out);
    }

    /// What makes a task's file right; `None`: its payload has to be read first.
    fn ops(&self, id: TaskId, change: &FileChange) -> Option<Vec<FileOp>> {
        let mut ops = Vec::new();
        match self.queue.location(id) {
            Some(_) if change.sought && self.bodies.get(id).is_none() => return None,
            Some(at) if change.rewrite || change.old.as_ref() != Some(&at) => {
                let entry = self.queue.get(id)?;
                let dead = entry.state == State::Dead;
                let file = TaskFile {
                    payload: self.bodies.get(id)?.clone(),
                    priority: entry.priority,
                    exectime: entry.exectime,
                    id,
                    options: entry.options().cloned().unwrap_or_default(),
                    attempts: dead.then_some(entry.attempts),
                    last_error: entry.last_error().filter(|_| dead).map(ToString::to_string),
                    result: None,
                    completed_at: None,
                };
                ops.push(FileOp::Put {
                    old: change.old.clone(),
                    at,
                    file,
                });
            }
            Some(_) => {}
            None => ops.extend(Self::ops_of_ended(id, change)),
        }
        let at = self.queue.location(id);
        let strays = change
            .strays
            .iter()
            .filter(|stray| Some(*stray) != at.as_ref());
        ops.extend(strays.cloned().map(|at| FileOp::Remove { at }));
        ops.extend(change.sources.iter().cloned().map(FileOp::RemoveSource));
        Some(ops)
    }

    fn ops_of_ended(id: TaskId, change: &FileChange) -> Option<FileOp> {
        if let Some(done) = &change.done
            && let Some(payload) = &done.payload
        {
            let file = TaskFile {
                payload: payload.clone(),
                priority: done.priority,
                exectime: done.at.name.exectime,
                id,
                options: done.options.clone(),
                attempts: Some(done.attempts),
                last_error: None,
                result: done.result.clone(),
                completed_at: Some(done.completed_at.as_secs_f64()),
            };
            return Some(FileOp::Put {
                old: change.old.clone(),
                at: done.at.clone(),
                file,
            });
        }
        change.old.clone().map(|at| FileOp::Remove { at })
    }

    pub(super) fn files_done(
        &mut self,
        now: Now,
        results: Vec<(TaskId, Result<Ran, Failed>)>,
        out: &mut Vec<Output>,
    ) {
        let mut full = false;
        for (id, result) in results {
            match result {
                Ok(ran) => {
                    if ran == Ran::Astray {
                        self.went_astray(now, id, out);
                    } else if self.queue.get(id).is_none() {
                        self.astray.changed(id, now);
                    }
                    // Where one found room, others may: all that wait for it in this queue are tried again.
                    if let Some(queue) = self.full.queue_of(id) {
                        for other in self.full.ids_of(queue) {
                            self.files.hurry(other, now.tick);
                        }
                    }
                    self.file_made(id);
                    if self.vanished.remove(&id)
                        && let Some(place) = self.queue.location(id)
                    {
                        self.ask_for(vec![place], out);
                    }
                }
                Err(failed) if failed.full => {
                    full = true;
                    self.no_room_for_file(now, id, &failed.text);
                }
                Err(failed) => {
                    if self.files.failed(id, now.tick, &failed.text) {
                        tracing::warn!(task_id = %id, error = %failed.text, "a task's file can't be changed; it is tried again");
                    }
                }
            }
        }
        if full {
            // Who waits for changes to be made is told that there is no room for them.
            self.after_room(now, out);
        }
        self.after_files(now, out);
    }

    /// A task's file could not be written for want of room: it is tried again, and until it is there its queue takes no
    /// new task. The task itself is safe in the journal, and from the next checkpoint on in that.
    fn no_room_for_file(&mut self, now: Now, id: TaskId, text: &str) {
        let queue = self
            .queue
            .get(id)
            .map(|entry| self.queue.queue_of(entry).clone());
        let Some(queue) = queue else {
            // A task that has ended: only `done/` wants room for those.
            self.files.refused(id, now.tick, 0);
            if self.files.without_done(id) {
                tracing::warn!(task_id = %id, error = text, "no room to keep a completed task's file: it is not kept");
                self.files.hurry(id, now.tick);
            }
            return;
        };
        if self.full.refused(id, &queue) {
            tracing::warn!(queue = %queue, error = text, "no room for the files of a queue: no new task of it is taken until there is");
        }
        let others = self.full.waiting_in(&queue);
        self.files.refused(id, now.tick, others);
    }

    /// A queue of these tasks that has no room for files.
    pub(super) fn full_queue(&self, tasks: &[NewTask]) -> Option<QueueName> {
        if self.full.len() == 0 {
            return None;
        }
        let mut queues = tasks.iter().map(|task| &task.queue);
        queues
            .find(|queue| self.full.waiting_in(queue) > 0)
            .cloned()
    }

    /// Whether as many file changes wait as may, beside those that wait for room: then who asks is looked at again when
    /// fewer do.
    pub(super) fn is_crowded(&mut self) -> bool {
        let crowded = self.as_many_as_may();
        self.crowded |= crowded;
        crowded
    }

    fn as_many_as_may(&self) -> bool {
        self.files.len().saturating_sub(self.full.len()) >= self.settings.max_pending_files
            || self.files.bytes() >= self.most_pending_bytes()
            || self.is_scarce()
    }

    /// Whether the files that are still to be tried would take too much of what the disk has left.
    fn is_scarce(&self) -> bool {
        let (all, untried) = (self.files.len() as u64, self.files.untried() as u64);
        self.free.is_some_and(|free| {
            let bytes = self.files.bytes() / all.max(1);
            untried * (FILE_BYTES + bytes) >= (free / ROOM_PART).max(LEAST_ROOM)
        })
    }

    /// Whether the disk is full, and a checkpoint would have to hold as many tasks without files as it finds room for.
    pub(super) fn holds_too_much(&self) -> bool {
        self.room_refused.is_some() && self.full.len() as u64 * FILE_BYTES >= LEAST_ROOM
    }

    fn most_pending_bytes(&self) -> u64 {
        self.settings.payload_cache.max(LEAST_PENDING_BYTES)
    }

    /// Until when changes of files stand back, because requests come fast: a task that ends meanwhile needs no file at all.
    /// Not for long, not for many, and not when somebody waits for them.
    pub(super) fn files_held_until(&self) -> Option<Tick> {
        let until = self.pace.busy_until()?;
        let journal = self.ledger.bytes_since_checkpoint();
        let most = self
            .settings
            .checkpoint_bytes
            .saturating_mul(HELD_CHECKPOINTS);
        let holds = !self.closing
            && self.checkpoint_callers.is_empty()
            && journal < most
            && self.files.len() < self.settings.max_pending_files / 2
            && self.files.bytes() < self.most_pending_bytes() / 2
            && !self.is_scarce()
            && self
                .files
                .oldest_waiting()
                .is_none_or(|since| until.since(since) < HELD_MOST);
        holds.then_some(until)
    }

    /// Looks again at what waited for the spool to be less crowded.
    fn after_files(&mut self, now: Now, out: &mut Vec<Output>) {
        self.ask_for_waiting(out);
        let waits = !self.roomless.is_empty() || self.kept.wants_room();
        if std::mem::take(&mut self.crowded) && waits && !self.as_many_as_may() {
            self.after_room(now, out);
        }
        self.crowded |= self.as_many_as_may();
    }

    fn file_made(&mut self, id: TaskId) {
        if self.files.made(id) {
            tracing::info!(task_id = %id, "a task's file that could not be changed is as it should be");
        }
        self.has_room(id);
        // Who looked for it before that did not see this one.
        self.missed.remove(&id);
        let leased = self
            .queue
            .get(id)
            .is_some_and(|entry| entry.lease().is_some());
        if self.bodies.bytes() > self.settings.payload_cache
            && !leased
            && !self.bodies.is_held(id)
            && self.files.is_settled(id)
        {
            self.bodies.remove(id);
        }
    }

    /// A task's file waits no longer for room in its queue's folder.
    pub(super) fn has_room(&mut self, id: TaskId) {
        if let Some(queue) = self.full.made(id) {
            tracing::info!(queue = %queue, "there is room for the files of a queue again");
            // Dropped files, and whoever else waits, are looked at again.
            self.crowded = true;
            self.kept.look_again();
        }
    }

    /// Moves a checkpoint on: first the state is written down as of one frame, then all files of tasks in frames up to
    /// that one are brought in order, then the checkpoint goes to the disk and those frames may go.
    pub(super) fn checkpoint(&mut self, now: Now, out: &mut Vec<Output>) {
        let wanted = self.checkpoint_wanted
            || self.journal_is_long(self.settings.checkpoint_bytes)
            || self.quiet_checkpoint().is_some_and(|at| at <= now.tick);
        let for_room = self.would_make_room(now);
        if self.checkpointing.is_none() && (wanted || for_room) {
            self.begin_checkpoint();
            if self.checkpointing.is_some() {
                if self.room_refused.is_some() {
                    self.ledger.give_up_current();
                }
                if for_room {
                    self.room_checkpoint_at = Some(now.tick);
                }
            }
        }
        let hindered = self.files.hindered();
        self.cover(hindered);
        let settled = self.files.first_unsettled();
        let synced = self.ledger.synced_seq();
        let Some(checkpointing) = &mut self.checkpointing else {
            return;
        };
        let cut = checkpointing.cut;
        if checkpointing.sent
            || synced < checkpointing.told
            || settled.is_some_and(|first| first <= cut.seq)
        {
            return;
        }
        checkpointing.sent = true;
        self.files.tell_no_more();
        let mut records = std::mem::take(&mut checkpointing.hindered);
        records.append(&mut checkpointing.records);
        // Only now: files of tasks that had ended may have been missed since.
        let ended = |id| self.queue.get(id).is_none();
        let missed = self.astray.records(now.tick, ended);
        for record in missed.chain(self.taken.records(now.tick)) {
            records.push(&record);
        }
        let last_id = checkpointing.last_id;
        let delete = self.ledger.checkpointed(cut);
        out.push(Output::Checkpoint(Checkpoint {
            cut: cut.seq,
            last_id,
            records,
            delete,
        }));
    }

    /// When a checkpoint is made if all stays as quiet as it is; `None` if it is not quiet, or not worth one.
    pub(super) fn quiet_checkpoint(&self) -> Option<Tick> {
        let quiet = !self.closing
            && self.checkpointing.is_none()
            && self.files.len() == 0
            && self.ledger.pending_seq().is_none();
        let worth = self.journal_is_long(self.settings.checkpoint_bytes / QUIET_PART);
        (quiet && worth).then(|| self.sealed_at.plus(QUIET))
    }

    /// Whether the disk is full and a checkpoint would give back some of what the journal takes. Where the journal itself finds no
    /// room, any segment counts; where task files find none, it may be their folder that is full, and not the disk.
    fn would_make_room(&self, now: Now) -> bool {
        let journal = self.ledger.bytes_since_checkpoint();
        let checkpoint = self.settings.checkpoint_bytes;
        let files_want = self.full.len() > 0 && self.free.is_some_and(|free| free < checkpoint);
        let worth = self.room_refused.is_some() || files_want && journal >= checkpoint / QUIET_PART;
        worth
            && self.ledger.has_to_let_go()
            && journal > 0
            && self
                .room_checkpoint_at
                .is_none_or(|at| at.plus(FOR_ROOM) <= now.tick)
    }

    fn journal_is_long(&self, from: u64) -> bool {
        self.ledger.bytes_since_checkpoint() >= from.max(self.checkpoint_from)
    }

    /// About how long a checkpoint would be now, without the texts of errors.
    pub(super) fn next_checkpoint_bytes(&self) -> u64 {
        self.queue.special_count() as u64 * RESTORED_BYTES + LEAST_ROOM
    }

    fn begin_checkpoint(&mut self) {
        // Only between frames: what is appended to an open one later would be cut off with it.
        let cut = self.ledger.cut();
        if cut.seq > self.last_sealed {
            return;
        }
        let mut records = Pieces::default();
        for mut record in self.queue.snapshot() {
            if let Record::Restored(task) = &mut record
                && self.is_brief
            {
                task.last_error = None;
            }
            records.push(&record);
        }
        self.checkpoint_wanted = false;
        self.checkpointing = Some(Checkpointing {
            cut,
            told: cut.seq,
            hindered: Pieces::default(),
            records,
            last_id: self.ids.last(),
            sent: false,
            callers: std::mem::take(&mut self.checkpoint_callers),
        });
        let hindered = self.files.tell_hindered();
        self.cover(hindered);
    }

    /// A checkpoint does not wait for files that can't be changed (no room, no permission, out of sight): it would never be made,
    /// and the journal grow for ever. It holds instead what of them is only in the journal.
    fn cover(&mut self, ids: Vec<TaskId>) {
        let Some(Checkpointing {
            cut,
            sent: false,
            hindered,
            ..
        }) = &mut self.checkpointing
        else {
            return;
        };
        let cut = cut.seq;
        let mut covering = std::mem::take(hindered);
        let mut told = Seq::default();
        for id in ids {
            let Some(change) = self.files.change_until(id, cut) else {
                continue;
            };
            let records = match self.queue.location(id) {
                // The file is whole, under a former name, which a start sees.
                Some(at) if change.is_move() => self.named(id, &at).into_iter().collect(),
                Some(at) => match self.whole(id) {
                    Some(task) => {
                        let submitted = Record::Submitted(task.into());
                        [submitted].into_iter().chain(self.named(id, &at)).collect()
                    }
                    None if change.has_file() => self.named(id, &at).into_iter().collect(),
                    None => continue,
                },
                None => change.ended_records(id),
            };
            for record in &records {
                covering.push(record);
            }
            self.files.covered(id, cut.next());
            // It is told of as it is now, which may be more than was true at the cut.
            told = self.ledger.pending_seq().unwrap_or_default();
        }
        if let Some(checkpointing) = &mut self.checkpointing {
            checkpointing.hindered = covering;
            checkpointing.told = checkpointing.told.max(told);
        }
    }

    /// What the name of a task's file would tell, were it there. What it does not tell, the checkpoint does elsewhere; and what
    /// has come since its cut, the journal does once more.
    fn named(&self, id: TaskId, at: &Location) -> Option<Record> {
        let entry = self.queue.get(id)?;
        let dead = at.area == Area::Dead;
        Some(Record::Restored(Box::new(Restored {
            id,
            queue: at.queue.clone(),
            priority: at.name.priority,
            exectime: at.name.exectime,
            options: entry.options().cloned().unwrap_or_default(),
            attempts: 0,
            state: if dead { State::Dead } else { State::Ready },
            lease: None,
            last_error: None,
        })))
    }

    /// A task as if it were submitted now, if its payload is in memory.
    fn whole(&self, id: TaskId) -> Option<Submitted> {
        let entry = self.queue.get(id)?;
        Some(Submitted {
            id,
            made_here: false,
            queue: self.queue.queue_of(entry).clone(),
            priority: entry.priority,
            exectime: entry.exectime,
            options: entry.options().cloned().unwrap_or_default(),
            payload: self.bodies.get(id)?.clone(),
            source: self.files.source_of(id).cloned(),
            // A checkpoint tells that by another record.
            past: None,
        })
    }

    pub(super) fn checkpoint_done(
        &mut self,
        now: Now,
        result: Result<(), Failed>,
        out: &mut Vec<Output>,
    ) {
        let ended = self.checkpointing.take();
        self.room_checkpoint_at = self.room_checkpoint_at.map(|_| now.tick);
        let callers = ended.map_or_else(Vec::new, |ended| ended.callers);
        match result {
            Ok(()) => {
                self.ledger.checkpoint_made();
                self.checkpoint_from = 0;
                self.is_brief &= self.room_refused.is_some() || self.full.len() > 0;
                self.checkpoint_at = Some(now.tick);
                for ticket in callers {
                    out.push(Output::Reply(ticket, Ok(Response::Done)));
                }
                if self.room_refused.is_some() {
                    self.try_for_room(now, out);
                }
            }
            Err(failed) if failed.full => {
                self.ledger.checkpoint_refused();
                if !std::mem::replace(&mut self.is_brief, true) {
                    tracing::warn!(error = %failed.text, "no room for a checkpoint; the journal grows on, and the next one leaves out the texts of errors");
                    // What makes it long may be those: it is tried at once.
                    self.checkpoint_wanted = true;
                    self.checkpoint_callers.extend(callers);
                    return;
                }
                // Not again before it has grown by a quarter: on a full disk that would be at once, and for ever.
                self.checkpoint_from =
                    self.ledger.bytes_since_checkpoint() + self.settings.checkpoint_bytes / 4;
                for ticket in callers {
                    out.push(Output::Reply(ticket, Err(Error::Refused(Refusal::NoRoom))));
                }
            }
            Err(failed) => {
                self.checkpoint_callers.extend(callers);
                self.fail_stop(failed.text, out);
            }
        }
    }

    /// Has old files of done tasks removed: ten times in the time that they are kept, at most once a minute.
    pub(super) fn purge_done(&mut self, now: Now, out: &mut Vec<Output>) {
        let kept = self.settings.retain_done;
        if kept == Millis(0) || self.next_purge.is_some_and(|tick| tick > now.tick) {
            return;
        }
        let before = crate::task::WallMillis(
            now.wall
                .0
                .saturating_sub(i64::try_from(kept.0).unwrap_or(i64::MAX)),
        );
        out.push(Output::PurgeDone(before));
        self.next_purge = Some(now.tick.plus(Millis((kept.0 / 10).max(60_000))));
    }

    pub(super) fn rejected_listed(
        &mut self,
        ticket: Ticket,
        list: Result<Vec<crate::task::RejectedView>, Arc<str>>,
        out: &mut Vec<Output>,
    ) {
        let result = match list {
            Ok(mut list) => {
                list.extend(self.unmoved.views());
                let left = self.irregular.iter();
                list.extend(left.map(|(path, reason)| left_alone(path, reason.clone())));
                Ok(Response::Rejected(list))
            }
            Err(reason) => Err(Error::Refused(Refusal::OutOfReach {
                what: "rejected files can't be listed".into(),
                reason: (*reason).into(),
            })),
        };
        out.push(Output::Reply(ticket, result));
    }
}
