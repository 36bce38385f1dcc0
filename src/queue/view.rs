//! Looking at tasks and queues: counts, and the records that a checkpoint holds.

use super::{
    Entry, Queues,
    history::{History, Minutes},
    order::Key,
    shelf::Shelf,
};
use crate::{
    defect::{Defect, planted},
    task::{
        Counters, Distribution, ExecTime, HistoryView, LeaseView, Millis, Now, Payload, QueueName,
        QueueView, Record, Refusal, Restored, Span, State, TaskId, TaskView, WallMillis,
    },
};

/// How many priorities are looked at to find the task that has been due longest; with more, the answer is of these.
const PRIORITIES_LOOKED_AT: usize = 64;

impl Queues {
    /// A task as it stands.
    #[must_use]
    pub fn view(&self, id: TaskId, entry: &Entry, payload: Payload, now: Now) -> TaskView {
        TaskView {
            id,
            queue: self.queue_of(entry).clone(),
            state: entry.state,
            priority: entry.priority,
            exectime: entry.exectime,
            options: entry.options().cloned().unwrap_or_default(),
            attempts: entry.attempts,
            max_attempts: self.max_attempts(entry.options()),
            lease: entry.lease().map(|lease| LeaseView {
                worker: lease.worker.clone(),
                kind: lease.kind,
                since: lease.at,
                expires: now.wall_at(lease.expires),
            }),
            last_error: entry.last_error().cloned(),
            history: None,
            payload,
        }
    }

    /// All queues, by name.
    #[must_use]
    pub fn queue_views(&self, now: Now) -> Vec<QueueView> {
        self.names
            .values()
            .map(|shelf| self.shelf_view(&self.shelves[*shelf as usize], now))
            .collect()
    }

    /// One queue.
    pub fn queue_view(&self, name: &QueueName, now: Now) -> Result<QueueView, Refusal> {
        let shelf = self
            .names
            .get(name)
            .ok_or_else(|| Refusal::NoSuchQueue(name.clone()))?;
        Ok(self.shelf_view(&self.shelves[*shelf as usize], now))
    }

    fn shelf_view(&self, shelf: &Shelf, now: Now) -> QueueView {
        QueueView {
            name: shelf.name.clone(),
            counts: State::ALL.map(|state| shelf.len(state) as u64),
            paused: self.paused || shelf.paused,
            draining: self.draining || shelf.draining,
            oldest_due: oldest_due(shelf, now),
            unasked: now.tick.since(shelf.asked),
            // Where nothing has died since the start, there is no hour to add up.
            died_lately: shelf
                .minutes
                .as_ref()
                .filter(|_| shelf.counters.died > 0)
                .map_or(0, |minutes| minutes.died_lately(now)),
            counters: shelf.counters,
            submitted_rate: shelf.submitted_rate.per_second(now.tick),
            completed_rate: shelf.completed_rate.per_second(now.tick),
        }
    }

    /// Tasks by state over all queues, and what happened to them since the start.
    #[must_use]
    pub fn totals(&self) -> ([u64; 4], Counters) {
        let mut counts = [0; 4];
        let mut sum = self.forgotten;
        for shelf in &self.shelves {
            for (count, state) in counts.iter_mut().zip(State::ALL) {
                *count += shelf.len(state) as u64;
            }
            sum.add(&shelf.counters);
        }
        (counts, sum)
    }

    /// Counts and rates begin again: what a start reads happened before it.
    pub fn forget_counts(&mut self) {
        for shelf in &mut self.shelves {
            shelf.forget_counts(self.now.tick);
        }
        self.forgotten = Counters::default();
        self.history = History::default();
        self.wait = Distribution::new(Distribution::LONG);
        self.run = Distribution::new(Distribution::LONG);
    }

    /// What happened lately: of all queues, or the last hour of one.
    pub fn history(
        &self,
        queue: Option<&QueueName>,
        span: Span,
        now: Now,
    ) -> Result<HistoryView, Refusal> {
        let Some(name) = queue else {
            return Ok(self.history.view(span, now));
        };
        let shelf = self
            .names
            .get(name)
            .ok_or_else(|| Refusal::NoSuchQueue(name.clone()))?;
        if span != Span::Hour {
            return Err(Refusal::invalid(
                "span",
                "of one queue only the last hour is kept",
            ));
        }
        let minutes = self.shelves[*shelf as usize].minutes.as_ref();
        Ok(minutes.map_or_else(|| Minutes::default().view(now), |minutes| minutes.view(now)))
    }

    /// How tasks waited and ran since the start, and how many died in the last hour.
    #[must_use]
    pub fn latencies(&self, now: Now) -> (Distribution, Distribution, u64) {
        let died = self.history.died_lately(now);
        (self.wait.clone(), self.run.clone(), died)
    }

    /// The switches for all queues: paused, draining.
    #[must_use]
    pub const fn switches(&self) -> (bool, bool) {
        (self.paused, self.draining)
    }

    /// The names of all queues, in order.
    pub fn queue_names(&self) -> impl Iterator<Item = &QueueName> {
        self.names.keys()
    }

    /// How many queues there are.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.shelves.len()
    }

    /// Whether a new task of this queue would be refused because it is draining.
    #[must_use]
    pub fn is_draining(&self, name: &QueueName) -> bool {
        self.draining
            || self
                .names
                .get(name)
                .is_some_and(|shelf| self.shelves[*shelf as usize].draining)
    }

    /// The leased tasks, in the order in which their leases end.
    pub fn leased(&self) -> impl Iterator<Item = (TaskId, &Entry)> + '_ {
        self.leases
            .iter()
            .filter_map(|(_, id)| Some((*id, self.tasks.get(*id)?)))
    }

    /// Every task of a queue that has a file in the task directory, in id order not promised.
    pub fn ids_of<'a>(&'a self, name: &QueueName) -> impl Iterator<Item = TaskId> + 'a {
        let shelf = self
            .names
            .get(name)
            .map(|shelf| &self.shelves[*shelf as usize]);
        shelf.into_iter().flat_map(|shelf| {
            [State::Ready, State::Scheduled]
                .into_iter()
                .flat_map(|state| shelf.ids(state))
        })
    }

    /// The records that rebuild what file names cannot hold.
    pub fn snapshot(&self) -> impl Iterator<Item = Record> + '_ {
        let special = self.special.iter();
        self.switched()
            .chain(special.filter_map(|id| self.restored_record(*id)))
    }

    /// How many tasks are in that.
    #[must_use]
    pub fn special_count(&self) -> usize {
        self.special.len()
    }

    /// What is paused or draining.
    pub fn switched(&self) -> impl Iterator<Item = Record> + '_ {
        let all = [(self.paused, true), (self.draining, false)]
            .into_iter()
            .filter(|(on, _)| *on);
        let all = all.map(|(on, pause)| switch(None, pause, on));
        let each = self.shelves.iter().flat_map(|shelf| {
            let flags = [(shelf.paused, true), (shelf.draining, false)]
                .into_iter()
                .filter(|(on, _)| *on);
            flags.map(|(on, pause)| switch(Some(shelf.name.clone()), pause, on))
        });
        all.chain(each)
    }

    fn restored_record(&self, id: TaskId) -> Option<Record> {
        let entry = self.tasks.get(id)?;
        if entry.state == State::Leased && planted(Defect::ForgetLease) {
            return None;
        }
        Some(Record::Restored(Box::new(Restored {
            id,
            queue: self.queue_of(entry).clone(),
            priority: entry.priority,
            exectime: entry.exectime,
            options: entry.options().cloned().unwrap_or_default(),
            attempts: entry.attempts,
            state: if entry.state == State::Scheduled {
                State::Ready
            } else {
                entry.state
            },
            lease: entry.lease().cloned(),
            last_error: entry.last_error().cloned(),
        })))
    }
}

const fn switch(queue: Option<QueueName>, pause: bool, on: bool) -> Record {
    if pause {
        Record::Paused { queue, on }
    } else {
        Record::Draining { queue, on }
    }
}

/// How long the ready task that has waited longest has been due. A task without a time of its own is due since it was made.
fn oldest_due(shelf: &Shelf, now: Now) -> Option<Millis> {
    let mut oldest: Option<WallMillis> = None;
    let mut at = shelf.first_key(State::Ready);
    for _ in 0..PRIORITIES_LOOKED_AT {
        let Some(key) = at else { break };
        let urgency = key.urgency();
        // Within a priority: the first of those that were due at once, and the first of those with a time.
        let timed = Key::floor(urgency, Some(ExecTime::ASAP.get() + 1));
        let timed = shelf.key_from(State::Ready, timed);
        for key in [Some(key), timed.filter(|key| key.urgency() == urgency)]
            .into_iter()
            .flatten()
        {
            let made = key.id.made_at().unwrap_or(WallMillis(i64::MIN));
            let due = made.max(WallMillis(key.exectime().saturating_mul(1000)));
            if key.exectime() != ExecTime::ASAP.get() || key.id.made_at().is_some() {
                oldest = Some(oldest.map_or(due, |oldest| oldest.min(due)));
            }
        }
        at = urgency
            .checked_add(1)
            .and_then(|next| shelf.key_from(State::Ready, Key::floor(next, None)));
    }
    let age = |since: WallMillis| Millis(u64::try_from(now.wall.0 - since.0).unwrap_or(0));
    // Tasks with ids of their own and no time do not say since when they wait; then it is not told.
    oldest
        .map(age)
        .or_else(|| shelf.first(State::Ready).map(|_| Millis(0)))
}
