//! [`OwnSteps`]: what the spool is doing to names in the task directory, so that the watcher need not look at each.
//!
//! It saves work and decides nothing: a step whose event comes after its note was let go is looked at like anybody's, and
//! found to be the daemon's own.
//!
//! This module may not know: what a name stands for, or where events come from. That only the task directory is watched it does
//! know: a step elsewhere would never end, and hide one by somebody else.

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use crate::task::{Area, Location};

/// How many steps are noted whose events have not come. The kernel's own queue of events holds 16 384 by default: what is
/// older than that has lost its event.
const MOST: usize = 1 << 15;

/// What is done to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// It comes into the directory.
    Made,
    /// It leaves it.
    Removed,
}

/// Steps under way: from before they are made until the watcher has heard of them.
#[derive(Debug, Default)]
pub struct OwnSteps(Mutex<HashSet<(Step, Location), RandomState>>);

impl OwnSteps {
    /// A step is about to be made.
    pub(super) fn begin(&self, step: Step, at: &Location) {
        if at.area != Area::Tasks {
            return;
        }
        let mut steps = self.steps();
        if steps.len() >= MOST {
            steps.clear();
        }
        steps.insert((step, at.clone()));
    }

    /// It was not made after all, or the watcher has heard of it. Gives how many are under way still; `None`: it was not.
    pub(super) fn end(&self, step: Step, at: Location) -> Option<usize> {
        let mut steps = self.steps();
        steps.remove(&(step, at)).then(|| steps.len())
    }

    /// Events were lost: nobody will hear of what is under way.
    pub(super) fn forget(&self) {
        self.steps().clear();
    }

    fn steps(&self) -> MutexGuard<'_, HashSet<(Step, Location), RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
