//! [`ById`]: a table by task that neither stalls when it grows nor keeps its memory when it has shrunk.
//!
//! One large table is moved as a whole when it doubles: tens of milliseconds at a few hundred thousand tasks, in which
//! nobody is answered. This one is in shards, which grow at different times.

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::task::TaskId;

/// How many shards there are.
const SHARDS: usize = 128;
/// The bits of a hash that choose the shard: not the lowest nor the highest, which `hashbrown` uses within it.
const SHARD_SHIFT: u32 = 40;
/// So many places a shard keeps, also when it is empty.
const LEAST_CAPACITY: usize = 64;

/// Values by task.
#[derive(Debug)]
pub(super) struct ById<V> {
    shards: Box<[HashMap<TaskId, V, FixedState>]>,
    len: usize,
    hasher: FixedState,
}

impl<V> Default for ById<V> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| HashMap::default()).collect(),
            len: 0,
            hasher: FixedState::default(),
        }
    }
}

impl<V> ById<V> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: &TaskId) -> Option<&V> {
        self.shards[self.shard(id)].get(id)
    }

    pub(super) fn get_mut(&mut self, id: &TaskId) -> Option<&mut V> {
        let shard = self.shard(id);
        self.shards[shard].get_mut(id)
    }

    pub(super) fn contains_key(&self, id: &TaskId) -> bool {
        self.get(id).is_some()
    }

    /// The value of `id`, made by `make` where there is none.
    pub(super) fn get_or_insert_with(&mut self, id: TaskId, make: impl FnOnce() -> V) -> &mut V {
        let shard = self.shard(&id);
        let len = &mut self.len;
        self.shards[shard].entry(id).or_insert_with(|| {
            *len += 1;
            make()
        })
    }

    /// Puts a value in its place, and gives the one that was there.
    pub(super) fn insert(&mut self, id: TaskId, value: V) -> Option<V> {
        let shard = self.shard(&id);
        let before = self.shards[shard].insert(id, value);
        self.len += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, id: &TaskId) -> Option<V> {
        let shard = self.shard(id);
        let shard = &mut self.shards[shard];
        let value = shard.remove(id)?;
        self.len -= 1;
        if shard.capacity() > LEAST_CAPACITY && shard.len() < shard.capacity() / 8 {
            shard.shrink_to(shard.len() * 2);
        }
        Some(value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TaskId, &V)> + '_ {
        self.shards.iter().flat_map(HashMap::iter)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> + '_ {
        self.shards.iter().flat_map(HashMap::values)
    }

    fn shard(&self, id: &TaskId) -> usize {
        (self.hasher.hash_one(id) >> SHARD_SHIFT) as usize % SHARDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_what_it_holds_and_gives_memory_back() {
        let id = |number: u32| TaskId::from_bytes(u128::from(number).to_be_bytes());
        let mut table = ById::default();
        for number in 0..100_000 {
            assert_eq!(table.insert(id(number), number), None);
        }
        assert_eq!(table.insert(id(7), 8), Some(7));
        *table.get_or_insert_with(id(7), || 0) += 1;
        assert_eq!((table.len(), table.get(&id(7))), (100_000, Some(&9)));
        for number in 0..100_000 {
            assert!(table.remove(&id(number)).is_some());
            assert!(!table.contains_key(&id(number)));
        }
        assert_eq!((table.len(), table.values().count()), (0, 0));
        let left: usize = table.shards.iter().map(HashMap::capacity).sum();
        assert!(left < 20_000, "{left} places are kept");
    }
}
