//! The words of `GET /api/v1/history` and `GET /api/v1/queues/{queue}/history`: what happened lately, for charts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What happened lately: of all queues together, or of one. The arrays have one place for each slot of time, oldest first;
/// the last slot is that of now, of which only `elapsed` seconds have passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The queue; absent: all queues together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// `minute`, `hour` or `day`.
    pub span: String,
    /// When the first slot begins, in Unix seconds.
    pub start: f64,
    /// Seconds in a slot.
    pub step: f64,
    /// Seconds of the last slot that have passed.
    pub elapsed: f64,
    /// Tasks taken.
    pub submitted: Vec<u64>,
    /// Tasks completed.
    pub completed: Vec<u64>,
    /// Attempts that failed, expired leases included.
    pub failed: Vec<u64>,
    /// Tasks that ran out of attempts.
    pub dead: Vec<u64>,
    /// How long the tasks handed out had been due. Absent for one queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Latency>,
    /// How long the tasks completed had been held. Absent for one queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Latency>,
}

/// Lengths of time in seconds, at most an eighth off; `null` for a slot in which there was none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Latency {
    /// Half of them were at most so long.
    pub p50: Vec<Option<f64>>,
    /// 99 of 100 were at most so long.
    pub p99: Vec<Option<f64>>,
}
