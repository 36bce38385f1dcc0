//! [`Reference`]: the rules of the queue done naively, a list of tasks and linear scans.

use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

use super::super::{Grant, Limits};
use crate::task::{
    Change, Counters, ExecTime, Failure, LeaseKind, Millis, NewTask, Now, Options, Payload,
    Priority, QueueName, Refusal, RestoredLease, State, TaskId, Tick, Token,
};

/// One task, whole.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) id: TaskId,
    pub(super) queue: QueueName,
    pub(super) state: State,
    pub(super) priority: Priority,
    pub(super) exectime: ExecTime,
    pub(super) attempts: u32,
    pub(super) options: Options,
    pub(super) payload: Payload,
    pub(super) lease: Option<RestoredLease>,
    pub(super) error: Option<Arc<str>>,
}

/// Where a task stands among those of its state.
pub(super) type Place = (i64, i64, TaskId);

pub(super) fn place(state: State, priority: Priority, exectime: ExecTime, id: TaskId) -> Place {
    let urgency = -i64::from(priority.get());
    if state == State::Scheduled {
        (exectime.get(), urgency, id)
    } else {
        (urgency, exectime.get(), id)
    }
}

impl Kept {
    pub(super) fn place(&self) -> Place {
        place(self.state, self.priority, self.exectime, self.id)
    }

    pub(super) fn is_due(&self, now: Now) -> bool {
        self.exectime.get() * 1000 <= now.wall.0
    }

    fn under_v1(&self) -> bool {
        self.lease
            .as_ref()
            .is_some_and(|lease| lease.kind == LeaseKind::V1)
    }
}

/// One queue without its tasks.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) name: QueueName,
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) counters: Counters,
    /// Since when it has nothing, and when it was last asked.
    idle: Option<Tick>,
    asked: Tick,
}

/// What became of one submitted task: whether it is new, and which it is.
pub(super) type Taken = (bool, TaskId);

#[derive(Debug)]
pub(super) struct Reference {
    limits: Limits,
    pub(super) tasks: Vec<Kept>,
    /// In the order in which they were opened; one that is opened in the place of another has that.
    pub(super) queues: Vec<Known>,
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) now: Now,
    /// Queues that a waiting claim must hear of.
    pub(super) woken: BTreeSet<QueueName>,
    /// How many queues are not there any more, and what happened in them.
    pub(super) forgets: u64,
    pub(super) forgotten: Counters,
}

impl Reference {
    pub(super) fn new(limits: Limits) -> Self {
        let mut new = Self {
            limits,
            tasks: Vec::new(),
            queues: Vec::new(),
            paused: false,
            draining: false,
            now: Now::default(),
            woken: BTreeSet::new(),
            forgets: 0,
            forgotten: Counters::default(),
        };
        new.open(&QueueName::default());
        new
    }

    pub(super) fn open(&mut self, name: &QueueName) {
        if self.known(name).is_some() {
            return;
        }
        let new = Known {
            name: name.clone(),
            paused: false,
            draining: false,
            counters: Counters::default(),
            idle: None,
            asked: self.now.tick,
        };
        let idle = (0..self.queues.len()).filter_map(|at| {
            let known = &self.queues[at];
            Some((known.idle?.max(known.asked), at))
        });
        let full = self.queues.len() >= self.limits.max_queues;
        match idle.min().filter(|_| full) {
            Some((_, at)) => {
                let old = std::mem::replace(&mut self.queues[at], new);
                self.woken.remove(&old.name);
                self.forgets += 1;
                self.forgotten.add(&old.counters);
            }
            None => self.queues.push(new),
        }
        self.note_idle();
    }

    fn has_something(&self, known: &Known) -> bool {
        let is_there = |task: &Kept| task.queue == known.name;
        known.name == QueueName::default()
            || known.paused
            || known.draining
            || self.tasks.iter().any(is_there)
    }

    /// To be called after everything that may have made a queue idle, or otherwise.
    fn note_idle(&mut self) {
        for at in 0..self.queues.len() {
            let is_idle = !self.has_something(&self.queues[at]);
            let known = &mut self.queues[at];
            known.idle = is_idle.then(|| known.idle.unwrap_or(self.now.tick));
        }
    }

    /// That these queues may have something, one of which is not there.
    fn may_be_busy(&self, more: &BTreeSet<QueueName>) -> Result<(), Refusal> {
        let busy = self.queues.iter().filter(|known| self.has_something(known));
        let mut busy: BTreeSet<&QueueName> = busy.map(|known| &known.name).collect();
        busy.extend(more);
        if busy.len() <= self.limits.max_queues
            || more.iter().all(|name| self.known(name).is_some())
        {
            return Ok(());
        }
        Err(Refusal::TooMany {
            what: "queues",
            setting: "max_queues",
            limit: self.limits.max_queues as u64,
        })
    }

    pub(super) fn known(&self, name: &QueueName) -> Option<usize> {
        self.queues.iter().position(|known| known.name == *name)
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Kept> {
        self.tasks.iter().find(|task| task.id == id)
    }

    fn counters(&mut self, name: &QueueName) -> &mut Counters {
        let at = self.known(name).unwrap();
        &mut self.queues[at].counters
    }

    fn at(&self, id: TaskId) -> Result<usize, Refusal> {
        let at = self.tasks.iter().position(|task| task.id == id);
        at.ok_or(Refusal::NoSuchTask(id))
    }

    fn holder(&self, id: TaskId, token: Token) -> Result<usize, Refusal> {
        let at = self.at(id)?;
        let lease = self.tasks[at].lease.as_ref();
        if lease.is_some_and(|lease| lease.token == token && self.now.tick < lease.expires) {
            Ok(at)
        } else {
            Err(Refusal::StaleToken(id))
        }
    }

    /// The task waits for its turn or its time.
    fn wait(&mut self, at: usize) {
        let now = self.now;
        let task = &mut self.tasks[at];
        task.lease = None;
        task.state = State::Scheduled;
        if task.is_due(now) {
            task.state = State::Ready;
            self.woken.insert(task.queue.clone());
        }
    }

    /// One after the other; where one is refused, all is as before.
    pub(super) fn submit(
        &mut self,
        tasks: &[NewTask],
        made: &[TaskId],
    ) -> Result<Vec<Taken>, Refusal> {
        let before = self.tasks.len();
        let mut made = made.iter().copied();
        let mut queues = BTreeSet::new();
        let taken: Result<Vec<Taken>, Refusal> = tasks
            .iter()
            .map(|task| self.look_at_one(task, &mut made, &mut queues))
            .collect();
        let new = self.tasks.split_off(before);
        if taken.is_ok() {
            for task in new {
                self.take_in(task);
            }
        }
        taken
    }

    /// Whether this task may come behind those before it, among which it is then; nobody has been told of it yet.
    fn look_at_one(
        &mut self,
        task: &NewTask,
        made: &mut dyn Iterator<Item = TaskId>,
        queues: &mut BTreeSet<QueueName>,
    ) -> Result<Taken, Refusal> {
        if let Some(there) = task.id.and_then(|id| self.get(id)) {
            let same = there.queue == task.queue
                && there.priority == task.priority
                && there.options.ask_the_same(&task.options)
                && there.payload.same_value(&task.payload);
            return if same {
                Ok((false, there.id))
            } else {
                Err(Refusal::IdInUse(there.id))
            };
        }
        let key = task
            .options
            .unique_key
            .as_deref()
            .filter(|_| !task.is_dead());
        if let Some(holder) = self.key_holder(&task.queue, key) {
            return Ok((false, holder));
        }
        if self.draining {
            return Err(Refusal::Draining(None));
        }
        let known = self.known(&task.queue);
        if known.is_some_and(|at| self.queues[at].draining) {
            return Err(Refusal::Draining(Some(task.queue.clone())));
        }
        if key.is_some() {
            self.may_hold_another()?;
        }
        queues.insert(task.queue.clone());
        self.may_be_busy(queues)?;
        let id = task.id.or_else(|| made.next()).unwrap();
        self.tasks.push(Kept {
            id,
            queue: task.queue.clone(),
            state: if task.is_dead() {
                State::Dead
            } else {
                State::Ready
            },
            priority: task.priority,
            exectime: task.exectime,
            attempts: task.past.as_ref().map_or(0, |past| past.attempts),
            options: task.options.clone(),
            payload: task.payload.clone(),
            lease: None,
            error: task.past.as_ref().and_then(|past| past.last_error.clone()),
        });
        Ok((true, id))
    }

    fn take_in(&mut self, task: Kept) {
        let queue = task.queue.clone();
        let is_dead = task.state == State::Dead;
        self.open(&queue);
        self.tasks.push(task);
        self.counters(&queue).submitted += 1;
        if !is_dead {
            self.wait(self.tasks.len() - 1);
        }
        self.note_idle();
    }

    fn may_hold_another(&self) -> Result<(), Refusal> {
        let holds = |task: &&Kept| task.state != State::Dead && task.options.unique_key.is_some();
        if self.tasks.iter().filter(holds).count() < self.limits.max_unique_keys {
            return Ok(());
        }
        Err(Refusal::TooMany {
            what: "unique keys",
            setting: "max_unique_keys",
            limit: self.limits.max_unique_keys as u64,
        })
    }

    fn key_holder(&self, queue: &QueueName, key: Option<&str>) -> Option<TaskId> {
        let key = key?;
        let holds = |task: &&Kept| {
            task.queue == *queue
                && task.state != State::Dead
                && task.options.unique_key.as_deref() == Some(key)
        };
        self.tasks.iter().find(holds).map(|task| task.id)
    }

    pub(super) fn advance(&mut self, now: Now, most: usize) -> bool {
        self.now = now;
        let due = |task: &Kept| task.state == State::Scheduled && task.is_due(now);
        for _ in 0..most {
            let next = (0..self.tasks.len())
                .filter(|at| due(&self.tasks[*at]))
                .min_by_key(|at| {
                    let task = &self.tasks[*at];
                    (task.exectime, self.known(&task.queue), task.place())
                });
            let Some(at) = next else { return false };
            self.wait(at);
        }
        self.tasks.iter().any(due)
    }

    /// The best ready task of these queues that is due; better ones that are not due any more step back.
    pub(super) fn next_ready(&mut self, queues: &[QueueName]) -> Option<TaskId> {
        let mut best: Option<(Place, TaskId)> = None;
        for name in queues {
            let (at, now) = (self.known(name), self.now);
            let Some(known) = at.map(|at| &mut self.queues[at]) else {
                continue;
            };
            if self.paused {
                continue;
            }
            known.asked = now.tick;
            if known.paused {
                continue;
            }
            let first = loop {
                let ready = |task: &&mut Kept| task.queue == *name && task.state == State::Ready;
                let tasks = self.tasks.iter_mut().filter(ready);
                let Some(task) = tasks.min_by_key(|task| task.place()) else {
                    break None;
                };
                if task.is_due(now) {
                    break Some((task.place(), task.id));
                }
                task.state = State::Scheduled;
            };
            best = best.into_iter().chain(first).min();
        }
        best.map(|(_, id)| id)
    }

    pub(super) fn claim(&mut self, id: TaskId, grant: &Grant) -> Result<(), Refusal> {
        let at = self.at(id)?;
        let (now, default) = (self.now, self.limits.lease);
        let task = &mut self.tasks[at];
        if task.state != State::Ready || !task.is_due(now) {
            let state = if task.state == State::Ready {
                State::Scheduled
            } else {
                task.state
            };
            return Err(wrong(id, state));
        }
        let length = grant.length.or(task.options.lease).unwrap_or(default);
        task.state = State::Leased;
        task.attempts += 1;
        task.lease = Some(RestoredLease {
            token: grant.token,
            kind: grant.kind,
            worker: grant.worker.clone(),
            at: now.wall,
            length,
            expires: later(now, length),
        });
        let queue = task.queue.clone();
        self.counters(&queue).claimed += 1;
        Ok(())
    }

    pub(super) fn complete(&mut self, id: TaskId, token: Option<Token>) -> Result<(), Refusal> {
        let at = match token {
            Some(token) => self.holder(id, token)?,
            None => self.at(id)?,
        };
        let task = &self.tasks[at];
        if token.is_none() && task.state == State::Dead {
            return Err(wrong(id, State::Dead));
        }
        if token.is_none() && task.under_v1() {
            return Err(Refusal::Leased(id));
        }
        let task = self.tasks.remove(at);
        self.counters(&task.queue).completed += 1;
        self.note_idle();
        Ok(())
    }

    pub(super) fn cancel(&mut self, id: TaskId) -> Result<(), Refusal> {
        let at = self.at(id)?;
        if self.tasks[at].under_v1() {
            return Err(Refusal::Leased(id));
        }
        let task = self.tasks.remove(at);
        self.counters(&task.queue).cancelled += 1;
        self.note_idle();
        Ok(())
    }

    pub(super) fn fail(
        &mut self,
        id: TaskId,
        token: Token,
        failure: &Failure,
        random: u64,
    ) -> Result<(), Refusal> {
        let at = self.holder(id, token)?;
        let backoff = self.tasks[at].options.backoff;
        let backoff = backoff.unwrap_or(self.limits.backoff);
        let dead = failure.dead || self.is_last(at);
        let wait = failure
            .retry_in
            .unwrap_or_else(|| backoff.wait(self.tasks[at].attempts, random));
        if !dead && wait != Millis(0) {
            let millis = i128::from(self.now.wall.0) + i128::from(wait.0);
            let secs = (millis + 999).div_euclid(1000);
            if secs > i128::from(ExecTime::MAX.get()) {
                return Err(Refusal::invalid("retry_in", ""));
            }
            self.tasks[at].exectime = ExecTime::new(secs as i64).unwrap();
        }
        let queue = self.tasks[at].queue.clone();
        self.counters(&queue).failed += 1;
        let mut error = String::new();
        for letter in failure.error.chars() {
            if error.len() + letter.len_utf8() > 4096 {
                break;
            }
            error.push(letter);
        }
        self.attempt_over(at, &error, dead);
        Ok(())
    }

    fn is_last(&self, at: usize) -> bool {
        let task = &self.tasks[at];
        let most = task
            .options
            .max_attempts
            .unwrap_or(self.limits.max_attempts);
        task.attempts >= most
    }

    fn attempt_over(&mut self, at: usize, error: &str, dead: bool) {
        self.tasks[at].error = Some(error.into());
        if dead {
            let task = &mut self.tasks[at];
            (task.state, task.lease) = (State::Dead, None);
            let queue = task.queue.clone();
            self.counters(&queue).died += 1;
        } else {
            self.wait(at);
        }
    }

    pub(super) fn release(&mut self, id: TaskId, token: Token) -> Result<(), Refusal> {
        let at = self.holder(id, token)?;
        self.tasks[at].attempts -= 1;
        let queue = self.tasks[at].queue.clone();
        self.counters(&queue).released += 1;
        self.wait(at);
        Ok(())
    }

    pub(super) fn extend(
        &mut self,
        id: TaskId,
        token: Token,
        length: Option<Millis>,
    ) -> Result<Tick, Refusal> {
        let at = self.holder(id, token)?;
        let own = self.tasks[at].options.lease;
        let length = length.or(own).unwrap_or(self.limits.lease);
        let expires = later(self.now, length);
        let lease = self.tasks[at].lease.as_mut().unwrap();
        (lease.length, lease.expires) = (length, expires);
        Ok(expires)
    }

    /// The next lease that is over.
    pub(super) fn expire(&mut self) -> Option<TaskId> {
        let over = |task: &&Kept| {
            let lease = task.lease.as_ref();
            lease.is_some_and(|lease| lease.expires <= self.now.tick)
        };
        let first = self.tasks.iter().filter(over);
        let first = first.min_by_key(|task| (task.lease.as_ref().map(|l| l.expires), task.id));
        let id = first?.id;
        let at = self.at(id).unwrap();
        let queue = self.tasks[at].queue.clone();
        self.counters(&queue).expired += 1;
        let dead = self.is_last(at);
        self.attempt_over(at, "the lease expired", dead);
        Some(id)
    }

    pub(super) fn reschedule(&mut self, id: TaskId, change: Change) -> Result<(), Refusal> {
        let at = self.at(id)?;
        let task = self.tasks[at].clone();
        let dead = task.state == State::Dead;
        let moves = change.queue.filter(|queue| *queue != task.queue);
        if task.state == State::Leased {
            return Err(Refusal::Leased(id));
        }
        if dead && (moves.is_none() || change.priority.is_some() || change.exectime.is_some()) {
            return Err(wrong(id, State::Dead));
        }
        if let Some(queue) = moves {
            match self.known(&queue) {
                Some(there) if self.queues[there].draining => {
                    return Err(Refusal::Draining(Some(queue)));
                }
                _ => self.may_be_busy(&BTreeSet::from([queue.clone()]))?,
            }
            let key = task.options.unique_key.as_deref().filter(|_| !dead);
            if let Some(holder) = self.key_holder(&queue, key) {
                return Err(Refusal::UniqueKeyInUse(holder));
            }
            self.open(&queue);
            self.tasks[at].queue = queue;
            self.note_idle();
        }
        if dead {
            return Ok(());
        }
        self.tasks[at].priority = change.priority.unwrap_or(task.priority);
        self.tasks[at].exectime = change.exectime.unwrap_or(task.exectime);
        self.wait(at);
        Ok(())
    }

    pub(super) fn retry(&mut self, id: TaskId) -> Result<(), Refusal> {
        let at = self.at(id)?;
        let task = &self.tasks[at];
        if task.state != State::Dead {
            return Err(wrong(id, task.state));
        }
        if let Some(holder) = self.key_holder(&task.queue, task.options.unique_key.as_deref()) {
            return Err(Refusal::UniqueKeyInUse(holder));
        }
        if task.options.unique_key.is_some() {
            self.may_hold_another()?;
        }
        let queue = task.queue.clone();
        self.counters(&queue).retried += 1;
        self.tasks[at].attempts = 0;
        self.wait(at);
        Ok(())
    }

    pub(super) fn switch(
        &mut self,
        queue: Option<&QueueName>,
        paused: bool,
        on: bool,
    ) -> Result<(), Refusal> {
        let Some(name) = queue else {
            if paused {
                self.paused = on;
            } else {
                self.draining = on;
            }
            if paused && !on {
                let names = self.queues.iter().map(|known| known.name.clone());
                self.woken.extend(names);
            }
            return Ok(());
        };
        let at = self.known(name);
        let at = at.ok_or_else(|| Refusal::NoSuchQueue(name.clone()))?;
        if paused {
            self.queues[at].paused = on;
        } else {
            self.queues[at].draining = on;
        }
        self.note_idle();
        if paused && !on {
            self.woken.insert(name.clone());
        }
        Ok(())
    }

    pub(super) fn reboot(&mut self) {
        let now = self.now;
        for lease in self.tasks.iter_mut().filter_map(|task| task.lease.as_mut()) {
            lease.expires = later(now, lease.length);
        }
    }

    /// The tasks of these queues (`None`: all) in this state (`None`: any), as a list shows them.
    pub(super) fn list(&self, queue: Option<&QueueName>, state: Option<State>) -> Vec<&Kept> {
        let wanted = |task: &&Kept| {
            queue.is_none_or(|name| task.queue == *name)
                && state.is_none_or(|one| task.state == one)
        };
        let mut list: Vec<&Kept> = self.tasks.iter().filter(wanted).collect();
        list.sort_by_key(|task| (task.state, task.place()));
        list
    }

    /// How long each ready task of a queue has been due, where that can be told; the longest first.
    pub(super) fn ages(&self, queue: &QueueName) -> Vec<i64> {
        let mut ages: Vec<i64> = self
            .list(Some(queue), Some(State::Ready))
            .into_iter()
            .filter_map(|task| {
                let made = task.id.made_at().map(|made| made.0);
                let timed = (task.exectime != ExecTime::ASAP || made.is_some())
                    .then_some(task.exectime.get() * 1000);
                Some((self.now.wall.0 - made.max(timed)?).max(0))
            })
            .collect();
        ages.sort_by_key(|age| Reverse(*age));
        ages
    }
}

fn wrong(id: TaskId, state: State) -> Refusal {
    Refusal::WrongState {
        id,
        state,
        wanted: "",
    }
}

fn later(now: Now, length: Millis) -> Tick {
    Tick(now.tick.0 + length.0 * 1_000_000)
}
