//! [`Excess`]: dropped files for which there are too many tasks already. They wait where they are, and are taken when
//! others have ended.

use std::collections::{BTreeMap, VecDeque};

use super::{Engine, io::Output};
use crate::{
    store::shown,
    task::{NewTask, Now, QueueName, Source},
};

/// How many are held. More stay in the directory until the next start or until they are touched.
const MOST: usize = 10_000;

/// Dropped files that wait, by queue, in the order of their coming.
#[derive(Debug, Default)]
pub(super) struct Excess {
    of: BTreeMap<QueueName, VecDeque<(Source, NewTask)>>,
    count: usize,
    /// How many records there were when nothing more could be taken: without another one nothing has changed.
    looked_at: Option<u64>,
}

impl Excess {
    fn put(&mut self, source: Source, task: NewTask) {
        if self.count == MOST {
            tracing::warn!(file = %shown(&source.path), "too many dropped files wait: this one stays until it is touched");
            return;
        }
        if self.count == 0 {
            tracing::warn!(queue = %task.queue, "as many tasks as may be: dropped files wait where they are until some have ended");
        }
        self.count += 1;
        let queue = task.queue.clone();
        self.of.entry(queue).or_default().push_back((source, task));
    }

    fn take(&mut self, queue: &QueueName) -> Option<(Source, NewTask)> {
        let line = self.of.get_mut(queue)?;
        let first = line.pop_front();
        if line.is_empty() {
            self.of.remove(queue);
        }
        self.count -= usize::from(first.is_some());
        first
    }

    /// The limits have changed.
    pub(super) const fn look_again(&mut self) {
        self.looked_at = None;
    }
}

impl Engine {
    /// Keeps a dropped file until there may be another task of its queue.
    pub(super) fn keep_excess(&mut self, source: Source, task: NewTask) {
        self.excess.put(source, task);
    }

    /// Takes those for which there may be a task now.
    pub(super) fn take_excess(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.excess.count == 0 || self.excess.looked_at == Some(self.records) {
            return;
        }
        let queues: Vec<QueueName> = self.excess.of.keys().cloned().collect();
        for queue in queues {
            while !self.queue.is_at_limit(&queue) {
                let Some((source, task)) = self.excess.take(&queue) else {
                    break;
                };
                self.dropped(now, source, task, out);
            }
        }
        self.excess.looked_at = Some(self.records);
    }
}
