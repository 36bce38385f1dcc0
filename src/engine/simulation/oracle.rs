//! [`Oracle`]: what must be there after a crash, known without the queue and without the disk.
//!
//! It reads the frames that go to the journal and keeps for each task how it stood after each frame, by rules of its own.
//! Each answer that a client hears must rest on a frame that the journal's hand has made durable ([`told`](super::told));
//! after each start the state must be that after one frame, whole: not before the last durable one, not after the last
//! one written. So nothing acknowledged is lost, nothing completed returns, a unit is there whole or not at all, and what
//! two clients were told fits together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::trace::Held;
use crate::{
    store::Group,
    task::{
        ExecTime, Millis, NewTask, Now, Options, Payload, Priority, QueueName, Record, State,
        TaskId, Then, Tick, Token, WorkerName, decode_records,
    },
};

/// Bytes of a frame before its records, and where in them the durable frame's number is: see the journal's format.
const FRAME_HEADER: usize = 32;
const DURABLE_AT: usize = 16;

/// Where in its life a task is, but for what time alone changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Leased,
    Dead,
}

impl Stage {
    pub(super) const fn of(state: State) -> Self {
        match state {
            State::Leased => Self::Leased,
            State::Ready | State::Scheduled => Self::Waiting,
            State::Dead => Self::Dead,
        }
    }
}

/// A lease.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lease {
    pub(super) token: Token,
    pub(super) worker: Option<WorkerName>,
    pub(super) length: Millis,
    pub(super) expires: Tick,
    /// The boot that `expires` counts in.
    pub(super) boot: u8,
}

/// A task as it stood after a frame.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Facts {
    pub(super) queue: QueueName,
    pub(super) priority: Priority,
    pub(super) exectime: ExecTime,
    pub(super) options: Options,
    pub(super) attempts: u32,
    pub(super) stage: Stage,
    pub(super) lease: Option<Lease>,
    pub(super) error: Option<Arc<str>>,
    /// `None`: it came in a file that no record tells of.
    pub(super) payload: Option<Payload>,
}

impl Facts {
    fn new(task: &NewTask) -> Self {
        let past = task.past.as_deref();
        Self {
            queue: task.queue.clone(),
            priority: task.priority,
            exectime: task.exectime,
            options: task.options.clone(),
            attempts: past.map_or(0, |past| past.attempts),
            stage: if task.is_dead() {
                Stage::Dead
            } else {
                Stage::Waiting
            },
            lease: None,
            error: past.and_then(|past| past.last_error.clone()),
            payload: Some(task.payload.clone()),
        }
    }
}

/// The switches: all queues, and each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Switches {
    pub(super) paused: BTreeSet<Option<QueueName>>,
    pub(super) draining: BTreeSet<Option<QueueName>>,
}

impl Switches {
    pub(super) fn holds(set: &BTreeSet<Option<QueueName>>, queue: &QueueName) -> bool {
        set.contains(&None) || set.contains(&Some(queue.clone()))
    }
}

/// A task that a client asked to be taken, or a file that was dropped.
#[derive(Debug)]
struct Offer {
    task: NewTask,
    /// Of a file: it may be taken once.
    file: bool,
    /// The frames in which it was taken.
    taken: Vec<u64>,
}

/// A frame's place on the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// What was known to be durable when it was made.
    pub(super) durable: u64,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Whether the journal has had somewhere to write since the start.
    pub(super) has_segment: bool,
    /// A checkpoint found no room: the next one leaves out the texts of errors.
    pub(super) may_be_brief: bool,
    base: BTreeMap<TaskId, Facts>,
    latest: BTreeMap<TaskId, Facts>,
    /// By task, what each frame since the start made of it; `None`: gone.
    pub(super) history: BTreeMap<TaskId, Vec<(u64, Option<Facts>)>>,
    switches: Vec<(u64, Switches)>,
    offers: BTreeMap<String, Offer>,
    /// Canonical files that were put there by hand, until they are tasks.
    pub(super) placed: BTreeMap<TaskId, NewTask>,
    /// Tasks whose files were removed by hand, and their payloads: a power cut may undo the removal.
    pub(super) removed: BTreeMap<TaskId, Payload>,
    pub(super) frames: BTreeMap<u64, Frame>,
    /// The highest cut that a checkpoint was ordered with.
    pub(super) cut: u64,
    made: Vec<(u64, TaskId)>,
    /// The last frame that was handed to the journal.
    pub(super) handed: u64,
    /// The last frame that is durable.
    pub(super) synced: u64,
    pub(super) boot: u8,
}

impl Oracle {
    pub(super) fn offer(&mut self, task: &NewTask, file: bool) {
        let text = task.payload.as_json().to_owned();
        self.offers.entry(text).or_insert_with(|| Offer {
            task: task.clone(),
            file,
            taken: Vec::new(),
        });
    }

    /// A task's own file was removed by hand.
    pub(super) fn removed_by_hand(&mut self, id: TaskId) {
        let facts = self.latest.get(&id);
        if let Some(payload) = facts.and_then(|facts| facts.payload.clone()) {
            self.removed.insert(id, payload);
        }
    }

    /// How tasks stand after the last frame that was handed out.
    pub(super) fn latest(&self) -> &BTreeMap<TaskId, Facts> {
        &self.latest
    }

    /// The task as it was at the start.
    pub(super) fn at_start(&self, id: TaskId) -> Option<&Facts> {
        self.base.get(&id)
    }

    pub(super) fn switches(&self) -> Switches {
        self.switches
            .last()
            .map(|last| last.1.clone())
            .unwrap_or_default()
    }

    /// A frame is handed to the journal.
    pub(super) fn frame(&mut self, group: &Group, now: Now) -> Held {
        let seq = group.seq.0;
        if seq != self.handed + 1 {
            return Err(format!("frame {seq} follows on frame {}", self.handed));
        }
        self.handed = seq;
        let mut durable = [0; 8];
        durable.copy_from_slice(&group.bytes[DURABLE_AT..DURABLE_AT + 8]);
        let frame = Frame {
            segment: group.segment,
            offset: group.offset,
            len: group.bytes.len() as u64,
            durable: u64::from_le_bytes(durable),
        };
        self.frames.insert(seq, frame);
        let records = decode_records(&group.bytes[FRAME_HEADER..])
            .map_err(|error| format!("frame {seq} can't be read: {error}"))?;
        for record in records {
            self.record(seq, &record, now)
                .map_err(|what| format!("frame {seq}: {what}: {record:?}"))?;
        }
        Ok(())
    }

    fn record(&mut self, seq: u64, record: &Record, now: Now) -> Held {
        let facts = match record {
            Record::Paused { queue, on } => {
                self.switch(seq, true, queue.as_ref(), *on);
                return Ok(());
            }
            Record::Draining { queue, on } => {
                self.switch(seq, false, queue.as_ref(), *on);
                return Ok(());
            }
            Record::Opened { .. } => return Ok(()),
            Record::Restored(_)
            | Record::Rebooted { .. }
            | Record::Housed { .. }
            | Record::LeftBehind { .. } => {
                return Err("no record of a running daemon".to_owned());
            }
            Record::Submitted(task) => {
                let text = task.payload.as_json();
                let Some(offer) = self.offers.get_mut(text) else {
                    return Err("a task that nobody submitted".to_owned());
                };
                // The removal of its own file by hand may be undone by a power cut: then that has come back, and is meant to, as
                // it was when it was written, and no attempt is known any more.
                let is_back = task.source.is_some() && self.removed.contains_key(&task.id);
                let mut asked = offer.task.clone();
                if is_back {
                    asked.queue.clone_from(&task.queue);
                    asked.options.clone_from(&task.options);
                    (asked.priority, asked.exectime, asked.past) =
                        (task.priority, task.exectime, None);
                }
                if (&task.queue, task.priority, task.exectime, &task.options)
                    != (&asked.queue, asked.priority, asked.exectime, &asked.options)
                    || asked.id.is_some_and(|id| id != task.id)
                {
                    return Err(format!("a task that is not what was asked for: {asked:?}"));
                }
                if offer.file && !offer.taken.is_empty() && !is_back {
                    return Err("a dropped file is taken a second time".to_owned());
                }
                offer.taken.push(seq);
                let facts = Facts::new(&asked);
                if task.made_here {
                    if self.made.last().is_some_and(|last| last.1 >= task.id) {
                        return Err("an id that does not rise".to_owned());
                    }
                    self.made.push((seq, task.id));
                }
                if self.latest.contains_key(&task.id) {
                    return Err("an id that is in use".to_owned());
                }
                self.key_is_free(task.id, &facts)?;
                Some(facts)
            }
            other => self.changed(other, now)?,
        };
        let id = record.id().ok_or("a record without a task")?;
        match &facts {
            Some(facts) => self.latest.insert(id, facts.clone()),
            None => self.latest.remove(&id),
        };
        self.history.entry(id).or_default().push((seq, facts));
        Ok(())
    }

    fn key_is_free(&self, id: TaskId, facts: &Facts) -> Held {
        let Some(key) = &facts.options.unique_key else {
            return Ok(());
        };
        if facts.stage == Stage::Dead {
            return Ok(());
        }
        let holder = self.latest.iter().find(|(other, there)| {
            **other != id
                && there.queue == facts.queue
                && there.stage != Stage::Dead
                && there.options.unique_key.as_ref() == Some(key)
        });
        holder.map_or(Ok(()), |(other, _)| {
            Err(format!("its unique key is held by {other}"))
        })
    }

    fn changed(&self, record: &Record, now: Now) -> Held<Option<Facts>> {
        let id = record.id().ok_or("a record without a task")?;
        let Some(mut facts) = self.latest.get(&id).cloned() else {
            // A start cancels a task whose file was removed, and writes that down later.
            let removed =
                self.removed.contains_key(&id) && matches!(record, Record::Cancelled { .. });
            return if removed {
                Ok(None)
            } else {
                Err("a task that is not there".to_owned())
            };
        };
        let stage = facts.stage;
        let needs = |wanted: &[Stage]| {
            if wanted.contains(&stage) {
                Ok(())
            } else {
                Err(format!("not of a task that is {stage:?}"))
            }
        };
        match record {
            Record::Claimed(claimed) => {
                needs(&[Stage::Waiting])?;
                if Switches::holds(&self.switches().paused, &facts.queue) {
                    return Err("its queue is paused".to_owned());
                }
                if facts.exectime.as_wall() > claimed.at {
                    return Err(format!("it is not due before {}", facts.exectime));
                }
                facts.attempts += 1;
                facts.stage = Stage::Leased;
                facts.lease = Some(Lease {
                    token: claimed.token,
                    worker: claimed.worker.clone(),
                    length: claimed.length,
                    expires: claimed.expires,
                    boot: self.boot,
                });
            }
            Record::Completed { .. } => {
                needs(&[Stage::Waiting, Stage::Leased])?;
                return Ok(None);
            }
            Record::Cancelled { .. } => return Ok(None),
            Record::Failed { error, then, .. } => {
                needs(&[Stage::Leased, Stage::Waiting])?;
                over(&mut facts, error.clone(), *then);
            }
            Record::Expired { then, .. } => {
                needs(&[Stage::Leased])?;
                if facts
                    .lease
                    .as_ref()
                    .is_some_and(|lease| lease.expires > now.tick)
                {
                    return Err("its lease has not come to its end".to_owned());
                }
                over(&mut facts, "the lease expired".into(), *then);
            }
            Record::Released { .. } => {
                needs(&[Stage::Leased])?;
                facts.attempts -= 1;
                facts.stage = Stage::Waiting;
                facts.lease = None;
            }
            Record::Extended {
                length, expires, ..
            } => {
                needs(&[Stage::Leased])?;
                if let Some(lease) = &mut facts.lease {
                    lease.length = *length;
                    lease.expires = *expires;
                    lease.boot = self.boot;
                }
            }
            Record::Rescheduled {
                priority, exectime, ..
            } => {
                needs(&[Stage::Waiting])?;
                facts.priority = *priority;
                facts.exectime = *exectime;
            }
            Record::Moved {
                queue,
                priority,
                exectime,
                ..
            } => {
                needs(&[Stage::Waiting, Stage::Dead])?;
                self.moved(id, &mut facts, queue, (*priority, *exectime))?;
            }
            Record::Retried { .. } => {
                needs(&[Stage::Dead])?;
                self.key_is_free(id, &facts)?;
                facts.attempts = 0;
                facts.stage = Stage::Waiting;
            }
            other => return Err(format!("a record that is not known here: {other:?}")),
        }
        Ok(Some(facts))
    }

    /// A task comes to another queue; one that waits may have another place in the order there.
    fn moved(
        &self,
        id: TaskId,
        facts: &mut Facts,
        queue: &QueueName,
        place: (Priority, ExecTime),
    ) -> Held {
        if facts.queue == *queue {
            return Err("it is there already".to_owned());
        }
        let is_dead = facts.stage == Stage::Dead;
        if is_dead && place != (facts.priority, facts.exectime) {
            return Err("a dead task has no place in the order".to_owned());
        }
        facts.queue = queue.clone();
        (facts.priority, facts.exectime) = place;
        // A dead task does not hold its key.
        if is_dead {
            Ok(())
        } else {
            self.key_is_free(id, facts)
        }
    }

    fn switch(&mut self, seq: u64, paused: bool, queue: Option<&QueueName>, on: bool) {
        let mut switches = self.switches();
        let set = if paused {
            &mut switches.paused
        } else {
            &mut switches.draining
        };
        if on {
            set.insert(queue.cloned());
        } else {
            set.remove(&queue.cloned());
        }
        self.switches.push((seq, switches));
    }

    /// How everything stood after the last durable frame.
    pub(super) fn durable(&self) -> BTreeMap<TaskId, Facts> {
        self.state_at(self.synced)
    }

    /// How everything stood after frame `seq`.
    fn state_at(&self, seq: u64) -> BTreeMap<TaskId, Facts> {
        let mut state = self.base.clone();
        for (id, changes) in &self.history {
            let last = changes.iter().rev().find(|(at, _)| *at <= seq);
            match last {
                Some((_, Some(facts))) => {
                    state.insert(*id, facts.clone());
                }
                Some((_, None)) => {
                    state.remove(id);
                }
                None => {}
            }
        }
        state
    }

    /// A start has found the journal up to frame `seq`, and this state. `starts` are the boot clock's readings at the
    /// starts of this boot.
    pub(super) fn recovered(
        &mut self,
        seq: u64,
        found: BTreeMap<TaskId, Facts>,
        switches: &dyn Fn(&Switches) -> Held,
        starts: &[Tick],
    ) -> Held {
        if seq < self.synced || seq > self.handed {
            return Err(format!(
                "the start found frames up to {seq}, but {} were durable and {} written",
                self.synced, self.handed
            ));
        }
        let expected = self.state_at(seq);
        for offer in self.offers.values_mut() {
            offer.taken.retain(|at| *at <= seq);
        }
        let boot = self.boot;
        for (id, facts) in &expected {
            match found.get(id) {
                None if self.removed.contains_key(id) => {}
                None => return Err(format!("task {id} is lost: {facts:?}")),
                Some(there) => same(facts, there, boot, starts, self.may_be_brief)
                    .map_err(|what| format!("task {id}: {what}:\nwas {facts:?}\nis  {there:?}"))?,
            }
        }
        let mut base = BTreeMap::new();
        for (id, mut facts) in found {
            match expected.get(&id) {
                Some(before) => {
                    facts.payload.clone_from(&before.payload);
                    if let (Some(lease), Some(before)) = (&mut facts.lease, &before.lease) {
                        lease.boot = before.boot;
                    }
                }
                None => facts.payload = Some(self.taken_from_file(id, &facts)?),
            }
            base.insert(id, facts);
        }
        let now = self
            .switches
            .iter()
            .rev()
            .find(|(at, _)| *at <= seq)
            .map(|(_, switches)| switches.clone())
            .unwrap_or_default();
        switches(&now)?;
        self.made.retain(|(at, _)| *at <= seq);
        self.frames.retain(|at, _| *at <= seq);
        self.switches = vec![(0, now)];
        self.latest.clone_from(&base);
        self.base = base;
        self.history.clear();
        (self.handed, self.synced) = (seq, seq);
        Ok(())
    }
}

impl Oracle {
    /// A task that a start made of its file: it was put there by hand, and was no task yet, or it was removed by hand, and a power
    /// cut brought it back. Gives its payload.
    fn taken_from_file(&mut self, id: TaskId, facts: &Facts) -> Held<Payload> {
        if let Some(payload) = self.removed.get(&id) {
            return Ok(payload.clone());
        }
        let offer = self
            .placed
            .get(&id)
            .and_then(|task| self.offers.get_mut(task.payload.as_json()));
        let Some(offer) = offer.filter(|offer| offer.taken.is_empty()) else {
            return Err(format!("task {id} came from nowhere: {facts:?}"));
        };
        if facts.stage != Stage::Waiting || facts.attempts != 0 {
            return Err(format!("the file of {id} was new, the task is not"));
        }
        offer.taken.push(0);
        Ok(offer.task.payload.clone())
    }

    /// Whether the file of a task lies there that is no task yet.
    pub(super) fn is_outside(&self, id: TaskId) -> bool {
        let task = self.placed.get(&id);
        let offer = task.and_then(|task| self.offers.get(task.payload.as_json()));
        offer.is_some_and(|offer| offer.taken.is_empty())
    }
}

fn over(facts: &mut Facts, error: Arc<str>, then: Then) {
    facts.error = Some(error);
    facts.lease = None;
    match then {
        Then::Retry(exectime) => {
            facts.exectime = exectime;
            facts.stage = Stage::Waiting;
        }
        Then::Dead => facts.stage = Stage::Dead,
    }
}

fn same(was: &Facts, is: &Facts, boot: u8, starts: &[Tick], may_be_brief: bool) -> Held {
    let mut is = is.clone();
    is.payload.clone_from(&was.payload);
    if may_be_brief && is.error.is_none() {
        is.error.clone_from(&was.error);
    }
    if let (Some(was), Some(is)) = (&was.lease, &mut is.lease) {
        is.boot = was.boot;
        if was.boot != boot
            && starts
                .iter()
                .any(|start| start.plus(was.length) == is.expires)
        {
            // The machine was booted since: the lease has its full length again, from the first start.
            is.expires = was.expires;
        }
    }
    if is == *was {
        Ok(())
    } else {
        Err("it is not as it was".to_owned())
    }
}
