//! What a request would do now, or why it may not. Nothing here changes anything.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{Entry, Queues, limit::Space};
use crate::task::{
    Change, Claimed, ExecTime, Failure, LeaseKind, Millis, NewTask, Now, Options, Payload,
    QueueName, Record, Refusal, Source, State, Submitted, TaskId, Then, Tick, Token, WorkerName,
};

/// The most bytes of an error's text that are kept.
const MAX_ERROR: usize = 4096;

/// What becomes of one submitted task.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is new.
    New(Arc<Submitted>),
    /// It was there already: the task that it is.
    Existing(TaskId),
}

/// What a claim gives to one task, once it is chosen.
#[derive(Debug, Clone)]
pub struct Grant {
    /// What ends the lease.
    pub token: Token,
    /// By which API.
    pub kind: LeaseKind,
    /// To whom.
    pub worker: Option<WorkerName>,
    /// How long; `None`: the task's own default.
    pub length: Option<Millis>,
}

impl Queues {
    /// Whether all of these tasks can be taken. `make_id` gives an id for a task without one; `payload_of` the payload of
    /// a task that is there already; `source` is the dropped file that they come from.
    ///
    /// The same id with the same content (queue, priority, payload and options but the trace) is that task again; the exectime does not
    /// count, because retries move it and a delay is counted from each request anew.
    pub fn decide_submit(
        &self,
        tasks: Vec<NewTask>,
        source: Option<&Source>,
        make_id: &mut dyn FnMut() -> TaskId,
        payload_of: &dyn Fn(TaskId) -> Option<Payload>,
    ) -> Result<Vec<Verdict>, Refusal> {
        let single = tasks.len() == 1;
        let mut batch = Batch::default();
        let mut verdicts = Vec::with_capacity(tasks.len());
        let mut space = Space::new(tasks.len());
        for (at, task) in tasks.into_iter().enumerate() {
            let verdict = self.decide_one(task, source, &batch, make_id, payload_of);
            let verdict = verdict.map_err(|refusal| {
                if single {
                    refusal
                } else {
                    refusal.within(&format!("[{at}]"))
                }
            })?;
            if let Verdict::New(new) = &verdict {
                space.take(self, &new.queue)?;
                let keys = batch.keys.len();
                batch.add(new, self);
                if batch.keys.len() > keys {
                    self.may_hold(batch.keys.len())?;
                }
                // More queues than the limit may be there already, where it was lowered: they go on.
                if batch.opens {
                    self.may_be_busy(batch.queues.len())?;
                }
            }
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    fn decide_one(
        &self,
        task: NewTask,
        source: Option<&Source>,
        batch: &Batch,
        make_id: &mut dyn FnMut() -> TaskId,
        payload_of: &dyn Fn(TaskId) -> Option<Payload>,
    ) -> Result<Verdict, Refusal> {
        if let Some(id) = task.id {
            if let Some(entry) = self.tasks.get(id) {
                let same = self.same(entry, &task)
                    && payload_of(id).is_some_and(|there| there.same_value(&task.payload));
                return if same {
                    Ok(Verdict::Existing(id))
                } else {
                    Err(Refusal::IdInUse(id))
                };
            }
            if let Some(there) = batch.ids.get(&id) {
                let same = there.queue == task.queue
                    && there.priority == task.priority
                    && there.options.ask_the_same(&task.options)
                    && there.payload.same_value(&task.payload);
                return if same {
                    Ok(Verdict::Existing(id))
                } else {
                    Err(Refusal::IdInUse(id))
                };
            }
        }
        let shelf = self.names.get(&task.queue).copied();
        // A dead task holds no key.
        if let Some(key) = &task.options.unique_key
            && !task.is_dead()
        {
            let held = shelf.and_then(|shelf| self.keys.get(&(shelf, key.clone())).copied());
            let held = held.or_else(|| batch.keys.get(&(task.queue.clone(), key.clone())).copied());
            if let Some(id) = held {
                return Ok(Verdict::Existing(id));
            }
        }
        if self.draining {
            return Err(Refusal::Draining(None));
        }
        if shelf.is_some_and(|shelf| self.shelves[shelf as usize].draining) {
            return Err(Refusal::Draining(Some(task.queue)));
        }
        Ok(Verdict::New(Arc::new(Submitted {
            id: task.id.unwrap_or_else(make_id),
            made_here: task.id.is_none(),
            queue: task.queue,
            priority: task.priority,
            exectime: task.exectime,
            options: task.options,
            payload: task.payload,
            source: source.cloned(),
            past: task.past,
        })))
    }

    fn same(&self, entry: &Entry, task: &NewTask) -> bool {
        let none = Options::default();
        let options = entry.options().unwrap_or(&none);
        options.ask_the_same(&task.options)
            && *self.queue_of(entry) == task.queue
            && entry.priority == task.priority
    }

    /// The unfinished task of a queue that holds a unique key.
    #[must_use]
    pub fn key_holder(&self, queue: &QueueName, key: &str) -> Option<TaskId> {
        let shelf = *self.names.get(queue)?;
        self.keys.get(&(shelf, key.into())).copied()
    }

    /// Handing out a ready task. One that is not due any more, because the wall clock went back, is as good as scheduled.
    pub fn decide_claim(&self, id: TaskId, grant: Grant, now: Now) -> Result<Record, Refusal> {
        let entry = self.known(id)?;
        let state = match entry.state {
            State::Ready if !entry.exectime.is_due(now.wall) => State::Scheduled,
            state => state,
        };
        if state != State::Ready {
            return Err(Refusal::WrongState {
                id,
                state,
                wanted: "only a ready task can be claimed",
            });
        }
        let length = grant
            .length
            .unwrap_or_else(|| self.default_lease(entry.options()));
        Ok(Record::Claimed(Claimed {
            id,
            token: grant.token,
            kind: grant.kind,
            worker: grant.worker,
            at: now.wall,
            length,
            expires: now.tick.plus(length),
        }))
    }

    /// Ending a task that was done: with its lease's token, or without one what the original's API may end.
    pub fn decide_complete(
        &self,
        id: TaskId,
        token: Option<Token>,
        result: Option<Payload>,
        now: Now,
    ) -> Result<Record, Refusal> {
        match token {
            Some(token) => self.holder(id, token, now).map(drop)?,
            None => self.free(id, "a dead task can be retried or deleted")?,
        }
        Ok(Record::Completed {
            id,
            result,
            at: now.wall,
        })
    }

    /// A failed attempt. `random` spreads the retries of tasks that failed together.
    pub fn decide_fail(
        &self,
        id: TaskId,
        token: Token,
        failure: &Failure,
        random: u64,
        now: Now,
    ) -> Result<Record, Refusal> {
        let entry = self.holder(id, token, now)?;
        let error: Arc<str> = kept(&failure.error).into();
        if failure.dead || self.is_last_attempt(entry) {
            return Ok(Record::Failed {
                id,
                error,
                then: Then::Dead,
            });
        }
        let backoff = entry
            .options()
            .and_then(|options| options.backoff)
            .unwrap_or(self.limits.backoff);
        let wait = failure
            .retry_in
            .unwrap_or_else(|| backoff.wait(entry.attempts, random));
        let exectime = if wait == Millis(0) {
            entry.exectime
        } else {
            ExecTime::after(now.wall, wait)
                .map_err(|_| Refusal::invalid("retry_in", "ends after the year 9999"))?
        };
        Ok(Record::Failed {
            id,
            error,
            then: Then::Retry(exectime),
        })
    }

    /// Giving a task back.
    pub fn decide_release(&self, id: TaskId, token: Token, now: Now) -> Result<Record, Refusal> {
        self.holder(id, token, now)?;
        Ok(Record::Released { id })
    }

    /// Making a lease longer, from now.
    pub fn decide_extend(
        &self,
        id: TaskId,
        token: Token,
        length: Option<Millis>,
        now: Now,
    ) -> Result<(Record, Tick), Refusal> {
        let entry = self.holder(id, token, now)?;
        let length = length.unwrap_or_else(|| self.default_lease(entry.options()));
        let expires = now.tick.plus(length);
        Ok((
            Record::Extended {
                id,
                length,
                expires,
            },
            expires,
        ))
    }

    /// The next lease that has come to its end, as the failed attempt that it is: the task is due again at once.
    #[must_use]
    pub fn decide_expired(&self, now: Now) -> Option<Record> {
        let (expires, id) = self.leases.first().copied()?;
        if expires > now.tick {
            return None;
        }
        let entry = self.tasks.get(id)?;
        let then = if self.is_last_attempt(entry) {
            Then::Dead
        } else {
            Then::Retry(entry.exectime)
        };
        Some(Record::Expired { id, then })
    }

    /// Ending a task that was not done.
    pub fn decide_cancel(&self, id: TaskId) -> Result<Record, Refusal> {
        let entry = self.known(id)?;
        if entry
            .lease()
            .is_some_and(|lease| lease.kind == LeaseKind::V1)
        {
            return Err(Refusal::Leased(id));
        }
        Ok(Record::Cancelled { id, gone: false })
    }

    /// A new place in the order, or another queue. A dead task can only be moved.
    pub fn decide_reschedule(&self, id: TaskId, change: Change) -> Result<Record, Refusal> {
        let entry = self.known(id)?;
        let queue = change.queue.filter(|queue| queue != self.queue_of(entry));
        match entry.state {
            State::Leased => return Err(Refusal::Leased(id)),
            State::Dead
                if queue.is_none() || change.priority.is_some() || change.exectime.is_some() =>
            {
                return Err(Refusal::WrongState {
                    id,
                    state: State::Dead,
                    wanted: "retry it before giving it a new place in the order",
                });
            }
            State::Ready | State::Scheduled | State::Dead => {}
        }
        let priority = change.priority.unwrap_or(entry.priority);
        let exectime = change.exectime.unwrap_or(entry.exectime);
        let Some(queue) = queue else {
            return Ok(Record::Rescheduled {
                id,
                priority,
                exectime,
            });
        };
        self.may_come(entry, &queue)?;
        Ok(Record::Moved {
            id,
            queue,
            priority,
            exectime,
        })
    }

    /// That a queue takes a task that was in another one: as it would a new one. One that is dead holds no key.
    fn may_come(&self, entry: &Entry, queue: &QueueName) -> Result<(), Refusal> {
        let Some(shelf) = self.names.get(queue).copied() else {
            return self.may_be_busy(1);
        };
        if self.shelves[shelf as usize].draining {
            return Err(Refusal::Draining(Some(queue.clone())));
        }
        if self.is_at_length(queue) {
            return Err(self.too_long(queue));
        }
        let key = entry
            .options()
            .and_then(|options| options.unique_key.clone())
            .filter(|_| entry.state != State::Dead);
        let holder = key.and_then(|key| self.keys.get(&(shelf, key)));
        holder.map_or(Ok(()), |holder| Err(Refusal::UniqueKeyInUse(*holder)))
    }

    /// Bringing a dead task back.
    pub fn decide_retry(&self, id: TaskId) -> Result<Record, Refusal> {
        let entry = self.known(id)?;
        if entry.state != State::Dead {
            return Err(Refusal::WrongState {
                id,
                state: entry.state,
                wanted: "only a dead task can be retried",
            });
        }
        if let Some(key) = entry
            .options()
            .and_then(|options| options.unique_key.as_ref())
        {
            if let Some(holder) = self.keys.get(&(entry.shelf, key.clone())) {
                return Err(Refusal::UniqueKeyInUse(*holder));
            }
            self.may_hold(1)?;
        }
        Ok(Record::Retried { id })
    }

    /// Switching handing out, or taking in, of one queue or of all.
    pub fn decide_switch(
        &self,
        queue: Option<QueueName>,
        paused: bool,
        on: bool,
    ) -> Result<Record, Refusal> {
        if let Some(name) = &queue
            && !self.names.contains_key(name)
        {
            return Err(Refusal::NoSuchQueue(name.clone()));
        }
        Ok(if paused {
            Record::Paused { queue, on }
        } else {
            Record::Draining { queue, on }
        })
    }

    /// Up to `most` tasks of a queue, or of all, in one state, behind the first `passed`: for what is done to many, a part at
    /// a time.
    pub fn some_in(
        &self,
        queue: Option<&QueueName>,
        state: State,
        passed: usize,
        most: usize,
    ) -> Result<Vec<TaskId>, Refusal> {
        let shelves = match queue {
            None => &self.shelves[..],
            Some(name) => {
                let shelf = *self
                    .names
                    .get(name)
                    .ok_or_else(|| Refusal::NoSuchQueue(name.clone()))?
                    as usize;
                &self.shelves[shelf..=shelf]
            }
        };
        Ok(shelves
            .iter()
            .flat_map(|shelf| shelf.ids(state))
            .skip(passed)
            .take(most)
            .collect())
    }

    fn known(&self, id: TaskId) -> Result<&Entry, Refusal> {
        self.tasks.get(id).ok_or(Refusal::NoSuchTask(id))
    }

    /// The task, if `token` is that of its lease and the lease has not come to its end.
    fn holder(&self, id: TaskId, token: Token, now: Now) -> Result<&Entry, Refusal> {
        let entry = self.known(id)?;
        match entry.lease() {
            Some(lease) if lease.token == token && lease.expires > now.tick => Ok(entry),
            _ => Err(Refusal::StaleToken(id)),
        }
    }

    /// That a task may be ended without a token: it is not dead, and not under a lease of the v1 API.
    fn free(&self, id: TaskId, wanted: &'static str) -> Result<(), Refusal> {
        let entry = self.known(id)?;
        match (entry.state, entry.lease()) {
            (State::Dead, _) => Err(Refusal::WrongState {
                id,
                state: State::Dead,
                wanted,
            }),
            (_, Some(lease)) if lease.kind == LeaseKind::V1 => Err(Refusal::Leased(id)),
            _ => Ok(()),
        }
    }

    fn is_last_attempt(&self, entry: &Entry) -> bool {
        entry.attempts >= self.max_attempts(entry.options())
    }
}

/// What the tasks before one in the same request will have taken.
#[derive(Default)]
struct Batch {
    ids: HashMap<TaskId, Arc<Submitted>, FixedState>,
    keys: HashMap<(QueueName, Box<str>), TaskId, FixedState>,
    /// Queues that have something now and had nothing before.
    queues: BTreeSet<QueueName>,
    /// Whether one of them was not there.
    opens: bool,
}

impl Batch {
    fn add(&mut self, new: &Arc<Submitted>, queues: &Queues) {
        if !new.made_here {
            self.ids.insert(new.id, Arc::clone(new));
        }
        let dead = new.past.as_ref().is_some_and(|past| past.dead);
        if let Some(key) = &new.options.unique_key
            && !dead
        {
            self.keys.insert((new.queue.clone(), key.clone()), new.id);
        }
        let there = queues.names.get(&new.queue);
        if there.is_none_or(|number| queues.is_idle(*number)) {
            self.queues.insert(new.queue.clone());
        }
        self.opens |= there.is_none();
    }
}

/// What is kept of an error's text. Its zero bytes are not: in a frame that a power failure tore, they could make up what looks like
/// another frame behind it, which only frames that were synced may be.
fn kept(text: &str) -> Cow<'_, str> {
    let mut end = text.len().min(MAX_ERROR);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    if text.contains('\0') {
        return text.replace('\0', "?").into();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_between_characters_and_has_no_zero_bytes() {
        assert_eq!(kept("disk full\n\tagain"), "disk full\n\tagain");
        assert_eq!(kept("a\0b\0\0"), "a?b??");
        let long = format!("{}\0ä", "x".repeat(MAX_ERROR - 2));
        assert_eq!(kept(&long), format!("{}?", "x".repeat(MAX_ERROR - 2)));
    }
}
