//! [`Workers`]: who claims, as far as claims tell.

use std::collections::BTreeMap;

use crate::task::{TaskId, WallMillis, WorkerName, WorkerView};

/// Who claims.
#[derive(Debug)]
pub(super) struct Workers {
    /// How many are remembered: names are the callers' to choose.
    most: usize,
    seen: BTreeMap<WorkerName, Tally>,
    forgotten: u64,
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
            forgotten: 0,
        }
    }

    /// Those beyond a smaller number go as others come.
    pub(super) const fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    pub(super) fn note(&mut self, name: &WorkerName, deed: Deed, now: WallMillis) {
        if !self.seen.contains_key(name) {
            if self.seen.len() >= self.most {
                self.forget();
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

    /// Makes room for one: forgets who was silent for longest, and with them one of `SHARE`, so that a caller who gives himself a
    /// new name each time does not have all looked through each time.
    fn forget(&mut self) {
        const SHARE: usize = 64;
        let excess = (self.seen.len() + 1).saturating_sub(self.most);
        let count = (excess + self.most / SHARE).min(self.seen.len());
        let mut times: Vec<WallMillis> = self.seen.values().map(|tally| tally.last_seen).collect();
        times.sort_unstable();
        let Some(&last) = count.checked_sub(1).and_then(|at| times.get(at)) else {
            return;
        };
        // Of several that were last seen in the same moment only as many go as have to.
        let mut same = count - times.partition_point(|time| *time < last);
        self.seen.retain(|_, tally| {
            let goes = tally.last_seen < last || (tally.last_seen == last && same > 0);
            if goes && tally.last_seen == last {
                same -= 1;
            }
            !goes
        });
        self.forgotten += count as u64;
    }

    /// How many were forgotten for others since the start.
    pub(super) const fn forgotten(&self) -> u64 {
        self.forgotten
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> WorkerName {
        WorkerName::parse(&format!("worker-{number:04}")).unwrap()
    }

    fn remembered(workers: &Workers) -> Vec<WorkerName> {
        workers.seen.keys().cloned().collect()
    }

    #[test]
    fn the_last_ones_are_remembered() {
        let mut workers = Workers::new(3);
        for number in 0..20 {
            // The first of all is heard of again and again.
            workers.note(&name(0), Deed::Asked, WallMillis(number as i64));
            workers.note(&name(number), Deed::Asked, WallMillis(number as i64));
        }
        assert_eq!(remembered(&workers), [name(0), name(18), name(19)]);
        assert_eq!(workers.forgotten(), 17);
    }

    #[test]
    fn of_many_a_share_is_forgotten_at_once() {
        let mut workers = Workers::new(640);
        for number in 0..=640 {
            workers.note(&name(number), Deed::Asked, WallMillis(7));
        }
        assert_eq!((workers.seen.len(), workers.forgotten()), (630, 11));
        assert!(workers.seen.contains_key(&name(640)));
    }

    #[test]
    fn a_smaller_number_holds_from_the_next_one_on() {
        let mut workers = Workers::new(10);
        for number in 0..10 {
            workers.note(&name(number), Deed::Asked, WallMillis(number as i64));
        }
        workers.set_most(1);
        workers.note(&name(10), Deed::Asked, WallMillis(10));
        assert_eq!(remembered(&workers), [name(10)]);
    }
}
