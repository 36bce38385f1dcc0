//! What callers ask, one function each: the queue decides, the journal takes, the answer waits for the disk.

use super::{
    Engine,
    io::{Output, Request, Response, Ticket},
    payloads::Asked,
    workers::Deed,
};
use crate::{
    backend::{Error, Fault},
    defect::{Defect, planted},
    queue::Verdict,
    store::{Ledger, Room},
    task::{
        Change, Failure, Millis, NewTask, Now, Payload, QueueName, Record, Refusal, RetriedDead,
        State, StatusView, SubmitOutcome, TaskId, Token,
    },
};

/// How many tasks a purge or a retry of all meets in one step: more take their turn after other work.
const SOME: usize = 1000;
/// The same where each may have to be read from its file.
const SOME_READ: usize = 64;
/// Bytes of a submitted task's record beside its payload, unique key, trace state and queue, at most.
const RECORD_BYTES: u64 = 256;
/// Bytes of a failure's record beside its text, or of any other end.
pub(super) const END_BYTES: u64 = 128;

/// How often an end waits for room: a full disk is tried again every 200 ms.
const MOST_PUT_OFF: u8 = 4;

type Outcome = Result<Response, Refusal>;

impl Engine {
    pub(super) fn request(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: Request,
        out: &mut Vec<Output>,
    ) {
        self.request_again(now, ticket, request, 0, out);
    }

    /// Does a request that has waited `tries` times for payloads.
    pub(super) fn request_again(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: Request,
        tries: u32,
        out: &mut Vec<Output>,
    ) {
        if let Some(text) = &self.fault
            && !matches!(request, Request::Status)
        {
            let fault = Error::Fault(Fault(text.clone()));
            return out.push(Output::Reply(ticket, Err(fault)));
        }
        let shown = self.shown_by(&request);
        if shown.iter().any(|id| self.lacks_payload(*id)) {
            return self.park(now, ticket, Asked::Again(request), shown, tries, out);
        }
        if let Some(ask) = room_for(&request) {
            let room = ask(&self.ledger);
            if room != Room::Yes {
                // An end has room, but for the moment in which somebody else took it: it is not refused at the first look.
                let is_patient = ends(&request) && self.put_off < MOST_PUT_OFF;
                if self.wait_for_room(now, room, ask) || is_patient {
                    let put_off = self.put_off.saturating_add(1);
                    return self.segment_waiters.push((ticket, request, put_off));
                }
            }
        }
        let outcome = match request {
            Request::Submit(tasks) => return self.submit_in_turn(now, ticket, tasks, out),
            Request::Within(id, queue, request) => {
                let entry = self.queue.get(id);
                let at = entry.map(|entry| self.queue.queue_of(entry));
                if at.is_none_or(|at| *at == queue) {
                    // It has its payloads and its room, and is done in this step.
                    return self.request_again(now, ticket, *request, tries, out);
                }
                Err(Refusal::Moved(id))
            }
            Request::Claim(claim) => return self.claim(now, ticket, claim, out),
            Request::ExportNext(number) => {
                return self.go_on_exporting(now, ticket, number, tries, out);
            }
            Request::ExportBegin => self.begin_export(now),
            Request::Tasks(query) => return self.page(now, ticket, query, out),
            Request::Rejected(limit) => return out.push(Output::ListRejected(ticket, limit)),
            Request::SettleRejected(name, how) => {
                return out.push(Output::SettleRejected(ticket, name, how));
            }
            Request::Checkpoint => {
                self.checkpoint_callers.push(ticket);
                self.files.hurry_failing(now.tick);
                self.checkpoint_wanted = true;
                return;
            }
            Request::Rescan => {
                out.push(Output::Rescan);
                Ok(Response::Done)
            }
            Request::Complete(id, token, result) => self.complete(now, id, token, result),
            Request::Fail(id, token, failure) => self.fail(now, id, token, failure),
            Request::Release(id, token) => {
                self.end(now, |engine| engine.queue.decide_release(id, token, now))
            }
            Request::Extend(id, token, length) => self.extend(now, id, token, length),
            Request::Cancel(id) => self.end(now, |engine| engine.queue.decide_cancel(id)),
            Request::Reschedule(id, change) => self.reschedule(now, id, change),
            Request::Retry(id) => self.retry(now, id),
            Request::Task(id) => self.shown_whole(now, id),
            Request::Queues => Ok(Response::Queues(self.queue.queue_views(now))),
            Request::Queue(name) => self
                .queue
                .queue_view(&name, now)
                .map(|view| Response::Queues(vec![view])),
            Request::History(queue, span) => self
                .queue
                .history(queue.as_ref(), span, now)
                .map(|view| Response::History(Box::new(view))),
            Request::Workers => Ok(self.worker_views()),
            Request::Status => Ok(Response::Status(Box::new(self.status(now)))),
            Request::Pause(queue, on) => self.switch(now, queue, true, on),
            Request::Drain(queue, on) => {
                let outcome = self.switch(now, queue, false, on);
                self.kept.look_again();
                outcome
            }
            Request::RetrySome(queue, passed) => self.retry_some(now, queue.as_ref(), passed),
            Request::PurgeSome(queue, state) => self.purge_some(now, queue.as_ref(), state),
        };
        match outcome {
            Ok(response) => self.reply(ticket, Ok(response), out),
            Err(refusal) => self.refuse(ticket, refusal, out),
        }
    }

    /// The tasks whose payloads the answer shows, or the decision compares.
    fn shown_by(&self, request: &Request) -> Vec<TaskId> {
        match request {
            Request::Submit(tasks) => tasks.iter().filter_map(|task| self.rival(task)).collect(),
            Request::Within(.., request) => self.shown_by(request),
            Request::Fail(id, ..)
            | Request::Reschedule(id, _)
            | Request::Retry(id)
            | Request::Task(id) => vec![*id],
            // Where done tasks are kept, their payloads are.
            Request::Complete(id, ..) if self.settings.retain_done > Millis(0) => vec![*id],
            Request::Claim(claim) if self.settings.retain_done > Millis(0) => {
                claim.complete.iter().map(|one| one.id).collect()
            }
            Request::Complete(id, ..) | Request::Cancel(id) if self.export_needs(*id) => vec![*id],
            Request::Claim(claim) if self.export.is_some() => {
                let ids = claim.complete.iter().map(|one| one.id);
                ids.filter(|id| self.export_needs(*id)).collect()
            }
            Request::PurgeSome(queue, state) if self.export.is_some() => {
                let ids = self
                    .queue
                    .some_in(queue.as_ref(), *state, 0, self.purged_at_once());
                // What is wrong with the request is told when it is done.
                let ids = ids.unwrap_or_default().into_iter();
                ids.filter(|id| self.export_needs(*id)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The task that is there already, by the new one's id or unique key.
    fn rival(&self, task: &NewTask) -> Option<TaskId> {
        let by_id = task.id.filter(|id| self.queue.get(*id).is_some());
        let by_key = || {
            task.options
                .unique_key
                .as_ref()
                .and_then(|key| self.queue.key_holder(&task.queue, key))
        };
        by_id.or_else(by_key)
    }

    /// Takes new tasks, behind those that wait for room.
    fn submit_in_turn(
        &mut self,
        now: Now,
        ticket: Ticket,
        tasks: Vec<NewTask>,
        out: &mut Vec<Output>,
    ) {
        if self.roomless.is_empty() {
            self.submit(now, ticket, tasks, out);
        } else {
            self.wait_roomless(now, ticket, tasks, out);
        }
    }

    pub(super) fn submit(
        &mut self,
        now: Now,
        ticket: Ticket,
        tasks: Vec<NewTask>,
        out: &mut Vec<Output>,
    ) {
        if let Some(full) = self.full_queue(&tasks) {
            return self.refuse(ticket, Refusal::QueueFull(full), out);
        }
        let crowded = self.is_crowded();
        let (bytes, count) = (tasks.iter().map(bytes_of).sum(), tasks.len() as u64);
        let room = match self.ledger.room_for_new(bytes, count) {
            _ if planted(Defect::ApplyBeforeRoom) => Room::Yes,
            room => room,
        };
        let waits = room != Room::Yes
            && self.wait_for_room(now, room, |ledger| ledger.room_for_new(bytes, count));
        if room == Room::Full && !waits || self.holds_too_much() {
            return self.refuse(ticket, Refusal::NoRoom, out);
        }
        if crowded || waits {
            return self.wait_roomless(now, ticket, tasks, out);
        }
        match self.take(now, tasks, None) {
            Ok(verdicts) => {
                let outcomes = verdicts
                    .iter()
                    .filter_map(|verdict| self.outcome(now, verdict))
                    .collect();
                self.reply(ticket, Ok(Response::Submitted(outcomes)), out);
            }
            Err(refusal) => self.refuse(ticket, refusal, out),
        }
    }

    /// Decides and commits new tasks for which there is room.
    pub(super) fn take(
        &mut self,
        now: Now,
        tasks: Vec<NewTask>,
        source: Option<&crate::task::Source>,
    ) -> Result<Vec<Verdict>, Refusal> {
        let Self {
            queue,
            ids,
            entropy,
            bodies,
            ..
        } = self;
        let mut make_id = || {
            ids.make(
                now.wall,
                (u128::from(entropy()) << 64) | u128::from(entropy()),
            )
        };
        let verdicts =
            queue.decide_submit(tasks, source, &mut make_id, &|id| bodies.get(id).cloned())?;
        let new = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::New(task) => Some(task),
            Verdict::Existing(_) => None,
        });
        let bytes = new.clone().map(|task| task.payload.len() as u64).sum();
        let records: Vec<Record> = new.cloned().map(Record::Submitted).collect();
        if !records.is_empty() {
            self.may_spool(bytes)?;
            self.commit(now, &records);
        }
        Ok(verdicts)
    }

    fn outcome(&self, now: Now, verdict: &Verdict) -> Option<SubmitOutcome> {
        let (id, created) = match verdict {
            Verdict::New(task) => (task.id, true),
            Verdict::Existing(id) => (*id, false),
        };
        Some(SubmitOutcome {
            task: self.view(now, id)?,
            created,
        })
    }

    /// Something that ends an attempt or a task.
    fn end(&mut self, now: Now, decide: impl FnOnce(&Self) -> Result<Record, Refusal>) -> Outcome {
        let record = decide(self)?;
        self.room_to_end()?;
        self.commit(now, &[record]);
        Ok(Response::Done)
    }

    /// Something for which there may be no room.
    fn if_room(&mut self, now: Now, record: Record, bytes: u64) -> Result<(), Refusal> {
        let room = self.ledger.room_for_claim(bytes);
        if room != Room::Yes {
            self.wait_for_room(now, room, |ledger| ledger.room_for_claim(bytes));
            return Err(if room == Room::Full {
                Refusal::NoRoom
            } else {
                Refusal::Busy
            });
        }
        self.commit(now, &[record]);
        Ok(())
    }

    fn complete(
        &mut self,
        now: Now,
        id: TaskId,
        token: Option<Token>,
        result: Option<Payload>,
    ) -> Outcome {
        let told = result.clone().filter(|_| self.listening);
        let result = self.result_if_room(result);
        let record = self.queue.decide_complete(id, token, result, now)?;
        self.room_to_end()?;
        self.told = told;
        self.commit(now, &[record]);
        Ok(Response::Done)
    }

    fn fail(&mut self, now: Now, id: TaskId, token: Token, mut failure: Failure) -> Outcome {
        if !self.has_room_to_spare(failure.error.len() as u64 + END_BYTES) {
            failure.error.clear();
        }
        self.room_to_end()?;
        if let Some(worker) = self.worker_of(id) {
            self.workers.note(&worker, Deed::Failed, now.wall);
        }
        let random = self.random();
        let record = self.queue.decide_fail(id, token, &failure, random, now)?;
        self.commit(now, &[record]);
        self.shown(now, id)
    }

    fn extend(&mut self, now: Now, id: TaskId, token: Token, length: Option<Millis>) -> Outcome {
        let (record, expires) = self.queue.decide_extend(id, token, length, now)?;
        self.if_room(now, record, END_BYTES)?;
        Ok(Response::Expires(now.wall_at(expires)))
    }

    fn reschedule(&mut self, now: Now, id: TaskId, change: Change) -> Outcome {
        let record = self.queue.decide_reschedule(id, change)?;
        if let Record::Moved { queue, .. } = &record
            && self.full.waiting_in(queue) > 0
        {
            return Err(Refusal::QueueFull(queue.clone()));
        }
        let moves = matches!(record, Record::Moved { .. });
        self.if_room(now, record, END_BYTES)?;
        // Where its file found no room in the queue that it leaves, it may in the one that it comes to.
        if moves && self.full.queue_of(id).is_some() {
            self.has_room(id);
            self.files.hurry(id, now.tick);
        }
        self.shown(now, id)
    }

    fn retry(&mut self, now: Now, id: TaskId) -> Outcome {
        let record = self.queue.decide_retry(id)?;
        self.if_room(now, record, END_BYTES)?;
        self.shown(now, id)
    }

    fn switch(&mut self, now: Now, queue: Option<QueueName>, paused: bool, on: bool) -> Outcome {
        let record = self.queue.decide_switch(queue, paused, on)?;
        self.if_room(now, record, END_BYTES)?;
        Ok(Response::Done)
    }

    fn retry_some(&mut self, now: Now, queue: Option<&QueueName>, passed: u64) -> Outcome {
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        let mut retried = RetriedDead::default();
        for id in self.queue.some_in(queue, State::Dead, passed, SOME)? {
            // One whose unique key is held by another stays dead; the others go on.
            match self.queue.decide_retry(id) {
                Ok(record) => match self.if_room(now, record, END_BYTES) {
                    Ok(()) => retried.count += 1,
                    // The next request meets it first, and is refused as a whole.
                    Err(_) if retried != RetriedDead::default() => break,
                    Err(no_room) => return Err(no_room),
                },
                Err(refusal) => {
                    retried.left += 1;
                    retried.reason.get_or_insert(refusal);
                }
            }
        }
        Ok(Response::RetriedSome(retried))
    }

    fn purge_some(&mut self, now: Now, queue: Option<&QueueName>, state: State) -> Outcome {
        if state == State::Leased {
            return Err(Refusal::invalid(
                "state",
                "leased tasks can't be purged: their workers hold them",
            ));
        }
        let ids = self.queue.some_in(queue, state, 0, self.purged_at_once())?;
        let mut count = 0;
        for id in ids {
            match self.room_to_end() {
                Err(refusal) if count == 0 => return Err(refusal),
                // Who asks for the next part is told.
                Err(_) => break,
                Ok(()) => {}
            }
            self.commit(now, &[Record::Cancelled { id, gone: false }]);
            count += 1;
        }
        Ok(Response::Count(count))
    }

    /// How many tasks a purge meets in one step: fewer where an export may have to read them first.
    const fn purged_at_once(&self) -> usize {
        if self.export.is_some() {
            SOME_READ
        } else {
            SOME
        }
    }

    fn shown(&self, now: Now, id: TaskId) -> Outcome {
        self.view(now, id)
            .map(|view| Response::Task(Box::new(view)))
            .ok_or(Refusal::NoSuchTask(id))
    }

    fn shown_whole(&self, now: Now, id: TaskId) -> Outcome {
        let mut view = self.view(now, id).ok_or(Refusal::NoSuchTask(id))?;
        view.history = self.history_of(id).map(Box::new);
        Ok(Response::Task(Box::new(view)))
    }

    pub(super) fn worker_of(&self, id: TaskId) -> Option<crate::task::WorkerName> {
        self.queue.get(id)?.lease()?.worker.clone()
    }

    fn worker_views(&self) -> Response {
        let held = self
            .queue
            .leased()
            .filter_map(|(id, entry)| Some((entry.lease()?.worker.as_ref()?, id)));
        let waiting = self
            .waiting
            .all()
            .filter_map(|waiter| waiter.request.worker.as_ref());
        Response::Workers(self.workers.views(held, waiting))
    }

    fn status(&self, now: Now) -> StatusView {
        let (counts, counters) = self.queue.totals();
        let (paused, draining) = self.queue.switches();
        let (wait, run, died_lately) = self.queue.latencies(now);
        StatusView {
            counts,
            queues: self.queue.queue_count() as u64,
            paused,
            draining,
            waiting_claims: self.waiting.len() as u64,
            workers_forgotten: self.workers.forgotten(),
            counters,
            spool_lag: self.files.lag(now.tick),
            spool_pending: self.files.len() as u64,
            spool_failing: (self.files.failing() + self.unmoved.len()) as u64,
            drops_waiting: self.kept.len() as u64,
            left_behind: self.astray.behind.lost() as u64,
            journal_bytes: self.ledger.bytes_since_checkpoint(),
            checkpoint_age: self.checkpoint_at.map(|at| now.tick.since(at)),
            journal_syncs: self.syncs,
            journal_records: self.records,
            rejected: self.rejected,
            disk_full: self.full.len() > 0
                || self.ledger.room_for_new(RECORD_BYTES, 1) == Room::Full,
            // Whoever counts them adds these.
            no_memory: None,
            disk: None,
            durability: self.settings.durability.as_str(),
            wait,
            run,
            writes: self.writes.clone(),
            died_lately,
            deaf: self.deaf.clone(),
            fault: self.fault.clone(),
        }
    }
}

/// Whether a request ends an attempt or a task.
fn ends(request: &Request) -> bool {
    match request {
        Request::Complete(..)
        | Request::Fail(..)
        | Request::Release(..)
        | Request::Cancel(_)
        | Request::PurgeSome(..) => true,
        Request::Claim(claim) => !claim.complete.is_empty(),
        Request::Within(.., request) => ends(request),
        _ => false,
    }
}

/// What a request asks the journal for before it is done, so that it waits while a segment is being made. A claim asks for itself.
fn room_for(request: &Request) -> Option<fn(&Ledger) -> Room> {
    match request {
        Request::Extend(..)
        | Request::Reschedule(..)
        | Request::Retry(_)
        | Request::RetrySome(..)
        | Request::Pause(..)
        | Request::Drain(..) => Some(|ledger| ledger.room_for_claim(END_BYTES)),
        Request::Within(.., request) => room_for(request),
        end if ends(end) => Some(|ledger| ledger.room_for_end(END_BYTES)),
        _ => None,
    }
}

/// Bytes that the record of a new task takes at most.
pub(super) fn bytes_of(task: &NewTask) -> u64 {
    let key = task.options.unique_key.as_ref().map_or(0, |key| key.len());
    let trace = task.options.trace.as_ref();
    let state = trace.and_then(|trace| trace.state()).map_or(0, str::len);
    (task.payload.len() + key + state + task.queue.as_str().len()) as u64 + RECORD_BYTES
}
