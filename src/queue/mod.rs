//! The pure state machine: which tasks there are, in which state, and which is next.
//!
//! It answers in two halves. `decide_*` reads, may refuse, and yields a [`Record`](crate::task::Record); [`Queues::apply`] makes a record true
//! and cannot refuse. A restart feeds the journal's records to the same `apply`. What follows from time alone (a scheduled
//! task becomes ready) is no record: [`Queues::advance`] does it, and would do it again after a restart.
//!
//! This floor may not know: clocks, files, threads, randomness. Time, ids, tokens and random numbers are arguments.
//!
//! Cost: claim, submit and complete are O(log n) in the number of unfinished tasks; nothing walks through pending tasks.

mod apply;
mod decide;
mod entry;
mod history;
mod idle;
mod limit;
mod list;
#[cfg(test)]
mod model;
mod order;
mod shelf;
mod tasks;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

pub use decide::{Grant, Verdict};
pub use entry::Entry;
pub use list::Part;

use self::{
    history::{Happened, History},
    order::Key,
    shelf::Shelf,
    tasks::Tasks,
};
use crate::task::{
    Area, Backoff, Counters, Distribution, ExecTime, FileName, Location, Millis, Now, Options,
    QueueName, State, TaskId, Tick,
};

/// What the queue holds itself to; the numbers come from `config`.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many queues there may be.
    pub max_queues: usize,
    /// How many unfinished and dead tasks there may be.
    pub max_tasks: usize,
    /// The same of one queue.
    pub max_queue_tasks: usize,
    /// How many unique keys unfinished tasks may hold.
    pub max_unique_keys: usize,
    /// Attempts until a task is dead that asks for no number.
    pub max_attempts: u32,
    /// The lease of a claim, of a task that asks for none.
    pub lease: Millis,
    /// The wait between attempts of a task that asks for none.
    pub backoff: Backoff,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_queues: 10_000,
            max_tasks: usize::MAX,
            max_queue_tasks: usize::MAX,
            max_unique_keys: usize::MAX,
            max_attempts: 5,
            lease: Millis::from_secs(60),
            backoff: Backoff::DEFAULT,
        }
    }
}

/// A number that stands for a queue in here, until the queue is forgotten: see [`idle`].
type ShelfNo = u32;

/// All queues and their unfinished and dead tasks.
#[derive(Debug)]
pub struct Queues {
    limits: Limits,
    tasks: Tasks,
    shelves: Vec<Shelf>,
    names: BTreeMap<QueueName, ShelfNo>,
    /// Those that have nothing, by since when.
    idle: BTreeSet<(Tick, ShelfNo)>,
    /// What happened in queues that are forgotten.
    forgotten: Counters,
    // Fixed seed: the order of a map never shows, and a run must repeat exactly from its seed.
    keys: HashMap<(ShelfNo, Box<str>), TaskId, FixedState>,
    /// The first scheduled task of each queue that has one: with `leases`, the timer table.
    heads: BTreeSet<(ExecTime, ShelfNo)>,
    leases: BTreeSet<(Tick, TaskId)>,
    /// Tasks with a state that file names cannot hold: what a checkpoint is about.
    special: HashSet<TaskId, FixedState>,
    /// Queues that gained a ready task, or were resumed, since the engine last asked.
    woken: BTreeSet<ShelfNo>,
    paused: bool,
    draining: bool,
    history: History,
    wait: Distribution,
    run: Distribution,
    now: Now,
}

impl Queues {
    /// Holds itself to other limits from now on. What is there already stays, also where it is more than they allow.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// No queue but `default`, no task.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let mut queues = Self {
            limits,
            tasks: Tasks::default(),
            shelves: Vec::new(),
            names: BTreeMap::new(),
            idle: BTreeSet::new(),
            forgotten: Counters::default(),
            keys: HashMap::default(),
            heads: BTreeSet::new(),
            leases: BTreeSet::new(),
            special: HashSet::default(),
            woken: BTreeSet::new(),
            paused: false,
            draining: false,
            history: History::default(),
            wait: Distribution::new(Distribution::LONG),
            run: Distribution::new(Distribution::LONG),
            now: Now::default(),
        };
        queues.open(&QueueName::default());
        queues
    }

    /// Lets time pass: scheduled tasks that are due become ready, at most `most` of them. Gives whether there are more.
    pub fn advance(&mut self, now: Now, most: usize) -> bool {
        self.now = now;
        for _ in 0..most {
            let Some((exectime, shelf)) = self.heads.first().copied() else {
                return false;
            };
            if !exectime.is_due(now.wall) {
                return false;
            }
            if let Some(id) = self.shelves[shelf as usize].first(State::Scheduled) {
                self.settle(id, State::Ready);
            }
        }
        self.heads
            .first()
            .is_some_and(|(exectime, _)| exectime.is_due(now.wall))
    }

    /// When the next scheduled task is due, on the wall clock.
    #[must_use]
    pub fn next_due(&self) -> Option<ExecTime> {
        self.heads.first().map(|(exectime, _)| *exectime)
    }

    /// When the next lease ends, on the boot clock.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Tick> {
        self.leases.first().map(|(tick, _)| *tick)
    }

    /// The task that would be handed out next from these queues, if one is due.
    pub fn next_ready(&mut self, queues: &[QueueName], now: Now) -> Option<TaskId> {
        if self.paused {
            return None;
        }
        let mut best: Option<(Key, TaskId)> = None;
        for name in queues {
            let Some(shelf) = self.names.get(name).copied() else {
                continue;
            };
            self.shelves[shelf as usize].asked = now.tick;
            if self.shelves[shelf as usize].paused {
                continue;
            }
            if let Some(found) = self.due_head(shelf, now)
                && best.is_none_or(|best| found < best)
            {
                best = Some(found);
            }
        }
        best.map(|(_, id)| id)
    }

    /// The first ready task that is really due: where the wall clock went back, those that are not due any more step back.
    fn due_head(&mut self, shelf: ShelfNo, now: Now) -> Option<(Key, TaskId)> {
        loop {
            let key = self.shelves[shelf as usize].first_key(State::Ready)?;
            let entry = self.tasks.get(key.id)?;
            if entry.exectime.is_due(now.wall) {
                return Some((key, key.id));
            }
            self.settle(key.id, State::Scheduled);
        }
    }

    /// The first `count` ready tasks of a queue in hand-out order.
    pub fn ready_heads(&self, name: &QueueName, count: usize) -> impl Iterator<Item = TaskId> + '_ {
        let shelf = self
            .names
            .get(name)
            .map(|shelf| &self.shelves[*shelf as usize]);
        shelf
            .into_iter()
            .flat_map(move |shelf| shelf.ids(State::Ready).take(count))
    }

    /// The queues that gained a ready task, or were resumed, since this was last asked.
    pub fn take_woken(&mut self) -> Vec<QueueName> {
        let woken = std::mem::take(&mut self.woken);
        woken
            .into_iter()
            .map(|shelf| self.shelves[shelf as usize].name.clone())
            .collect()
    }

    /// One task.
    #[must_use]
    pub fn get(&self, id: TaskId) -> Option<&Entry> {
        self.tasks.get(id)
    }

    /// The name of the queue that a task is in.
    #[must_use]
    pub fn queue_of(&self, entry: &Entry) -> &QueueName {
        &self.shelves[entry.shelf as usize].name
    }

    /// The tasks in `most` places from place `from` on, and the place to go on from, if there is more. A task keeps its
    /// place for life; a later one may come to have it.
    #[must_use]
    pub fn walk(&self, from: u32, most: u32) -> (Vec<TaskId>, Option<u32>) {
        self.tasks.walk(from, most)
    }

    /// A task's place in [`Queues::walk`].
    #[must_use]
    pub fn place(&self, id: TaskId) -> Option<u32> {
        self.tasks.place(id)
    }

    /// Where the task's file is to be.
    #[must_use]
    pub fn location(&self, id: TaskId) -> Option<Location> {
        let entry = self.tasks.get(id)?;
        let area = if entry.state == State::Dead {
            Area::Dead
        } else {
            Area::Tasks
        };
        let name = FileName {
            exectime: entry.exectime,
            priority: entry.priority,
            id,
        };
        Some(Location {
            area,
            queue: self.queue_of(entry).clone(),
            name,
        })
    }

    /// How many tasks are leased.
    #[must_use]
    pub fn leased_count(&self) -> usize {
        self.leases.len()
    }

    /// How many tasks there are, dead ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.len() == 0
    }

    /// The lease of a claim of `options` that names none.
    #[must_use]
    pub fn default_lease(&self, options: Option<&Options>) -> Millis {
        options
            .and_then(|options| options.lease)
            .unwrap_or(self.limits.lease)
    }

    /// Attempts until a task with `options` is dead.
    #[must_use]
    pub fn max_attempts(&self, options: Option<&Options>) -> u32 {
        options
            .and_then(|options| options.max_attempts)
            .unwrap_or(self.limits.max_attempts)
    }

    /// Counts what happened in a queue, in its history and in that of all.
    fn note(&mut self, shelf: ShelfNo, happened: Happened) {
        let tick = self.now.tick;
        self.history.note(tick, happened);
        let shelf = &mut self.shelves[shelf as usize];
        shelf.minutes.get_or_insert_default().note(tick, happened);
    }

    /// The number of a queue, which is made where it is new. If there are as many as may be, it has the place of one that is
    /// idle; where none is, there is one more, which the limit's keepers have allowed.
    fn open(&mut self, name: &QueueName) -> ShelfNo {
        if let Some(shelf) = self.names.get(name) {
            return *shelf;
        }
        let is_full = self.names.len() >= self.limits.max_queues;
        let forgotten = is_full.then(|| self.forget_one_for(name)).flatten();
        let shelf = forgotten.unwrap_or_else(|| {
            self.shelves.push(Shelf::new(name.clone(), self.now.tick));
            (self.shelves.len() - 1) as ShelfNo
        });
        self.names.insert(name.clone(), shelf);
        self.note_idle(shelf);
        shelf
    }
}
