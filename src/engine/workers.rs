//! [`Workers`]: who claims, as far as claims tell.

use std::collections::BTreeMap;

use crate::task::{TaskId, WallMillis, WorkerName, WorkerView};

/// Who claims.
#[derive(Debug)]
pub(super) struct Workers {
    /// How many are remembered: names are the callers' to choose.
    most: usize,
    seen: BTreeMap<WorkerName, Tally>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    last_seen: WallMillis,
    claimed: u64,
    completed: u64,
    failed: u64,
}

/// What a worker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Asked,
    Claimed,
    Completed,
    Failed,
}

impl Workers {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            seen: BTreeMap::new(),
        }
    }

    /// Those beyond a smaller number go as others come.
    pub(super) const fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    pub(super) fn note(&mut self, name: &WorkerName, deed: Deed, now: WallMillis) {
        if !self.seen.contains_key(name) {
            while self.seen.len() >= self.most
                && let Some(oldest) = self
                    .seen
                    .iter()
                    .min_by_key(|(_, tally)| tally.last_seen)
                    .map(|(name, _)| name.clone())
            {
                self.seen.remove(&oldest);
            }
            self.seen.insert(name.clone(), Tally::default());
        }
        let Some(tally) = self.seen.get_mut(name) else {
            return;
        };
        tally.last_seen = now;
        match deed {
            Deed::Asked => {}
            Deed::Claimed => tally.claimed += 1,
            Deed::Completed => tally.completed += 1,
            Deed::Failed => tally.failed += 1,
        }
    }

    /// All of them by name, with what they hold and whether they wait.
    pub(super) fn views<'a>(
        &self,
        held: impl Iterator<Item = (&'a WorkerName, TaskId)>,
        waiting: impl Iterator<Item = &'a WorkerName>,
    ) -> Vec<WorkerView> {
        let view = |(name, tally): (&WorkerName, &Tally)| WorkerView {
            name: name.clone(),
            holds: Vec::new(),
            waiting: false,
            last_seen: tally.last_seen,
            claimed: tally.claimed,
            completed: tally.completed,
            failed: tally.failed,
        };
        let mut views: BTreeMap<&WorkerName, WorkerView> =
            self.seen.iter().map(|one| (one.0, view(one))).collect();
        for (name, id) in held {
            views
                .entry(name)
                .or_insert_with(|| view((name, &Tally::default())))
                .holds
                .push(id);
        }
        for name in waiting {
            if let Some(view) = views.get_mut(name) {
                view.waiting = true;
            }
        }
        views.into_values().collect()
    }
}
