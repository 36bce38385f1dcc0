//! [`Waiting`]: claims that wait for a task, in the order of their arrival.

use std::collections::{BTreeMap, BTreeSet};

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::io::Ticket;
use crate::task::{ClaimRequest, QueueName, Refusal, TaskId, Tick};

/// Bytes that a claim takes while it waits, with its request and a stream of HTTP/2, and that each of its queues adds: measured,
/// and some more.
const CLAIM_BYTES: u64 = 8 << 10;
const NAME_BYTES: u64 = 512;
/// From so many places on is looked whether a table of names is far too large for what is in it.
const ROOMY: usize = 1024;

/// A claim that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) request: ClaimRequest,
    /// What became of the completions that came with it.
    pub(super) completed: Vec<(TaskId, Result<(), Refusal>)>,
    /// When it is answered at the latest.
    pub(super) deadline: Tick,
    /// Until when it waits for tasks; for the payload of one that is there it waits longer.
    pub(super) until: Tick,
    /// It waits only for payloads to be read: when there is no task, it is answered at once.
    pub(super) only_for_payloads: bool,
    /// When it was last looked at, there was a task, and no room in the journal to hand it out.
    pub(super) no_room: bool,
}

/// Claims that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waiters: BTreeMap<u64, Waiter>,
    by_queue: HashMap<QueueName, BTreeSet<u64>, FixedState>,
    by_ticket: HashMap<Ticket, u64, FixedState>,
    deadlines: BTreeSet<(Tick, u64)>,
    arrivals: u64,
    bytes: u64,
}

/// About how many bytes a claim takes while it waits.
pub(super) const fn weight(request: &ClaimRequest) -> u64 {
    CLAIM_BYTES + request.queues.len() as u64 * NAME_BYTES
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// About how many bytes all of them take.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn add(&mut self, waiter: Waiter) {
        let number = self.arrivals;
        self.arrivals += 1;
        self.put(number, waiter);
    }

    /// Puts a waiter back in the place that it had.
    pub(super) fn put(&mut self, number: u64, waiter: Waiter) {
        for queue in &waiter.request.queues {
            self.by_queue.entry_ref(queue).or_default().insert(number);
        }
        self.bytes += weight(&waiter.request);
        self.by_ticket.insert(waiter.ticket, number);
        self.deadlines.insert((waiter.deadline, number));
        self.waiters.insert(number, waiter);
    }

    /// Takes the first waiter of a queue that is not before `from`, with its number.
    pub(super) fn take_first(&mut self, queue: &QueueName, from: u64) -> Option<(u64, Waiter)> {
        let number = *self.by_queue.get(queue)?.range(from..).next()?;
        self.take(number).map(|waiter| (number, waiter))
    }

    pub(super) fn take_ticket(&mut self, ticket: Ticket) -> Option<Waiter> {
        let number = *self.by_ticket.get(&ticket)?;
        self.take(number)
    }

    /// Takes a waiter whose time is over.
    pub(super) fn take_late(&mut self, now: Tick) -> Option<Waiter> {
        let (deadline, number) = *self.deadlines.first()?;
        if deadline > now {
            None
        } else {
            self.take(number)
        }
    }

    pub(super) fn take_any(&mut self) -> Option<Waiter> {
        let number = *self.waiters.keys().next()?;
        self.take(number)
    }

    pub(super) fn next_deadline(&self) -> Option<Tick> {
        self.deadlines.first().map(|(tick, _)| *tick)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.values()
    }

    fn take(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&number)?;
        for queue in &waiter.request.queues {
            if let Some(numbers) = self.by_queue.get_mut(queue) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_queue.remove(queue);
                }
            }
        }
        // The names are the callers' own, and may have been very many.
        let (len, places) = (self.by_queue.len(), self.by_queue.capacity());
        if places > ROOMY && len < places / 8 {
            self.by_queue.shrink_to(2 * len);
        }
        self.bytes -= weight(&waiter.request);
        self.by_ticket.remove(&waiter.ticket);
        self.deadlines.remove(&(waiter.deadline, number));
        Some(waiter)
    }
}
