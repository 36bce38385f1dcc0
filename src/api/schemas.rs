//! What values look like, for the API's description: schemas of names, ids and words.
//!
//! Never values: what is taken is decided by the types of `task`.

use serde::Serialize;
use utoipa::ToSchema;

/// The name of a queue.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "default",
    pattern = "^[a-z0-9][a-z0-9._-]{0,63}$",
    max_length = 64
)]
pub struct QueueName(String);

/// Version, trace, parent span and flags, as W3C Trace Context writes them.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    pattern = "^00-[0-9a-f]{31}[1-9a-f]-[0-9a-f]{15}[1-9a-f]-[0-9a-f]{2}$"
)]
pub struct TraceParent(String);

/// A list of at most 32 `KEY=VALUE`, separated by commas.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "congo=t61rcWkgMzE",
    pattern = "^[a-z][a-z0-9_-]{0,63}=[0-9A-Za-z]{1,128}$",
    max_length = 512
)]
pub struct TraceState(String);

/// The state of a task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Due, and next in its turn.
    Ready,
    /// Its exectime is in the future.
    Scheduled,
    /// Handed out under a lease.
    Leased,
    /// Out of attempts.
    Dead,
}

/// How far back a history goes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Span {
    /// By seconds.
    Minute,
    /// By minutes.
    Hour,
    /// By quarters of an hour.
    Day,
}

/// The state of tasks that can be purged.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Purgeable {
    /// Out of attempts.
    Dead,
    /// Due, and next in its turn.
    Ready,
    /// Its exectime is in the future.
    Scheduled,
}

/// One event as it stands in the stream (`text/event-stream`).
#[derive(Serialize, ToSchema)]
pub struct SentEvent {
    /// The place after the event.
    #[schema(value_type = EventId)]
    pub id: String,
    /// Its kind, or `reset`.
    #[schema(example = "claimed")]
    pub event: String,
    /// An Event as JSON; a Reset for `reset`.
    #[schema(content_media_type = "application/json")]
    pub data: String,
    /// How many milliseconds to wait before coming back.
    #[schema(required = false)]
    pub retry: u32,
}

/// What happened to a task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HappeningKind {
    /// It was taken.
    Submitted,
    /// It was handed out.
    Claimed,
    /// An attempt failed, and there will be another.
    Failed,
    /// Its lease came to its end, and there will be another attempt.
    Expired,
    /// Its worker gave it back; the attempt does not count.
    Released,
    /// Its last attempt failed.
    Dead,
    /// It was given a new place in the order.
    Rescheduled,
    /// It was dead and lives again.
    Retried,
    /// It was moved to another queue.
    Moved,
}

/// What happened.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
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

/// The id of an event.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "5f3a9c01-42",
    pattern = "^[0-9a-f]{8}-[0-9]{1,19}$",
    max_length = 28
)]
pub struct EventId(String);

/// The UUID of a task, hyphenated. Written in lower case, taken in either.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "0198c0de-7c1e-7000-8000-000000000001",
    format = Uuid,
    pattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
)]
pub struct TaskId(String);

/// The token of a lease: new for each claim, and a secret.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "9f86d081884c7d659a2feaa0c55ad015",
    pattern = "^[0-9a-fA-F]{32}$"
)]
pub struct Token(String);

/// What a worker calls itself, by convention `host:pid`: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "host:4711",
    min_length = 1,
    max_length = 128,
    pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
)]
pub struct WorkerName(String);

/// At most one unfinished task per key and queue: 1 to 256 bytes of UTF-8 without control characters.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "invoice-2026-11",
    min_length = 1,
    max_length = 256,
    pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
)]
pub struct UniqueKey(String);

/// A place in a list: the `next` of the page before. The pages are not of one moment: a task whose state changes between two of them may
/// be on none, or on both. All tasks as of one moment are in an export.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "ready,100,0,0198c0de-7c1e-7000-8000-000000000001",
    pattern = "^(ready|scheduled|leased|dead),-?[0-9]{1,10},-?[0-9]{1,12},[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
)]
pub struct Cursor(String);

/// The beginning of a task's id.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "0198c0de-7c1e",
    pattern = "^([0-9a-fA-F]{1,8}|[0-9a-fA-F]{8}-([0-9a-fA-F]{0,4}|[0-9a-fA-F]{4}-([0-9a-fA-F]{0,4}|[0-9a-fA-F]{4}-([0-9a-fA-F]{0,4}|[0-9a-fA-F]{4}-[0-9a-fA-F]{0,12}))))$",
    min_length = 1,
    max_length = 36
)]
pub struct IdPrefix(String);
