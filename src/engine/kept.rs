//! [`Kept`]: dropped files that can't be taken yet. They wait where they are, and are read when there is room.
//!
//! Only their paths are kept: until it is taken, a file is its owner's, who may change it, give it another name or take it
//! away; and a heap of large ones costs no memory. So when there is room, the watcher is asked to look again. One request is
//! out at a time, or a file could be asked for twice.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    path::PathBuf,
};

use super::{Engine, io::Output};
use crate::{
    store::shown,
    task::{QueueName, Refusal, Source},
};

/// How many are kept. More are forgotten by the watcher, and found by a look through the directory when half of these are gone.
const MOST: usize = 100_000;
/// How many are asked for at once where their queues have room.
const ROUND: usize = 1024;
/// And how many of those that wait for room on the disk: while there is none, so many are read in vain at each try.
const PROBE: usize = 64;

/// Dropped files that wait, each once.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Those whose queues take no more for now, in the order of their coming.
    of: BTreeMap<QueueName, VecDeque<PathBuf>>,
    /// Those that wait for room in the journal, or for the spool to be less crowded.
    roomless: VecDeque<PathBuf>,
    /// Those that wait for a unique key to be let go.
    keyed: VecDeque<PathBuf>,
    /// Those that wait until payloads have fewer bytes, each with its own.
    large: VecDeque<(PathBuf, u64)>,
    here: HashSet<PathBuf>,
    /// How many of the roomless are to be tried again.
    due: usize,
    /// The watcher has been asked for some, and has not said that it looked.
    asked: bool,
    /// Whether some were forgotten.
    passed_over: bool,
    /// How many records there were when nothing more could be asked for: without another one nothing has changed.
    looked_at: Option<u64>,
}

/// What a dropped file waits for.
#[derive(Debug, Clone, Copy)]
enum Wait<'a> {
    /// That its queue takes tasks.
    Queue(&'a QueueName),
    /// Room on the disk.
    Room,
    /// That one more unique key may be held.
    Key,
    /// That payloads may have so many more bytes.
    Bytes(u64),
}

impl Kept {
    /// Keeps a path; gives whether there is room for it.
    fn put(&mut self, source: &Source, wait: Wait<'_>) -> bool {
        if self.here.contains(&source.path) {
            return true;
        }
        if self.here.len() == MOST {
            if !self.passed_over {
                tracing::warn!(file = %shown(&source.path), limit = MOST, "too many dropped files wait: this one and others are looked for again when there are fewer");
            }
            self.passed_over = true;
            return false;
        }
        self.here.insert(source.path.clone());
        let path = source.path.clone();
        match wait {
            Wait::Queue(queue) => self.of.entry(queue.clone()).or_default().push_back(path),
            Wait::Room => self.roomless.push_back(path),
            Wait::Key => self.keyed.push_back(path),
            Wait::Bytes(bytes) => self.large.push_back((path, bytes)),
        }
        true
    }

    fn take_roomless(&mut self, paths: &mut Vec<PathBuf>) {
        let count = self.due.min(PROBE).min(self.roomless.len());
        self.due = (self.due - count).min(self.roomless.len() - count);
        paths.extend(self.roomless.drain(..count));
    }

    fn take_of(&mut self, queue: &QueueName, most: usize, paths: &mut Vec<PathBuf>) -> usize {
        let Some(line) = self.of.get_mut(queue) else {
            return 0;
        };
        let count = line.len().min(most);
        paths.extend(line.drain(..count));
        if line.is_empty() {
            self.of.remove(queue);
        }
        count
    }

    fn take_keyed(&mut self, most: usize, paths: &mut Vec<PathBuf>) {
        let count = self.keyed.len().min(most);
        paths.extend(self.keyed.drain(..count));
    }

    /// In their order: one that is too large for now is not passed by smaller ones.
    fn take_large(&mut self, most: usize, mut bytes: u64, paths: &mut Vec<PathBuf>) {
        for _ in 0..most {
            let Some((path, its)) = self.large.pop_front_if(|(_, its)| *its <= bytes) else {
                return;
            };
            bytes -= its;
            paths.push(path);
        }
    }

    /// How many wait, as far as they are remembered.
    pub(super) fn len(&self) -> usize {
        self.here.len()
    }

    /// Whether some wait for room on the disk.
    pub(super) fn wants_room(&self) -> bool {
        !self.roomless.is_empty()
    }

    /// There may be room on the disk.
    pub(super) fn try_roomless(&mut self) {
        self.due = self.roomless.len();
        self.look_again();
    }

    /// The limits have changed, or something else that no record tells.
    pub(super) const fn look_again(&mut self) {
        self.looked_at = None;
    }

    /// The watcher has looked at what it was asked for.
    pub(super) const fn answered(&mut self) {
        self.asked = false;
        // Some may be gone: there is room for others.
        self.looked_at = None;
    }
}

impl Engine {
    /// Whether a queue takes no dropped file for now, whatever room there is on the disk.
    pub(super) fn is_closed(&self, queue: &QueueName) -> bool {
        self.queue.is_at_limit(queue)
            || self.queue.is_draining(queue)
            || !self.queue.may_open(queue)
            || self.full.waiting_in(queue) > 0
    }

    /// Keeps a dropped file until its queue takes some again.
    pub(super) fn keep_for_queue(
        &mut self,
        source: Source,
        queue: &QueueName,
        out: &mut Vec<Output>,
    ) {
        if self.kept.of.contains_key(queue) {
            // Told already.
        } else if !self.queue.may_open(queue) {
            let limit = self.settings.limits.max_queues;
            tracing::warn!(queue = %queue, limit, "as many queues as may be have tasks: dropped files wait where they are until one has none, or max_queues is higher");
        } else if self.queue.is_at_limit(queue) {
            tracing::warn!(queue = %queue, "as many tasks as may be: dropped files wait where they are until some have ended");
        }
        if !self.kept.put(&source, Wait::Queue(queue)) {
            out.push(Output::Forget(source));
        }
    }

    /// Keeps a dropped file until there is room on the disk. Those behind it need not be tried before.
    pub(super) fn keep_for_room(&mut self, source: Source, out: &mut Vec<Output>) {
        self.kept.due = 0;
        if !self.kept.put(&source, Wait::Room) {
            out.push(Output::Forget(source));
        }
    }

    /// Whether dropped files wait that would make the payloads too many bytes.
    #[cfg(test)]
    pub(super) fn drops_wait_for_bytes(&self) -> bool {
        let first = self.kept.large.front();
        first.is_some_and(|(_, bytes)| *bytes > self.room_for_bytes())
    }

    /// Keeps a dropped file that was refused until the limit that refused it has room, or gives the refusal back if waiting
    /// does not help.
    pub(super) fn keep_for_limit(
        &mut self,
        source: Source,
        bytes: u64,
        refusal: Refusal,
        out: &mut Vec<Output>,
    ) -> Result<(), (Source, Refusal)> {
        let wait = match refusal {
            Refusal::TooMany {
                setting: "max_unique_keys",
                ..
            } => Wait::Key,
            Refusal::TooMany {
                setting: "max_spool",
                ..
            } => Wait::Bytes(bytes),
            other => return Err((source, other)),
        };
        if self.kept.keyed.is_empty() && self.kept.large.is_empty() {
            tracing::warn!(file = %shown(&source.path), reason = %refusal, "dropped files wait where they are until there is less");
        }
        if !self.kept.put(&source, wait) {
            out.push(Output::Forget(source));
        }
        Ok(())
    }

    /// Asks the watcher for those that could be taken now.
    pub(super) fn ask_for_kept(&mut self, out: &mut Vec<Output>) {
        if self.kept.asked || (self.kept.here.is_empty() && !self.kept.passed_over) {
            return;
        }
        let mut paths = Vec::new();
        self.kept.take_roomless(&mut paths);
        if self.kept.looked_at != Some(self.records) {
            self.ask_for_queues(&mut paths);
        }
        for path in &paths {
            self.kept.here.remove(path);
        }
        if !paths.is_empty() {
            self.kept.asked = true;
            out.push(Output::Again(paths));
        }
        if self.kept.passed_over && self.kept.here.len() <= MOST / 2 {
            self.kept.passed_over = false;
            out.push(Output::Rescan);
        }
    }

    fn ask_for_queues(&mut self, paths: &mut Vec<PathBuf>) {
        self.kept
            .take_keyed(self.queue.room_for_keys().min(ROUND), paths);
        self.kept.take_large(ROUND, self.room_for_bytes(), paths);
        let mut room = self.queue.room();
        let mut new = self.queue.room_for_queues();
        let queues: Vec<QueueName> = self.kept.of.keys().cloned().collect();
        for queue in queues {
            if self.is_closed(&queue) {
                continue;
            }
            if !self.queue.is_known(&queue) {
                // Others that are new have their turn if these don't come to be, or when there is more room.
                let Some(rest) = new.checked_sub(1) else {
                    continue;
                };
                new = rest;
            }
            let most = self.queue.room_in(&queue).min(room);
            if paths.len() >= ROUND {
                // The rest when these have been looked at.
                return;
            }
            let most = most.min(ROUND - paths.len());
            room -= self.kept.take_of(&queue, most, paths);
        }
        if paths.len() < ROUND {
            self.kept.looked_at = Some(self.records);
        }
    }
}
