//! Listing tasks: a page may need a look at many, and then each step does a part of it.

use super::{
    Engine,
    io::{Output, Request, Response, Ticket},
    payloads::ANSWER_BYTES,
};
use crate::task::{Now, Page, PageQuery, TaskId};

/// How many tasks are passed over in one step for one page: about a millisecond, so that other work has its turn.
const LOOKS: usize = if cfg!(test) { 16 } else { 20_000 };

/// How many payloads are read at once for one page: their sizes are not known before. The simulation wants all tasks in one page,
/// and has small ones.
const READS: usize = if cfg!(test) { 1000 } else { 64 };

/// A page that is being looked for.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) ticket: Ticket,
    asked: PageQuery,
    /// What is still to be looked for.
    rest: PageQuery,
    ids: Vec<TaskId>,
    tries: u32,
}

impl Engine {
    /// Shows a page of tasks.
    pub(super) fn page(
        &mut self,
        now: Now,
        ticket: Ticket,
        query: PageQuery,
        tries: u32,
        out: &mut Vec<Output>,
    ) {
        let scan = Scan {
            ticket,
            rest: query.clone(),
            asked: query,
            ids: Vec::new(),
            tries,
        };
        self.scan(now, scan, out);
    }

    /// Goes on with a page that is being looked for, each in turn.
    pub(super) fn scan_on(&mut self, now: Now, out: &mut Vec<Output>) {
        if let Some(scan) = self.scans.pop_front() {
            self.scan(now, scan, out);
        }
    }

    fn scan(&mut self, now: Now, mut scan: Scan, out: &mut Vec<Output>) {
        let part = match self.queue.page_part(&scan.rest, LOOKS) {
            Ok(part) => part,
            Err(refusal) => return self.refuse(scan.ticket, refusal, out),
        };
        for id in part.ids {
            // A task may have come to a later place since it was found.
            if !scan.ids.contains(&id) {
                scan.ids.push(id);
            }
        }
        let left = scan.asked.limit - scan.ids.len();
        if !part.is_whole && left > 0 {
            scan.rest.after = part.next;
            scan.rest.limit = left;
            return self.scans.push_back(scan);
        }
        let ids = std::mem::take(&mut scan.ids);
        // What was found in an earlier step may not be what is asked for any more.
        let ids: Vec<TaskId> = ids
            .into_iter()
            .filter(|id| self.is_asked_for(*id, &scan.asked))
            .collect();
        let fitting = self.fitting(&ids);
        if fitting < ids.len() {
            let mut query = scan.asked;
            query.limit = fitting;
            return self.page(now, scan.ticket, query, scan.tries, out);
        }
        let missing = self.without_payload(ids.iter().copied());
        // What can't be read in the end is left out: the rest of the page is still right.
        if !missing.is_empty() && scan.tries < 3 {
            let again = Request::Tasks(scan.asked);
            return self.park(now, scan.ticket, again, missing, scan.tries, out);
        }
        let tasks = ids
            .into_iter()
            .filter_map(|id| self.view(now, id))
            .collect();
        let page = Page {
            tasks,
            next: part.next,
        };
        self.reply(scan.ticket, Ok(Response::Page(page)), out);
    }

    /// How many of these one answer has: at least one, not more than can be read at once, and not more bytes than may be.
    fn fitting(&self, ids: &[TaskId]) -> usize {
        let (mut bytes, mut unread) = (0, 0);
        let fitting = ids.iter().take_while(|id| {
            match self.bodies.get(**id) {
                Some(payload) => bytes += payload.len() as u64,
                None => unread += 1,
            }
            bytes <= ANSWER_BYTES && unread <= READS
        });
        fitting.count().max(1)
    }

    fn is_asked_for(&self, id: TaskId, query: &PageQuery) -> bool {
        self.queue.get(id).is_some_and(|entry| {
            query.state.is_none_or(|state| state == entry.state)
                && query
                    .queue
                    .as_ref()
                    .is_none_or(|queue| queue == self.queue.queue_of(entry))
        })
    }
}
