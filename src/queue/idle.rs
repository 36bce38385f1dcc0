//! Queues that have nothing, whose places others may have once there are as many queues as may be.
//!
//! Idle is a queue without a task, neither paused nor draining, that is not `default`. While there is room it stays known, with its
//! counts. Beyond that the one is forgotten that nobody has used or asked for the longest; its folder, if it has one, stays, and a
//! task that comes later makes the queue anew.

use super::{Queues, ShelfNo, shelf::Shelf};
use crate::task::QueueName;

/// The number of `default`, which is always known.
const DEFAULT: ShelfNo = 0;

impl Queues {
    /// Whether this queue has nothing that a place is kept for.
    pub(super) fn is_idle(&self, number: ShelfNo) -> bool {
        self.shelves[number as usize].idle_since.is_some()
    }

    /// How many queues have something.
    pub(super) fn busy_count(&self) -> usize {
        self.names.len() - self.idle.len()
    }

    /// To be called when a queue may have become idle, or may have ceased to be.
    pub(super) fn note_idle(&mut self, number: ShelfNo) {
        let shelf = &mut self.shelves[number as usize];
        let is_idle = number != DEFAULT && shelf.has_nothing();
        match shelf.idle_since {
            None if is_idle => {
                shelf.idle_since = Some(self.now.tick);
                self.idle.insert((self.now.tick, number));
            }
            Some(since) if !is_idle => {
                shelf.idle_since = None;
                self.idle.remove(&(since, number));
            }
            _ => {}
        }
    }

    /// Forgets the queue that has been idle, and that nobody has asked for, the longest: its number is for `name` from now on.
    pub(super) fn forget_one_for(&mut self, name: &QueueName) -> Option<ShelfNo> {
        loop {
            let (since, number) = self.idle.pop_first()?;
            let shelf = &mut self.shelves[number as usize];
            // Asking is too frequent for being told here each time.
            if shelf.asked > since {
                shelf.idle_since = Some(shelf.asked);
                self.idle.insert((shelf.asked, number));
                continue;
            }
            let new = Shelf::new(name.clone(), self.now.tick);
            let old = std::mem::replace(shelf, new);
            self.forgotten.add(&old.counters);
            self.names.remove(&old.name);
            self.woken.remove(&number);
            return Some(number);
        }
    }
}
