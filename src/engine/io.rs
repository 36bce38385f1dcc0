//! What goes into the engine and what comes out of it: everything that happens, and everything that is to be done.

use std::{path::PathBuf, sync::Arc};

use crate::{
    backend::{Error, ExportHead, ExportPiece},
    store::{Checkpoint, FileOp, Group, LoadError, NewSegment, Ran, Seq, Sighting},
    task::{
        Change, ClaimAnswer, ClaimRequest, Event, Failure, HistoryView, Location, Millis, NewTask,
        Page, PageQuery, Payload, QueueName, QueueView, RejectedView, RetriedDead, Settlement,
        Source, Span, State, StatusView, SubmitOutcome, TaskId, TaskView, Token, WallMillis,
        WorkerView,
    },
};

/// Names a request, so that its answer finds the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What callers ask.
#[derive(Debug, Clone)]
pub enum Request {
    /// See [`Backend::submit`](crate::backend::Backend::submit); and so on for the others.
    Submit(Vec<NewTask>),
    /// Complete, then hand out.
    Claim(ClaimRequest),
    /// End a task that was done.
    Complete(TaskId, Option<Token>, Option<Payload>),
    /// Tell of a failed attempt.
    Fail(TaskId, Token, Failure),
    /// Give a task back.
    Release(TaskId, Token),
    /// Make a lease longer.
    Extend(TaskId, Token, Option<Millis>),
    /// End a task that was not done.
    Cancel(TaskId),
    /// Give a task a new place.
    Reschedule(TaskId, Change),
    /// Bring a dead task back.
    Retry(TaskId),
    /// Do this to a task if it is in the queue.
    Within(TaskId, QueueName, Box<Request>),
    /// Show a task.
    Task(TaskId),
    /// Show a page of tasks.
    Tasks(PageQuery),
    /// Show all queues.
    Queues,
    /// Show a queue.
    Queue(QueueName),
    /// Show what happened lately.
    History(Option<QueueName>, Span),
    /// Show the workers.
    Workers,
    /// Show the whole in numbers.
    Status,
    /// Stop or start handing out.
    Pause(Option<QueueName>, bool),
    /// Stop or start taking new tasks.
    Drain(Option<QueueName>, bool),
    /// Bring some dead tasks back, but not the first so many, which are known to stay; none looked at is the end.
    RetrySome(Option<QueueName>, u64),
    /// Cancel some tasks in a state; the answer counts them, and none is the end.
    PurgeSome(Option<QueueName>, State),
    /// Show rejected files.
    Rejected(usize),
    /// Take a rejected file back, or delete it.
    SettleRejected(String, Settlement),
    /// Look through the task directory.
    Rescan,
    /// Write a checkpoint.
    Checkpoint,
    /// Begin an export.
    ExportBegin,
    /// Show the next piece of an export.
    ExportNext(u64),
}

/// What callers are told.
#[derive(Debug, Clone)]
pub enum Response {
    /// What became of submitted tasks.
    Submitted(Vec<SubmitOutcome>),
    /// What a claim got.
    Claimed(ClaimAnswer),
    /// It is done.
    Done,
    /// A task.
    Task(Box<TaskView>),
    /// The end of a lease.
    Expires(WallMillis),
    /// A page of tasks.
    Page(Page),
    /// Queues.
    Queues(Vec<QueueView>),
    /// What happened lately.
    History(Box<HistoryView>),
    /// Workers.
    Workers(Vec<WorkerView>),
    /// The whole in numbers.
    Status(Box<StatusView>),
    /// How many.
    Count(u64),
    /// What came of bringing some dead tasks back.
    RetriedSome(RetriedDead),
    /// Rejected files.
    Rejected(Vec<RejectedView>),
    /// An export has begun.
    ExportBegun(Box<ExportHead>),
    /// A piece of an export.
    Exported(ExportPiece),
}

/// Why a change of a file, a checkpoint or a new segment could not be made.
#[derive(Debug, Clone)]
pub struct Failed {
    /// Whether it is only a matter of room.
    pub full: bool,
    /// What the disk said.
    pub text: Arc<str>,
}

/// Everything that can happen to the engine.
#[derive(Debug)]
pub enum Input {
    /// Somebody asks.
    Request(Ticket, Request),
    /// Somebody who asked is gone.
    Withdrawn(Ticket),
    /// Nobody reads this export any more.
    ExportEnded(u64),
    /// Tasks were handed to somebody who was gone.
    Undelivered(Vec<(TaskId, Token)>),
    /// No more inputs wait: what has gathered may be written. Also: time has passed.
    Flush,
    /// The group up to this frame is where the configured durability wants it.
    Written(Seq),
    /// The group could not be written or synced.
    WriteFailed(Arc<str>),
    /// What was written up to this frame is durable (durability `interval`).
    Durable(Seq),
    /// A segment of this number and size is there.
    SegmentMade(u64, u64, Option<u64>),
    /// A segment could not be made.
    SegmentFailed(Failed),
    /// Changes of task files were made, or not.
    FilesDone(Vec<(TaskId, Result<Ran, Failed>)>),
    /// Bytes that the disk has left, if it says that.
    Free(Option<u64>),
    /// Task files were read, or not.
    Loaded(Vec<(TaskId, Result<NewTask, LoadError>)>),
    /// The checkpoint was made, or not.
    CheckpointDone(Result<(), Failed>),
    /// The watcher saw something.
    Sighting(Sighting),
    /// A bad file was moved to `rejected/`; `false`: another one is in its place, and stays.
    Rejected(BadFile, Result<bool, Failed>),
    /// A list of rejected files was made.
    RejectedListed(Ticket, Result<Vec<RejectedView>, Arc<str>>),
    /// A rejected file was settled, or not.
    RejectedSettled(Ticket, Result<(), Error>),
    /// Some settings are others from now on.
    Live(Box<super::Live>),
    /// Whether anybody listens to events.
    Listening(bool),
    /// The daemon begins to stop: nobody waits any longer.
    Stop,
    /// All callers are gone: bring what is in memory to the disk and say [`Output::Closed`].
    Close,
}

/// One task's changes on the disk, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct FileWork {
    /// Which task.
    pub id: TaskId,
    /// What to do.
    pub ops: Vec<FileOp>,
}

/// A file that is no task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFile {
    /// Where it is, relative to the data directory.
    pub path: PathBuf,
    /// Which file was judged, where that is known: another one in its place is left there.
    pub known: Option<Source>,
    /// What is wrong with it.
    pub reason: String,
}

/// Everything that the engine wants done.
#[derive(Debug)]
pub enum Output {
    /// Tell a caller.
    Reply(Ticket, Result<Response, Error>),
    /// Tell listeners.
    Event(Arc<Event>),
    /// Write a group, and answer with [`Input::Written`]. The design's "`StartSync`".
    Write(Group),
    /// Make a segment.
    MakeSegment(NewSegment),
    /// Make a checkpoint.
    Checkpoint(Checkpoint),
    /// Set room aside for the next checkpoint, which will have about so many bytes beside what is the same for all.
    SetAside(u64),
    /// Change task files.
    Files(Vec<FileWork>),
    /// Read task files.
    Load(Vec<(TaskId, Location)>),
    /// Read these files as drops.
    Inspect(Vec<Location>),
    /// Look whether these files are gone.
    Confirm(u64, Vec<Location>),
    /// Look through the task directory.
    Rescan,
    /// Look at these files anew, whatever was told of them, and say [`Sighting::LookedAgain`].
    Again(Vec<PathBuf>),
    /// Look whether this file is gone, and anew at another one with its id.
    TellApart(u64, Location, Source),
    /// Take this file for one that was not seen yet, when the directory is looked through.
    Forget(Source),
    /// Move a file to `rejected/`, and answer with [`Input::Rejected`].
    Reject(BadFile),
    /// List rejected files.
    ListRejected(Ticket, usize),
    /// Settle a rejected file.
    SettleRejected(Ticket, String, Settlement),
    /// Remove done tasks' files that were written before this.
    PurgeDone(WallMillis),
    /// Writes have stopped, for this reason.
    Fault(Arc<str>),
    /// All that was in memory is on the disk.
    Closed,
}
