//! [`Sizes`]: how many bytes the payloads of all tasks have, where the setting `max_spool` limits them. Elsewhere nothing is
//! counted: it costs memory for each task, and a look at each file at the start.

use super::{Engine, by_id::ById};
use crate::task::{Refusal, TaskId};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Sizes {
    of: ById<u64>,
    total: u64,
    limit: u64,
}

impl Sizes {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            of: ById::default(),
            total: 0,
            limit,
        }
    }

    fn set(&mut self, id: TaskId, bytes: u64) {
        let there = self.of.get_or_insert_with(id, || 0);
        self.total = self.total - *there + bytes;
        *there = bytes;
    }
}

impl Engine {
    pub(super) fn note_size(&mut self, id: TaskId, bytes: u64) {
        if let Some(sizes) = &mut self.sizes {
            sizes.set(id, bytes);
        }
    }

    pub(super) fn forget_size(&mut self, id: TaskId) {
        if let Some(sizes) = &mut self.sizes {
            sizes.total -= sizes.of.remove(&id).unwrap_or(0);
        }
    }

    /// How many more bytes payloads may have.
    pub(super) fn room_for_bytes(&self) -> u64 {
        self.sizes
            .as_ref()
            .map_or(u64::MAX, |sizes| sizes.limit.saturating_sub(sizes.total))
    }

    /// That there may be so many more bytes of payloads.
    pub(super) fn may_spool(&self, bytes: u64) -> Result<(), Refusal> {
        match &self.sizes {
            Some(sizes) if bytes > self.room_for_bytes() => Err(Refusal::TooMany {
                what: "bytes of payloads",
                setting: "max_spool",
                limit: sizes.limit,
            }),
            _ => Ok(()),
        }
    }

    /// Whether each task has a size, and nothing else has.
    #[cfg(test)]
    pub(super) fn each_has_its_size(&self) -> bool {
        self.sizes
            .as_ref()
            .is_none_or(|sizes| sizes.of.len() == self.queue.len() && self.unmeasured().is_empty())
    }

    /// Tasks of which only the files tell how large they are.
    pub(super) fn unmeasured(&self) -> Vec<TaskId> {
        self.sizes.as_ref().map_or_else(Vec::new, |sizes| {
            let (mut ids, _) = self.queue.walk(0, u32::MAX);
            ids.retain(|id| !sizes.of.contains_key(id));
            ids
        })
    }
}
