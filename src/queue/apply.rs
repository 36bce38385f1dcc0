//! Making records true.

use super::{
    Entry, Queues, ShelfNo,
    entry::Extra,
    history::{Happened, between},
    tasks::Place,
};
use crate::task::{
    Area, Claimed, ExecTime, Location, QueueName, Record, Restored, RestoredLease, State,
    Submitted, TaskId, Then,
};

impl Queues {
    /// Makes `record` true. Infallible: only records that `decide_*` made, here or before a restart, come in.
    ///
    /// A record of a task that is not known changes nothing: at a restart it may be of a task whose end comes later in the
    /// journal and whose file is gone already.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Submitted(task) => self.submitted(task),
            Record::Claimed(claimed) => self.claimed(claimed),
            Record::Completed { id, .. } => self.ended(*id, true),
            Record::Cancelled { id, .. } => self.ended(*id, false),
            Record::Failed { id, error, then } => {
                self.count(*id, |counters| counters.failed += 1);
                self.note_of(*id, Happened::Failed);
                self.edit(*id, |entry| entry.set_error(Some(error.clone())));
                self.attempt_over(*id, *then);
            }
            Record::Expired { id, then } => {
                self.count(*id, |counters| counters.expired += 1);
                self.note_of(*id, Happened::Failed);
                self.edit(*id, |entry| {
                    entry.set_error(Some("the lease expired".into()));
                });
                self.attempt_over(*id, *then);
            }
            Record::Released { id } => {
                self.count(*id, |counters| counters.released += 1);
                self.edit(*id, |entry| {
                    entry.attempts = entry.attempts.saturating_sub(1);
                    entry.set_lease(None);
                    entry.state = State::Ready;
                });
            }
            Record::Extended {
                id,
                length,
                expires,
            } => self.edit(*id, |entry| {
                if let Some(lease) = entry.lease_mut() {
                    lease.length = *length;
                    lease.expires = *expires;
                }
            }),
            Record::Rescheduled {
                id,
                priority,
                exectime,
            } => self.edit(*id, |entry| {
                entry.priority = *priority;
                entry.exectime = *exectime;
            }),
            Record::Moved {
                id,
                queue,
                priority,
                exectime,
            } => {
                if self.tasks.get(*id).is_some() {
                    let shelf = self.open(queue);
                    self.edit(*id, |entry| {
                        entry.shelf = shelf;
                        entry.priority = *priority;
                        entry.exectime = *exectime;
                    });
                }
            }
            Record::Retried { id } => {
                self.count(*id, |counters| counters.retried += 1);
                self.edit(*id, |entry| {
                    entry.attempts = 0;
                    entry.state = State::Ready;
                });
            }
            Record::Paused { queue, on } => self.pause(queue.as_ref(), *on),
            Record::Draining { queue, on } => match queue {
                None => self.draining = *on,
                Some(name) => {
                    let shelf = self.open(name);
                    self.shelves[shelf as usize].draining = *on;
                    self.note_idle(shelf);
                }
            },
            Record::Opened { queue } => {
                self.open(queue);
            }
            Record::Rebooted { tick } => self.rebooted(*tick),
            Record::Restored(task) => self.restored(task),
            // Of files, which this floor does not know.
            Record::Housed { .. } | Record::LeftBehind { .. } | Record::DropBehind { .. } => {}
        }
    }

    fn submitted(&mut self, task: &Submitted) {
        self.remove(task.id);
        let shelf = self.open(&task.queue);
        let past = task.past.as_deref();
        let extra = Extra {
            options: task.options.clone(),
            last_error: past.and_then(|past| past.last_error.clone()),
        };
        let state = match past {
            Some(past) if past.dead => State::Dead,
            _ => State::Ready,
        };
        let mut entry = Entry::new(state, task.priority, task.exectime, shelf, extra);
        entry.attempts = past.map_or(0, |past| past.attempts);
        self.insert(task.id, entry);
        self.note(shelf, Happened::Submitted);
        let tick = self.now.tick;
        let shelf = &mut self.shelves[shelf as usize];
        shelf.counters.submitted += 1;
        shelf.submitted_rate.count(tick);
    }

    fn restored(&mut self, task: &Restored) {
        self.remove(task.id);
        let shelf = self.open(&task.queue);
        let extra = Extra {
            options: task.options.clone(),
            last_error: task.last_error.clone(),
        };
        let mut entry = Entry::new(task.state, task.priority, task.exectime, shelf, extra);
        entry.attempts = task.attempts;
        entry.set_lease(task.lease.clone());
        self.insert(task.id, entry);
    }

    fn claimed(&mut self, claimed: &Claimed) {
        self.count(claimed.id, |counters| counters.claimed += 1);
        self.note_wait(claimed.id);
        self.edit(claimed.id, |entry| {
            entry.attempts = entry.attempts.saturating_add(1);
            entry.state = State::Leased;
            entry.set_lease(Some(RestoredLease {
                token: claimed.token,
                kind: claimed.kind,
                worker: claimed.worker.clone(),
                at: claimed.at,
                length: claimed.length,
                expires: claimed.expires,
            }));
        });
    }

    fn ended(&mut self, id: TaskId, completed: bool) {
        let Some(entry) = self.remove(id) else { return };
        if completed {
            self.note(entry.shelf, Happened::Completed);
            self.note_run(&entry);
        }
        let tick = self.now.tick;
        let shelf = &mut self.shelves[entry.shelf as usize];
        if completed {
            shelf.counters.completed += 1;
            shelf.completed_rate.count(tick);
        } else {
            shelf.counters.cancelled += 1;
        }
    }

    fn attempt_over(&mut self, id: TaskId, then: Then) {
        if then == Then::Dead {
            self.count(id, |counters| counters.died += 1);
            self.note_of(id, Happened::Died);
        }
        self.edit(id, |entry| {
            entry.set_lease(None);
            match then {
                Then::Retry(exectime) => {
                    entry.exectime = exectime;
                    entry.state = State::Ready;
                }
                Then::Dead => entry.state = State::Dead,
            }
        });
    }

    fn pause(&mut self, queue: Option<&QueueName>, on: bool) {
        match queue {
            None => {
                self.paused = on;
                if !on {
                    self.woken.extend(0..self.shelves.len() as u32);
                }
            }
            Some(name) => {
                let shelf = self.open(name);
                self.shelves[shelf as usize].paused = on;
                self.note_idle(shelf);
                if !on {
                    self.woken.insert(shelf);
                }
            }
        }
    }

    /// The boot clock began again: leases get their full length from `tick`.
    fn rebooted(&mut self, tick: crate::task::Tick) {
        let leased: Vec<TaskId> = self.leases.iter().map(|(_, id)| *id).collect();
        for id in leased {
            self.edit(id, |entry| {
                if let Some(lease) = entry.lease_mut() {
                    lease.expires = tick.plus(lease.length);
                }
            });
        }
    }

    fn count(&mut self, id: TaskId, change: impl FnOnce(&mut crate::task::Counters)) {
        if let Some(entry) = self.tasks.get(id) {
            change(&mut self.shelves[entry.shelf as usize].counters);
        }
    }

    fn note_of(&mut self, id: TaskId, happened: Happened) {
        if let Some(shelf) = self.tasks.get(id).map(|entry| entry.shelf) {
            self.note(shelf, happened);
        }
    }

    /// Notes how long a task that is handed out now has been due: since its exectime, or since it was made. One whose id
    /// does not say when it was made, and that has no exectime, is passed over.
    fn note_wait(&mut self, id: TaskId) {
        let Some(exectime) = self.tasks.get(id).map(|entry| entry.exectime) else {
            return;
        };
        let timed = (exectime != ExecTime::ASAP).then(|| exectime.as_wall());
        let Some(due) = id.made_at().max(timed) else {
            return;
        };
        let length = between(due, self.now.wall);
        self.history.waited(self.now.tick, length);
        self.wait.note(length.0.saturating_mul(1000));
    }

    /// Notes how long a task that is completed now was held.
    fn note_run(&mut self, entry: &Entry) {
        let Some(lease) = entry.lease() else { return };
        let length = between(lease.at, self.now.wall);
        self.history.ran(self.now.tick, length);
        self.run.note(length.0.saturating_mul(1000));
    }

    /// Makes a task that only the name of its file tells of, at a start. [`Queues::found_all`] is to follow, before
    /// anything but [`Queues::get`] and [`Queues::location`] is asked.
    pub fn found(&mut self, place: &Location) {
        let number = self.open(&place.queue);
        let state = match place.area {
            Area::Dead => State::Dead,
            _ if place.name.exectime.is_due(self.now.wall) => State::Ready,
            _ => State::Scheduled,
        };
        let (priority, exectime) = (place.name.priority, place.name.exectime);
        let entry = Entry::new(state, priority, exectime, number, Extra::default());
        let key = entry.key(place.name.id);
        self.tasks.insert(place.name.id, entry);
        self.shelves[number as usize].insert_unsorted(state, key);
        self.note_idle(number);
    }

    /// All files were told of.
    pub fn found_all(&mut self) {
        for number in 0..self.shelves.len() {
            let shelf = &mut self.shelves[number];
            let before = shelf.first_key(State::Scheduled);
            shelf.sort();
            if shelf.len(State::Ready) > 0 {
                self.woken.insert(number as ShelfNo);
            }
            self.move_head(number as ShelfNo, before);
        }
    }

    /// Changes a task and puts it where it belongs.
    fn edit(&mut self, id: TaskId, change: impl FnOnce(&mut Entry)) {
        let Some(place) = self.tasks.place(id) else {
            return;
        };
        self.unlink(id, place);
        let mut moved = None;
        if let Some(entry) = self.tasks.at_mut(place) {
            let from = entry.shelf;
            change(entry);
            moved = (entry.shelf != from).then_some((from, entry.shelf));
        }
        self.link(id, place);
        if let Some((from, to)) = moved {
            self.note_idle(from);
            self.note_idle(to);
        }
    }

    /// Moves a task between ready and scheduled, which follows from time alone.
    pub(super) fn settle(&mut self, id: TaskId, state: State) {
        let place = self.tasks.place(id);
        let Some(entry) = place.and_then(|place| self.tasks.at_mut(place)) else {
            return;
        };
        let shelf = &mut self.shelves[entry.shelf as usize];
        let before = shelf.first_key(State::Scheduled);
        shelf.remove(entry.state, entry.key(id));
        entry.state = state;
        shelf.insert(state, entry.key(id));
        let number = entry.shelf;
        if state == State::Ready {
            self.woken.insert(number);
        }
        self.move_head(number, before);
    }

    fn insert(&mut self, id: TaskId, entry: Entry) {
        let number = entry.shelf;
        let place = self.tasks.insert(id, entry);
        self.link(id, place);
        self.note_idle(number);
    }

    fn remove(&mut self, id: TaskId) -> Option<Entry> {
        let place = self.tasks.place(id)?;
        self.unlink(id, place);
        let entry = self.tasks.remove(id, place)?;
        self.note_idle(entry.shelf);
        Some(entry)
    }

    /// Puts a task into all the orders that it belongs to.
    fn link(&mut self, id: TaskId, place: Place) {
        let Some(entry) = self.tasks.at_mut(place) else {
            return;
        };
        if matches!(entry.state, State::Ready | State::Scheduled) {
            entry.state = if entry.exectime.is_due(self.now.wall) {
                State::Ready
            } else {
                State::Scheduled
            };
        }
        let number = entry.shelf;
        let shelf = &mut self.shelves[number as usize];
        let before = shelf.first_key(State::Scheduled);
        shelf.insert(entry.state, entry.key(id));
        if entry.state == State::Ready {
            self.woken.insert(number);
        }
        if let Some(lease) = entry.lease() {
            self.leases.insert((lease.expires, id));
        }
        if entry.state != State::Dead
            && let Some(key) = entry
                .options()
                .and_then(|options| options.unique_key.clone())
        {
            self.keys.insert((number, key), id);
        }
        if entry.is_special() {
            self.special.insert(id);
        }
        self.move_head(number, before);
    }

    /// Takes a task out of them.
    fn unlink(&mut self, id: TaskId, place: Place) {
        let Some(entry) = self.tasks.at(place) else {
            return;
        };
        let number = entry.shelf;
        let shelf = &mut self.shelves[number as usize];
        let before = shelf.first_key(State::Scheduled);
        shelf.remove(entry.state, entry.key(id));
        if let Some(lease) = entry.lease() {
            self.leases.remove(&(lease.expires, id));
        }
        if let Some(key) = entry
            .options()
            .and_then(|options| options.unique_key.clone())
        {
            // A dead task does not hold its key: another may.
            let slot = (number, key);
            if self.keys.get(&slot) == Some(&id) {
                self.keys.remove(&slot);
            }
        }
        if entry.is_special() {
            self.special.remove(&id);
        }
        self.move_head(number, before);
    }

    /// Keeps the timer table at each queue's first scheduled task; `before` was the first one before the change.
    fn move_head(&mut self, number: ShelfNo, before: Option<super::Key>) {
        let after = self.shelves[number as usize].first_key(State::Scheduled);
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.heads.remove(&(before.scheduled_for(), number));
        }
        if let Some(after) = after {
            self.heads.insert((after.scheduled_for(), number));
        }
    }
}
