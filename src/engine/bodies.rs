//! [`Bodies`]: the payloads that are in memory.
//!
//! A payload is kept from its submission until its file is written, and after that while there is room; those near the
//! head of a queue are read ahead of need. The rest are on the disk.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::by_id::ById;
use crate::task::{Payload, TaskId, Tick};

/// How often a file that can't be read is tried before its task is given up as dead.
pub(super) const LOAD_TRIES: u32 = 5;

/// Bytes that a payload in memory takes beside its own: its place in the table, half of which may be empty, its length and
/// count, and what an allocation is rounded up by.
const OVERHEAD: u64 = 100;
fn cost(payload: &Payload) -> u64 {
    payload.len() as u64 + OVERHEAD
}

/// The payloads in memory, and those on their way.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    kept: ById<Payload>,
    bytes: u64,
    /// What is being read now.
    loading: HashSet<TaskId, FixedState>,
    /// What could not be read, how often, and when it may be tried again.
    troubled: HashMap<TaskId, (u32, Tick), FixedState>,
    /// What waiting requests need, in memory or not, and how many of them.
    held: HashMap<TaskId, u32, FixedState>,
}

impl Bodies {
    pub(super) fn get(&self, id: TaskId) -> Option<&Payload> {
        self.kept.get(&id)
    }

    pub(super) fn insert(&mut self, id: TaskId, payload: Payload) {
        self.troubled.remove(&id);
        self.bytes += cost(&payload);
        if let Some(before) = self.kept.insert(id, payload) {
            self.bytes -= cost(&before);
        }
    }

    pub(super) fn remove(&mut self, id: TaskId) -> Option<Payload> {
        self.troubled.remove(&id);
        let payload = self.kept.remove(&id)?;
        self.bytes -= cost(&payload);
        Some(payload)
    }

    /// Bytes of payloads in memory.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A request waits that needs these.
    pub(super) fn hold(&mut self, ids: &[TaskId]) {
        for id in ids {
            *self.held.entry(*id).or_insert(0) += 1;
        }
    }

    /// It does not need them any more.
    pub(super) fn release(&mut self, ids: &[TaskId]) {
        for id in ids {
            if let Some(holders) = self.held.get_mut(id) {
                *holders -= 1;
                if *holders == 0 {
                    self.held.remove(id);
                }
            }
        }
    }

    /// Whether a waiting request needs `id`: it is not to be let go of for want of memory.
    pub(super) fn is_held(&self, id: TaskId) -> bool {
        self.held.contains_key(&id)
    }

    /// Whether no request waits that needs any.
    #[cfg(test)]
    pub(super) fn holds_none(&self) -> bool {
        self.held.is_empty()
    }

    /// How many payloads are in memory or on their way.
    pub(super) fn len(&self) -> usize {
        self.kept.len() + self.loading.len()
    }

    /// Whether `id` is being read, or will be by itself.
    pub(super) fn will_be_tried(&self, id: TaskId) -> bool {
        self.loading.contains(&id) || self.troubled.contains_key(&id)
    }

    /// Whether anything could not be read and will be tried again.
    pub(super) fn is_in_trouble(&self) -> bool {
        !self.troubled.is_empty()
    }

    /// Whether reading `id` is to be started: it is not here, not on its way, and not to be left alone for a while.
    pub(super) fn wants(&mut self, id: TaskId, now: Tick) -> bool {
        let resting = self
            .troubled
            .get(&id)
            .is_some_and(|(_, until)| *until > now);
        !resting && !self.kept.contains_key(&id) && self.loading.insert(id)
    }

    /// Reading `id` has ended.
    pub(super) fn arrived(&mut self, id: TaskId) {
        self.loading.remove(&id);
    }

    /// Reading `id` failed in a way that may pass. Gives whether to try again, at `until`.
    pub(super) fn trouble(&mut self, id: TaskId, until: Tick) -> bool {
        let entry = self.troubled.entry(id).or_insert((0, until));
        entry.0 += 1;
        entry.1 = until;
        entry.0 < LOAD_TRIES
    }

    /// Whether reading `id` has failed as often as it is tried, and at each of so many places besides.
    pub(super) fn is_given_up(&self, id: TaskId, places: usize) -> bool {
        let tries = self.troubled.get(&id).map_or(0, |(tries, _)| *tries);
        tries as usize > LOAD_TRIES as usize + places
    }

    /// Whether reading `id` has failed and is tried again.
    pub(super) fn is_troubled(&self, id: TaskId) -> bool {
        self.troubled.contains_key(&id)
    }

    /// What may be tried again now.
    pub(super) fn take_rested(&mut self, now: Tick) -> Vec<TaskId> {
        let rested = self
            .troubled
            .iter()
            .filter(|(id, (_, until))| *until <= now && !self.loading.contains(*id));
        rested.map(|(id, _)| *id).collect()
    }

    /// When something that could not be read may be tried again.
    pub(super) fn next_try(&self, now: Tick) -> Option<Tick> {
        self.troubled
            .iter()
            .filter(|(id, _)| !self.loading.contains(*id))
            .map(|(_, (_, until))| (*until).max(now))
            .min()
    }
}
