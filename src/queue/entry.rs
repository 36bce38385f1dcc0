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
    more: Option<Box<More>>,
}

/// What few tasks have at a time, in one place: a task that has nothing of it pays for one pointer.
#[derive(Debug, Clone, Default)]
struct More {
    lease: Option<RestoredLease>,
    extra: Extra,
}

/// What few tasks have.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Extra {
    pub(super) options: Options,
    pub(super) last_error: Option<Arc<str>>,
}

impl Entry {
    /// A task without a lease, that has made no attempt.
    pub(super) fn new(
        state: State,
        priority: Priority,
        exectime: ExecTime,
        shelf: ShelfNo,
        extra: Extra,
    ) -> Self {
        let more = (extra != Extra::default()).then(|| Box::new(More { lease: None, extra }));
        Self {
            state,
            priority,
            exectime,
            attempts: 0,
            shelf,
            more,
        }
    }

    /// What else was asked for; `None`: nothing.
    #[must_use]
    pub fn options(&self) -> Option<&Options> {
        self.extra().map(|extra| &extra.options)
    }

    /// Why the last attempt failed.
    #[must_use]
    pub fn last_error(&self) -> Option<&Arc<str>> {
        self.extra().and_then(|extra| extra.last_error.as_ref())
    }

    /// Its lease, when it is leased.
    #[must_use]
    pub fn lease(&self) -> Option<&RestoredLease> {
        self.more.as_deref().and_then(|more| more.lease.as_ref())
    }

    pub(super) fn lease_mut(&mut self) -> Option<&mut RestoredLease> {
        self.more
            .as_deref_mut()
            .and_then(|more| more.lease.as_mut())
    }

    pub(super) fn set_lease(&mut self, lease: Option<RestoredLease>) {
        if lease.is_some() || self.more.is_some() {
            self.more.get_or_insert_default().lease = lease;
            self.drop_nothing();
        }
    }

    fn extra(&self) -> Option<&Extra> {
        let extra = self.more.as_deref().map(|more| &more.extra);
        extra.filter(|extra| **extra != Extra::default())
    }

    fn drop_nothing(&mut self) {
        self.more
            .take_if(|more| more.lease.is_none() && more.extra == Extra::default());
    }

    pub(super) fn key(&self, id: TaskId) -> Key {
        Key::new(self.state, self.priority, self.exectime, id)
    }

    /// Whether there is more to it than its file's name can hold.
    pub(super) fn is_special(&self) -> bool {
        self.attempts > 0 || self.extra().is_some()
    }

    pub(super) fn set_error(&mut self, error: Option<Arc<str>>) {
        if error.is_some() || self.more.is_some() {
            self.more.get_or_insert_default().extra.last_error = error;
            self.drop_nothing();
        }
    }
}
