//! [`Backend`]: the one trait that transports see.
//!
//! Whatever keeps the tasks stands behind it: the engine of this crate today, another implementation for those who outgrow
//! one machine later. So nothing here knows about files, and the conformance suite beside it
//! (`conformance.rs`) is run on every implementation.

#[cfg(test)]
pub(crate) mod conformance;
mod events;

use std::{future::Future, sync::Arc};

pub use events::{
    EventId, EventLog, EventStream, LINGER, Listeners, Lost, MOST_BYTES, MOST_EVENTS, TooSlow,
};

pub use crate::task::{
    Change, ClaimAnswer, ClaimRequest, Completion, Counters, Cursor, DiskSpace, Distribution,
    Event, EventKind, EventResult, ExportHead, ExportPiece, Failure, Happening, Health,
    HistorySlot, HistoryView, LeaseView, Page, PageQuery, Quantiles, QueueView, RejectedView,
    RetriedDead, Settlement, Span, StatusView, SubmitOutcome, TaskHistory, TaskView, WorkerView,
};
use crate::task::{Millis, NewTask, Payload, QueueName, Refusal, State, TaskId, Token, WallMillis};

/// A defect of ours or of the disk. It was logged with its cause when it happened; from then on no write is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub Arc<str>);

/// Why a request was not done: the caller's matter, or ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The caller's: nothing has changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Ours: writes have stopped. Whether this one request is on disk is not known.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// The task that is meant to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// The task.
    pub id: TaskId,
    /// The queue that it is to be in: one who may not use others has seen it there. Where it has gone to another since, nothing is
    /// done ([`Refusal::Moved`]).
    pub queue: Option<QueueName>,
}

impl From<TaskId> for Meant {
    fn from(id: TaskId) -> Self {
        Self { id, queue: None }
    }
}

/// What a request gives.
pub type Answer<T> = Result<T, Error>;

/// What keeps the tasks, as transports see it.
///
/// Every answer is durable, in the sense of the configured durability, when the future is ready: no answer, also none to
/// a reading request, rests on what a crash could take back. A future that is dropped gives up: a claim that waits is
/// withdrawn, and tasks that were just handed to it go back, no attempt counted.
pub trait Backend: Send + Sync + 'static {
    /// Takes all of these tasks, or none. An id that is taken by the same content, and a unique key that is held, are no
    /// errors: the outcome names the task that was there first.
    fn submit(
        &self,
        tasks: Vec<NewTask>,
    ) -> impl Future<Output = Answer<Vec<SubmitOutcome>>> + Send;
    /// Completes, then hands out up to `max` due tasks, waiting up to `wait` for the first of them.
    fn claim(&self, request: ClaimRequest) -> impl Future<Output = Answer<ClaimAnswer>> + Send;
    /// Ends a task that was done. Without a token: what the original's API may end (ready, scheduled, or leased by it).
    fn complete(
        &self,
        task: impl Into<Meant> + Send,
        token: Option<Token>,
        result: Option<Payload>,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// Tells of a failed attempt. Gives the state that the task is in now.
    fn fail(
        &self,
        id: TaskId,
        token: Token,
        failure: Failure,
    ) -> impl Future<Output = Answer<TaskView>> + Send;
    /// Gives a task back; the attempt does not count.
    fn release(&self, id: TaskId, token: Token) -> impl Future<Output = Answer<()>> + Send;
    /// Makes a lease last `length` from now; `None`: the task's own default. Gives its new end.
    fn extend(
        &self,
        id: TaskId,
        token: Token,
        length: Option<Millis>,
    ) -> impl Future<Output = Answer<WallMillis>> + Send;
    /// Ends a task that was not done. One under a v1 lease is refused.
    fn cancel(&self, task: impl Into<Meant> + Send) -> impl Future<Output = Answer<()>> + Send;
    /// Gives a task a new place in the order.
    fn reschedule(
        &self,
        task: impl Into<Meant> + Send,
        change: Change,
    ) -> impl Future<Output = Answer<TaskView>> + Send;
    /// Brings a dead task back, all its attempts before it.
    fn retry(&self, task: impl Into<Meant> + Send)
    -> impl Future<Output = Answer<TaskView>> + Send;

    /// One task.
    fn task(&self, id: TaskId) -> impl Future<Output = Answer<TaskView>> + Send;
    /// A page of tasks in hand-out order.
    fn tasks(&self, query: PageQuery) -> impl Future<Output = Answer<Page>> + Send;
    /// All queues, by name.
    fn queues(&self) -> impl Future<Output = Answer<Vec<QueueView>>> + Send;
    /// One queue.
    fn queue(&self, name: QueueName) -> impl Future<Output = Answer<QueueView>> + Send;
    /// What happened lately: of all queues together, or the last hour of one.
    fn history(
        &self,
        queue: Option<QueueName>,
        span: Span,
    ) -> impl Future<Output = Answer<HistoryView>> + Send;
    /// Who claims, by name.
    fn workers(&self) -> impl Future<Output = Answer<Vec<WorkerView>>> + Send;
    /// What happens from now on, or from behind `after` on, where that is still known.
    fn events(&self, after: Option<EventId>) -> EventStream;
    /// How many listen to events, and how many were too slow.
    fn listeners(&self) -> Listeners;
    /// Whether all is well, without asking the engine: answers also when it is stuck.
    fn health(&self) -> Health;

    /// The whole in numbers.
    fn status(&self) -> impl Future<Output = Answer<StatusView>> + Send;
    /// Stops or starts handing out, of one queue or (`None`) of all.
    fn pause(&self, queue: Option<QueueName>, on: bool) -> impl Future<Output = Answer<()>> + Send;
    /// Stops or starts taking new tasks, of one queue or (`None`) of all.
    fn drain(&self, queue: Option<QueueName>, on: bool) -> impl Future<Output = Answer<()>> + Send;
    /// Brings all dead tasks back, of one queue or of all. One that may not come back, because its unique key is in use or a
    /// limit is reached, keeps no other from it.
    fn retry_dead(
        &self,
        queue: Option<QueueName>,
    ) -> impl Future<Output = Answer<RetriedDead>> + Send;
    /// Cancels all tasks of a queue (or of all) that are in `state`, which may not be leased. Gives how many.
    fn purge(
        &self,
        queue: Option<QueueName>,
        state: State,
    ) -> impl Future<Output = Answer<u64>> + Send;
    /// Files that could not be taken in, newest first.
    fn rejected(&self, limit: usize) -> impl Future<Output = Answer<Vec<RejectedView>>> + Send;
    /// Takes a file in `rejected/`, by the name that the list shows, back into the task directory, or deletes it.
    fn settle_rejected(
        &self,
        name: String,
        how: Settlement,
    ) -> impl Future<Output = Answer<()>> + Send;
    /// Looks through the task directory now.
    fn rescan(&self) -> impl Future<Output = Answer<()>> + Send;
    /// Writes a checkpoint now. Ready when it is durable.
    fn checkpoint(&self) -> impl Future<Output = Answer<()>> + Send;

    /// Begins an export of all tasks as they are now. One at a time: another is refused meanwhile.
    fn export(&self) -> impl Future<Output = Answer<ExportHead>> + Send;
    /// The next piece of an export.
    fn export_next(&self, number: u64) -> impl Future<Output = Answer<ExportPiece>> + Send;
    /// Nobody reads this export any more. Needless after its end.
    fn export_end(&self, number: u64);
}
