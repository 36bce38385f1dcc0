//! Waiting for room on a full disk: who waits, when it is tried again, and who is looked at when there is some.
//!
//! It decides nothing about who has room: that is the ledger's and the spool's.

use super::{
    Engine,
    io::{Failed, Output, Request, Ticket},
    requests::END_BYTES,
};
use crate::{
    store::{Ledger, Room},
    systemd::catalog,
    task::{Millis, NewTask, Now, QueueName, Refusal, Tick},
};

/// How often a full disk is tried again for room: not more than once in this time, however many ask.
const ROOM_RETRY: Millis = Millis(200);
/// How long a submit waits at most for room, or for files before it to be written: they may not be for long, where the task
/// directory can't be written to. Shorter than most clients' patience.
const ROOM_PATIENCE: Millis = Millis::from_secs(10);

/// A submit that waits for room, in the journal or in the spool.
#[derive(Debug)]
pub(super) struct Roomless {
    pub(super) ticket: Ticket,
    tasks: Vec<NewTask>,
    since: Tick,
}

impl Roomless {
    /// How long it may wait.
    pub(super) const fn until(&self) -> Tick {
        self.since.plus(ROOM_PATIENCE)
    }
}

impl Engine {
    /// Room that is not there may come: when it is being made, or when the last try is some time ago. Gives whether to wait.
    pub(super) fn wait_for_room(
        &mut self,
        now: Now,
        room: Room,
        ask: impl FnOnce(&Ledger) -> Room,
    ) -> bool {
        match room {
            Room::Yes | Room::Wait => true,
            Room::Full => {
                let rested = self.ledger.may_resort()
                    || self
                        .room_refused
                        .is_none_or(|at| at.plus(ROOM_RETRY) <= now.tick);
                if rested {
                    self.room_refused = Some(now.tick);
                    self.ledger.retry_segment();
                    // A full ledger notes no wish: it is asked again, so that it wants a segment that is large enough.
                    return ask(&self.ledger) != Room::Full;
                }
                rested
            }
        }
    }

    pub(super) fn segment_failed(&mut self, now: Now, failed: Failed, out: &mut Vec<Output>) {
        if !failed.full {
            return self.fail_stop(failed.text, out);
        }
        if self.room_refused.is_none() {
            tracing::warn!(message_id = catalog::NO_ROOM.id, error = %failed.text, "{}", catalog::NO_ROOM.line);
        }
        self.room_refused = Some(now.tick);
        self.free = Some(0);
        self.ledger.segment_refused();
        self.after_room(now, out);
    }

    /// When a full disk is tried again for what waits for room.
    pub(super) fn room_wake(&self) -> Option<Tick> {
        let waits = self.ledger.is_stuck()
            || self.claims_want_room
            || self.expiries_want_room
            || !self.roomless.is_empty()
            || !self.segment_waiters.is_empty()
            || !self.rivals.is_empty()
            || self.kept.wants_room();
        self.room_refused
            .filter(|_| waits)
            .map(|at| at.plus(ROOM_RETRY))
    }

    /// Tries a full disk again: there may be room, and nobody else says so.
    pub(super) fn retry_room(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.room_wake().is_some_and(|wake| wake <= now.tick) {
            self.try_for_room(now, out);
        }
    }

    /// Tries the disk once more for room, and looks again at what waits for some.
    pub(super) fn try_for_room(&mut self, now: Now, out: &mut Vec<Output>) {
        self.room_refused = Some(now.tick);
        self.ledger.retry_segment();
        self.after_room(now, out);
    }

    /// Refuses the end of an attempt, or of a task, for which the journal has no room at all. It keeps room for each; but while a
    /// start makes its first segment, somebody else may take what the life before gave back. An end that was taken without a place
    /// would hold up every answer after it.
    pub(super) fn room_to_end(&self) -> Result<(), Refusal> {
        match self.ledger.room_for_end(END_BYTES) {
            Room::Yes => Ok(()),
            Room::Wait | Room::Full => Err(Refusal::NoRoom),
        }
    }

    /// Whether there is room for `bytes` that may also be left out: an error's text, a result. On a full disk what is kept for claims
    /// and switches is not for those.
    pub(super) fn has_room_to_spare(&self, bytes: u64) -> bool {
        self.ledger.room_for_claim(bytes) == Room::Yes
            && self.ledger.room_for_new(bytes, 0) != Room::Full
    }

    /// Has a submit wait, from now on or for as long as it did before.
    pub(super) fn wait_roomless(
        &mut self,
        now: Now,
        ticket: Ticket,
        tasks: Vec<NewTask>,
        out: &mut Vec<Output>,
    ) {
        if self.stopping {
            return self.refuse(ticket, Refusal::Stopping, out);
        }
        let since = self.waits_since.unwrap_or(now.tick);
        self.roomless.push_back(Roomless {
            ticket,
            tasks,
            since,
        });
    }

    /// Refuses submits that have waited for too long.
    pub(super) fn end_roomless(&mut self, now: Now, out: &mut Vec<Output>) {
        let is_over = |waiter: &mut Roomless| waiter.until() <= now.tick;
        while let Some(waiter) = self.roomless.pop_front_if(is_over) {
            let is_full = self.room_refused.is_some() || self.full.len() > 0;
            let refusal = if is_full {
                Refusal::NoRoom
            } else {
                Refusal::FilesLag
            };
            self.refuse(waiter.ticket, refusal, out);
        }
    }

    /// Looks again at what waited for room.
    pub(super) fn after_room(&mut self, now: Now, out: &mut Vec<Output>) {
        for waiter in std::mem::take(&mut self.roomless) {
            self.waits_since = Some(waiter.since);
            // Like anew: a payload that it is compared with may have left the memory meanwhile.
            self.request(now, waiter.ticket, Request::Submit(waiter.tasks), out);
        }
        self.waits_since = None;
        for (ticket, request, put_off) in std::mem::take(&mut self.segment_waiters) {
            self.put_off = put_off;
            self.request(now, ticket, request, out);
        }
        self.put_off = 0;
        self.take_rivals(now, out);
        self.kept.try_roomless();
        self.unmoved.hurry(now.tick);
        self.claims_want_room = false;
        self.expiries_want_room = false;
        let queues: Vec<QueueName> = self
            .waiting
            .all()
            .flat_map(|waiter| waiter.request.queues.clone())
            .collect();
        self.stirred.extend(queues);
    }
}
