//! Reading payloads that are not in memory, ahead of need where that can be, and the requests that wait for them.

use super::{
    Engine,
    io::{BadFile, Output, Request, Ticket},
    listing::{Scan, fitting},
    requests::END_BYTES,
};
use crate::{
    store::{Kind, LoadError, Room},
    task::{
        Location, Millis, NewTask, Now, Payload, QueueName, Record, Refusal, Restored, State,
        TaskId, TaskView, Then,
    },
};

/// How many tasks at a queue's head have their payloads in memory: payloads may have a megabyte, so not more.
const AHEAD: usize = 64;
/// Bytes of payloads that one answer has, if it has more than one task: until it is sent, it is in memory several times, and who
/// wants more asks again.
pub(super) const ANSWER_BYTES: u64 = 4 << 20;
/// How long after a failed read the next one is tried.
const LOAD_RETRY: Millis = Millis(1000);
/// How often a request may wait for payloads: what is gone again each time can't be had.
const MOST_TRIES: u32 = 4;

/// A request that waits for payloads to be read.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) ticket: Ticket,
    asked: Asked,
    /// The tasks that it needs the payloads of: none is let go of before it is answered, or it would never have all at once.
    held: Vec<TaskId>,
    /// What was not tried since: a read that failed a moment ago says nothing, it is tried again first.
    missing: Vec<TaskId>,
    tries: u32,
}

/// What is done when the payloads are there.
#[derive(Debug)]
pub(super) enum Asked {
    /// The request, from its beginning.
    Again(Request),
    /// A page is shown, with the tasks that were found for it.
    Page(Box<Scan>),
}

impl Engine {
    /// Has the payloads of these tasks read.
    pub(super) fn load(
        &mut self,
        now: Now,
        ids: impl IntoIterator<Item = TaskId>,
        out: &mut Vec<Output>,
    ) {
        let mut wanted = Vec::new();
        for id in ids {
            let place = self.place_now(id);
            if let Some(place) = place
                && self.bodies.wants(id, now.tick)
            {
                wanted.push((id, place));
            }
        }
        if !wanted.is_empty() {
            out.push(Output::Load(wanted));
        }
    }

    /// Has the payloads at a queue's head read.
    pub(super) fn load_heads(&mut self, now: Now, queue: &QueueName, out: &mut Vec<Output>) {
        let heads: Vec<TaskId> = self.queue.ready_heads(queue, AHEAD).collect();
        self.load(now, heads, out);
    }

    /// Has the payload of the next task of a queue read, and those at the queue's head.
    pub(super) fn load_from(
        &mut self,
        now: Now,
        next: TaskId,
        queue: &QueueName,
        out: &mut Vec<Output>,
    ) {
        let heads = self.queue.ready_heads(queue, AHEAD);
        let wanted: Vec<TaskId> = [next].into_iter().chain(heads).collect();
        self.load(now, wanted, out);
    }

    /// After a claim: when half of what was read ahead is used up, the next are read.
    pub(super) fn prefetch(&mut self, now: Now, queue: &QueueName, out: &mut Vec<Output>) {
        if self.bodies.len() >= self.queue.len() {
            return;
        }
        if self.prefetch_in.len() > 2 * self.queue.queue_count() {
            let known = &self.queue;
            self.prefetch_in.retain(|name, _| known.is_known(name));
        }
        let left = self.prefetch_in.entry_ref(queue).or_insert(0);
        if *left > 0 {
            *left -= 1;
            return;
        }
        *left = AHEAD as u32 / 2;
        self.load_heads(now, queue, out);
    }

    /// A file is to be written whose payload is not in memory.
    pub(super) fn load_for_file(&mut self, now: Now, id: TaskId, out: &mut Vec<Output>) {
        let failed_before = self.bodies.is_troubled(id);
        self.files
            .put_back(id, now.tick.plus(LOAD_RETRY), failed_before);
        self.load(now, [id], out);
    }

    /// Lets a request wait until the payloads of these tasks are read.
    pub(super) fn park(
        &mut self,
        now: Now,
        ticket: Ticket,
        asked: Asked,
        needed: Vec<TaskId>,
        tries: u32,
        out: &mut Vec<Output>,
    ) {
        let mut missing = needed.clone();
        missing.retain(|id| self.lacks_payload(*id));
        if tries >= MOST_TRIES {
            let ids: Vec<String> = missing.iter().take(3).map(ToString::to_string).collect();
            let refusal = Refusal::OutOfReach {
                what: format!("the payload of task {} can't be read", ids.join(", ")).into(),
                reason: "its file, or the directory that it was in, is not there just now; the task stays".into(),
            };
            return self.reply(ticket, Err(refusal.into()), out);
        }
        self.load(now, missing.iter().copied(), out);
        self.bodies.hold(&needed);
        self.parked.push(Parked {
            ticket,
            asked,
            held: needed,
            missing,
            tries: tries + 1,
        });
    }

    /// Whether there is this task, and its payload is not in memory.
    pub(super) fn lacks_payload(&self, id: TaskId) -> bool {
        self.queue.get(id).is_some() && self.bodies.get(id).is_none()
    }

    /// A task as it stands, if its payload is in memory.
    pub(super) fn view(&self, now: Now, id: TaskId) -> Option<TaskView> {
        let entry = self.queue.get(id)?;
        let payload: Payload = self.bodies.get(id)?.clone();
        Some(self.queue.view(id, entry, payload, now))
    }

    pub(super) fn retry_loads(&mut self, now: Now, out: &mut Vec<Output>) {
        if !self.bodies.is_in_trouble() {
            return;
        }
        for id in self.bodies.take_rested(now.tick) {
            self.load(now, [id], out);
        }
        self.resume_ended(now, out);
    }

    /// Goes on with those whose tasks have ended while a next try was waited for.
    pub(super) fn resume_ended(&mut self, now: Now, out: &mut Vec<Output>) {
        let freed = self.resume_parked(now, &[], out);
        self.let_go(&freed);
    }

    pub(super) fn loaded(
        &mut self,
        now: Now,
        results: Vec<(TaskId, Result<NewTask, LoadError>)>,
        out: &mut Vec<Output>,
    ) {
        let mut ids: Vec<TaskId> = results.iter().map(|(id, _)| *id).collect();
        for (id, result) in results {
            self.bodies.arrived(id);
            let Some(entry) = self.queue.get(id) else {
                continue;
            };
            if self.bodies.get(id).is_some() {
                continue;
            }
            // Also where the task ends by it: who waits for it is to hear of the next one, or that there is none.
            self.stirred.insert(self.queue.queue_of(entry).clone());
            match result {
                Ok(task) => self.take_payload(id, task),
                Err(error) => self.not_loaded(now, id, error, out),
            }
        }
        let freed = self.resume_parked(now, &ids, out);
        self.take_rivals(now, out);
        self.serve_stirred(now, out);
        ids.extend(freed);
        ids.extend(self.hold_less());
        self.let_go(&ids);
    }

    fn take_payload(&mut self, id: TaskId, task: NewTask) {
        self.bodies.insert(id, task.payload);
        // A file that came while the daemon was down may ask for more than its name can say.
        let Some(entry) = self.queue.get(id) else {
            return;
        };
        if entry.options().is_none()
            && entry.attempts == 0
            && !task.options.is_default()
            && entry.state == State::Ready
        {
            let restored = Restored {
                id,
                queue: self.queue.queue_of(entry).clone(),
                priority: entry.priority,
                exectime: entry.exectime,
                options: task.options,
                attempts: 0,
                state: State::Ready,
                lease: None,
                last_error: None,
            };
            self.queue.apply(&Record::Restored(Box::new(restored)));
        }
    }

    /// Whether a change of the task's file waits for its payload, and that is in none of the places where it may be.
    pub(super) fn is_nowhere(&self, id: TaskId) -> bool {
        let places = self.files.places(id);
        self.lacks_payload(id) && places.is_some_and(|places| self.bodies.is_given_up(id, places))
    }

    fn not_loaded(&mut self, now: Now, id: TaskId, error: LoadError, out: &mut Vec<Output>) {
        if self.fault.is_some() {
            return;
        }
        let Some(entry) = self.queue.get(id) else {
            return;
        };
        let state = entry.state;
        let leased = state == State::Leased;
        match error {
            LoadError::Missing if leased || !self.files.is_settled(id) => {
                if !self.bodies.is_troubled(id) {
                    tracing::warn!(task_id = %id, "the file of a task is not where it was; if it does not come back, its payload is lost");
                }
                // Not at once again, whoever asks.
                self.bodies.trouble(id, now.tick.plus(LOAD_RETRY));
                if let Some(goal) = self.queue.location(id) {
                    self.files.look_elsewhere(id, goal.clone());
                    if !leased && self.is_nowhere(id) {
                        // Unless its directory is away, which the watcher can tell.
                        self.ask_for(vec![goal], out);
                    }
                }
            }
            LoadError::Missing if state != State::Dead || self.astray.behind.is_lost(id) => {
                // Removed, or out of sight with its directory: the watcher can tell.
                if !self.bodies.trouble(id, now.tick.plus(LOAD_RETRY)) {
                    // No more of itself: only when somebody asks.
                    self.bodies.remove(id);
                }
                if let Some(at) = self.queue.location(id) {
                    self.ask_for(vec![at], out);
                }
            }
            LoadError::Missing => {
                tracing::info!(task_id = %id, "the file of a task was removed: it is cancelled");
                self.cancel_gone(now, id);
            }
            LoadError::Disk(error) => {
                let tries_left = self.bodies.trouble(id, now.tick.plus(LOAD_RETRY));
                // What says nothing about the file is no end of the task: there will be descriptors again.
                if !tries_left && !error.is_for_want_of_descriptors() {
                    self.unreadable(now, id, &error.to_string());
                }
            }
            // Whose limit is lower than what it has taken, and who has linked its file elsewhere, can undo that.
            LoadError::Invalid(refusal @ Refusal::TooLarge { .. }) => {
                self.unreadable(now, id, &refusal.to_string());
            }
            LoadError::Irregular(Kind::HardLink) => {
                self.unreadable(now, id, "it has a second name");
            }
            LoadError::Invalid(_) | LoadError::Irregular(_) if leased => {}
            LoadError::Invalid(refusal) => {
                tracing::warn!(task_id = %id, reason = %refusal, "a task's file is no task any more: the task is cancelled");
                if let Some(place) = self.place_now(id) {
                    out.push(Output::Reject(BadFile {
                        path: place.path(),
                        known: None,
                        reason: refusal.to_string(),
                    }));
                }
                self.cancel_gone(now, id);
            }
            LoadError::Irregular(kind) => {
                let reason = format!("not a regular file of its own ({kind:?})");
                if let Some(place) = self.place_now(id) {
                    tracing::warn!(task_id = %id, file = %place, reason, "a task's file is not what it was: the task is cancelled");
                    self.irregular.insert(place.path(), reason);
                }
                self.cancel_gone(now, id);
            }
        }
    }

    /// Where the task's file is, as far as is known.
    pub(super) fn place_now(&self, id: TaskId) -> Option<Location> {
        let before = self.files.place_of(id).cloned();
        before.or_else(|| self.queue.location(id))
    }

    /// Whether a claim waits for the payload of this task.
    fn is_claimed(&self, id: TaskId) -> bool {
        self.parked.iter().any(|parked| {
            matches!(parked.asked, Asked::Again(Request::Claim(_))) && parked.held.contains(&id)
        })
    }

    /// A task's file is there, and can't be read. The task is dead, so that it stands in nobody's way, and comes back by a retry
    /// when it can.
    fn unreadable(&mut self, now: Now, id: TaskId, reason: &str) {
        // Not at once again, and no more of itself: when somebody asks.
        self.bodies.trouble(id, now.tick.plus(LOAD_RETRY));
        self.bodies.remove(id);
        // Whoever only looks at it, or counts it, does not end it.
        if !self.is_claimed(id) {
            return;
        }
        let state = self.queue.get(id).map(|entry| entry.state);
        let bytes = reason.len() as u64 + END_BYTES;
        let has_room = self.ledger.room_for_end(bytes) != Room::Full;
        if matches!(state, Some(State::Ready | State::Scheduled)) && has_room {
            tracing::error!(task_id = %id, reason, "a task's file can't be read: the task is dead");
            let dead = Record::Failed {
                id,
                error: format!("its file can't be read: {reason}").into(),
                then: Then::Dead,
            };
            self.commit(now, &[dead]);
        }
    }

    /// Goes on with those whose payloads all have been tried; these `ids` have just been. Gives what they don't need any more.
    fn resume_parked(&mut self, now: Now, ids: &[TaskId], out: &mut Vec<Output>) -> Vec<TaskId> {
        let bodies = &self.bodies;
        let (ready, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.parked)
            .into_iter()
            .map(|mut parked| {
                parked
                    .missing
                    .retain(|id| bodies.will_be_tried(*id) && !ids.contains(id));
                parked
            })
            .partition(|parked| parked.missing.is_empty());
        self.parked = waiting;
        let mut freed = Vec::new();
        for parked in ready {
            let tries = parked.tries;
            match parked.asked {
                Asked::Again(request) => {
                    self.request_again(now, parked.ticket, request, tries, out);
                }
                Asked::Page(scan) => self.show(now, *scan, tries, out),
            }
            // Not before: who has to wait once more holds on to what is here.
            self.bodies.release(&parked.held);
            freed.extend(parked.held);
        }
        freed
    }

    /// When memory is short, who waits for large payloads holds no more of them than one answer has, about. Gives what is held
    /// no more.
    fn hold_less(&mut self) -> Vec<TaskId> {
        let mut freed = Vec::new();
        if self.bodies.bytes() <= self.settings.payload_cache {
            return freed;
        }
        for parked in &mut self.parked {
            let count = match &mut parked.asked {
                Asked::Page(scan) => scan.cut(&self.bodies),
                // With the one that is too much: the largest payload alone may be, and is needed.
                Asked::Again(request) => {
                    1 + fitting(&self.bodies, &parked.held, most_held(request))
                }
            };
            freed.extend(parked.held.drain(count.min(parked.held.len())..));
        }
        self.bodies.release(&freed);
        freed
    }

    /// Payloads that were read only to be shown go again when memory is short, if nobody waits who needs them.
    fn let_go(&mut self, ids: &[TaskId]) {
        if self.bodies.bytes() <= self.settings.payload_cache {
            return;
        }
        for id in ids {
            let kept = self.bodies.is_held(*id)
                || self.queue.get(*id).is_some_and(|entry| {
                    entry.state == State::Leased
                        || self
                            .queue
                            .ready_heads(self.queue.queue_of(entry), AHEAD)
                            .any(|head| head == *id)
                });
            // One that could not be read is not let go of: somebody waits for its next try.
            let here = self.bodies.get(*id).is_some();
            if here && !kept && self.files.is_settled(*id) {
                self.bodies.remove(*id);
            }
        }
    }
}

/// Bytes of payloads that a request holds while it waits, about.
fn most_held(request: &Request) -> u64 {
    match request {
        // What it is compared with may have as many as it brings.
        Request::Submit(tasks) => {
            let bytes = tasks.iter().map(|task| task.payload.len() as u64).sum();
            ANSWER_BYTES.max(bytes)
        }
        _ => ANSWER_BYTES,
    }
}

#[cfg(test)]
#[path = "payloads_tests.rs"]
mod tests;
