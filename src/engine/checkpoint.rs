//! Checkpoints: what is begun when, what one tells, and what becomes of the segments behind it.
//!
//! How one comes to the disk, and what it finds there when that is full, is the store's.

use super::{
    Engine,
    io::{Failed, Output, Response, Ticket},
    writing::LEAST_ROOM,
};
use crate::{
    backend::Error,
    store::{Checkpoint, Cut, Pieces, Seq},
    task::{
        Area, Location, Millis, Now, Record, Refusal, Restored, State, Submitted, TaskId, Tick,
    },
};

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
}
