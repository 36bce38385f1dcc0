//! [`Hands`]: the threads that do to the disk what the engine says, and tell it what came of it.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use super::{
    Durability, clock,
    driver::{OpenError, thread},
    handle::Post,
    io::{BadFile, Failed, FileWork, Input, Ticket},
    line::{Giver, NoOrder, Taker, line},
    mailbox::Mailbox,
};
use crate::{
    backend::{Error, Settlement},
    store::{
        Checkpoint, DiskError, Group, Journal, Latched, LoadError, NewSegment, RealDisk, Seq,
        Spool, discard, free, reject, rejected, shown, take_back,
    },
    task::{Location, Millis, NewTask, Refusal, RejectedView, TaskId, Tick, WallMillis},
};

/// The journal, shared by whoever writes a group, makes a segment, or forgets some. Held as long as a write takes: nothing that
/// must not wait for the disk may want it.
pub(super) type SharedJournal = Arc<Mutex<Journal<Latched<RealDisk>>>>;

#[derive(Debug)]
pub(super) enum CheckpointWork {
    Write(Checkpoint),
    SetAside(u64),
}

#[derive(Debug)]
pub(super) enum FilesWork {
    Change(Vec<FileWork>),
    Reject(BadFile),
    PurgeDone(WallMillis),
}

#[derive(Debug)]
pub(super) enum LoadWork {
    Load(Vec<(TaskId, Location)>),
    ListRejected(Ticket, usize),
    SettleRejected(Ticket, String, Settlement),
}

/// The threads that do what the engine says. Each ends when its orders end.
#[derive(Debug)]
pub(super) struct Hands {
    journal: Option<Giver<(Seq, Tick)>>,
    segments: Option<Giver<NewSegment>>,
    checkpoint: Option<Giver<CheckpointWork>>,
    files: Option<Giver<FilesWork>>,
    load: Option<Giver<LoadWork>>,
    threads: Vec<JoinHandle<()>>,
}

impl Hands {
    pub(super) fn start(
        latched: &Arc<Latched<RealDisk>>,
        real: &Arc<RealDisk>,
        spool: &Arc<Spool<RealDisk>>,
        journal: &SharedJournal,
        durability: Durability,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Self, OpenError> {
        let mut threads = Vec::new();
        let syncs = if durability == Durability::Sync {
            None
        } else {
            let (syncs, orders) = line();
            let hand = SyncHand {
                journal: Arc::clone(journal),
                durability,
                mailbox: Arc::clone(mailbox),
            };
            threads.push(thread("journal", move || hand.run(&orders))?);
            Some(syncs)
        };

        let boot = in_journal(journal).boot();
        let (segments, orders) = line::<NewSegment>();
        let maker = Journal::new(Arc::clone(latched), boot);
        let segments_disk = Arc::clone(latched);
        let (tell, adopt) = (Arc::clone(mailbox), Arc::clone(journal));
        let segments_thread = thread("segments", move || {
            SegmentHand {
                maker,
                disk: segments_disk,
                orders,
                adopt,
                mailbox: tell,
            }
            .run();
        })?;

        let (checkpoint, orders) = line::<CheckpointWork>();
        let mut writer = Journal::new(Arc::clone(latched), boot);
        let (tell, forget) = (Arc::clone(mailbox), Arc::clone(journal));
        let checkpoint_thread = thread("checkpoint", move || {
            for order in orders {
                let input = match order {
                    CheckpointWork::Write(checkpoint) => {
                        let result = writer.checkpoint(&checkpoint).map_err(failed);
                        if result.is_ok() {
                            in_journal(&forget).forget(&checkpoint.delete);
                        }
                        Input::CheckpointDone(result)
                    }
                    CheckpointWork::SetAside(bytes) => {
                        writer.set_aside(bytes);
                        continue;
                    }
                };
                post(&tell, Post::Input(input));
            }
        })?;

        let (files, orders) = line();
        let (tell, hand, disk) = (Arc::clone(mailbox), Arc::clone(spool), Arc::clone(real));
        let files_thread = thread("files", move || {
            give_way();
            let mut looked: Option<Tick> = None;
            for order in orders {
                change_files(&hand, &disk, order, &tell);
                let now = clock::now().tick;
                if looked.is_none_or(|at| now.since(at) > FREE_EVERY) {
                    looked = Some(now);
                    post(&tell, Post::Input(Input::Free(free(&*disk))));
                }
            }
        })?;

        let (load, orders) = line();
        let (tell, hand, disk) = (Arc::clone(mailbox), Arc::clone(spool), Arc::clone(real));
        let load_thread = thread("payloads", move || {
            for order in orders {
                read_files(&hand, &disk, order, &tell);
            }
        })?;
        threads.extend([
            segments_thread,
            checkpoint_thread,
            files_thread,
            load_thread,
        ]);
        Ok(Self {
            journal: syncs,
            segments: Some(segments),
            checkpoint: Some(checkpoint),
            files: Some(files),
            load: Some(load),
            threads,
        })
    }

    /// A frame is written, and is to be synced in its time. The clock was read before it was written.
    pub(super) fn sync(&self, seq: Seq, since: Tick) {
        order(self.journal.as_ref(), (seq, since));
    }

    pub(super) fn segment(&self, work: NewSegment) {
        order(self.segments.as_ref(), work);
    }

    pub(super) fn checkpoint(&self, work: CheckpointWork) {
        order(self.checkpoint.as_ref(), work);
    }

    pub(super) fn files(&self, work: FilesWork) {
        order(self.files.as_ref(), work);
    }

    pub(super) fn load(&self, work: LoadWork) {
        order(self.load.as_ref(), work);
    }
}

impl Drop for Hands {
    /// Ends the threads, each after what it was told to do.
    fn drop(&mut self) {
        self.segments = None;
        self.checkpoint = None;
        self.files = None;
        self.load = None;
        self.journal = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("one of the engine's hands panicked");
            }
        }
    }
}

fn order<T>(hand: Option<&Giver<T>>, work: T) {
    if let Some(hand) = hand {
        send(hand, work);
    }
}

/// Sends to another of the engine's threads. One that is gone has panicked, or the engine has ended: then nobody waits.
pub(super) fn send<T>(to: &Giver<T>, what: T) {
    if to.give(what).is_err() {
        tracing::debug!("another of the engine's threads has ended");
    }
}

/// What is written and not synced yet, where syncs come on their own time.
#[derive(Debug, Default)]
struct Behind {
    last: Option<Seq>,
    /// When the first of it was written.
    since: Tick,
}

impl Behind {
    fn written(&mut self, seq: Seq, now: Tick) {
        if self.last.is_none() {
            self.since = now;
        }
        self.last = Some(seq);
    }

    /// When it is to be synced, so that nothing of it is older than the interval: counted from the first of it, or a
    /// daemon that writes without a pause would never sync.
    fn due(&self, durability: Durability) -> Option<Tick> {
        match durability {
            Durability::Interval(every) if self.last.is_some() => Some(self.since.plus(every)),
            _ => None,
        }
    }

    /// The last frame of it; nothing is behind after that.
    fn take(&mut self) -> Option<Seq> {
        self.last.take()
    }
}

/// Tells the engine's thread. One that is gone has panicked, or the engine has ended: then nobody waits.
pub(super) fn post(to: &Mailbox, what: Post) {
    if !to.post(what) {
        tracing::debug!("the engine's thread has ended");
    }
}

pub(super) fn in_journal(journal: &SharedJournal) -> MutexGuard<'_, Journal<Latched<RealDisk>>> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hand that syncs, where syncs come on their own time.
struct SyncHand {
    journal: SharedJournal,
    durability: Durability,
    mailbox: Arc<Mailbox>,
}

impl SyncHand {
    fn run(self, orders: &Taker<(Seq, Tick)>) {
        let mut behind = Behind::default();
        loop {
            let due = behind.due(self.durability);
            let left =
                due.map(|due| Duration::from_nanos(due.0.saturating_sub(clock::now().tick.0)));
            // Also while orders keep coming.
            if left == Some(Duration::ZERO) {
                self.sync(behind.take());
                continue;
            }
            match orders.wait(left) {
                Ok((seq, since)) => behind.written(seq, since),
                Err(NoOrder::Yet) => {}
                // At the end also what is written and was not told here any more.
                Err(NoOrder::Ever) => return self.sync(behind.take()),
            }
        }
    }

    fn sync(&self, seq: Option<Seq>) {
        let synced = in_journal(&self.journal).sync();
        let input = match (synced, seq) {
            (Ok(()), Some(seq)) => Input::Durable(seq),
            (Ok(()), None) => return,
            (Err(error), _) => Input::WriteFailed(text(&error)),
        };
        post(&self.mailbox, Post::Input(input));
    }
}

/// Writes a group. Gives what the engine is to be told, and whether the frame still needs a sync.
pub(super) fn write_group(journal: &SharedJournal, group: &Group) -> (Input, bool) {
    match in_journal(journal).write(group) {
        Ok(()) => (Input::Written(group.seq), !group.sync),
        Err(error) => (Input::WriteFailed(text(&error)), false),
    }
}

/// How often it is looked how much room the disk has left, while task files are changed.
const FREE_EVERY: Millis = Millis(100);

/// How far the hand that changes task files stands back (`nice(2)`): under full load requests come first, and the files
/// follow until so many are behind that submits wait for them.
const FILES_NICE: i32 = 10;

/// Lets other threads go first. On Linux a nice value is a thread's own (`setpriority(2)`, "C library/kernel differences").
fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, FILES_NICE) {
        tracing::debug!(%error, "task files are changed at the same priority as all else");
    }
}

/// Where segments are needed no more often than this, one is made in pieces with pauses.
const SLOW: Millis = Millis(100);
/// How long the disk is left to the journal between two pieces of the next segment: a few times what a piece takes, so that no
/// group stands behind more than one.
const BETWEEN_PIECES: Duration = Duration::from_millis(8);

/// The hand that makes segments.
struct SegmentHand {
    maker: Journal<Latched<RealDisk>>,
    disk: Arc<Latched<RealDisk>>,
    orders: Taker<NewSegment>,
    adopt: SharedJournal,
    mailbox: Arc<Mailbox>,
}

impl SegmentHand {
    fn run(self) {
        let mut last: Option<Tick> = None;
        let mut early = None;
        while let Some(order) = early.take().or_else(|| self.orders.wait(None).ok()) {
            let now = clock::now().tick;
            let has_time = last.is_some_and(|last| now.since(last) > SLOW);
            last = Some(now);
            early = self.make(&order, has_time);
        }
    }

    /// Makes a segment: the journal has it before the engine knows, so before anything is to be written to it. Gives the order that
    /// came meanwhile, which ends the pauses, as the end of all orders does.
    fn make(&self, new: &NewSegment, mut has_time: bool) -> Option<NewSegment> {
        let mut early = None;
        let mut between = || {
            if !has_time {
                return;
            }
            match self.orders.wait(Some(BETWEEN_PIECES)) {
                Err(NoOrder::Yet) => {}
                Err(NoOrder::Ever) => has_time = false,
                Ok(order) => {
                    has_time = false;
                    early = Some(order);
                }
            }
        };
        let input = match self.maker.prepare(new, &mut between) {
            Ok(made) => {
                let bytes = made.bytes;
                in_journal(&self.adopt).adopt(made);
                Input::SegmentMade(new.number, bytes, free(&*self.disk))
            }
            Err(error) => Input::SegmentFailed(failed(error)),
        };
        post(&self.mailbox, Post::Input(input));
        early
    }
}

fn text(error: &DiskError) -> Arc<str> {
    format!(
        "{} {}: {}",
        error.operation,
        shown(&error.path),
        error.cause
    )
    .into()
}

#[allow(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn failed(error: DiskError) -> Failed {
    Failed {
        full: error.is_full(),
        text: text(&error),
    }
}

fn change_files(spool: &Spool<RealDisk>, disk: &RealDisk, work: FilesWork, tell: &Mailbox) {
    match work {
        FilesWork::Change(work) => {
            let done = work.into_iter().map(|one| {
                let result = spool.run_all(&one.ops).map_err(failed);
                (one.id, result)
            });
            post(tell, Post::Input(Input::FilesDone(done.collect())));
        }
        FilesWork::Reject(file) => {
            let result = move_to_rejected(disk, &file);
            post(tell, Post::Input(Input::Rejected(file, result)));
        }
        FilesWork::PurgeDone(before) => match spool.purge_done(before) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed files of done tasks whose time is over"),
            Err(error) => {
                tracing::error!(error = %text(&error), "can't remove files of done tasks");
            }
        },
    }
}

/// Gives whether it was moved: not so if it is gone, or another one is in its place.
fn move_to_rejected(disk: &RealDisk, file: &BadFile) -> Result<bool, Failed> {
    match reject(disk, &file.path, file.known.as_ref(), &file.reason) {
        Ok(Some(to)) => {
            tracing::info!(file = %shown(&file.path), to = %shown(&to), "moved to rejected/");
            Ok(true)
        }
        Ok(None) => Ok(false),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

fn read_files(spool: &Spool<RealDisk>, disk: &RealDisk, work: LoadWork, tell: &Mailbox) {
    let input = match work {
        LoadWork::Load(places) => {
            let wall = clock::now().wall;
            let read = |(id, place): (TaskId, Location)| -> (TaskId, Result<NewTask, LoadError>) {
                (id, spool.load(&place, wall))
            };
            Input::Loaded(places.into_iter().map(read).collect())
        }
        LoadWork::ListRejected(ticket, limit) => {
            let list = rejected(disk, limit).map_err(|error| text(&error));
            Input::RejectedListed(
                ticket,
                list.map(|files| files.into_iter().map(rejected_view).collect()),
            )
        }
        LoadWork::SettleRejected(ticket, name, how) => {
            Input::RejectedSettled(ticket, settle_rejected(disk, &name, how))
        }
    };
    post(tell, Post::Input(input));
}

fn settle_rejected(disk: &RealDisk, name: &str, how: Settlement) -> Result<(), Error> {
    let settled = match how {
        Settlement::Retry => take_back(disk, name),
        Settlement::Discard => discard(disk, name),
    };
    match settled {
        Ok(true) => {
            tracing::info!(file = name, how = ?how, "a rejected file was settled");
            Ok(())
        }
        Ok(false) => Err(Refusal::NoSuchFile(name.to_owned()).into()),
        Err(error) if error.is_taken() => Err(Refusal::FileInUse(name.to_owned()).into()),
        Err(error) => Err(Refusal::OutOfReach {
            what: format!("the rejected file {name:?} stays where it is").into(),
            reason: error.to_string().into(),
        }
        .into()),
    }
}

fn rejected_view(file: crate::store::RejectedFile) -> RejectedView {
    RejectedView {
        name: file.name,
        reason: file.reason,
        size: Some(file.size),
        modified: Some(file.modified),
        moved: true,
        beginning: file.beginning,
    }
}

#[cfg(test)]
#[path = "hands_tests.rs"]
mod tests;
