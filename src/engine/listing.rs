//! Listing tasks: a page may need a look at many, and then each step does a part of it.

use super::{
    Engine,
    bodies::Bodies,
    io::{Output, Response, Ticket},
    payloads::{ANSWER_BYTES, Asked},
};
use crate::task::{Cursor, Now, Page, PageQuery, TaskId};

/// How many tasks are passed over in one step for one page: about a millisecond, so that other work has its turn.
const LOOKS: usize = if cfg!(test) { 16 } else { 20_000 };

/// How many payloads are read at once for one page: their sizes are not known before.
const READS: usize = 64;

/// How often a page waits for payloads: then it is shown without those that can't be read.
const TRIES: u32 = 3;

/// A page that is being looked for.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) ticket: Ticket,
    asked: PageQuery,
    /// What is still to be looked for.
    rest: PageQuery,
    /// The places of the tasks, as they were when they were found: they tell where the next page begins if not all of them have
    /// room in this one.
    found: Vec<Cursor>,
    /// Where the next page begins.
    next: Option<Cursor>,
}

impl Scan {
    fn ids(&self) -> Vec<TaskId> {
        self.found.iter().map(|place| place.id).collect()
    }

    /// Leaves to the next page what is too much for one answer, as far as sizes are known, or to be read at once. Gives how many
    /// tasks are left.
    pub(super) fn cut(&mut self, bodies: &Bodies) -> usize {
        let ids = self.ids();
        let mut unread = (0..ids.len()).filter(|at| bodies.get(ids[*at]).is_none());
        let readable = unread.nth(READS).unwrap_or(ids.len());
        let count = fitting(bodies, &ids, ANSWER_BYTES).clamp(1, readable.max(1));
        if count < self.found.len() {
            self.found.truncate(count);
            self.next = self.found.last().copied();
        }
        self.found.len()
    }
}

/// How many of these come to no more than `most` bytes of payloads, as far as they are in memory.
pub(super) fn fitting(bodies: &Bodies, ids: &[TaskId], most: u64) -> usize {
    let mut bytes = 0;
    let fitting = ids.iter().take_while(|id| {
        bytes += bodies.get(**id).map_or(0, |payload| payload.len() as u64);
        bytes <= most
    });
    fitting.count()
}

impl Engine {
    /// Shows a page of tasks.
    pub(super) fn page(
        &mut self,
        now: Now,
        ticket: Ticket,
        query: PageQuery,
        out: &mut Vec<Output>,
    ) {
        let scan = Scan {
            ticket,
            rest: query.clone(),
            asked: query,
            found: Vec::new(),
            next: None,
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
            if !scan.found.iter().any(|place| place.id == id) {
                scan.found.extend(self.queue.cursor(id));
            }
        }
        let left = scan.asked.limit - scan.found.len();
        if !part.is_whole && left > 0 {
            scan.rest.after = part.next;
            scan.rest.limit = left;
            return self.scans.push_back(scan);
        }
        scan.next = part.next;
        self.show(now, scan, 0, out);
    }

    /// Shows the tasks that were found, as soon as their payloads are read. They stay the same while they are read: looked for
    /// anew each time, there might always be some among them that are not read.
    pub(super) fn show(&mut self, now: Now, mut scan: Scan, tries: u32, out: &mut Vec<Output>) {
        let Scan { asked, found, .. } = &mut scan;
        // What was found in an earlier step may not be what is asked for any more.
        found.retain(|place| self.is_asked_for(place.id, asked));
        scan.cut(&self.bodies);
        let ids = scan.ids();
        // What can't be read in the end is left out: the rest of the page is still right.
        if tries < TRIES && ids.iter().any(|id| self.lacks_payload(*id)) {
            let ticket = scan.ticket;
            let asked = Asked::Page(Box::new(scan));
            return self.park(now, ticket, asked, ids, tries, out);
        }
        let tasks = ids
            .into_iter()
            .filter_map(|id| self.view(now, id))
            .collect();
        let page = Page {
            tasks,
            next: scan.next,
        };
        self.reply(scan.ticket, Ok(Response::Page(page)), out);
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
