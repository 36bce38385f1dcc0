//! Handing out: claims that are served at once, claims that wait, and leases that come to their end.

use std::borrow::Cow;

use super::{
    Engine, Settings,
    claims::{Waiter, weight},
    io::{Output, Request, Response, Ticket},
    payloads::ANSWER_BYTES,
    workers::Deed,
};
use crate::{
    queue::Grant,
    store::Room,
    task::{
        ClaimAnswer, ClaimRequest, Completion, Millis, Now, QueueName, Record, Refusal, TaskId,
        TaskView, Token,
    },
};

/// How long a claim that is not to wait may be held up by the reading of payloads.
const PAYLOAD_WAIT: Millis = Millis(30_000);
/// Bytes of room that a claim's record takes at most.
const CLAIM_BYTES: u64 = 256;
/// How many tasks at a queue's head that wait for their directory are passed over: looking at them takes some hundred
/// microseconds.
const MOST_PASSED: usize = 4096;
/// How many leases end in one flush: more take their turn after other work.
const EXPIRIES: usize = 1024;

/// What a claim finds.
enum Found {
    /// Tasks.
    Tasks(Vec<(TaskView, Token)>),
    /// Nothing that is due.
    Nothing,
    /// A task whose payload, or whose room in the journal, is on its way.
    OnItsWay,
    /// A task, and no room in the journal to say that it is handed out.
    NoRoom,
}

impl Engine {
    pub(super) fn claim(
        &mut self,
        now: Now,
        ticket: Ticket,
        mut request: ClaimRequest,
        out: &mut Vec<Output>,
    ) {
        if let Some(worker) = &request.worker {
            self.workers.note(worker, Deed::Asked, now.wall);
        }
        let completed = std::mem::take(&mut request.complete);
        let completed: Vec<_> = completed
            .into_iter()
            .map(|one| (one.id, self.complete_one(now, one)))
            .collect();
        // Those who came first are served first.
        self.serve_stirred(now, out);
        // Who completes a task is to hear soon that it was not taken: its lease runs on.
        let refused =
            |(_, outcome): &(TaskId, Result<(), Refusal>)| matches!(outcome, Err(Refusal::NoRoom));
        let wait = if self.stopping || completed.iter().any(refused) {
            Millis(0)
        } else {
            request.wait
        };
        let found = if request.max == 0 || self.stopping {
            Found::Nothing
        } else {
            self.hand_out(now, &request, out)
        };
        let no_room = matches!(found, Found::NoRoom);
        let (tasks, deadline, only_for_payloads) = match found {
            Found::Tasks(tasks) => (tasks, None, false),
            Found::Nothing if wait == Millis(0) || request.max == 0 => (Vec::new(), None, false),
            Found::NoRoom if wait == Millis(0) && completed.is_empty() => {
                return self.refuse(ticket, Refusal::NoRoom, out);
            }
            Found::NoRoom if wait == Millis(0) => (Vec::new(), None, false),
            Found::Nothing | Found::NoRoom => (Vec::new(), Some(now.tick.plus(wait)), false),
            Found::OnItsWay => (
                Vec::new(),
                Some(now.tick.plus(wait.max(PAYLOAD_WAIT))),
                wait == Millis(0),
            ),
        };
        // With as many in wait as may, what came with the claim is answered, and a claim alone is told to come again.
        let crowd = deadline.and_then(|_| self.crowd(&request));
        if let Some(refusal) = &crowd
            && completed.is_empty()
        {
            return self.refuse(ticket, refusal.clone(), out);
        }
        let deadline = deadline.filter(|_| crowd.is_none());
        match deadline {
            None => self.reply(
                ticket,
                Ok(Response::Claimed(ClaimAnswer { tasks, completed })),
                out,
            ),
            Some(deadline) => self.waiting.add(Waiter {
                ticket,
                request,
                completed,
                deadline,
                until: now.tick.plus(wait),
                only_for_payloads,
                no_room,
            }),
        }
    }

    /// Why this claim may not wait, too.
    fn crowd(&self, request: &ClaimRequest) -> Option<Refusal> {
        let Settings {
            max_waiting,
            max_waiting_bytes,
            ..
        } = self.settings;
        let (what, setting, limit) = if self.waiting.len() >= max_waiting {
            ("waiting claims", "max_waiting", max_waiting as u64)
        } else if self.waiting.bytes() + weight(request) > max_waiting_bytes {
            ("bytes of waiting claims", "max_memory", max_waiting_bytes)
        } else {
            return None;
        };
        Some(Refusal::TooManyAtOnce {
            what,
            setting,
            limit,
        })
    }

    fn complete_one(&mut self, now: Now, one: Completion) -> Result<(), Refusal> {
        self.room_to_end()?;
        let told = one.result.clone().filter(|_| self.listening);
        let result = self.result_if_room(one.result);
        let record = self
            .queue
            .decide_complete(one.id, Some(one.token), result, now)?;
        self.told = told;
        self.commit(now, &[record]);
        Ok(())
    }

    /// A result is kept only where done tasks are, and where there is room beside that for the ends of tasks.
    pub(super) fn result_if_room(
        &self,
        result: Option<crate::task::Payload>,
    ) -> Option<crate::task::Payload> {
        let result = result.filter(|_| self.settings.retain_done > Millis(0))?;
        self.has_room_to_spare(result.len() as u64 + CLAIM_BYTES)
            .then_some(result)
    }

    /// The next task of these queues, but for those that wait for their directory. A queue that has no other is left out.
    fn next_here(
        &mut self,
        queues: &mut Cow<'_, [QueueName]>,
        now: Now,
    ) -> Option<(TaskId, QueueName)> {
        while !queues.is_empty() {
            let first = self.queue.next_ready(queues, now)?;
            let queue = self.queue.queue_of(self.queue.get(first)?);
            let waits = |id: &TaskId| self.astray.behind.waits(*id) && self.lacks_payload(*id);
            if !waits(&first) {
                return Some((first, queue.clone()));
            }
            let is_due = |id: &TaskId| {
                let entry = self.queue.get(*id);
                entry.is_some_and(|entry| entry.exectime.is_due(now.wall))
            };
            let mut heads = self.queue.ready_heads(queue, MOST_PASSED);
            if let Some(id) = heads.find(|id| !waits(id) && is_due(id)) {
                return Some((id, queue.clone()));
            }
            queues.to_mut().retain(|other| other != queue);
        }
        None
    }

    fn hand_out(&mut self, now: Now, request: &ClaimRequest, out: &mut Vec<Output>) -> Found {
        let mut tasks = Vec::new();
        let mut bytes = 0;
        let mut queues = Cow::Borrowed(&*request.queues);
        while tasks.len() < request.max as usize {
            let Some((id, queue)) = self.next_here(&mut queues, now) else {
                break;
            };
            let Some(payload) = self.bodies.get(id) else {
                self.load_from(now, id, &queue, out);
                if tasks.is_empty() {
                    return Found::OnItsWay;
                }
                break;
            };
            bytes += payload.len() as u64;
            if bytes > ANSWER_BYTES && !tasks.is_empty() {
                break;
            }
            let room = self.ledger.room_for_claim(CLAIM_BYTES);
            if room != Room::Yes {
                let coming =
                    self.wait_for_room(now, room, |ledger| ledger.room_for_claim(CLAIM_BYTES));
                if !tasks.is_empty() {
                    break;
                }
                self.claims_want_room = true;
                // A segment that is on its way is waited for, like a payload.
                return if coming {
                    Found::OnItsWay
                } else {
                    Found::NoRoom
                };
            }
            let token = self.token();
            let length = request.lease;
            let grant = Grant {
                token,
                kind: request.kind,
                worker: request.worker.clone(),
                length,
            };
            let Ok(record) = self.queue.decide_claim(id, grant, now) else {
                break;
            };
            self.commit(now, &[record]);
            self.prefetch(now, &queue, out);
            tasks.extend(self.view(now, id).map(|view| (view, token)));
        }
        if tasks.is_empty() {
            Found::Nothing
        } else {
            Found::Tasks(tasks)
        }
    }

    /// Serves the claims that wait for queues in which something has changed, in the order of their arrival.
    pub(super) fn serve_stirred(&mut self, now: Now, out: &mut Vec<Output>) {
        self.stirred.extend(self.queue.take_woken());
        if self.waiting.len() == 0 {
            self.stirred.clear();
        }
        while let Some(queue) = self.stirred.pop_first() {
            self.serve_queue(now, &queue, out);
            // Handing out may have moved tasks of other queues on.
            self.stirred.extend(self.queue.take_woken());
        }
    }

    fn serve_queue(&mut self, now: Now, queue: &QueueName, out: &mut Vec<Output>) {
        let mut from = 0;
        while let Some((number, mut waiter)) = self.waiting.take_first(queue, from) {
            match self.hand_out(now, &waiter.request, out) {
                Found::Tasks(tasks) => {
                    let answer = ClaimAnswer {
                        tasks,
                        completed: waiter.completed,
                    };
                    self.reply(waiter.ticket, Ok(Response::Claimed(answer)), out);
                    from = number + 1;
                }
                Found::NoRoom if waiter.only_for_payloads && waiter.completed.is_empty() => {
                    self.refuse(waiter.ticket, Refusal::NoRoom, out);
                    from = number + 1;
                }
                Found::Nothing | Found::NoRoom if waiter.only_for_payloads => {
                    self.answer_empty(waiter, out);
                    from = number + 1;
                }
                Found::OnItsWay if waiter.request.queues.len() > 1 => {
                    // It waits for another queue's task, perhaps; those behind it may have this queue's.
                    self.waiting.put(number, waiter);
                    from = number + 1;
                }
                Found::NoRoom => {
                    // Nor can those behind it have one: each is to be told so when its own time is over.
                    waiter.no_room = true;
                    waiter.deadline = waiter.until;
                    self.waiting.put(number, waiter);
                    from = number + 1;
                }
                Found::Nothing => {
                    // What it waited for was no task after all.
                    waiter.no_room = false;
                    waiter.deadline = waiter.until;
                    self.waiting.put(number, waiter);
                    return;
                }
                Found::OnItsWay => {
                    // What this one can't have, none behind it can.
                    self.waiting.put(number, waiter);
                    return;
                }
            }
        }
    }

    pub(super) fn answer_empty(&mut self, waiter: Waiter, out: &mut Vec<Output>) {
        let answer = ClaimAnswer {
            tasks: Vec::new(),
            completed: waiter.completed,
        };
        self.reply(waiter.ticket, Ok(Response::Claimed(answer)), out);
    }

    /// Answers the claims whose time is over.
    pub(super) fn end_waits(&mut self, now: Now, out: &mut Vec<Output>) {
        while let Some(waiter) = self.waiting.take_late(now.tick) {
            if waiter.no_room && waiter.completed.is_empty() {
                self.refuse(waiter.ticket, Refusal::NoRoom, out);
            } else {
                self.answer_empty(waiter, out);
            }
        }
    }

    /// Ends the leases whose time is over.
    pub(super) fn expire(&mut self, now: Now) {
        for _ in 0..EXPIRIES {
            let Some(record) = self.queue.decide_expired(now) else {
                return;
            };
            if self.room_to_end().is_err() {
                self.expiries_want_room = true;
                return;
            }
            self.commit(now, &[record]);
        }
    }

    pub(super) fn withdrawn(&mut self, ticket: Ticket) {
        self.waiting.take_ticket(ticket);
        for (waiting, request, _) in &mut self.segment_waiters {
            if let Request::Claim(claim) = request
                && *waiting == ticket
            {
                // What it completes is completed all the same.
                claim.max = 0;
            }
        }
    }

    /// Gives back what was handed to a caller who was gone.
    pub(super) fn undelivered(&mut self, now: Now, tasks: Vec<(TaskId, Token)>) {
        if self.fault.is_some() {
            return;
        }
        for (id, token) in tasks {
            // A lease that has ended meanwhile needs no giving back. One for which there is no room ends by itself.
            if let Ok(record) = self.queue.decide_release(id, token, now)
                && self.room_to_end().is_ok()
            {
                debug_assert!(matches!(record, Record::Released { .. }));
                self.commit(now, &[record]);
            }
        }
    }
}
