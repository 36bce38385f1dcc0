//! Bringing the task files after the journal.

use super::{
    Engine,
    files::FileChange,
    io::{Failed, FileWork, Output},
};
use crate::{
    defect::{Defect, planted},
    store::{FileOp, Ran},
    task::{Location, Millis, NewTask, Now, QueueName, State, TaskFile, TaskId, Tick, WallMillis},
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
pub(super) const LEAST_ROOM: u64 = 128 << 10;

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
            match self.ops(now, id, &change) {
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
    fn ops(&self, now: Now, id: TaskId, change: &FileChange) -> Option<Vec<FileOp>> {
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
            None => ops.extend(Self::ops_of_ended(now, id, change)),
        }
        let at = self.queue.location(id);
        let strays = change
            .strays
            .iter()
            .filter(|stray| Some(*stray) != at.as_ref());
        ops.extend(
            strays
                .cloned()
                .map(|at| FileOp::Remove { at, strange: None }),
        );
        ops.extend(change.sources.iter().cloned().map(FileOp::RemoveSource));
        Some(ops)
    }

    fn ops_of_ended(now: Now, id: TaskId, change: &FileChange) -> Vec<FileOp> {
        let strange = change.strange(now);
        let removed = |at: Location| FileOp::Remove {
            at,
            strange: strange.clone(),
        };
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
            // One that another may have taken the place of goes by a step of its own.
            let (old, rest) = match &change.old {
                Some(old) if strange.is_some() => (None, Some(removed(old.clone()))),
                old => (old.clone(), None),
            };
            let at = done.at.clone();
            return [FileOp::Put { old, at, file }]
                .into_iter()
                .chain(rest)
                .collect();
        }
        change.old.clone().map(removed).into_iter().collect()
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
                    } else if ran == Ran::Strange {
                        self.gave_way(now, id, out);
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
                Err(failed) => {
                    if failed.full {
                        full = true;
                        self.no_room_for_file(now, id, &failed.text);
                    } else if self.files.failed(id, now.tick, &failed.text) {
                        tracing::warn!(task_id = %id, error = %failed.text, "a task's file can't be changed; it is tried again");
                    }
                    // It may have ended meanwhile.
                    if self.queue.get(id).is_none() {
                        self.files.forget_payload(id);
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

    /// Has old files of done tasks removed: ten times in the time that they are kept, at most once a minute.
    pub(super) fn purge_done(&mut self, now: Now, out: &mut Vec<Output>) {
        let kept = self.settings.retain_done;
        if kept == Millis(0) || self.next_purge.is_some_and(|tick| tick > now.tick) {
            return;
        }
        let before = WallMillis(
            now.wall
                .0
                .saturating_sub(i64::try_from(kept.0).unwrap_or(i64::MAX)),
        );
        out.push(Output::PurgeDone(before));
        self.next_purge = Some(now.tick.plus(Millis((kept.0 / 10).max(60_000))));
    }
}
