//! [`Export`]: all tasks as they were at one moment, read piece by piece while work goes on.
//!
//! A walk over the places where the queue keeps its tasks, which a task never leaves. What changes before the walk has come to
//! it is kept as it was, and goes out first; what was submitted since is passed over. So the memory that an export takes is
//! that of the changes that its reader lags behind, and it is given up when they are too many.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::{
    Engine,
    bodies::Bodies,
    io::{Output, Request, Response, Ticket},
    payloads::Asked,
};
use crate::{
    backend::{ExportHead, ExportPiece},
    task::{NewTask, Now, Past, Payload, Record, Refusal, State, TaskId},
};

/// The most bytes that changed tasks may take which wait for the reader.
const MOST_KEPT: usize = 64 << 20;
/// How many bytes of tasks go out at once, about.
const PIECE_BYTES: usize = 1 << 20;
/// How many payloads are read from files for one piece: each may have a megabyte.
const PIECE_READS: usize = if cfg!(test) { 2 } else { 64 };
/// How many tasks a piece has at most.
const PIECE_TASKS: usize = if cfg!(test) { 3 } else { 1024 };
/// How many places are walked over in one step.
const STEP: u32 = if cfg!(test) { 5 } else { 4096 };
/// How often payloads may be asked for until their tasks are left out.
const TRIES: u32 = 3;
/// What a task takes beside its payload and its error, about.
const TASK_BYTES: usize = 256;

/// An export on its way.
#[derive(Debug)]
pub(super) struct Export {
    number: u64,
    /// Where the walk goes on; `None`: it is at its end.
    next: Option<u32>,
    /// Tasks in places that the walk has not come to, which it passes over: submitted since, or gone out already.
    passed_over: HashSet<TaskId, FixedState>,
    /// Tasks as they were, which have not gone out.
    kept: HashMap<TaskId, Kept, FixedState>,
    /// They in the order in which they go out.
    line: VecDeque<TaskId>,
    bytes: usize,
    tasks: u64,
    left_out: u64,
    given_up: bool,
}

/// A task as it was.
#[derive(Debug)]
struct Kept {
    task: NewTask,
    payload: Body,
    /// It changed before the walk came to it.
    early: bool,
}

/// Where a kept task's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// In the task.
    Here,
    /// In the task's file.
    There,
    /// Nowhere: the task has ended, and it had not been read.
    Gone,
}

impl Export {
    fn keep(&mut self, id: TaskId, task: NewTask, early: bool) {
        let kept = Kept {
            task,
            payload: Body::There,
            early,
        };
        self.bytes += kept.size();
        self.kept.insert(id, kept);
        self.line.push_back(id);
    }

    fn fill(&mut self, id: TaskId, payload: &Payload) {
        if let Some(kept) = self.kept.get_mut(&id)
            && kept.payload == Body::There
        {
            self.bytes += kept.take(payload.clone());
        }
    }

    /// Gives up, where too much has changed that has not gone out.
    fn check(&mut self) {
        if self.bytes > MOST_KEPT {
            self.given_up = true;
            self.bytes = 0;
            self.kept = HashMap::default();
            self.line = VecDeque::new();
            self.passed_over = HashSet::default();
            self.next = None;
        }
    }

    fn lacks(&self, id: TaskId) -> bool {
        self.kept
            .get(&id)
            .is_some_and(|kept| kept.payload == Body::There)
    }

    /// Gives those that go out next their payloads, where they are in memory.
    fn fill_head(&mut self, bodies: &Bodies) {
        let before = self.bytes;
        for at in 0..self.line.len().min(PIECE_TASKS) {
            let id = self.line[at];
            if self.lacks(id)
                && let Some(payload) = bodies.get(id)
            {
                self.fill(id, payload);
            }
            if self.bytes - before > PIECE_BYTES {
                break;
            }
        }
    }

    /// How many go out next: those at the front that lack nothing.
    fn ready(&self) -> usize {
        let mut bytes = 0;
        self.line
            .iter()
            .take(PIECE_TASKS)
            .take_while(|id| {
                let fits = bytes <= PIECE_BYTES;
                bytes += self.kept.get(*id).map_or(0, Kept::size);
                fits && !self.lacks(**id)
            })
            .count()
    }

    /// Those at the front whose payloads are to be read next.
    fn unread(&self) -> Vec<TaskId> {
        let front = self.line.iter().take(PIECE_READS).copied();
        front.take_while(|id| self.lacks(*id)).collect()
    }

    /// The payload of this one can't be had.
    fn give_up(&mut self, id: TaskId) {
        if let Some(kept) = self.kept.get_mut(&id)
            && kept.payload == Body::There
        {
            kept.payload = Body::Gone;
        }
    }

    fn take(&mut self, count: usize) -> Vec<NewTask> {
        let mut tasks = Vec::with_capacity(count);
        for id in self.line.drain(..count) {
            let Some(kept) = self.kept.remove(&id) else {
                continue;
            };
            self.bytes -= kept.size();
            if kept.early && self.next.is_some() {
                self.passed_over.insert(id);
            }
            if kept.payload == Body::Here {
                self.tasks += 1;
                tasks.push(kept.task);
            } else {
                self.left_out += 1;
            }
        }
        tasks
    }
}

impl Kept {
    fn size(&self) -> usize {
        let past = self.task.past.as_ref();
        let error = past.and_then(|past| past.last_error.as_ref());
        TASK_BYTES + self.task.payload.len() + error.map_or(0, |error| error.len())
    }

    /// Takes the payload; gives how much larger it is by that.
    fn take(&mut self, payload: Payload) -> usize {
        let before = self.size();
        self.task.payload = payload;
        self.payload = Body::Here;
        self.size().saturating_sub(before)
    }
}

impl Engine {
    /// Begins an export of what is true now.
    pub(super) fn begin_export(&mut self, now: Now) -> Result<Response, Refusal> {
        if self.export.as_ref().is_some_and(|export| !export.given_up) {
            return Err(Refusal::ExportRuns);
        }
        let number = self.random();
        self.export = Some(Export {
            number,
            next: Some(0),
            passed_over: HashSet::default(),
            kept: HashMap::default(),
            line: VecDeque::new(),
            bytes: 0,
            tasks: 0,
            left_out: 0,
            given_up: false,
        });
        let (mut paused, mut draining) = (Vec::new(), Vec::new());
        for record in self.queue.switched() {
            match record {
                Record::Paused { queue, .. } => paused.push(queue),
                Record::Draining { queue, .. } => draining.push(queue),
                _ => {}
            }
        }
        Ok(Response::ExportBegun(Box::new(ExportHead {
            number,
            at: now.wall,
            tasks: self.queue.len() as u64,
            paused,
            draining,
        })))
    }

    /// Gives the next piece of an export.
    pub(super) fn go_on_exporting(
        &mut self,
        now: Now,
        ticket: Ticket,
        number: u64,
        tries: u32,
        out: &mut Vec<Output>,
    ) {
        let Some(export) = self.export.as_mut().filter(|one| one.number == number) else {
            return self.reply(ticket, Ok(Response::Exported(ExportPiece::GivenUp)), out);
        };
        if export.given_up {
            self.export = None;
            return self.reply(ticket, Ok(Response::Exported(ExportPiece::GivenUp)), out);
        }
        self.walk_on();
        let Some(export) = &mut self.export else {
            return;
        };
        if export.line.is_empty() && export.next.is_none() {
            let (tasks, left_out) = (export.tasks, export.left_out);
            self.export = None;
            let end = ExportPiece::End { tasks, left_out };
            return self.reply(ticket, Ok(Response::Exported(end)), out);
        }
        export.fill_head(&self.bodies);
        if export.ready() == 0 {
            let unread = export.unread();
            let there = |id: &TaskId| self.queue.get(*id).is_some();
            let (missing, gone): (Vec<_>, Vec<_>) = unread.into_iter().partition(there);
            for id in gone {
                export.give_up(id);
            }
            if !missing.is_empty() && tries < TRIES {
                let again = Asked::Again(Request::ExportNext(number));
                return self.park(now, ticket, again, missing, tries, out);
            }
            for id in missing {
                export.give_up(id);
            }
        }
        let tasks = export.take(export.ready());
        let piece = ExportPiece::Tasks(tasks);
        self.reply(ticket, Ok(Response::Exported(piece)), out);
    }

    /// Nobody reads an export any more.
    pub(super) fn end_export(&mut self, number: u64) {
        self.export.take_if(|export| export.number == number);
    }

    /// Walks on, where not enough is in line.
    fn walk_on(&mut self) {
        let Some(mut export) = self.export.take() else {
            return;
        };
        if let Some(from) = export.next
            && export.line.len() < PIECE_TASKS
        {
            let (ids, next) = self.queue.walk(from, STEP);
            export.next = next;
            for id in ids {
                if export.passed_over.remove(&id) || export.kept.contains_key(&id) {
                    continue;
                }
                if let Some(task) = self.as_it_is(id) {
                    // Its payload is looked for when its turn has come.
                    export.keep(id, task, false);
                }
            }
        }
        self.export = Some(export);
    }

    /// A task without its payload.
    fn as_it_is(&self, id: TaskId) -> Option<NewTask> {
        let entry = self.queue.get(id)?;
        let past = Past {
            attempts: entry.attempts,
            dead: entry.state == State::Dead,
            last_error: entry.last_error().cloned(),
        };
        Some(NewTask {
            id: Some(id),
            queue: self.queue.queue_of(entry).clone(),
            priority: entry.priority,
            exectime: entry.exectime,
            options: entry.options().cloned().unwrap_or_default(),
            payload: Payload::null(),
            past: (past != Past::default()).then(|| Box::new(past)),
        })
    }

    /// Whether an export still needs a task's payload, so that the task must not end before it is read.
    pub(super) fn export_needs(&self, id: TaskId) -> bool {
        self.export
            .as_ref()
            .is_some_and(|export| export.lacks(id) || self.is_ahead(export, id))
    }

    fn is_ahead(&self, export: &Export, id: TaskId) -> bool {
        let ahead = |place| export.next.is_some_and(|next| place >= next);
        !export.kept.contains_key(&id)
            && !export.passed_over.contains(&id)
            && self.queue.place(id).is_some_and(ahead)
    }

    /// A record is about to be made true: the task that it changes is kept as it was.
    pub(super) fn keep_for_export(&mut self, record: &Record) {
        let Some(export) = &self.export else { return };
        let Some(id) = record.id() else { return };
        // A lease's length is no part of it, and what is new has nothing that was.
        if matches!(record, Record::Extended { .. } | Record::Submitted(_)) {
            return;
        }
        let task = self
            .is_ahead(export, id)
            .then(|| self.as_it_is(id))
            .flatten();
        let payload = self.bodies.get(id);
        let Some(export) = &mut self.export else {
            return;
        };
        if let Some(task) = task {
            export.keep(id, task, true);
            if let Some(payload) = payload {
                export.fill(id, payload);
            }
        }
        if matches!(record, Record::Completed { .. } | Record::Cancelled { .. }) {
            // Another task may come to have its id.
            export.passed_over.remove(&id);
            match payload {
                Some(payload) => export.fill(id, payload),
                None => export.give_up(id),
            }
        }
        export.check();
    }

    /// A task was submitted: it is not what was.
    pub(super) fn pass_over_in_export(&mut self, id: TaskId) {
        let place = self.queue.place(id);
        if let Some(export) = &mut self.export
            && let Some(next) = export.next
            && place.is_some_and(|place| place >= next)
        {
            export.passed_over.insert(id);
        }
    }
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
