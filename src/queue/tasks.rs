//! [`Tasks`]: all tasks by id, in little memory and without a stall.
//!
//! A hash table that holds ten million entries takes a good part of a second to double, and half of it is empty after that.
//! So entries lie in chunks that never move, and the table from ids to places is in shards of four bytes a task, of which
//! each grows on its own. Measured in `benches/RESULTS.md`, "Depth".

use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::Entry;
use crate::task::TaskId;

/// How many entries a chunk holds.
const CHUNK: usize = 4096;
/// How many shards the table has. The largest then has to move some 40 000 entries at once where there are ten million.
const SHARDS: usize = 256;
/// The bits of a hash that choose the shard: not the lowest nor the highest, which `hashbrown` uses within it.
const SHARD_SHIFT: u32 = 40;

/// Where an entry lies.
pub(super) type Place = u32;

/// All tasks, by id.
#[derive(Debug)]
pub(super) struct Tasks {
    chunks: Vec<Vec<Option<(TaskId, Entry)>>>,
    free: Vec<Place>,
    shards: Box<[HashTable<Place>]>,
    len: usize,
    // Fixed seed: the order of a table never shows, and a run must repeat exactly from its seed.
    hasher: FixedState,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            shards: (0..SHARDS).map(|_| HashTable::new()).collect(),
            len: 0,
            hasher: FixedState::default(),
        }
    }
}

impl Tasks {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: TaskId) -> Option<&Entry> {
        self.at(self.place(id)?)
    }

    /// Where a task's entry lies, until the task is removed.
    pub(super) fn place(&self, id: TaskId) -> Option<Place> {
        let hash = self.hasher.hash_one(id);
        let same = |place: &Place| id_at(&self.chunks, *place) == Some(id);
        self.shards[shard(hash)].find(hash, same).copied()
    }

    pub(super) fn at(&self, place: Place) -> Option<&Entry> {
        let place = place as usize;
        let slot = self.chunks.get(place / CHUNK)?.get(place % CHUNK)?;
        slot.as_ref().map(|(_, entry)| entry)
    }

    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut Entry> {
        let place = place as usize;
        let slot = self.chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)?;
        slot.as_mut().map(|(_, entry)| entry)
    }

    /// Adds a task. Its id must be new.
    pub(super) fn insert(&mut self, id: TaskId, entry: Entry) -> Place {
        debug_assert!(self.place(id).is_none(), "a task is inserted once");
        let place = self.put(id, entry);
        let hash = self.hasher.hash_one(id);
        let (chunks, hasher) = (&self.chunks, &self.hasher);
        let rehash = |place: &Place| id_at(chunks, *place).map_or(0, |id| hasher.hash_one(id));
        self.shards[shard(hash)].insert_unique(hash, place, rehash);
        self.len += 1;
        place
    }

    /// Removes the task at its place.
    pub(super) fn remove(&mut self, id: TaskId, place: Place) -> Option<Entry> {
        let hash = self.hasher.hash_one(id);
        let found = self.shards[shard(hash)].find_entry(hash, |other| *other == place);
        found.ok()?.remove();
        self.free.push(place);
        self.len -= 1;
        let slot = &mut self.chunks[place as usize / CHUNK][place as usize % CHUNK];
        slot.take().map(|(_, entry)| entry)
    }

    /// The tasks in `most` places from `from` on, and the place to go on from, if there is more.
    pub(super) fn walk(&self, from: Place, most: u32) -> (Vec<TaskId>, Option<Place>) {
        let end = self
            .chunks
            .last()
            .map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
            as Place;
        let to = from.saturating_add(most).min(end);
        let ids = (from..to).filter_map(|place| id_at(&self.chunks, place));
        (ids.collect(), (to < end).then_some(to))
    }

    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskId, &Entry)> + '_ {
        let slots = self.chunks.iter().flatten().flatten();
        slots.map(|(id, entry)| (*id, entry))
    }

    fn put(&mut self, id: TaskId, entry: Entry) -> Place {
        if let Some(place) = self.free.pop() {
            self.chunks[place as usize / CHUNK][place as usize % CHUNK] = Some((id, entry));
            return place;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let Some(chunk) = self.chunks.last_mut() else {
            return 0;
        };
        chunk.push(Some((id, entry)));
        (before + chunk.len() - 1) as Place
    }
}

fn id_at(chunks: &[Vec<Option<(TaskId, Entry)>>], place: Place) -> Option<TaskId> {
    let slot = &chunks[place as usize / CHUNK][place as usize % CHUNK];
    slot.as_ref().map(|(id, _)| *id)
}

const fn shard(hash: u64) -> usize {
    (hash >> SHARD_SHIFT) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        queue::entry::Extra,
        task::{ExecTime, Priority, State},
    };

    fn entry(attempts: u32) -> Entry {
        let mut entry = Entry::new(
            State::Ready,
            Priority::default(),
            ExecTime::ASAP,
            0,
            Extra::default(),
        );
        entry.attempts = attempts;
        entry
    }

    fn id(number: u32) -> TaskId {
        TaskId::from_bytes(u128::from(number).to_be_bytes())
    }

    #[test]
    fn what_is_inserted_is_found_until_it_is_removed_and_its_place_is_used_again() {
        let mut tasks = Tasks::default();
        for number in 0..20_000 {
            tasks.insert(id(number), entry(number));
        }
        for number in (0..20_000).step_by(2) {
            let place = tasks.place(id(number)).unwrap();
            assert_eq!(tasks.remove(id(number), place).unwrap().attempts, number);
            assert!(tasks.place(id(number)).is_none());
        }
        let chunks = tasks.chunks.len();
        for number in 20_000..30_000 {
            tasks.insert(id(number), entry(number));
        }
        assert_eq!((tasks.len(), tasks.chunks.len()), (20_000, chunks));
        for number in 0..30_000 {
            let there = number >= 20_000 || number % 2 == 1;
            let found = tasks.get(id(number)).map(|entry| entry.attempts);
            assert_eq!(found, there.then_some(number));
        }
    }

    #[test]
    fn a_place_is_small() {
        assert_eq!(size_of::<Option<(TaskId, Entry)>>(), 48);
    }
}
