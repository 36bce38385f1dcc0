//! [`Unseen`]: what the journal, or a checkpoint, tells of tasks whose files are not here at a start.
//!
//! Of an ordinary task only its file tells that it exists. Where that is in a directory that is not there, all that was
//! acknowledged of the task since the last checkpoint (attempts, a new place) is kept until the file comes back.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::task::{Record, TaskId, Tick};

/// How many records are kept: some 10 MiB.
const MOST: usize = 1 << 16;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Unseen {
    tasks: HashMap<TaskId, Vec<Record>, FixedState>,
    records: usize,
    /// More was told than is kept.
    too_many: bool,
}

impl Unseen {
    /// A task that is not known has changed, or ended.
    pub(super) fn note(&mut self, record: &Record) {
        let (Some(id), Some(changes)) = (record.id(), changes(record)) else {
            return;
        };
        if !changes {
            self.forget(id);
        } else if self.records < MOST {
            self.tasks.entry(id).or_default().push(record.clone());
            self.records += 1;
        } else {
            self.too_many = true;
        }
    }

    /// What was told of a task means nothing any more. Gives it.
    pub(super) fn forget(&mut self, id: TaskId) -> Vec<Record> {
        let records = self.tasks.remove(&id).unwrap_or_default();
        self.records -= records.len();
        records
    }

    /// The task is there: what is to be made true of it, in order.
    pub(super) fn take(&mut self, id: TaskId, now: Tick) -> Vec<Record> {
        let mut records = self.forget(id);
        for record in &mut records {
            // The boot clock may have begun anew since: no lease is longer than it was given.
            match record {
                Record::Claimed(lease) => lease.expires = lease.expires.min(now.plus(lease.length)),
                Record::Extended {
                    length, expires, ..
                } => *expires = (*expires).min(now.plus(*length)),
                _ => {}
            }
        }
        records
    }

    /// Whether something is kept of a task.
    pub(super) fn has(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id)
    }

    /// Keeps what another one does, too.
    pub(super) fn join(&mut self, other: &Self) {
        self.too_many |= other.too_many;
        other.records().for_each(|record| self.note(record));
    }

    /// Whether more was told than is kept.
    pub(super) const fn has_forgotten(&self) -> bool {
        self.too_many
    }

    /// Of which tasks something is kept.
    pub(super) fn ids(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.keys().copied()
    }

    /// For a checkpoint.
    pub(super) fn records(&self) -> impl Iterator<Item = &Record> {
        self.tasks.values().flatten()
    }
}

/// Whether a record changes a task, or ends or makes one; `None`: it is about none.
const fn changes(record: &Record) -> Option<bool> {
    match record {
        Record::Claimed(_)
        | Record::Failed { .. }
        | Record::Released { .. }
        | Record::Extended { .. }
        | Record::Expired { .. }
        | Record::Rescheduled { .. }
        | Record::Moved { .. }
        | Record::Retried { .. } => Some(true),
        Record::Submitted(_)
        | Record::Restored(_)
        | Record::Completed { .. }
        | Record::Cancelled { .. } => Some(false),
        Record::Paused { .. }
        | Record::Draining { .. }
        | Record::Opened { .. }
        | Record::Rebooted { .. }
        | Record::Housed { .. }
        | Record::LeftBehind { .. }
        | Record::DropBehind { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{ExecTime, Millis, Priority};

    fn id(number: usize) -> TaskId {
        TaskId::from_bytes((number as u128).to_be_bytes())
    }

    fn moved(number: usize, priority: i32) -> Record {
        Record::Rescheduled {
            id: id(number),
            priority: Priority::new(priority),
            exectime: ExecTime::ASAP,
        }
    }

    #[test]
    fn what_was_told_of_a_task_is_kept_in_order_until_it_is_there_or_ends() {
        let mut unseen = Unseen::default();
        for record in [moved(1, 1), moved(2, 2), moved(1, 3)] {
            unseen.note(&record);
        }
        unseen.note(&Record::Rebooted { tick: Tick(1) });
        assert_eq!((unseen.records, unseen.ids().count()), (3, 2));
        assert_eq!(unseen.records().count(), 3);
        assert!(unseen.has(id(1)) && !unseen.has(id(3)));
        let mut both = Unseen::default();
        both.note(&moved(3, 1));
        both.join(&unseen);
        assert_eq!((both.records, both.has_forgotten()), (4, false));
        assert_eq!(unseen.take(id(1), Tick(0)), [moved(1, 1), moved(1, 3)]);
        assert_eq!(unseen.take(id(1), Tick(0)), []);
        unseen.note(&Record::Cancelled {
            id: id(2),
            gone: false,
        });
        assert_eq!((unseen.records, unseen.has_forgotten()), (0, false));
    }

    #[test]
    fn a_lease_of_another_boot_is_no_longer_than_it_was_given() {
        let length = Millis(2000);
        let mut unseen = Unseen::default();
        let far = Tick(u64::MAX / 2);
        unseen.note(&Record::Extended {
            id: id(1),
            length,
            expires: far,
        });
        let expires = Tick(4_000_000_000).plus(length);
        let told = unseen.take(id(1), Tick(4_000_000_000));
        assert!(matches!(told[..], [Record::Extended { expires: end, .. }] if end == expires));
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut unseen = Unseen::default();
        (0..MOST).for_each(|number| unseen.note(&moved(number, 1)));
        assert_eq!((unseen.records, unseen.has_forgotten()), (MOST, false));
        unseen.note(&moved(1, 2));
        assert_eq!((unseen.records, unseen.has_forgotten()), (MOST, true));
        unseen.take(id(7), Tick(0));
        unseen.note(&moved(1, 2));
        assert_eq!(unseen.records, MOST);
        let mut other = Unseen::default();
        other.join(&unseen);
        assert!(other.has_forgotten());
    }
}
