//! Listing: pages of tasks in hand-out order, of which one look is a bounded part.
//!
//! Keys are ordered by state, then by place in the order, and ids come last in them. So tasks of one beginning of an id lie
//! together only among those that share priority and exectime: between such groups they are looked for key by key, within one the
//! rest is skipped.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, btree_set},
    ops::Bound,
};

use super::{Queues, order::Key, shelf::Shelf};
use crate::task::{Cursor, IdPrefix, PageQuery, QueueName, Refusal, State, TaskId};

/// After how many keys in a row that are not wanted the rest of their group is skipped: finding a place in a set costs about
/// as much as passing so many.
const MISSES: u32 = 16;

/// What one look for a page found.
#[derive(Debug)]
pub struct Part {
    /// The tasks, in order.
    pub ids: Vec<TaskId>,
    /// Where to go on: to the next page, or to the rest of this one. `None`: there is nothing more.
    pub next: Option<Cursor>,
    /// Whether the page is as long as it can be. If not, so many keys were passed over as may be in one look.
    pub is_whole: bool,
}

impl Queues {
    /// The ids of a page of tasks, and where the next page begins.
    pub fn page(&self, query: &PageQuery) -> Result<(Vec<TaskId>, Option<Cursor>), Refusal> {
        let part = self.page_part(query, usize::MAX)?;
        Ok((part.ids, part.next))
    }

    /// As [`Queues::page`], passing over `most` keys at most, at least one. So a page of which nothing is passed over is one
    /// look, at one moment.
    pub fn page_part(&self, query: &PageQuery, most: usize) -> Result<Part, Refusal> {
        let shelves = self.shelves_of(query.queue.as_ref())?;
        if let Some(id) = query.id_prefix.and_then(IdPrefix::whole) {
            return Ok(self.page_of_one(query, id));
        }
        let is_wanted = |id| query.id_prefix.is_none_or(|prefix| prefix.begins(id));
        let from = query.after.map_or(State::Leased, |cursor| cursor.state);
        let states = State::ALL
            .into_iter()
            .filter(|state| query.state.is_none_or(|one| one == *state) && *state >= from);
        let (mut ids, mut looked_at, mut left) = (Vec::new(), query.after, most.max(1));
        for state in states {
            let after = query.after.filter(|cursor| cursor.state == state);
            let after =
                after.map(|cursor| Key::new(state, cursor.priority, cursor.exectime, cursor.id));
            let mut walk = Walk::new(&shelves, state, after, query.id_prefix);
            // One more than asked for tells whether there is a next page.
            while ids.len() <= query.limit {
                let Some(key) = walk.next() else { break };
                if is_wanted(key.id) {
                    ids.push(key.id);
                } else if left == 0 {
                    return Ok(Part {
                        ids,
                        next: looked_at,
                        is_whole: false,
                    });
                } else {
                    left -= 1;
                }
                if ids.len() <= query.limit {
                    looked_at = self.cursor(key.id);
                }
            }
        }
        let more = ids.len() > query.limit;
        ids.truncate(query.limit);
        let next = ids.last().filter(|_| more).and_then(|id| self.cursor(*id));
        Ok(Part {
            ids,
            next,
            is_whole: true,
        })
    }

    /// The page of a whole id.
    fn page_of_one(&self, query: &PageQuery, id: TaskId) -> Part {
        let place = |cursor: Cursor| {
            let key = Key::new(cursor.state, cursor.priority, cursor.exectime, cursor.id);
            (cursor.state, key)
        };
        let is_wanted = self.tasks.get(id).is_some_and(|entry| {
            let is_behind = |after| place(after) < (entry.state, entry.key(id));
            query.state.is_none_or(|state| state == entry.state)
                && query.after.is_none_or(is_behind)
                && query
                    .queue
                    .as_ref()
                    .is_none_or(|queue| queue == self.queue_of(entry))
        });
        Part {
            ids: is_wanted.then_some(id).into_iter().collect(),
            next: None,
            is_whole: true,
        }
    }

    /// One queue, or all.
    fn shelves_of(&self, queue: Option<&QueueName>) -> Result<Vec<&Shelf>, Refusal> {
        let Some(name) = queue else {
            return Ok(self.shelves.iter().collect());
        };
        let shelf = self
            .names
            .get(name)
            .ok_or_else(|| Refusal::NoSuchQueue(name.clone()))?;
        Ok(vec![&self.shelves[*shelf as usize]])
    }

    /// A task's place in the list of all.
    #[must_use]
    pub fn cursor(&self, id: TaskId) -> Option<Cursor> {
        let entry = self.tasks.get(id)?;
        Some(Cursor {
            state: entry.state,
            priority: entry.priority,
            exectime: entry.exectime,
            id,
        })
    }
}

/// A walk over the keys of several queues in one order, which may leave out some of those whose ids do not begin as asked.
struct Walk<'a> {
    rests: Vec<Rest<'a>>,
    heads: BinaryHeap<Reverse<(Key, usize)>>,
    prefix: Option<IdPrefix>,
}

/// What of one queue is still ahead.
struct Rest<'a> {
    shelf: &'a Shelf,
    state: State,
    keys: btree_set::Range<'a, Key>,
    misses: u32,
}

impl<'a> Walk<'a> {
    fn new(
        shelves: &[&'a Shelf],
        state: State,
        after: Option<Key>,
        prefix: Option<IdPrefix>,
    ) -> Self {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rests: Vec<Rest<'a>> = shelves
            .iter()
            .map(|shelf| Rest {
                shelf,
                state,
                keys: shelf.keys(state, from),
                misses: 0,
            })
            .collect();
        let heads = rests
            .iter_mut()
            .enumerate()
            .filter_map(|(at, rest)| Some(Reverse((*rest.keys.next()?, at))))
            .collect();
        Self {
            rests,
            heads,
            prefix,
        }
    }

    fn next(&mut self) -> Option<Key> {
        let Reverse((key, at)) = self.heads.pop()?;
        let next = self.rests[at].behind(key, self.prefix);
        self.heads.extend(next.map(|key| Reverse((key, at))));
        Some(key)
    }
}

impl Rest<'_> {
    /// The key behind `key`, or the first behind those that can't be wanted.
    fn behind(&mut self, key: Key, prefix: Option<IdPrefix>) -> Option<Key> {
        match prefix {
            Some(prefix) if !prefix.begins(key.id) => {
                self.misses += 1;
                if self.misses == MISSES {
                    self.misses = 0;
                    let from = key.next_in(prefix.first())?;
                    self.keys = self.shelf.keys(self.state, Bound::Included(from));
                }
            }
            _ => self.misses = 0,
        }
        self.keys.next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        queue::Limits,
        task::{ExecTime, NewTask, Now, Payload, Priority, Record, Submitted},
    };

    /// Tasks with ids made of these numbers, each with the priority that goes with it.
    fn queues(tasks: impl IntoIterator<Item = (u128, i32)>) -> Queues {
        let mut queues = Queues::new(Limits::default());
        queues.advance(Now::default(), 0);
        for (number, priority) in tasks {
            let new = NewTask::of(Payload::from_text("x"));
            queues.apply(&Record::Submitted(
                Submitted {
                    id: TaskId::from_bytes(number.to_be_bytes()),
                    made_here: false,
                    queue: new.queue,
                    priority: Priority::new(priority),
                    exectime: ExecTime::ASAP,
                    options: new.options,
                    payload: new.payload,
                    source: None,
                    past: None,
                }
                .into(),
            ));
        }
        queues
    }

    fn query(prefix: &str, limit: usize) -> PageQuery {
        PageQuery {
            queue: None,
            state: None,
            id_prefix: Some(IdPrefix::parse(prefix).unwrap()),
            limit,
            after: None,
        }
    }

    const TOP: u32 = 96;

    #[test]
    fn a_group_of_many_ids_is_passed_in_a_few_looks() {
        // Ids that rise from 0: only the last begins with ffffffff.
        let ids = (0..20_000_u128).map(|number| (number << TOP, 100));
        let queues = queues(ids.chain([(0xffff_ffff << TOP, 100)]));
        let part = queues.page_part(&query("ffffffff", 10), 50).unwrap();
        assert_eq!((part.ids.len(), part.next, part.is_whole), (1, None, true));
        let part = queues.page_part(&query("00000001-", 10), 50).unwrap();
        assert_eq!((part.ids.len(), part.next, part.is_whole), (1, None, true));
    }

    #[test]
    fn a_look_ends_where_it_may_look_no_further_and_the_next_goes_on_there() {
        // Each task is a group of its own.
        let ids = (0..1000_u128).map(|number| ((number % 10) << (TOP + 28), 1000 - number as i32));
        let ids = ids.enumerate();
        let queues = queues(ids.map(|(at, (top, priority))| (top | at as u128, priority)));
        let mut query = query("7", 30);
        let (mut found, mut looks) = (Vec::new(), 0);
        loop {
            let part = queues.page_part(&query, 64).unwrap();
            found.extend(part.ids);
            looks += 1;
            query.after = part.next;
            if part.next.is_none() {
                break;
            }
        }
        let numbers = found.iter().map(|id| u128::from_be_bytes(*id.as_bytes()));
        let low = numbers.map(|number| number & 0xffff);
        assert!(low.eq((0..100).map(|number| number * 10 + 7)));
        assert!((900 / 64..=900 / 64 + 5).contains(&looks), "{looks} looks");
    }

    #[test]
    fn a_whole_id_is_found_where_it_is_asked_for_only() {
        let queues = queues((0..10).map(|number| (number, 100)));
        let mut query = query("00000000-0000-0000-0000-000000000004", 5);
        assert_eq!(queues.page(&query).unwrap().0.len(), 1);
        query.after = queues.cursor(TaskId::from_bytes(4_u128.to_be_bytes()));
        assert!(queues.page(&query).unwrap().0.is_empty(), "behind itself");
        query.after = queues.cursor(TaskId::from_bytes(3_u128.to_be_bytes()));
        assert_eq!(queues.page(&query).unwrap().0.len(), 1);
        query.state = Some(State::Dead);
        assert!(queues.page(&query).unwrap().0.is_empty());
    }
}
