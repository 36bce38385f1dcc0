//! [`Shelf`]: one queue, its tasks in order by state, and its counts.

use std::{
    collections::{BTreeSet, btree_set},
    ops::Bound,
};

use super::{history::Minutes, order::Key};
use crate::task::{Counters, QueueName, State, TaskId, Tick};

/// One queue.
#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) name: QueueName,
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) counters: Counters,
    pub(super) submitted_rate: Rate,
    pub(super) completed_rate: Rate,
    /// What happened lately; made when something does.
    pub(super) minutes: Option<Minutes>,
    /// When somebody last asked for its tasks; the start where nobody has.
    pub(super) asked: Tick,
    /// Since when it has nothing, as `Queues::idle` has it.
    pub(super) idle_since: Option<Tick>,
    sets: [BTreeSet<Key>; 4],
    /// Keys that are still to be put into their sets.
    unsorted: [Vec<Key>; 4],
}

const fn index(state: State) -> usize {
    match state {
        State::Leased => 0,
        State::Ready => 1,
        State::Scheduled => 2,
        State::Dead => 3,
    }
}

impl Shelf {
    pub(super) fn new(name: QueueName, now: Tick) -> Self {
        Self {
            name,
            paused: false,
            draining: false,
            counters: Counters::default(),
            submitted_rate: Rate::default(),
            completed_rate: Rate::default(),
            minutes: None,
            asked: now,
            idle_since: None,
            sets: Default::default(),
            unsorted: Default::default(),
        }
    }

    /// Whether it has no task, and no switch is set.
    pub(super) fn has_nothing(&self) -> bool {
        let is_empty = self.sets.iter().all(BTreeSet::is_empty);
        is_empty && self.unsorted.iter().all(Vec::is_empty) && !self.paused && !self.draining
    }

    pub(super) fn forget_counts(&mut self, now: Tick) {
        self.counters = Counters::default();
        self.submitted_rate = Rate::default();
        self.completed_rate = Rate::default();
        self.minutes = None;
        self.asked = now;
    }

    pub(super) fn insert(&mut self, state: State, key: Key) {
        self.sets[index(state)].insert(key);
    }

    /// Like [`Shelf::insert`], but the key is in its place only after [`Shelf::sort`]: for many at once.
    pub(super) fn insert_unsorted(&mut self, state: State, key: Key) {
        self.unsorted[index(state)].push(key);
    }

    /// Puts what came unsorted into its places. A set made of many keys at once is packed in half the memory of one that
    /// they came to one by one, in a fraction of the time.
    pub(super) fn sort(&mut self) {
        for (set, keys) in self.sets.iter_mut().zip(&mut self.unsorted) {
            if !keys.is_empty() {
                set.append(&mut BTreeSet::from_iter(std::mem::take(keys)));
            }
        }
    }

    pub(super) fn remove(&mut self, state: State, key: Key) {
        self.sets[index(state)].remove(&key);
    }

    pub(super) fn len(&self, state: State) -> usize {
        self.sets[index(state)].len()
    }

    pub(super) fn first_key(&self, state: State) -> Option<Key> {
        self.sets[index(state)].first().copied()
    }

    pub(super) fn first(&self, state: State) -> Option<TaskId> {
        self.first_key(state).map(|key| key.id)
    }

    pub(super) fn ids(&self, state: State) -> impl Iterator<Item = TaskId> + '_ {
        self.sets[index(state)].iter().map(|key| key.id)
    }

    /// The keys from `from` on, in order.
    pub(super) fn keys(&self, state: State, from: Bound<Key>) -> btree_set::Range<'_, Key> {
        self.sets[index(state)].range((from, Bound::Unbounded))
    }

    /// The first key at or behind `from`.
    pub(super) fn key_from(&self, state: State, from: Key) -> Option<Key> {
        self.sets[index(state)].range(from..).next().copied()
    }
}

/// Events a second, each weighing less as it ages, with a time constant of a minute: near the count of the last minute
/// divided by 60 when the rate is steady, at the cost of two numbers and no timer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    value: f64,
    at: Tick,
}

const RATE_SECONDS: f64 = 60.0;

impl Rate {
    pub(super) fn count(&mut self, tick: Tick) {
        self.value = self.per_second(tick) + 1.0 / RATE_SECONDS;
        self.at = self.at.max(tick);
    }

    pub(super) fn per_second(self, tick: Tick) -> f64 {
        let age = tick.0.saturating_sub(self.at.0) as f64 / 1e9;
        self.value * (-age / RATE_SECONDS).exp()
    }
}
