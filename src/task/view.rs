//! What a caller asks for and what it is shown: requests with every value checked, and tasks, queues, workers and events
//! as they stand.

use std::{fmt, sync::Arc};

use super::{
    Distribution, ExecTime, IdPrefix, LeaseKind, Millis, NewTask, Options, Payload, Priority,
    QueueName, Refusal, State, TaskHistory, TaskId, Token, WallMillis, WorkerName,
};

/// What became of one submitted task.
#[derive(Debug, Clone, PartialEq)]
pub struct SubmitOutcome {
    /// The task: the new one, or the one that was there first.
    pub task: TaskView,
    /// Whether it is new.
    pub created: bool,
}

/// A task as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// Which task.
    pub id: TaskId,
    /// In which queue.
    pub queue: QueueName,
    /// Where in its life.
    pub state: State,
    /// How urgent.
    pub priority: Priority,
    /// Not before.
    pub exectime: ExecTime,
    /// What else was asked for.
    pub options: Options,
    /// Attempts that counted, the running one included.
    pub attempts: u32,
    /// Attempts after which it is dead, defaults applied.
    pub max_attempts: u32,
    /// Its lease, when it is leased.
    pub lease: Option<LeaseView>,
    /// Why the last attempt failed.
    pub last_error: Option<Arc<str>>,
    /// What happened to it; `None` where that was not asked for: only a task that is asked for by itself has it.
    pub history: Option<Box<TaskHistory>>,
    /// What is to be done.
    pub payload: Payload,
}

/// A lease, without its token.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseView {
    /// To whom.
    pub worker: Option<WorkerName>,
    /// By which API.
    pub kind: LeaseKind,
    /// Since when.
    pub since: WallMillis,
    /// Until when, as far as the wall clock can tell.
    pub expires: WallMillis,
}

/// What a worker asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRequest {
    /// From which queues; at least one. The best task among them by the order comes first.
    pub queues: Vec<QueueName>,
    /// At most so many tasks, and fewer where payloads are large; 0 only completes.
    pub max: u32,
    /// How long to wait for the first one.
    pub wait: Millis,
    /// How long the leases last; `None`: each task's own default.
    pub lease: Option<Millis>,
    /// By which API.
    pub kind: LeaseKind,
    /// Who asks.
    pub worker: Option<WorkerName>,
    /// What was done since the last claim. Each has its own outcome; none keeps the claim from being done.
    pub complete: Vec<Completion>,
}

/// A task that a worker has done.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Which task.
    pub id: TaskId,
    /// Its lease's token.
    pub token: Token,
    /// What the worker has to say; kept where retention is on.
    pub result: Option<Payload>,
}

/// What a worker gets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClaimAnswer {
    /// The tasks, in order, each with the token that ends its lease.
    pub tasks: Vec<(TaskView, Token)>,
    /// For each completion of the request, in its order: done, or why not.
    pub completed: Vec<(TaskId, Result<(), Refusal>)>,
}

/// What a worker says of a failed attempt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Failure {
    /// Why; longer than 4 KiB is cut.
    pub error: String,
    /// When to try again; `None`: as the task's backoff has it.
    pub retry_in: Option<Millis>,
    /// No more attempts, whatever the count.
    pub dead: bool,
}

/// A task's new place; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// Its queue from now on.
    pub queue: Option<QueueName>,
    /// Its priority from now on.
    pub priority: Option<Priority>,
    /// Its exectime from now on.
    pub exectime: Option<ExecTime>,
}

/// Which tasks to show.
#[derive(Debug, Clone, PartialEq)]
pub struct PageQuery {
    /// Of one queue, or of all.
    pub queue: Option<QueueName>,
    /// In one state, or in any.
    pub state: Option<State>,
    /// Whose ids begin so.
    pub id_prefix: Option<IdPrefix>,
    /// How many; 1 to 1000.
    pub limit: usize,
    /// Those behind this place.
    pub after: Option<Cursor>,
}

/// Tasks in hand-out order: state by state in the order of [`State::ALL`], within a state those that come next first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// A place in a list of tasks. It stays meaningful when the task that stood there is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The state of the last task shown.
    pub state: State,
    /// Its priority.
    pub priority: Priority,
    /// Its exectime.
    pub exectime: ExecTime,
    /// Its id.
    pub id: TaskId,
}

impl Cursor {
    /// Reads what [`Cursor`] prints.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong =
            || Refusal::invalid("after", "not a cursor: give the `next` of the page before");
        let mut parts = text.splitn(4, ',');
        let mut part = || parts.next().ok_or_else(wrong);
        let state = State::parse(part()?).map_err(|_| wrong())?;
        // A place outside of all priorities or times is a place too: before or after all tasks.
        let number: i64 = part()?.parse().map_err(|_| wrong())?;
        let number = number.clamp(i32::MIN.into(), i32::MAX.into());
        let priority = Priority::new(number as i32);
        let secs: i64 = part()?.parse().map_err(|_| wrong())?;
        let exectime = ExecTime::new(secs.clamp(ExecTime::MIN.get(), ExecTime::MAX.get()))
            .map_err(|_| wrong())?;
        let id = TaskId::parse(part()?).map_err(|_| wrong())?;
        Ok(Self {
            state,
            priority,
            exectime,
            id,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{},{},{},{}",
            self.state, self.priority, self.exectime, self.id
        )
    }
}

/// Counts of what happened in a queue since the daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Tasks taken.
    pub submitted: u64,
    /// Leases given.
    pub claimed: u64,
    /// Tasks completed.
    pub completed: u64,
    /// Failed attempts, told by their workers.
    pub failed: u64,
    /// Tasks given back.
    pub released: u64,
    /// Leases that came to their end.
    pub expired: u64,
    /// Tasks cancelled.
    pub cancelled: u64,
    /// Tasks that ran out of attempts.
    pub died: u64,
    /// Dead tasks brought back.
    pub retried: u64,
}

impl Counters {
    /// Adds what happened elsewhere.
    pub const fn add(&mut self, other: &Self) {
        self.submitted += other.submitted;
        self.claimed += other.claimed;
        self.completed += other.completed;
        self.failed += other.failed;
        self.released += other.released;
        self.expired += other.expired;
        self.cancelled += other.cancelled;
        self.died += other.died;
        self.retried += other.retried;
    }
}

/// A queue in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    /// Which queue.
    pub name: QueueName,
    /// Tasks by state, in the order of [`State::ALL`].
    pub counts: [u64; 4],
    /// Whether it hands out nothing (itself, or all queues).
    pub paused: bool,
    /// Whether it takes no new tasks (itself, or all queues).
    pub draining: bool,
    /// How long the ready task that has waited longest has been due.
    pub oldest_due: Option<Millis>,
    /// How long nobody has asked for its tasks, since the start at most.
    pub unasked: Millis,
    /// Tasks that died in the last hour, since the start at most.
    pub died_lately: u64,
    /// What happened since the daemon started.
    pub counters: Counters,
    /// Tasks submitted a second, over the last minute.
    pub submitted_rate: f64,
    /// Tasks completed a second, over the last minute.
    pub completed_rate: f64,
}

impl QueueView {
    /// How many tasks are in `state`.
    #[must_use]
    pub fn count(&self, state: State) -> u64 {
        State::ALL
            .iter()
            .zip(self.counts)
            .find_map(|(one, count)| (*one == state).then_some(count))
            .unwrap_or(0)
    }
}

/// A worker, as its claims show it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerView {
    /// What it calls itself.
    pub name: WorkerName,
    /// What it holds under lease.
    pub holds: Vec<TaskId>,
    /// Whether a claim of its waits now.
    pub waiting: bool,
    /// When it last asked for anything.
    pub last_seen: WallMillis,
    /// Leases it got.
    pub claimed: u64,
    /// Tasks it completed.
    pub completed: u64,
    /// Attempts it failed.
    pub failed: u64,
}

/// A file that could not be taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedView {
    /// Its name, odd bytes escaped.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Its size in bytes; `None`: not known, as of what is no regular file.
    pub size: Option<u64>,
    /// When it was rejected, or last written where it still is where it was; `None`: not known.
    pub modified: Option<WallMillis>,
    /// Whether it lies in `rejected/`; `false`: it was left where it is, because it is no regular file or can't be moved yet.
    pub moved: bool,
    /// How it begins, as far as that is text.
    pub beginning: String,
}

/// What came of bringing dead tasks back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RetriedDead {
    /// How many are back.
    pub count: u64,
    /// How many were looked at and are still dead.
    pub left: u64,
    /// Why the first of those is, or why the rest was not looked at.
    pub reason: Option<Refusal>,
}

/// What is to become of a rejected file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It goes back into the task directory, and is looked at anew.
    Retry,
    /// It is deleted.
    Discard,
}

/// Whether all is well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Whether requests are served: loaded, and not stopping.
    pub ready: bool,
    /// Why writes have stopped, once they have.
    pub fault: Option<Arc<str>>,
    /// For how long the disk has not answered, when that is long. Whatever changes something waits for it.
    pub disk_silent: Option<Millis>,
}

impl Health {
    /// That the disk does not answer, in words.
    #[must_use]
    pub fn silence(&self) -> Option<String> {
        let seconds = self.disk_silent?.0 / 1000;
        Some(format!(
            "the disk has not answered for {seconds} s: requests wait for it"
        ))
    }
}

/// The whole in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusView {
    /// Tasks by state over all queues, in the order of [`State::ALL`].
    pub counts: [u64; 4],
    /// How many queues there are.
    pub queues: u64,
    /// Whether all queues are paused.
    pub paused: bool,
    /// Whether nothing new is taken anywhere.
    pub draining: bool,
    /// Claims that wait.
    pub waiting_claims: u64,
    /// Workers that were forgotten since the start, because others came and only so many are remembered.
    pub workers_forgotten: u64,
    /// What happened since the daemon started, over all queues.
    pub counters: Counters,
    /// How long the oldest file change has been waiting to be written.
    pub spool_lag: Millis,
    /// How many files are to be written or removed.
    pub spool_pending: u64,
    /// File changes that failed and are tried again.
    pub spool_failing: u64,
    /// Dropped files that wait where they are for a limit, or for room.
    pub drops_waiting: u64,
    /// Tasks whose payloads are in a directory that is not there: they wait for it.
    pub left_behind: u64,
    /// Bytes in the journal since the last checkpoint.
    pub journal_bytes: u64,
    /// How long ago the last checkpoint was made; `None`: none since the start.
    pub checkpoint_age: Option<Millis>,
    /// Syncs of the journal since the start.
    pub journal_syncs: u64,
    /// Records written since the start.
    pub journal_records: u64,
    /// Files that were rejected since the start.
    pub rejected: u64,
    /// Whether the disk is too full for new tasks.
    pub disk_full: bool,
    /// Memory in use and the most, both in bytes, where so much is used that no new task is taken.
    pub no_memory: Option<(u64, u64)>,
    /// The disk that the tasks are on, when it could be told.
    pub disk: Option<DiskSpace>,
    /// When a change counts as made: `sync`, `interval` or `none`.
    pub durability: &'static str,
    /// How long handed out tasks had been due, since the start.
    pub wait: Distribution,
    /// How long completed tasks had been held, since the start.
    pub run: Distribution,
    /// How long groups of records took until they were where the durability wants them, since the start.
    pub writes: Distribution,
    /// Tasks that died in the last hour, since the start at most.
    pub died_lately: u64,
    /// Why changes in the task directory are seen late, when only looks through it tell of them.
    pub deaf: Option<Arc<str>>,
    /// Why writes have stopped, once they have.
    pub fault: Option<Arc<str>>,
}

/// The room on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes that can still be written.
    pub free: u64,
    /// Bytes in all.
    pub size: u64,
}

/// What can happen to a task or a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A task was taken.
    Submitted,
    /// A task was handed out.
    Claimed,
    /// A task was done.
    Completed,
    /// An attempt failed, and there will be another.
    Failed,
    /// A worker gave a task back.
    Released,
    /// A lease was made longer.
    Extended,
    /// A lease came to its end, and there will be another attempt.
    Expired,
    /// A task ran out of attempts.
    Dead,
    /// A task was cancelled.
    Cancelled,
    /// A task has a new place in the order.
    Rescheduled,
    /// A task is in another queue.
    Moved,
    /// A dead task lives again.
    Retried,
    /// A queue, or all, was paused.
    Paused,
    /// A queue, or all, goes on.
    Resumed,
    /// A queue, or all, takes nothing new.
    Draining,
    /// A queue, or all, takes new tasks again.
    Undrained,
    /// A dropped file was rejected.
    Rejected,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Submitted,
        Self::Claimed,
        Self::Completed,
        Self::Failed,
        Self::Released,
        Self::Extended,
        Self::Expired,
        Self::Dead,
        Self::Cancelled,
        Self::Rescheduled,
        Self::Moved,
        Self::Retried,
        Self::Paused,
        Self::Resumed,
        Self::Draining,
        Self::Undrained,
        Self::Rejected,
    ];

    /// Reads the word.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                let words = Self::ALL.map(Self::as_str).join(", ");
                Refusal::invalid("kind", format!("not one of {words}"))
            })
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Claimed => "claimed",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Extended => "extended",
            Self::Expired => "expired",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Rescheduled => "rescheduled",
            Self::Moved => "moved",
            Self::Retried => "retried",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Draining => "draining",
            Self::Undrained => "undrained",
            Self::Rejected => "rejected",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When.
    pub at: WallMillis,
    /// What.
    pub kind: EventKind,
    /// To which task.
    pub id: Option<TaskId>,
    /// In which queue.
    pub queue: Option<QueueName>,
    /// In which queue it was before, when it was moved.
    pub moved_from: Option<QueueName>,
    /// The state that the task is in now; `None`: it is gone, or this is not about a task.
    pub state: Option<State>,
    /// By which worker.
    pub worker: Option<WorkerName>,
    /// Which attempt.
    pub attempt: Option<u32>,
    /// The error, or the reason.
    pub error: Option<Arc<str>>,
    /// What the worker had to say of a task that it completed.
    pub result: Option<EventResult>,
}

/// A result as an event tells it.
#[derive(Debug, Clone, PartialEq)]
pub enum EventResult {
    /// The whole.
    Whole(Payload),
    /// So many bytes: more than [`Event::MOST_RESULT`], so that they are not told.
    TooLong(usize),
}

impl Event {
    /// The longest result that an event tells, in bytes: a few hundred of them fill what is kept of events.
    pub const MOST_RESULT: usize = 64 << 10;

    /// About how many bytes it takes in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        let result = match &self.result {
            Some(EventResult::Whole(result)) => result.len(),
            Some(EventResult::TooLong(_)) | None => 0,
        };
        size_of::<Self>() + self.error.as_deref().map_or(0, str::len) + result
    }
}

/// The beginning of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportHead {
    /// Names the export.
    pub number: u64,
    /// The moment that it shows.
    pub at: WallMillis,
    /// How many tasks there were.
    pub tasks: u64,
    /// Queues that were paused; `None` stands for all.
    pub paused: Vec<Option<QueueName>>,
    /// Queues that took nothing new; `None` stands for all.
    pub draining: Vec<Option<QueueName>>,
}

/// What comes next of an export.
#[derive(Debug, Clone, PartialEq)]
pub enum ExportPiece {
    /// Tasks, each with its id, in no order; there may be none yet.
    Tasks(Vec<NewTask>),
    /// That was all.
    End {
        /// How many tasks it has.
        tasks: u64,
        /// Of how many the payload could not be had: somebody removed their files meanwhile.
        left_out: u64,
    },
    /// More has changed meanwhile than is kept for it.
    GivenUp,
}
