//! What the watcher saw: dropped files become tasks, files that went cancel theirs.

use std::path::Path;

use super::{Engine, io::Output, requests::bytes_of};
use foldhash::fast::FixedState;
use hashbrown::HashSet;

use crate::{
    queue::Verdict,
    store::{Room, Sighting, shown},
    systemd::catalog,
    task::{
        Area, Cursor, EventKind, Location, NewTask, Now, PageQuery, QueueName, Record, Source,
        State, TaskId,
    },
};

/// How many dropped files may wait in memory for room or for the end of a drain. More stay in the directory, and are
/// found by the next look through it.
const MOST_POSTPONED: usize = 10_000;
/// How many things that are left alone are remembered, to be shown.
const MOST_IRREGULAR: usize = 1000;

/// How many tasks are held against a folder's files in one step: more take their turn after other work.
const LOOK: usize = 2000;

/// A look through a queue's folder, of which some tasks are still to be compared.
#[derive(Debug)]
pub(super) struct Look {
    queue: QueueName,
    /// Whose files were there.
    there: HashSet<TaskId, FixedState>,
    state: State,
    after: Option<Cursor>,
}

impl Engine {
    pub(super) fn sighting(&mut self, now: Now, sighting: Sighting, out: &mut Vec<Output>) {
        if self.fault.is_some() {
            return;
        }
        match sighting {
            Sighting::Drop { source, task } => self.dropped(now, source, task, out),
            Sighting::Malformed {
                source_path,
                reason,
            } => self.reject(now, source_path, reason, out),
            Sighting::Irregular { path, reason } => {
                tracing::warn!(message_id = catalog::FILE_LEFT_ALONE.id, file = %shown(&path), reason, "{}", catalog::FILE_LEFT_ALONE.line);
                if self.irregular.len() < MOST_IRREGULAR {
                    self.irregular.insert(path, reason);
                }
            }
            Sighting::Seen(places) => {
                let strangers: Vec<Location> = places
                    .into_iter()
                    .filter(|place| !self.is_ours(place))
                    .collect();
                if !strangers.is_empty() {
                    out.push(Output::Inspect(strangers));
                }
            }
            Sighting::Gone(places) => {
                let unsure: Vec<Location> = places
                    .into_iter()
                    .filter(|place| !self.gone(now, place))
                    .collect();
                if !unsure.is_empty() {
                    out.push(Output::Confirm(unsure));
                }
            }
            Sighting::Folder(queue) => self.open(queue),
            Sighting::Scanned { queue, ids } => self.scanned(queue, ids),
            Sighting::Trouble(text) => {
                tracing::warn!(reason = text, "trouble with watching the task directory");
            }
        }
    }

    fn open(&mut self, queue: QueueName) {
        if self.queue.queue_count() < self.settings.limits.max_queues {
            self.queue.apply(&Record::Opened { queue });
        } else {
            tracing::warn!(queue = %queue, limit = self.settings.limits.max_queues, "no more queues: a folder is left alone");
        }
    }

    /// Whether a file with a canonical name is one of ours, as it is or as it was.
    fn is_ours(&self, place: &Location) -> bool {
        self.queue.location(place.name.id).as_ref() == Some(place) || self.files.knows(place)
    }

    pub(super) fn dropped(
        &mut self,
        now: Now,
        source: Source,
        task: NewTask,
        out: &mut Vec<Output>,
    ) {
        if self.files.is_taken(&source) {
            return;
        }
        // The same id, or a held key: the payloads are compared, so that of the first must be here.
        let rival = task
            .id
            .filter(|id| self.queue.get(*id).is_some() && self.bodies.get(*id).is_none());
        if let Some(id) = rival {
            self.load(now, [id], out);
            return self.postpone(source, task);
        }
        if self.queue.is_at_limit(&task.queue) {
            return self.keep_excess(source, task);
        }
        let bytes = bytes_of(&task);
        let room = self.ledger.room_for_new(bytes, 1);
        if self.queue.is_draining(&task.queue)
            || room != Room::Yes
            || self.full.waiting_in(&task.queue) > 0
            || self.is_crowded()
        {
            self.wait_for_room(now, room, |ledger| ledger.room_for_new(bytes, 1));
            return self.postpone(source, task);
        }
        let path = source.path.clone();
        match self.take(now, vec![task], Some(&source)) {
            Ok(verdicts) => {
                for verdict in verdicts {
                    if let Verdict::Existing(id) = verdict {
                        self.dropped_again(now, id, source.clone());
                    }
                }
            }
            Err(refusal) => self.reject(now, path, refusal.to_string(), out),
        }
    }

    /// A file with a task that is there already: the file is not needed, unless it is the task's own.
    fn dropped_again(&mut self, now: Now, id: TaskId, source: Source) {
        let own = self
            .queue
            .location(id)
            .is_some_and(|place| place.path() == source.path);
        if !own {
            tracing::info!(task_id = %id, file = %shown(&source.path), "a dropped file holds a task that is here already");
            let seq = self
                .ledger
                .pending_seq()
                .unwrap_or_else(|| self.ledger.synced_seq());
            let place = self
                .queue
                .location(id)
                .filter(|_| self.files.is_settled(id));
            self.files.note(id, place, seq, now.tick);
            self.files.note_source(id, source, seq, now.tick);
        }
    }

    fn postpone(&mut self, source: Source, task: NewTask) {
        if self.postponed.len() < MOST_POSTPONED {
            self.postponed.push_back((source, task));
        } else {
            tracing::warn!(file = %shown(&source.path), "too many dropped files wait: this one stays until it is touched");
        }
    }

    /// Looks again at dropped files that had to wait.
    pub(super) fn take_postponed(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.fault.is_some() {
            return;
        }
        for (source, task) in std::mem::take(&mut self.postponed) {
            self.dropped(now, source, task, out);
        }
    }

    fn reject(
        &mut self,
        now: Now,
        path: std::path::PathBuf,
        reason: String,
        out: &mut Vec<Output>,
    ) {
        tracing::warn!(message_id = catalog::FILE_REJECTED.id, file = %shown(&path), reason, "{}", catalog::FILE_REJECTED.line);
        self.rejected += 1;
        let text = format!("{}: {reason}", shown(&path));
        self.tell(now, EventKind::Rejected, None, None, Some(text.into()), out);
        out.push(Output::Reject { path, reason });
    }

    /// A task's file was removed by somebody else: that cancels the task, unless a worker holds it. Gives `false` when the
    /// watcher is to look again first: the file may have moved away and back since it looked.
    fn gone(&mut self, now: Now, place: &Location) -> bool {
        let id = place.name.id;
        let Some(entry) = self.queue.get(id) else {
            return true;
        };
        if self.queue.location(id).as_ref() != Some(place) || !self.files.is_settled(id) {
            return true;
        }
        if !self.missed.remove(&id) {
            self.missed.insert(id);
            return false;
        }
        if entry.state == State::Leased {
            // Its worker holds it: the file comes back, so that the directory tells the truth.
            if self.bodies.get(id).is_some() {
                let seq = self.ledger.synced_seq();
                self.files.note(id, None, seq, now.tick);
            }
            return true;
        }
        tracing::info!(task_id = %id, file = %place, "a task's file was removed: it is cancelled");
        self.commit(now, &[Record::Cancelled { id }]);
        true
    }

    /// After a look through a queue's folder: tasks whose files were not there are looked at once more, a part at a time.
    fn scanned(&mut self, queue: QueueName, ids: HashSet<TaskId, FixedState>) {
        let top = Path::new(Area::Tasks.dir());
        let folder = if queue.is_default() {
            top.to_owned()
        } else {
            top.join(queue.as_str())
        };
        self.files.looked_through(&folder);
        self.looks.push_back(Look {
            queue,
            there: ids,
            state: State::Ready,
            after: None,
        });
    }

    /// Goes on with comparing tasks and files. What moves past meanwhile is met by the next look.
    pub(super) fn look_on(&mut self, out: &mut Vec<Output>) {
        let Some(look) = self.looks.front_mut() else {
            return;
        };
        let query = PageQuery {
            queue: Some(look.queue.clone()),
            state: Some(look.state),
            id_prefix: None,
            limit: LOOK,
            after: look.after,
        };
        // A queue that is not known has no task whose file could be missing.
        let (ids, next) = self.queue.page(&query).unwrap_or_default();
        let missing = ids
            .into_iter()
            .filter(|id| !look.there.contains(id) && self.files.is_settled(*id));
        let places: Vec<Location> = missing.filter_map(|id| self.queue.location(id)).collect();
        look.after = next;
        if next.is_none() {
            match look.state {
                State::Ready => look.state = State::Scheduled,
                _ => drop(self.looks.pop_front()),
            }
        }
        self.missed.extend(places.iter().map(|place| place.name.id));
        if !places.is_empty() {
            out.push(Output::Confirm(places));
        }
    }
}
