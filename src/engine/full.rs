//! [`Full`]: queues whose files find no room, while the disk may have some for others.
//!
//! One directory of ext4 ends near 10^7 names, its index full; a full disk shows in the same way, for each queue that
//! writes. Such a queue takes no new task until the last of the files that were refused is written: so what waits stays
//! few, and every other queue goes on. Pure bookkeeping.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::task::{QueueName, TaskId};

/// Files that were refused for want of room, by task, and how many of each queue.
#[derive(Debug, Default)]
pub(super) struct Full {
    refused: HashMap<TaskId, QueueName, FixedState>,
    queues: BTreeMap<QueueName, usize>,
}

impl Full {
    /// The file of a task of `queue` found no room. Gives whether the queue's others did until now.
    pub(super) fn refused(&mut self, id: TaskId, queue: &QueueName) -> bool {
        if self.refused.insert(id, queue.clone()).is_some() {
            return false;
        }
        let count = self.queues.entry(queue.clone()).or_default();
        *count += 1;
        *count == 1
    }

    /// The file of this task is written, or is not needed any more. Gives its queue if that is full no longer.
    pub(super) fn made(&mut self, id: TaskId) -> Option<QueueName> {
        let queue = self.refused.remove(&id)?;
        let count = self.queues.get_mut(&queue)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.queues.remove(&queue);
        Some(queue)
    }

    /// How many files of a queue wait for room.
    pub(super) fn waiting_in(&self, queue: &QueueName) -> usize {
        self.queues.get(queue).copied().unwrap_or(0)
    }

    /// How many files wait for room.
    pub(super) fn len(&self) -> usize {
        self.refused.len()
    }

    /// The queue of a task whose file waits for room.
    pub(super) fn queue_of(&self, id: TaskId) -> Option<&QueueName> {
        self.refused.get(&id)
    }

    /// The tasks of one queue whose files wait for room.
    pub(super) fn ids_of<'a>(&'a self, queue: &'a QueueName) -> impl Iterator<Item = TaskId> + 'a {
        self.refused
            .iter()
            .filter(move |(_, of)| *of == queue)
            .map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> TaskId {
        TaskId::from_bytes([number; 16])
    }

    #[test]
    fn a_queue_is_full_from_the_first_file_refused_to_the_last_written() {
        let (a, b) = (QueueName::default(), QueueName::parse("b").unwrap());
        let mut full = Full::default();
        assert!(full.refused(id(1), &a));
        assert!(!full.refused(id(1), &a), "the same again");
        assert!(!full.refused(id(2), &a));
        assert_eq!(
            (full.waiting_in(&a), full.waiting_in(&b), full.len()),
            (2, 0, 2)
        );
        assert_eq!(full.queue_of(id(2)), Some(&a));
        assert_eq!(full.ids_of(&a).count(), 2);
        assert_eq!(full.made(id(3)), None);
        assert_eq!(full.made(id(1)), None);
        assert_eq!(full.made(id(2)), Some(a));
        assert_eq!(full.len(), 0);
    }
}
