//! [`Hands`]: the threads that do to the disk what the engine says, and tell it what came of it.

use std::{path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::{
    Durability, clock,
    driver::{OpenError, thread},
    handle::Post,
    io::{Failed, FileWork, Input, Ticket},
    mailbox::Mailbox,
};
use crate::{
    backend::{Error, Fault, Settlement},
    store::{
        Checkpoint, DiskError, Group, Journal, JournalStart, Latched, LatchedFile, LoadError,
        MadeSegment, NewSegment, RealDisk, RealFile, Seq, Spool, discard, reject, rejected, shown,
        take_back,
    },
    task::{Location, NewTask, Refusal, RejectedView, TaskId, Tick, WallMillis},
};

#[derive(Debug)]
pub(super) enum JournalWork {
    Write(Group),
    Adopt(MadeSegment<LatchedFile<RealFile>>),
    Forget(Vec<u64>),
}

#[derive(Debug)]
pub(super) enum FilesWork {
    Change(Vec<FileWork>),
    Reject(PathBuf, String),
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
    journal: Option<Sender<JournalWork>>,
    segments: Option<Sender<NewSegment>>,
    checkpoint: Option<Sender<Checkpoint>>,
    files: Option<Sender<FilesWork>>,
    load: Option<Sender<LoadWork>>,
    threads: Vec<JoinHandle<()>>,
}

impl Hands {
    pub(super) fn start(
        latched: &Arc<Latched<RealDisk>>,
        real: &Arc<RealDisk>,
        spool: &Arc<Spool<RealDisk>>,
        start: &JournalStart,
        durability: Durability,
        mailbox: &Arc<Mailbox>,
    ) -> Result<Self, OpenError> {
        let (journal, orders) = unbounded();
        let hand = JournalHand {
            journal: Journal::new(Arc::clone(latched), start.boot),
            durability,
            mailbox: Arc::clone(mailbox),
        };
        let journal_thread = thread("journal", move || hand.run(&orders))?;

        let (segments, orders) = unbounded::<NewSegment>();
        let maker = Journal::new(Arc::clone(latched), start.boot);
        let (tell, adopt) = (Arc::clone(mailbox), journal.clone());
        let segments_thread = thread("segments", move || {
            for order in orders {
                make_segment(&maker, &order, &adopt, &tell);
            }
        })?;

        let (checkpoint, orders) = unbounded::<Checkpoint>();
        let mut writer = Journal::new(Arc::clone(latched), start.boot);
        let (tell, forget) = (Arc::clone(mailbox), journal.clone());
        let checkpoint_thread = thread("checkpoint", move || {
            for order in orders {
                let result = writer.checkpoint(&order).map_err(failed);
                if result.is_ok() {
                    send(&forget, JournalWork::Forget(order.delete));
                }
                post(&tell, Post::Input(Input::CheckpointDone(result)));
            }
        })?;

        let (files, orders) = unbounded();
        let (tell, hand, disk) = (Arc::clone(mailbox), Arc::clone(spool), Arc::clone(real));
        let files_thread = thread("files", move || {
            give_way();
            for order in orders {
                change_files(&hand, &disk, order, &tell);
            }
        })?;

        let (load, orders) = unbounded();
        let (tell, hand, disk) = (Arc::clone(mailbox), Arc::clone(spool), Arc::clone(real));
        let load_thread = thread("payloads", move || {
            for order in orders {
                read_files(&hand, &disk, order, &tell);
            }
        })?;
        let threads = vec![
            journal_thread,
            segments_thread,
            checkpoint_thread,
            files_thread,
            load_thread,
        ];
        Ok(Self {
            journal: Some(journal),
            segments: Some(segments),
            checkpoint: Some(checkpoint),
            files: Some(files),
            load: Some(load),
            threads,
        })
    }

    pub(super) fn journal(&self, work: JournalWork) {
        order(self.journal.as_ref(), work);
    }

    pub(super) fn segment(&self, work: NewSegment) {
        order(self.segments.as_ref(), work);
    }

    pub(super) fn checkpoint(&self, work: Checkpoint) {
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
        // These two give orders to the journal's hand, so they end first.
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

fn order<T>(hand: Option<&Sender<T>>, work: T) {
    if let Some(hand) = hand {
        send(hand, work);
    }
}

/// Sends to another of the engine's threads. One that is gone has panicked, or the engine has ended: then nobody waits.
pub(super) fn send<T>(to: &Sender<T>, what: T) {
    if to.send(what).is_err() {
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

struct JournalHand {
    journal: Journal<Latched<RealDisk>>,
    durability: Durability,
    mailbox: Arc<Mailbox>,
}

impl JournalHand {
    fn run(mut self, orders: &Receiver<JournalWork>) {
        let mut behind = Behind::default();
        loop {
            let due = behind.due(self.durability);
            let left =
                due.map(|due| Duration::from_nanos(due.0.saturating_sub(clock::now().tick.0)));
            // Also while orders keep coming.
            if left == Some(Duration::ZERO) {
                self.sync(&mut behind);
                continue;
            }
            let next = match left {
                Some(left) => orders.recv_timeout(left),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(work) => {
                    // The clock is read before the write: what is written is answered after it.
                    let now = clock::now().tick;
                    if let Some(seq) = self.one(work) {
                        behind.written(seq, now);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.sync(&mut behind),
            }
        }
    }

    /// Does one thing. Gives the frame that still needs a sync.
    fn one(&mut self, work: JournalWork) -> Option<Seq> {
        let input = match work {
            JournalWork::Forget(numbers) => {
                self.journal.forget(&numbers);
                return None;
            }
            JournalWork::Adopt(made) => {
                self.journal.adopt(made);
                return None;
            }
            JournalWork::Write(group) => match self.journal.write(&group) {
                Ok(()) => {
                    post(&self.mailbox, Post::Input(Input::Written(group.seq)));
                    return (!group.sync).then_some(group.seq);
                }
                Err(error) => Input::WriteFailed(text(&error)),
            },
        };
        post(&self.mailbox, Post::Input(input));
        None
    }

    fn sync(&mut self, behind: &mut Behind) {
        let Some(seq) = behind.take() else { return };
        let input = match self.journal.sync() {
            Ok(()) => Input::Durable(seq),
            Err(error) => Input::WriteFailed(text(&error)),
        };
        post(&self.mailbox, Post::Input(input));
    }
}

/// How far the hand that changes task files stands back (`nice(2)`): under full load requests come first, and the files
/// follow until so many are behind that submits wait for them.
const FILES_NICE: i32 = 10;

/// Lets other threads go first. On Linux a nice value is a thread's own (`setpriority(2)`, "C library/kernel differences").
fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, FILES_NICE) {
        tracing::debug!(%error, "task files are changed at the same priority as all else");
    }
}

/// Makes a segment: the journal's hand has it before the engine knows, so before anything is to be written to it.
fn make_segment(
    maker: &Journal<Latched<RealDisk>>,
    new: &NewSegment,
    adopt: &Sender<JournalWork>,
    tell: &Mailbox,
) {
    let input = match maker.prepare(new) {
        Ok(made) => {
            let bytes = made.bytes;
            send(adopt, JournalWork::Adopt(made));
            Input::SegmentMade(new.number, bytes)
        }
        Err(error) => Input::SegmentFailed(failed(error)),
    };
    post(tell, Post::Input(input));
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
                let result = one
                    .ops
                    .iter()
                    .try_for_each(|op| spool.run(op))
                    .map_err(failed);
                (one.id, result)
            });
            post(tell, Post::Input(Input::FilesDone(done.collect())));
        }
        FilesWork::Reject(path, reason) => match reject(disk, &path, &reason) {
            Ok(to) => tracing::info!(file = %shown(&path), to = %shown(&to), "moved to rejected/"),
            Err(error) if error.is_missing() => {}
            Err(error) => {
                tracing::error!(file = %shown(&path), error = %text(&error), "can't move a file to rejected/");
            }
        },
        FilesWork::PurgeDone(before) => match spool.purge_done(before) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed files of done tasks whose time is over"),
            Err(error) => {
                tracing::error!(error = %text(&error), "can't remove files of done tasks");
            }
        },
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
        Ok(false) => Err(Refusal::invalid("name", "no rejected file is called so").into()),
        Err(error) if error.is_taken() => Err(Refusal::invalid(
            "name",
            "a file of this name lies in the task directory: rename one of them",
        )
        .into()),
        Err(error) => Err(Error::Fault(Fault(text(&error)))),
    }
}

fn rejected_view(file: crate::store::RejectedFile) -> RejectedView {
    RejectedView {
        name: file.name,
        reason: file.reason,
        size: file.size,
        modified: file.modified,
        moved: true,
        beginning: file.beginning,
    }
}

#[cfg(test)]
#[path = "hands_tests.rs"]
mod tests;
