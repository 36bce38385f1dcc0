//! The words of the HTTP API as Rust types: shared by those who serve it and those who speak it.
//!
//! Lengths of time are seconds (JSON numbers, fractions allowed), points in time are Unix seconds. This floor may not
//! know who serves the API.

mod admin;
mod events;
pub mod export;
mod history;
mod original;
pub mod schemas;
mod troubles;

pub use admin::{
    Config, Count, Done, Lease, Leases, LogLevel, Purge, QueueChoice, Rejected, RejectedFile,
    RejectedName, RetriedDead, Setting, Status,
};
pub use events::{Event, Reset};
pub use original::{OriginalComplete, OriginalNext, OriginalProblem, OriginalStatus, OriginalTask};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    history::{History, Latency},
    troubles::{Severity, Trouble, Troubles, troubles},
};
use crate::task::Payload;

/// A task as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its UUID.
    #[schema(value_type = schemas::TaskId)]
    pub id: String,
    /// The queue it is in.
    #[schema(value_type = schemas::QueueName)]
    pub queue: String,
    /// `ready`, `scheduled`, `leased` or `dead`.
    #[schema(value_type = schemas::TaskState)]
    pub state: String,
    /// Any JSON value, as it was submitted.
    #[schema(value_type = serde_json::Value)]
    pub payload: Payload,
    /// A higher number is handed out first.
    pub priority: i32,
    /// Not handed out before this Unix second; 0: as soon as possible.
    #[schema(minimum = -62_135_596_800_i64, maximum = 253_402_300_799_i64)]
    pub exectime: i64,
    /// Attempts that counted so far, the running one included.
    pub attempts: u32,
    /// Attempts after which it is dead.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_attempts: u32,
    /// At most one unfinished task per key and queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::UniqueKey>)]
    pub unique_key: Option<String>,
    /// The lease of a claim that names none, in seconds, where the task asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.1, maximum = 604_800)]
    pub lease: Option<f64>,
    /// The wait between attempts, where the task asked for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// The trace that its submitter was in (W3C Trace Context).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::TraceParent>)]
    pub traceparent: Option<String>,
    /// What tracing systems added to `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
    /// Who holds it, when it is leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::WorkerName>)]
    pub worker: Option<String>,
    /// When its lease ends, in Unix seconds, when it is leased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_expires: Option<f64>,
    /// Why the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What happened to it, oldest first, its submission before all else. Only a task that is asked for by its id has it,
    /// not one in a list.
    ///
    /// Kept are the last 32 things of each task, and 8 MiB of all; where that is not enough, those tasks are forgotten first
    /// to which nothing happened for longest. It is in memory: after a restart of the daemon it begins with what the
    /// journal since the last checkpoint tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Happening>>,
    /// How many older things are left out of `history` behind the submission, where there were more than are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub history_left_out: Option<u64>,
}

impl Task {
    /// The id of its trace, as logs have it.
    #[must_use]
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref()?.split('-').nth(1)
    }
}

/// One thing that happened to a task. A lease that was made longer is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Happening {
    /// `submitted`, `claimed`, `failed`, `expired`, `released`, `dead`, `rescheduled`, `retried` or `moved`.
    #[schema(value_type = schemas::HappeningKind)]
    pub kind: String,
    /// When, in Unix seconds; absent where that is not known: of a submission under an id that is no UUIDv7, and of most
    /// of what happened before the daemon was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// By which worker, where it said who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::WorkerName>)]
    pub worker: Option<String>,
    /// In which attempt; a retry of a dead task begins to count anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The queue that it was moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::QueueName>)]
    pub queue: Option<String>,
    /// The priority that it was given, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// The Unix second before which it is not handed out again, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -62_135_596_800_i64, maximum = 253_402_300_799_i64)]
    pub exectime: Option<i64>,
}

/// Exponential backoff between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// Seconds after the first failed attempt, doubled after each further one.
    #[schema(minimum = 0, maximum = 31_622_400)]
    pub base: f64,
    /// The most seconds; default 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 31_622_400)]
    pub max: Option<f64>,
}

/// A task to be submitted.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTask {
    /// Any JSON value.
    #[schema(value_type = serde_json::Value)]
    pub payload: Payload,
    /// Default: `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::QueueName>)]
    pub queue: Option<String>,
    /// Default: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Not before this Unix second. Default: 0, as soon as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -62_135_596_800_i64, maximum = 253_402_300_799_i64)]
    pub exectime: Option<i64>,
    /// Not before so many seconds from now; instead of `exectime`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 250_000_000_000_i64)]
    pub delay: Option<f64>,
    /// A UUID of the caller's, so that submitting again is safe.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::TaskId>)]
    pub id: Option<String>,
    /// At most one unfinished task per key and queue; 1 to 256 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::UniqueKey>)]
    pub unique_key: Option<String>,
    /// Attempts until it is dead. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_attempts: Option<u32>,
    /// The lease of a claim that names none, in seconds. Default: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.1, maximum = 604_800)]
    pub lease: Option<f64>,
    /// The wait between attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// The trace that it is part of (W3C Trace Context). Default: the request's header of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::TraceParent>)]
    pub traceparent: Option<String>,
    /// What tracing systems add to `traceparent`, which it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::TraceState>)]
    pub tracestate: Option<String>,
}

impl NewTask {
    /// A task with nothing but a payload.
    #[must_use]
    pub const fn of(payload: Payload) -> Self {
        Self {
            payload,
            queue: None,
            priority: None,
            exectime: None,
            delay: None,
            id: None,
            unique_key: None,
            max_attempts: None,
            lease: None,
            backoff: None,
            traceparent: None,
            tracestate: None,
        }
    }
}

/// `GET /api/v1/tasks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// In hand-out order.
    pub tasks: Vec<Task>,
    /// The `after` of the next page, if there is one.
    #[schema(value_type = Option<schemas::Cursor>)]
    pub next: Option<String>,
}

/// The answer to a stream of tasks (`application/x-ndjson`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Accepted {
    /// How many tasks were taken: all of them.
    pub accepted: u64,
    /// How many of them are new.
    pub created: u64,
}

/// `POST /api/v1/claim`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// From which queues. Default: `default`.
    #[serde(default = "default_queues")]
    #[schema(value_type = Vec<schemas::QueueName>, min_items = 1, max_items = 100, required = false)]
    pub queues: Vec<String>,
    /// At most so many tasks, and fewer where payloads are large; 0 to 1000. Default: 1.
    #[serde(default = "one", deserialize_with = "crate::task::whole")]
    #[schema(minimum = 0, maximum = 1000, required = false, default = 1)]
    pub max: u32,
    /// Seconds to wait for the first one. Default: 0; at most 300.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 300, required = false, default = 0)]
    pub wait: f64,
    /// Seconds that the leases last. Default: each task's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.1, maximum = 604_800)]
    pub lease: Option<f64>,
    /// Who asks, by convention `host:pid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::WorkerName>)]
    pub worker: Option<String>,
    /// What was done since the last claim.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "crate::task::objects"
    )]
    #[schema(max_items = 1000, required = false)]
    pub complete: Vec<Completion>,
}

impl Default for Claim {
    /// One task of queue `default`, without waiting.
    fn default() -> Self {
        Self {
            queues: default_queues(),
            max: one(),
            wait: 0.0,
            lease: None,
            worker: None,
            complete: Vec::new(),
        }
    }
}

fn default_queues() -> Vec<String> {
    vec!["default".to_owned()]
}

const fn one() -> u32 {
    1
}

/// A task that was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// Which task.
    #[schema(value_type = schemas::TaskId)]
    pub id: String,
    /// Its lease's token.
    #[schema(value_type = schemas::Token)]
    pub token: String,
    /// Any JSON value; kept where retention is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Payload>,
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClaimAnswer {
    /// The tasks, in order.
    pub tasks: Vec<ClaimedTask>,
    /// For each completion of the request, in its order.
    pub completed: Vec<CompletionOutcome>,
}

/// A task under a lease.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ClaimedTask {
    /// The task.
    #[serde(flatten)]
    pub task: Task,
    /// Which attempt this is; 1 is the first.
    #[schema(minimum = 1)]
    pub attempt: u32,
    /// What ends or extends the lease.
    #[schema(value_type = schemas::Token)]
    pub token: String,
}

impl<'de> Deserialize<'de> for ClaimedTask {
    /// Reads the object twice: what serde flattens goes through a buffer that can't hold a payload's JSON text as it is.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Own {
            attempt: u32,
            token: String,
        }
        let text = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        let task = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        let own: Own = serde_json::from_str(text.get()).map_err(serde::de::Error::custom)?;
        Ok(Self {
            task,
            attempt: own.attempt,
            token: own.token,
        })
    }
}

/// What became of one completion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CompletionOutcome {
    /// Which task.
    #[schema(value_type = schemas::TaskId)]
    pub id: String,
    /// Why it was refused; absent when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// `POST /api/v1/tasks/{id}/complete`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// The lease's token.
    #[schema(value_type = schemas::Token)]
    pub token: String,
    /// Any JSON value; kept where retention is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Payload>,
}

/// `POST /api/v1/tasks/{id}/fail`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// The lease's token.
    #[schema(value_type = schemas::Token)]
    pub token: String,
    /// Why; longer than 4 KiB is cut. Default: a text that says that no reason was given.
    #[serde(default)]
    #[schema(required = false)]
    pub error: String,
    /// Seconds until the next attempt. Default: the task's backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 250_000_000_000_i64)]
    pub retry_in: Option<f64>,
    /// No more attempts.
    #[serde(default)]
    #[schema(required = false)]
    pub dead: bool,
}

/// `POST /api/v1/tasks/{id}/release`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// The lease's token.
    #[schema(value_type = schemas::Token)]
    pub token: String,
}

/// `POST /api/v1/tasks/{id}/extend`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    /// The lease's token.
    #[schema(value_type = schemas::Token)]
    pub token: String,
    /// Seconds from now. Default: the task's own lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.1, maximum = 604_800)]
    pub lease: Option<f64>,
}

/// The answer to an extension.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Extended {
    /// Which task.
    #[schema(value_type = schemas::TaskId)]
    pub id: String,
    /// When the lease ends now, in Unix seconds.
    pub lease_expires: f64,
}

/// `PATCH /api/v1/tasks/{id}`: what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// The queue to which it moves. Of a dead task this alone can be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::QueueName>)]
    pub queue: Option<String>,
    /// The new priority.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::task::whole_or_null"
    )]
    pub priority: Option<i32>,
    /// The new exectime, in Unix seconds.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::task::whole_or_null"
    )]
    #[schema(minimum = -62_135_596_800_i64, maximum = 253_402_300_799_i64)]
    pub exectime: Option<i64>,
    /// Not before so many seconds from now; instead of `exectime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 250_000_000_000_i64)]
    pub delay: Option<f64>,
}

/// A queue in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// Its name.
    #[schema(value_type = schemas::QueueName)]
    pub queue: String,
    /// Due tasks that wait for a worker.
    pub ready: u64,
    /// Tasks whose exectime is in the future.
    pub scheduled: u64,
    /// Tasks that workers hold.
    pub leased: u64,
    /// Tasks that are out of attempts.
    pub dead: u64,
    /// Whether it hands out nothing.
    pub paused: bool,
    /// Whether it takes no new tasks.
    pub draining: bool,
    /// Seconds that the longest waiting ready task has been due; absent when none is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_due_age: Option<f64>,
    /// What happened since the daemon started.
    pub totals: Totals,
    /// Tasks submitted a second, over the last minute.
    pub submitted_per_second: f64,
    /// Tasks completed a second, over the last minute.
    pub completed_per_second: f64,
    /// Seconds since a claim last asked for its tasks; since the daemon's start where none has.
    #[serde(default)]
    pub unasked_seconds: f64,
    /// Tasks that died in the last hour.
    #[serde(default)]
    pub died_last_hour: u64,
}

/// Counts since the daemon started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Tasks taken.
    pub submitted: u64,
    /// Leases given.
    pub claimed: u64,
    /// Tasks completed.
    pub completed: u64,
    /// Failed attempts.
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

/// `GET /api/v1/queues`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Queues {
    /// By name.
    pub queues: Vec<Queue>,
}

/// A worker, as its claims show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// What it calls itself.
    #[schema(value_type = schemas::WorkerName)]
    pub worker: String,
    /// Ids of the tasks that it holds.
    #[schema(value_type = Vec<schemas::TaskId>)]
    pub holds: Vec<String>,
    /// Whether a claim of its waits now.
    pub waiting: bool,
    /// When it last asked for anything, in Unix seconds.
    pub last_seen: f64,
    /// Leases it got.
    pub claimed: u64,
    /// Tasks it completed.
    pub completed: u64,
    /// Attempts it failed.
    pub failed: u64,
}

/// `GET /api/v1/workers`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Workers {
    /// By name.
    pub workers: Vec<Worker>,
}

/// An error: RFC 9457, `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable name for this kind of error: `/problems/NAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong in this case.
    pub detail: String,
    /// The field that is wrong, as the caller wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The line of what is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column of what is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// How many tasks of this request were taken before the error (an `application/x-ndjson` stream).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_task_keeps_its_payload_byte_for_byte() {
        let text = r#"{"tasks":[{"id":"a","queue":"q","state":"leased","payload":{"b": 1.0,  "a":1e400},"priority":1,"exectime":0,"attempts":2,"max_attempts":5,"attempt":2,"token":"t"}],"completed":[]}"#;
        let answer: ClaimAnswer = serde_json::from_str(text).unwrap();
        let task = &answer.tasks[0];
        assert_eq!(task.task.payload.as_json(), r#"{"b": 1.0,  "a":1e400}"#);
        assert_eq!((task.attempt, task.token.as_str()), (2, "t"));
        assert_eq!(serde_json::to_string(&answer).unwrap(), text);
    }
}
