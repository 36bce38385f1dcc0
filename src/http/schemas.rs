//! What values look like, for the API's description: schemas of names, ids and words.
//!
//! Never values: what is taken is decided by the types of `task`, and the tests hold the one against the other.

#![expect(dead_code, reason = "schemas, never values")]

use serde::Serialize;
use utoipa::ToSchema;

/// The name of a queue.
#[derive(Serialize, ToSchema)]
#[schema(
    example = "default",
    pattern = "^[a-z0-9][a-z0-9._-]{0,63}$",
    max_length = 64
)]
pub(crate) struct QueueName(String);

/// The state of a task.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TaskState {
    /// Due, and next in its turn.
    Ready,
    /// Its exectime is in the future.
    Scheduled,
    /// Handed out under a lease.
    Leased,
    /// Out of attempts.
    Dead,
}

/// What happened.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EventKind {
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
pub(crate) struct EventId(String);
