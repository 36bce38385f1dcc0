//! [`Entry`]: what the queue keeps of one task.

use std::sync::Arc;

use super::{ShelfNo, order::Key};
use crate::task::{ExecTime, Options, Priority, RestoredLease, State, TaskId};

/// What the queue keeps of one task: everything but its payload, and as little as can be for one that asks for nothing.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where in its life.
    pub state: State,
    /// How urgent.
    pub priority: Priority,
    /// Not before.
    pub exectime: ExecTime,
    /// Attempts that counted, the running one included.
    pub attempts: u32,
    pub(super) shelf: ShelfNo,
    pub(super) lease: Option<Box<RestoredLease>>,
    pub(super) extra: Option<Box<Extra>>,
}

/// What few tasks have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Extra {
    pub(super) options: Options,
    pub(super) last_error: Option<Arc<str>>,
}

impl Entry {
    /// What else was asked for; `None`: nothing.
    #[must_use]
    pub fn options(&self) -> Option<&Options> {
        self.extra.as_deref().map(|extra| &extra.options)
    }

    /// Why the last attempt failed.
    #[must_use]
    pub fn last_error(&self) -> Option<&Arc<str>> {
        self.extra
            .as_deref()
            .and_then(|extra| extra.last_error.as_ref())
    }

    /// Its lease, when it is leased.
    #[must_use]
    pub fn lease(&self) -> Option<&RestoredLease> {
        self.lease.as_deref()
    }

    pub(super) fn key(&self, id: TaskId) -> Key {
        Key::new(self.state, self.priority, self.exectime, id)
    }

    /// Whether there is more to it than its file's name can hold.
    pub(super) const fn is_special(&self) -> bool {
        self.attempts > 0 || self.extra.is_some()
    }

    pub(super) fn set_error(&mut self, error: Option<Arc<str>>) {
        if error.is_none() && self.extra.is_none() {
            return;
        }
        let extra = self.extra.get_or_insert_default();
        extra.last_error = error;
        if **extra == Extra::default() {
            self.extra = None;
        }
    }
}
