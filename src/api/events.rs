//! Events, as `GET /api/v1/events` sends them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schemas;
use crate::task::Payload;

/// One event of `GET /api/v1/events`: the `data` of a server-sent event whose `event` is its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number since the daemon started, rising by one as long as somebody listens.
    pub number: u64,
    /// When, in Unix seconds.
    pub at: f64,
    /// `submitted`, `claimed`, `completed`, `failed`, `released`, `extended`, `expired`, `dead`, `cancelled`,
    /// `rescheduled`, `moved`, `retried`, `paused`, `resumed`, `draining`, `undrained` or `rejected`.
    #[schema(value_type = schemas::EventKind)]
    pub kind: String,
    /// To which task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::TaskId>)]
    pub id: Option<String>,
    /// In which queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::QueueName>)]
    pub queue: Option<String>,
    /// In which queue it was before, when it was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::QueueName>)]
    pub moved_from: Option<String>,
    /// The state that the task is in now; absent when it is gone, or when this is not about a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::TaskState>)]
    pub state: Option<String>,
    /// By which worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::WorkerName>)]
    pub worker: Option<String>,
    /// Which attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The error, or the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the worker gave as the result of a completed task, if it gave one of at most 65536 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub result: Option<Payload>,
    /// How many bytes the result has, where it is too long to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_bytes: Option<u64>,
}

/// The data of the event `reset` of `GET /api/v1/events`: something was missed, so the state is to be read anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reset {
    /// `reset`.
    pub kind: String,
    /// `restarted`: the daemon was started again; `forgotten`: what was missed is not kept any more; `unknown`: what the
    /// client sent is not the id of an event.
    pub reason: String,
    /// The same in words.
    pub detail: String,
}
