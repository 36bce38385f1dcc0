//! Bringing the disk after the journal: task files, and the checkpoint that lets old segments go.

use std::sync::Arc;

use super::{
    Engine,
    files::FileChange,
    io::{Failed, FileWork, Output, Response, Ticket},
};
use crate::{
    backend::Error,
    defect::{Defect, planted},
    store::{Checkpoint, FileOp, Seq},
    task::{Millis, Now, Refusal, TaskFile, TaskId, encode_record},
};

/// How many file changes go out in one output, and how many may be out at once: enough to keep the disk busy, few enough
/// that a change of mind (a task that ends meanwhile) still saves work.
const FILE_BATCH: usize = 256;
const FILES_IN_FLIGHT: usize = 1024;

/// A checkpoint on its way.
#[derive(Debug)]
pub(super) struct Checkpointing {
    cut: Seq,
    records: Vec<u8>,
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
    pub(super) fn can_change_files(&self) -> bool {
        self.files.in_flight_len() < FILES_IN_FLIGHT
    }

    /// Hands out the file changes that are due.
    pub(super) fn change_files(&mut self, now: Now, out: &mut Vec<Output>) {
        let durable = self.ledger.synced_seq();
        let mut work = Vec::new();
        while self.can_change_files() {
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
            Some(at) if change.rewrite || change.old.as_ref() != Some(&at) => {
                let entry = self.queue.get(id)?;
                let dead = entry.state == crate::task::State::Dead;
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
        ops.extend(change.source.clone().map(FileOp::RemoveSource));
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
        results: Vec<(TaskId, Result<(), Failed>)>,
        out: &mut Vec<Output>,
    ) {
        let mut full = false;
        for (id, result) in results {
            match result {
                Ok(()) => self.file_made(id),
                Err(failed) => {
                    full |= failed.full;
                    if self.files.failures == 0 || !failed.full {
                        tracing::warn!(task_id = %id, error = %failed.text, "a task's file can't be changed; trying again");
                    }
                    self.files.failed(id, now.tick);
                }
            }
        }
        self.spool_full = full;
        if full && self.crowded {
            // Who waits for changes to be made is told that there is no room for them.
            self.after_room(now, out);
        }
        self.after_files(now, out);
    }

    /// Whether as many file changes wait as may: then who asks is looked at again when fewer do.
    pub(super) fn is_crowded(&mut self) -> bool {
        let crowded = self.files.len() >= self.settings.max_pending_files;
        self.crowded |= crowded;
        crowded
    }

    /// Looks again at what waited for the spool to be less crowded.
    fn after_files(&mut self, now: Now, out: &mut Vec<Output>) {
        let waits = !self.roomless.is_empty() || !self.postponed.is_empty();
        if std::mem::take(&mut self.crowded)
            && waits
            && self.files.len() < self.settings.max_pending_files
        {
            self.after_room(now, out);
        }
        self.crowded |= self.files.len() >= self.settings.max_pending_files;
    }

    fn file_made(&mut self, id: TaskId) {
        self.files.made(id);
        let leased = self
            .queue
            .get(id)
            .is_some_and(|entry| entry.lease().is_some());
        if self.bodies.bytes() > self.settings.payload_cache && !leased && self.files.is_settled(id)
        {
            self.bodies.remove(id);
        }
    }

    /// Moves a checkpoint on: first the state is written down as of one frame, then all files of tasks in frames up to
    /// that one are brought in order, then the checkpoint goes to the disk and those frames may go.
    pub(super) fn checkpoint(&mut self, out: &mut Vec<Output>) {
        let bytes = self.ledger.bytes_since_checkpoint();
        let wanted = self.checkpoint_wanted
            || bytes >= self.settings.checkpoint_bytes.max(self.checkpoint_from);
        if self.checkpointing.is_none() && wanted {
            self.begin_checkpoint();
        }
        let settled = self.files.first_unsettled();
        let synced = self.ledger.synced_seq();
        let Some(checkpointing) = &mut self.checkpointing else {
            return;
        };
        let cut = checkpointing.cut;
        if checkpointing.sent || synced < cut || settled.is_some_and(|first| first <= cut) {
            return;
        }
        checkpointing.sent = true;
        let records = std::mem::take(&mut checkpointing.records);
        let last_id = checkpointing.last_id;
        let delete = self.ledger.checkpointed(cut);
        out.push(Output::Checkpoint(Checkpoint {
            cut,
            last_id,
            records,
            delete,
        }));
    }

    fn begin_checkpoint(&mut self) {
        // Only between frames: what is appended to an open one later would be cut off with it.
        let last = self
            .ledger
            .pending_seq()
            .unwrap_or_else(|| self.ledger.synced_seq());
        if last > self.last_sealed {
            return;
        }
        let mut records = Vec::new();
        for record in self.queue.snapshot() {
            encode_record(&record, &mut records);
        }
        self.checkpoint_wanted = false;
        self.checkpointing = Some(Checkpointing {
            cut: last,
            records,
            last_id: self.ids.last(),
            sent: false,
            callers: std::mem::take(&mut self.checkpoint_callers),
        });
    }

    pub(super) fn checkpoint_done(&mut self, result: Result<(), Failed>, out: &mut Vec<Output>) {
        let ended = self.checkpointing.take();
        let callers = ended.map_or_else(Vec::new, |ended| ended.callers);
        match result {
            Ok(()) => {
                self.checkpoint_from = 0;
                for ticket in callers {
                    out.push(Output::Reply(ticket, Ok(Response::Done)));
                }
            }
            Err(failed) if failed.full => {
                tracing::warn!(error = %failed.text, "no room for a checkpoint; the journal grows on");
                self.ledger.checkpoint_refused();
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
                let left = self
                    .irregular
                    .iter()
                    .map(|(path, reason)| crate::task::RejectedView {
                        name: crate::store::shown(path),
                        reason: reason.clone(),
                        size: 0,
                        modified: crate::task::WallMillis(0),
                        moved: false,
                    });
                list.extend(left);
                Ok(Response::Rejected(list))
            }
            Err(text) => Err(Error::Fault(crate::backend::Fault(text))),
        };
        out.push(Output::Reply(ticket, result));
    }
}
