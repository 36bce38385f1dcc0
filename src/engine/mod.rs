//! The engine: one function, [`Engine::step`], takes everything that happens and gives everything that is to be done.
//!
//! A thread drives it in the daemon ([`driver`]), a loop can drive it in a test. It never blocks: that a group is to be
//! written is one of its outputs, that it has been written one of its inputs, and batches build up by themselves while
//! the disk works. An answer waits here until the frame that it rests on is written, also the answer to a reading
//! request.
//!
//! It leads the queue and the store and decides nothing of theirs. It may not know: HTTP, the queue's rules, formats on
//! the disk.

mod announce;
mod astray;
mod behind;
mod bodies;
mod by_id;
mod checkpoint;
mod claiming;
mod claims;
pub mod clock;
mod clock_watch;
mod desk;
pub mod driver;
mod drops;
mod export;
mod failing;
mod files;
mod full;
mod handle;
mod hands;
mod io;
mod kept;
mod lately;
mod latest;
mod line;
mod listing;
mod mailbox;
mod memory;
mod pace;
mod past;
mod payloads;
mod requests;
mod room;
mod settings;
#[cfg(test)]
mod simulation;
mod sizes;
mod start;
mod taken;
#[cfg(test)]
mod tests;
mod unmoved;
mod unseen;
mod workers;
mod writing;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

pub use handle::Handle;
pub use io::{BadFile, Failed, FileWork, Input, Output, Request, Response, Ticket};
pub use settings::{Durability, Live, Settings};
pub use start::Loader;

use self::{
    astray::Astray,
    bodies::Bodies,
    checkpoint::Checkpointing,
    claims::Waiting,
    drops::{Dropped, Look},
    files::{DoneTask, Files},
    full::Full,
    kept::Kept,
    listing::Scan,
    pace::Pace,
    past::Past,
    payloads::Parked,
    room::Roomless,
    sizes::Sizes,
    taken::Taken,
    unmoved::Unmoved,
    workers::Workers,
};
use crate::{
    backend::{Error, Fault},
    defect::{Defect, planted},
    queue::Queues,
    store::{Ledger, Seq},
    systemd::catalog,
    task::{
        Area, Distribution, FileName, IdSource, Location, Millis, Now, Payload, QueueName, Record,
        Refusal, Source, TaskId, Tick, Token,
    },
};

/// Where random numbers come from: the kernel in the daemon, a seed in a test.
pub type Entropy = Box<dyn FnMut() -> u64 + Send>;

/// How many scheduled tasks become ready in one step: more take their turn after other work.
const PROMOTIONS: usize = 4096;

/// The engine.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own, not a part of one state"
)]
pub struct Engine {
    settings: Settings,
    queue: Queues,
    ledger: Ledger,
    ids: IdSource,
    entropy: Entropy,
    files: Files,
    pace: Pace,
    bodies: Bodies,
    sizes: Option<Sizes>,
    waiting: Waiting,
    workers: Workers,
    past: Past,
    /// Answers and events that wait for a frame to be written.
    held: VecDeque<(Seq, Output)>,
    /// Requests that wait for payloads to be read.
    parked: Vec<Parked>,
    /// Submits that wait for room, in the journal or in the spool.
    roomless: VecDeque<Roomless>,
    /// Since when the submit that is looked at waits, where it does.
    waits_since: Option<Tick>,
    /// Requests that wait for room in the journal, and how often they were put off.
    segment_waiters: Vec<(Ticket, Request, u8)>,
    /// How often the request that is looked at was put off.
    put_off: u8,
    /// Dropped files with ids that are here already, which wait for the payloads of those to be read.
    rivals: VecDeque<Dropped>,
    /// Dropped files that were taken a moment ago.
    taken: Taken,
    /// Files of tasks that somebody moves.
    astray: Astray,
    /// Dropped files that can't be taken yet.
    kept: Kept,
    /// Bad files that could not be moved.
    unmoved: Unmoved,
    /// Why the watcher does not hear of all changes.
    deaf: Option<Arc<str>>,
    irregular: BTreeMap<PathBuf, String>,
    /// Tasks whose files were not there when the watcher looked, and have not changed since: it was asked to look again.
    missed: HashMap<TaskId, u64, FixedState>,
    /// How many questions the watcher was asked.
    questions: u64,
    /// Tasks that are there, and of which files with other names were seen; until all were compared with their files, or a minute
    /// after another directory came.
    misnamed: HashMap<TaskId, Location, FixedState>,
    /// Tasks whose files were not there while they were being made: looked for when they have been.
    vanished: HashSet<TaskId, FixedState>,
    /// Queues whose waiting claims are to be looked at.
    stirred: BTreeSet<QueueName>,
    prefetch_in: HashMap<QueueName, u32, FixedState>,
    checkpointing: Option<Checkpointing>,
    checkpoint_wanted: bool,
    checkpoint_callers: Vec<Ticket>,
    checkpoint_from: u64,
    /// When the last checkpoint was made.
    checkpoint_at: Option<Tick>,
    /// Whether the next one leaves out the texts of errors, because the last one found no room.
    is_brief: bool,
    /// When the last one was begun for want of room.
    room_checkpoint_at: Option<Tick>,
    last_sealed: Seq,
    /// When the group was sealed that is being written.
    sealed_at: Tick,
    /// How long groups took to be written.
    writes: Distribution,
    room_refused: Option<Tick>,
    /// Whether a segment was made and nothing set aside for the next checkpoint since.
    to_set_aside: bool,
    /// Whether a claim that waits found a task and no room in the journal.
    claims_want_room: bool,
    /// Whether a lease that is over found no room in the journal to say so.
    expiries_want_room: bool,
    /// Bytes that the disk had left when a segment was made, or files were changed, last; 0 when it had none for a segment.
    free: Option<u64>,
    full: Full,
    /// Looks through folders that are still to be compared with the queue.
    looks: VecDeque<Look>,
    /// Pages that are being looked for.
    scans: VecDeque<Scan>,
    /// Whether as many file changes waited as may, when that was last looked at.
    crowded: bool,
    listening: bool,
    export: Option<export::Export>,
    /// What the worker had to say of the task that is completed next, for listeners: the record has it only where it is kept.
    told: Option<Payload>,
    syncs: u64,
    records: u64,
    rejected: u64,
    next_purge: Option<Tick>,
    /// The journal is read: what it tells was said when it happened, and is not said again.
    starting: bool,
    fault: Option<Arc<str>>,
    stopping: bool,
    closing: bool,
    closed: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("tasks", &self.queue.len())
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Takes one thing that happened, and adds what is to be done to `out`.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if self.queue.advance(now, PROMOTIONS) {
            // There are more that are due: the driver comes back at once, because `next_wake` says so.
        }
        match input {
            Input::Request(ticket, request) => {
                self.pace.count(now);
                self.request(now, ticket, request, out);
            }
            Input::Withdrawn(ticket) => self.withdrawn(ticket),
            Input::ExportEnded(number) => self.end_export(number),
            Input::Undelivered(tasks) => self.undelivered(now, tasks),
            Input::Flush => self.flush(now, out),
            Input::Written(seq) => self.written(now, seq, out),
            Input::WriteFailed(text) => self.fail_stop(text, out),
            Input::Durable(seq) => self.ledger.durable(seq),
            Input::SegmentMade(number, bytes, free) => {
                self.ledger.segment_made(number, bytes);
                self.room_refused = None;
                self.free = free;
                self.to_set_aside = true;
                self.after_room(now, out);
            }
            Input::SegmentFailed(failed) => self.segment_failed(now, failed, out),
            Input::FilesDone(results) => self.files_done(now, results, out),
            Input::Free(free) => self.free = free,
            Input::Loaded(results) => self.loaded(now, results, out),
            Input::CheckpointDone(result) => self.checkpoint_done(now, result, out),
            Input::Sighting(sighting) => self.sighting(now, sighting, out),
            Input::Rejected(file, result) => self.rejected(now, file, result, out),
            Input::RejectedListed(ticket, list) => self.rejected_listed(ticket, list, out),
            Input::RejectedSettled(ticket, result) => {
                out.push(Output::Reply(ticket, result.map(|()| Response::Done)));
            }
            Input::Listening(on) => self.listening = on,
            Input::Live(live) => self.set_live(*live),
            Input::Stop => self.stop(out),
            Input::Close => {
                self.closing = true;
                self.files.hurry_failing(now.tick);
            }
        }
    }

    /// Whether a group is being written: until [`Input::Written`], no answer that rests on a change can go out. A write that
    /// failed is not waited for.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        self.ledger.is_writing() && self.fault.is_none()
    }

    /// When [`Input::Flush`] is due even if nothing else happens; `None`: not before something does.
    #[must_use]
    pub fn next_wake(&self, now: Now) -> Option<Tick> {
        if self.fault.is_some() {
            return None;
        }
        let due = self.queue.next_due().map(|exectime| {
            let ahead = exectime.as_wall().0.saturating_sub(now.wall.0);
            now.tick.plus(Millis(u64::try_from(ahead).unwrap_or(0)))
        });
        let durable = self.ledger.synced_seq();
        [
            due,
            self.queue
                .next_expiry()
                .filter(|_| !self.expiries_want_room),
            self.waiting.next_deadline(),
            self.files_wake(durable),
            self.bodies.next_try(now.tick),
            self.next_purge,
            (!self.looks.is_empty() || !self.scans.is_empty()).then_some(now.tick),
            self.room_wake(),
            self.roomless.front().map(Roomless::until),
            self.quiet_checkpoint(),
            self.unmoved.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn files_wake(&self, durable: Seq) -> Option<Tick> {
        // While as many changes are out as may be, the next come when some of them are made.
        if !self.can_change_files() {
            return None;
        }
        let due = self.files.next_due(self.spool_delay(), durable)?;
        Some(self.files_held_until().map_or(due, |until| due.max(until)))
    }

    fn spool_delay(&self) -> Millis {
        // A checkpoint waits for the files of all before it, and submits for room among the changes: they don't take their
        // time.
        if self.closing || self.crowded || self.checkpointing.is_some() {
            Millis(0)
        } else {
            self.settings.spool_delay
        }
    }

    /// What time brings, then what waits for it, then what goes to the disk.
    fn flush(&mut self, now: Now, out: &mut Vec<Output>) {
        self.pace.look(now);
        if self.fault.is_none() {
            self.expire(now);
            self.retry_room(now, out);
            self.end_roomless(now, out);
            self.retry_loads(now, out);
            self.serve_stirred(now, out);
            self.end_waits(now, out);
            self.ask_for_kept(out);
            self.retry_unmoved(now, out);
            self.purge_done(now, out);
            self.look_on(now, out);
            self.scan_on(now, out);
            self.seal(now, out);
            self.change_files(now, out);
            self.checkpoint(now, out);
        }
        self.close(out);
    }

    fn seal(&mut self, now: Now, out: &mut Vec<Output>) {
        if let Some(group) = self.ledger.seal() {
            self.last_sealed = group.seq;
            self.sealed_at = now.tick;
            out.push(Output::Write(group));
        }
        if let Some(segment) = self.ledger.wants_segment() {
            out.push(Output::MakeSegment(segment));
        } else if self.to_set_aside && self.ledger.has_all_it_wants() {
            self.to_set_aside = false;
            out.push(Output::SetAside(self.next_checkpoint_bytes()));
        }
    }

    /// Writes one atomic unit of records into the journal's open frame and makes them true.
    fn commit(&mut self, now: Now, unit: &[Record]) {
        let seq = self.ledger.append(unit);
        self.records += unit.len() as u64;
        for record in unit {
            if keeps_file(record) {
                self.announce(now, record);
                self.keep_for_export(record);
                self.queue.apply(record);
            } else {
                self.make_true(now, record, seq);
            }
        }
        self.ledger
            .set_counts(self.queue.len() as u64, self.queue.leased_count() as u64);
    }

    /// Makes a record true that is in frame `seq`, and notes what becomes of the task's file.
    fn make_true(&mut self, now: Now, record: &Record, seq: Seq) {
        let id = record.id();
        let before = id.and_then(|id| self.queue.location(id));
        let done = self.keep_done(record);
        self.announce(now, record);
        self.keep_for_export(record);
        self.queue.apply(record);
        let Some(id) = id else { return };
        let gone = matches!(record, Record::Cancelled { gone: true, .. });
        if gone {
            self.astray.removed(id, now.tick);
        } else if let Record::Completed { .. } | Record::Cancelled { .. } = record {
            self.astray.ended(id, now);
        }
        if let Record::Submitted(task) = record {
            self.astray.submitted(id, now.tick);
            // Of one that came in a file, it is true still.
            if task.source.is_none() {
                self.astray.unseen.forget(id);
            }
            if task.made_here {
                self.ids.advance_past(id);
            }
            self.bodies.insert(id, task.payload.clone());
            self.note_size(id, task.payload.len() as u64);
            self.pass_over_in_export(id);
            let reused = !self.files.is_settled(id);
            self.note_new(id, before, task.source.as_ref(), seq, now);
            self.files.note_payload(id, task.payload.len());
            if reused {
                // A file of an earlier task with this id is on its way out: what is in its place, if anything, is not this.
                self.files.note(id, None, seq, now.tick).rewrite = true;
            }
            return;
        }
        let after = self.queue.location(id);
        if after.is_none() {
            self.bodies.remove(id);
            self.forget_size(id);
            self.vanished.remove(&id);
        }
        if before != after {
            self.missed.remove(&id);
            let change = self.files.note(id, before, seq, now.tick);
            change.done = done;
        }
        if gone {
            self.files.note_gone(id);
        }
        if after.is_none() {
            self.files.note_end(id, seq);
        }
    }

    fn note_new(
        &mut self,
        id: TaskId,
        before: Option<Location>,
        source: Option<&Source>,
        seq: Seq,
        now: Now,
    ) {
        let place = self.queue.location(id);
        let in_place = source.is_some_and(|source| {
            place
                .as_ref()
                .is_some_and(|place| place.path() == source.path)
        });
        match source {
            // The dropped file is the task's file: its name is the right one already.
            Some(_) if in_place => {
                let change = self.files.note(id, before.or(place.clone()), seq, now.tick);
                // The task had been cancelled for want of its file, and this one is there.
                if change.old.is_none() {
                    change.strays.retain(|stray| Some(stray) != place.as_ref());
                    change.old = place;
                }
            }
            Some(source) => {
                if before.is_some() {
                    self.files.note(id, before, seq, now.tick);
                }
                self.files.note_source(id, source.clone(), seq, now.tick);
            }
            None => {
                self.files.note(id, before, seq, now.tick);
            }
        }
    }

    /// What is to stand in `done/` about a task that is completed, where that is kept.
    fn keep_done(&self, record: &Record) -> Option<Box<DoneTask>> {
        let Record::Completed { id, result, at } = record else {
            return None;
        };
        if self.settings.retain_done == Millis(0) {
            return None;
        }
        let entry = self.queue.get(*id)?;
        let name = FileName {
            exectime: entry.exectime,
            priority: entry.priority,
            id: *id,
        };
        Some(Box::new(DoneTask {
            at: Location {
                area: Area::Done,
                queue: self.queue.queue_of(entry).clone(),
                name,
            },
            payload: self.bodies.get(*id).cloned(),
            priority: entry.priority,
            options: entry.options().cloned().unwrap_or_default(),
            attempts: entry.attempts,
            result: result.clone(),
            completed_at: *at,
        }))
    }

    /// Answers, when everything that the answer can rest on is written.
    fn reply(&mut self, ticket: Ticket, result: Result<Response, Error>, out: &mut Vec<Output>) {
        self.emit(Output::Reply(ticket, result), out);
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal, out: &mut Vec<Output>) {
        self.reply(ticket, Err(Error::Refused(refusal)), out);
    }

    fn emit(&mut self, output: Output, out: &mut Vec<Output>) {
        let waits = self.fault.is_none() && !planted(Defect::ReplyBeforeSync);
        match self.ledger.pending_seq().filter(|_| waits) {
            Some(seq) => self.held.push_back((seq, output)),
            None => out.push(output),
        }
    }

    fn written(&mut self, now: Now, seq: Seq, out: &mut Vec<Output>) {
        let took = now.tick.0.saturating_sub(self.sealed_at.0);
        self.writes.note(took / 1000);
        self.ledger.synced(seq);
        self.syncs += 1;
        while let Some((needs, _)) = self.held.front() {
            if *needs > seq {
                break;
            }
            out.extend(self.held.pop_front().map(|(_, output)| output));
        }
        let queue = &self.queue;
        self.files.settle_ended(seq, |id| queue.get(id).is_some());
    }

    /// A failed write is never tried again as if nothing had happened: whoever waits is told, and no write is taken.
    fn fail_stop(&mut self, text: Arc<str>, out: &mut Vec<Output>) {
        if self.fault.is_some() {
            return;
        }
        tracing::error!(message_id = catalog::WRITES_STOPPED.id, error = %text, "{}", catalog::WRITES_STOPPED.line);
        self.fault = Some(Arc::clone(&text));
        let fault = Fault(Arc::clone(&text));
        // Before anybody is answered: who asks then whether the daemon is ready is told.
        out.push(Output::Fault(text));
        let mut tickets: Vec<Ticket> = self.checkpoint_callers.drain(..).collect();
        if let Some(checkpointing) = &mut self.checkpointing {
            tickets.append(checkpointing.callers());
        }
        tickets.extend(self.held.drain(..).filter_map(|(_, output)| match output {
            Output::Reply(ticket, _) => Some(ticket),
            _ => None,
        }));
        tickets.extend(self.scans.drain(..).map(|scan| scan.ticket));
        tickets.extend(self.parked.drain(..).map(|parked| parked.ticket));
        tickets.extend(self.roomless.drain(..).map(|waiter| waiter.ticket));
        tickets.extend(self.segment_waiters.drain(..).map(|(ticket, ..)| ticket));
        while let Some(waiter) = self.waiting.take_any() {
            tickets.push(waiter.ticket);
        }
        out.extend(
            tickets
                .into_iter()
                .map(|ticket| Output::Reply(ticket, Err(Error::Fault(fault.clone())))),
        );
    }

    fn stop(&mut self, out: &mut Vec<Output>) {
        self.stopping = true;
        while let Some(waiter) = self.waiting.take_any() {
            self.answer_empty(waiter, out);
        }
        for waiter in std::mem::take(&mut self.roomless) {
            self.refuse(waiter.ticket, Refusal::Stopping, out);
        }
    }

    fn close(&mut self, out: &mut Vec<Output>) {
        // No checkpoint: it would sync the whole file system, and a start reads the journal's tail in no time.
        let idle = self.ledger.pending_seq().is_none()
            && self.files.len() == 0
            && self.checkpointing.is_none();
        if self.closing && !self.closed && (idle || self.fault.is_some()) {
            self.closed = true;
            out.push(Output::Closed);
        }
    }

    fn random(&mut self) -> u64 {
        (self.entropy)()
    }

    fn token(&mut self) -> Token {
        Token((u128::from(self.random()) << 64) | u128::from(self.random()))
    }
}

/// Whether a record leaves a task's file where it is. Not so at a start: there the files found may be ahead of the record.
const fn keeps_file(record: &Record) -> bool {
    matches!(
        record,
        Record::Claimed(_) | Record::Extended { .. } | Record::Released { .. }
    )
}
