//! Waiting for room on a full disk: who waits, when it is tried again, and who is looked at when there is some.
//!
//! It decides nothing about who has room: that is the ledger's and the spool's.

use super::{
    Engine,
    io::{Failed, Output, Request},
    requests::END_BYTES,
};
use crate::{
    store::{Ledger, Room},
    systemd::catalog,
    task::{Millis, Now, QueueName, Refusal, Tick},
};

/// How often a full disk is tried again for room: not more than once in this time, however many ask.
const ROOM_RETRY: Millis = Millis(200);

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

    /// Looks again at what waited for room.
    pub(super) fn after_room(&mut self, now: Now, out: &mut Vec<Output>) {
        for (ticket, tasks) in std::mem::take(&mut self.roomless) {
            // Like anew: a payload that it is compared with may have left the memory meanwhile.
            self.request(now, ticket, Request::Submit(tasks), out);
        }
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
