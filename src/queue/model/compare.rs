//! Holding the queue against the reference, against itself, and against what a restart makes of its records.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::{
    super::{Limits, Queues},
    chance::Chance,
    reference::{Reference, place},
};
use crate::task::{
    Area, Cursor, IdPrefix, LeaseView, Now, Options, PageQuery, Priority, QueueName, Record,
    Restored, RestoredLease, State, TaskId, TaskView, decode_records, encode_record,
};

/// That one task is the same in both.
pub(super) fn same_task(live: &Queues, reference: &Reference, id: TaskId) {
    let Some(want) = reference.get(id) else {
        assert!(live.get(id).is_none(), "{id} should be gone");
        return;
    };
    let entry = live.get(id).unwrap();
    let now = reference.now;
    let view = live.view(id, entry, want.payload.clone(), now);
    let limits = &live.limits;
    let expected = TaskView {
        id,
        queue: want.queue.clone(),
        state: want.state,
        priority: want.priority,
        exectime: want.exectime,
        options: want.options.clone(),
        attempts: want.attempts,
        max_attempts: want.options.max_attempts.unwrap_or(limits.max_attempts),
        lease: want.lease.as_ref().map(|lease| LeaseView {
            worker: lease.worker.clone(),
            kind: lease.kind,
            since: lease.at,
            expires: now.wall_at(lease.expires),
        }),
        last_error: want.error.clone(),
        history: None,
        payload: want.payload.clone(),
    };
    assert_eq!(view, expected);
    assert_eq!(entry.lease(), want.lease.as_ref());
}

/// That the numbers over all queues are the same: cheap enough for every operation.
pub(super) fn same_totals(live: &Queues, reference: &Reference) {
    let mut counts = [0; 4];
    for task in &reference.tasks {
        counts[task.state as usize] += 1;
    }
    assert_eq!(live.totals().0, counts, "tasks by state");
    assert_eq!(live.len(), reference.tasks.len());
    assert_eq!(live.is_empty(), reference.tasks.is_empty());
    assert_eq!(live.leased_count() as u64, counts[0]);
}

/// That everything there is to see is the same.
pub(super) fn same_whole(live: &Queues, reference: &Reference, chance: &mut Chance) {
    for task in &reference.tasks {
        same_task(live, reference, task.id);
    }
    let scheduled = reference.list(None, Some(State::Scheduled));
    let due = scheduled.iter().map(|task| task.exectime).min();
    assert_eq!(live.next_due(), due);
    let mut leases: Vec<_> = reference
        .tasks
        .iter()
        .filter_map(|task| Some((task.lease.as_ref()?.expires, task.id)))
        .collect();
    leases.sort();
    assert_eq!(live.next_expiry(), leases.first().map(|(tick, _)| *tick));
    assert!(
        live.leased()
            .map(|(id, _)| id)
            .eq(leases.iter().map(|l| l.1))
    );
    assert_eq!(live.switches(), (reference.paused, reference.draining));
    same_queues(live, reference, chance);
    let name = chance
        .one_in(2)
        .then(|| chance.pick(&reference.queues).name.clone());
    let state = chance.one_in(2).then(|| *chance.pick(&State::ALL));
    for (name, state) in [(None, None), (name, state)] {
        same_pages(live, reference, name, state, 1 + chance.below(9) as usize);
    }
    page_behind_a_place(live, reference, chance);
    page_of_a_prefix(live, reference, chance);
}

fn same_queues(live: &Queues, reference: &Reference, chance: &mut Chance) {
    let now = reference.now;
    let views = live.queue_views(now);
    let names: BTreeSet<_> = reference.queues.iter().map(|known| &known.name).collect();
    assert!(views.iter().map(|view| &view.name).eq(names));
    assert_eq!(live.queue_count(), reference.queues.len());
    let mut sum = reference.forgotten;
    for known in &reference.queues {
        sum.add(&known.counters);
    }
    assert_eq!(live.totals().1, sum, "counters of all");
    for known in &reference.queues {
        let view = live.queue_view(&known.name, now).unwrap();
        for state in State::ALL {
            let there = reference.list(Some(&known.name), Some(state)).len();
            assert_eq!(view.count(state), there as u64, "{} {state}", known.name);
        }
        assert_eq!(view.paused, reference.paused || known.paused);
        assert_eq!(view.draining, reference.draining || known.draining);
        assert_eq!(live.is_draining(&known.name), view.draining);
        assert_eq!(view.counters, known.counters, "{}", known.name);
        assert!(view.submitted_rate >= 0.0 && view.completed_rate >= 0.0);
        let ready = reference.list(Some(&known.name), Some(State::Ready));
        assert_eq!(view.oldest_due.is_some(), !ready.is_empty());
        let longest = reference.ages(&known.name).first().copied().unwrap_or(0);
        assert!(view.oldest_due.is_none_or(|age| age.0 as i64 <= longest));
        let most = chance.below(6) as usize;
        let heads = live.ready_heads(&known.name, most);
        assert!(heads.eq(ready.iter().take(most).map(|task| task.id)));
        let files: BTreeSet<TaskId> = live.ids_of(&known.name).collect();
        let scheduled = reference.list(Some(&known.name), Some(State::Scheduled));
        let pending = ready.iter().chain(&scheduled).map(|task| task.id);
        assert_eq!(files, pending.collect());
    }
}

/// Walks all pages by their cursors.
fn same_pages(
    live: &Queues,
    reference: &Reference,
    queue: Option<QueueName>,
    state: Option<State>,
    limit: usize,
) {
    let list = reference.list(queue.as_ref(), state);
    let mut query = PageQuery {
        queue,
        state,
        id_prefix: None,
        limit,
        after: None,
    };
    let mut walked = Vec::new();
    loop {
        let (ids, next) = live.page(&query).unwrap();
        assert!(ids.len() == limit || next.is_none(), "a page is not full");
        walked.extend(ids);
        query.after = next.map(|cursor| Cursor::parse(&cursor.to_string()).unwrap());
        if next.is_none() {
            break;
        }
    }
    assert!(walked.iter().eq(list.iter().map(|task| &task.id)), "pages");
}

/// A cursor means something also where no task stands there.
fn page_behind_a_place(live: &Queues, reference: &Reference, chance: &mut Chance) {
    let Some(task) = (!reference.tasks.is_empty()).then(|| chance.pick(&reference.tasks)) else {
        return;
    };
    let cursor = Cursor {
        state: *chance.pick(&State::ALL),
        priority: Priority::new(
            task.priority
                .get()
                .saturating_add(chance.between(-1, 1) as i32),
        ),
        exectime: task.exectime,
        id: task.id,
    };
    let from = (
        cursor.state,
        place(cursor.state, cursor.priority, cursor.exectime, cursor.id),
    );
    let query = PageQuery {
        queue: None,
        state: None,
        id_prefix: None,
        limit: 1000,
        after: Some(cursor),
    };
    let behind = reference
        .list(None, None)
        .into_iter()
        .filter(|task| (task.state, task.place()) > from);
    let (ids, _) = live.page(&query).unwrap();
    assert!(ids.into_iter().eq(behind.map(|task| task.id)));
}

/// Those whose ids begin so, however few are looked at at a time.
fn page_of_a_prefix(live: &Queues, reference: &Reference, chance: &mut Chance) {
    let Some(task) = (!reference.tasks.is_empty()).then(|| chance.pick(&reference.tasks)) else {
        return;
    };
    let text = task.id.to_string();
    let text = &text[..*chance.pick(&[1, 2, 7, 12, 20, 36])];
    let state = chance.one_in(2).then(|| *chance.pick(&State::ALL));
    let most = 1 + chance.below(20) as usize;
    let mut query = PageQuery {
        queue: None,
        state,
        id_prefix: IdPrefix::parse(text).ok(),
        limit: 3,
        after: None,
    };
    let mut walked = Vec::new();
    loop {
        let part = live.page_part(&query, most).unwrap();
        assert!(part.ids.len() <= 3 && (part.is_whole || part.next.is_some()));
        walked.extend(part.ids);
        query.after = part.next;
        if part.next.is_none() {
            break;
        }
    }
    let list = reference.list(None, state).into_iter().map(|task| task.id);
    let list = list.filter(|id| id.to_string().starts_with(text));
    assert!(walked.into_iter().eq(list), "ids that begin with {text}");
}

/// That every index says what the tasks say.
pub(super) fn indexes_agree(queues: &Queues) {
    let mut heads = BTreeSet::new();
    let mut idle = BTreeSet::new();
    for (number, shelf) in queues.shelves.iter().enumerate() {
        assert_eq!(queues.names.get(&shelf.name), Some(&(number as u32)));
        let is_idle = number != 0 && shelf.has_nothing();
        assert_eq!(shelf.idle_since.is_some(), is_idle, "{}", shelf.name);
        idle.extend(shelf.idle_since.map(|since| (since, number as u32)));
        for state in State::ALL {
            let there = |entry: &super::super::Entry| {
                entry.shelf as usize == number && entry.state == state
            };
            let keys: BTreeSet<_> = queues
                .tasks
                .iter()
                .filter(|(_, entry)| there(entry))
                .map(|(id, entry)| entry.key(id))
                .collect();
            assert!(shelf.keys(state, Bound::Unbounded).eq(keys.iter()));
            if state == State::Scheduled {
                let first = keys.first().map(|key| (key.scheduled_for(), number as u32));
                heads.extend(first);
            }
        }
    }
    assert_eq!(queues.heads, heads, "heads");
    assert_eq!(queues.idle, idle, "idle queues");
    let mut leases = BTreeSet::new();
    let mut keys = BTreeMap::new();
    let mut special = BTreeSet::new();
    for (id, entry) in queues.tasks.iter() {
        assert_eq!(entry.lease().is_some(), entry.state == State::Leased);
        leases.extend(entry.lease().map(|lease| (lease.expires, id)));
        let key = entry.options().and_then(|o| o.unique_key.clone());
        if let Some(key) = key.filter(|_| entry.state != State::Dead) {
            let other = keys.insert((entry.shelf, key), id);
            assert_eq!(other, None, "two tasks hold one unique key");
        }
        special.extend(entry.is_special().then_some(id));
    }
    assert_eq!(queues.leases, leases, "leases");
    let held: BTreeMap<_, _> = queues.keys.iter().map(|(k, id)| (k.clone(), *id)).collect();
    assert_eq!(held, keys, "unique keys");
    assert_eq!(
        queues.special.iter().copied().collect::<BTreeSet<_>>(),
        special
    );
}

type Lasting = (
    QueueName,
    State,
    (Priority, i64),
    u32,
    Options,
    Option<RestoredLease>,
    Option<String>,
);

/// All that a restart has to bring back. Ready and scheduled are told apart by the clock alone.
fn lasting(queues: &Queues, now: Now) -> BTreeMap<TaskId, Lasting> {
    let one = |(id, entry): (TaskId, &super::super::Entry)| {
        let state = match entry.state {
            State::Ready | State::Scheduled if entry.exectime.is_due(now.wall) => State::Ready,
            State::Ready | State::Scheduled => State::Scheduled,
            other => other,
        };
        let lasting = (
            queues.queue_of(entry).clone(),
            state,
            (entry.priority, entry.exectime.get()),
            entry.attempts,
            entry.options().cloned().unwrap_or_default(),
            entry.lease().cloned(),
            entry.last_error().map(ToString::to_string),
        );
        (id, lasting)
    };
    queues.tasks.iter().map(one).collect()
}

/// The switches of queues that have something. Of those that have nothing a restart may know others.
fn flags(queues: &Queues) -> BTreeMap<&QueueName, (bool, bool)> {
    let shelves = queues.shelves.iter();
    shelves
        .filter(|shelf| shelf.idle_since.is_none())
        .map(|shelf| (&shelf.name, (shelf.paused, shelf.draining)))
        .collect()
}

/// That a restart would go on as the live one does. `restarted` is brought to the present for it.
pub(super) fn same_after_restart(live: &Queues, restarted: &mut Queues, now: Now) {
    assert!(!restarted.advance(now, usize::MAX));
    indexes_agree(restarted);
    assert_eq!(lasting(live, now), lasting(restarted, now));
    assert_eq!(live.switches(), restarted.switches());
    assert_eq!(flags(live), flags(restarted));
}

/// What comes back when these records have been written and read.
fn through_bytes<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Record> {
    let mut bytes = Vec::new();
    for record in records {
        encode_record(record, &mut bytes);
    }
    decode_records(&bytes).unwrap()
}

/// A restart from the whole journal.
pub(super) fn from_journal(records: &[Record], limits: &Limits) -> Queues {
    let mut queues = Queues::new(limits.clone());
    for record in &through_bytes(records) {
        queues.apply(record);
    }
    queues
}

/// A restart from the checkpoint and what files' and folders' names hold.
pub(super) fn from_checkpoint(live: &Queues, limits: &Limits) -> Queues {
    let mut queues = Queues::new(limits.clone());
    let snapshot: Vec<Record> = live.snapshot().collect();
    for record in &through_bytes(&snapshot) {
        queues.apply(record);
    }
    let in_snapshot: BTreeSet<TaskId> = queues.tasks.iter().map(|(id, _)| id).collect();
    for id in live
        .tasks
        .iter()
        .map(|(id, _)| id)
        .filter(|id| !in_snapshot.contains(id))
    {
        let location = live.location(id).unwrap();
        let state = match location.area {
            Area::Tasks => State::Ready,
            Area::Dead => State::Dead,
            Area::Done => panic!("a task in done/: {id}"),
        };
        queues.apply(&Record::Restored(Box::new(Restored {
            id: location.name.id,
            queue: location.queue,
            priority: location.name.priority,
            exectime: location.name.exectime,
            options: Options::default(),
            attempts: 0,
            state,
            lease: None,
            last_error: None,
        })));
    }
    for queue in live.names.keys() {
        queues.apply(&Record::Opened {
            queue: queue.clone(),
        });
    }
    queues
}
