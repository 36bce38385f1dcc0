//! Whether there may be more tasks: [`Space`] counts what one request takes of what is left.

use std::collections::BTreeMap;

use super::Queues;
use crate::task::{QueueName, Refusal, State};

/// What a request of several tasks has taken so far.
pub(super) struct Space {
    /// How many tasks the request has: no queue gets more from it.
    most: usize,
    taken: usize,
    /// Of queues that the request could fill; far from the limit nothing is counted.
    of_queue: BTreeMap<QueueName, usize>,
}

impl Space {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            taken: 0,
            of_queue: BTreeMap::new(),
        }
    }

    /// Takes the place of one new task, if there is one.
    pub(super) fn take(&mut self, queues: &Queues, queue: &QueueName) -> Result<(), Refusal> {
        let limits = &queues.limits;
        if queues.tasks.len() + self.taken >= limits.max_tasks {
            return Err(Refusal::TooMany {
                what: "tasks",
                setting: "max_tasks",
                limit: limits.max_tasks as u64,
            });
        }
        self.taken += 1;
        let there = queues.length_of(queue);
        if there.saturating_add(self.most) > limits.max_queue_tasks {
            let taken = self.of_queue.entry(queue.clone()).or_default();
            if there + *taken >= limits.max_queue_tasks {
                return Err(queues.too_long(queue));
            }
            *taken += 1;
        }
        Ok(())
    }
}

impl Queues {
    /// Whether one more task of this queue is one too many.
    #[must_use]
    pub fn is_at_limit(&self, queue: &QueueName) -> bool {
        self.tasks.len() >= self.limits.max_tasks || self.is_at_length(queue)
    }

    /// How many more tasks there may be.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limits.max_tasks.saturating_sub(self.tasks.len())
    }

    /// How many more unique keys may be held.
    #[must_use]
    pub fn room_for_keys(&self) -> usize {
        self.limits.max_unique_keys.saturating_sub(self.keys.len())
    }

    /// That as many more unique keys may be held.
    pub(super) fn may_hold(&self, more: usize) -> Result<(), Refusal> {
        if more <= self.room_for_keys() {
            return Ok(());
        }
        Err(Refusal::TooMany {
            what: "unique keys",
            setting: "max_unique_keys",
            limit: self.limits.max_unique_keys as u64,
        })
    }

    /// How many more tasks there may be in a queue, whatever there are in others.
    #[must_use]
    pub fn room_in(&self, queue: &QueueName) -> usize {
        let length = self.length_of(queue);
        self.limits.max_queue_tasks.saturating_sub(length)
    }

    pub(super) fn is_at_length(&self, queue: &QueueName) -> bool {
        self.length_of(queue) >= self.limits.max_queue_tasks
    }

    /// How many more queues may have something; one that has nothing gives its place away.
    #[must_use]
    pub fn room_for_queues(&self) -> usize {
        self.limits.max_queues.saturating_sub(self.busy_count())
    }

    /// Whether there is this queue.
    #[must_use]
    pub fn is_known(&self, queue: &QueueName) -> bool {
        self.names.contains_key(queue)
    }

    /// Whether a task of this queue would not make more queues than may be.
    #[must_use]
    pub fn may_open(&self, queue: &QueueName) -> bool {
        self.room_for_queues() > 0 || self.is_known(queue)
    }

    /// That as many more queues may have something.
    pub(super) fn may_be_busy(&self, more: usize) -> Result<(), Refusal> {
        if more <= self.room_for_queues() {
            return Ok(());
        }
        Err(self.too_many_queues())
    }

    const fn too_many_queues(&self) -> Refusal {
        Refusal::TooMany {
            what: "queues",
            setting: "max_queues",
            limit: self.limits.max_queues as u64,
        }
    }

    pub(super) fn too_long(&self, queue: &QueueName) -> Refusal {
        Refusal::QueueTooLong {
            queue: queue.clone(),
            limit: self.limits.max_queue_tasks as u64,
        }
    }

    fn length_of(&self, queue: &QueueName) -> usize {
        self.names.get(queue).map_or(0, |shelf| {
            let shelf = &self.shelves[*shelf as usize];
            State::ALL.iter().map(|state| shelf.len(*state)).sum()
        })
    }
}
