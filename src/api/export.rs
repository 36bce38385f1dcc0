//! The lines of an export: what `GET /api/v1/export` writes and `POST /api/v1/import` reads.
//!
//! The first line is an [`ExportBegin`], then comes an [`ExportTask`] for each task, and an [`ExportEnd`] last. A file without the
//! last is cut.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// The version of the format.
pub const FORMAT: u32 = 1;
/// Stands for all queues among those that are paused or draining.
pub const ALL_QUEUES: &str = "*";

/// The first line: `{"export": {...}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportBegin {
    /// What is exported.
    pub export: ExportHead,
}

/// What an export shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExportHead {
    /// The version of the format: 1. Another one is refused.
    pub format: u32,
    /// The version of the daemon that wrote it.
    #[serde(default)]
    pub version: String,
    /// The moment that it shows, in Unix seconds.
    #[serde(default)]
    pub at: f64,
    /// How many tasks there were.
    #[serde(default)]
    pub tasks: u64,
    /// Queues that handed out nothing; `*` stands for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paused: Vec<String>,
    /// Queues that took nothing new; `*` stands for all. An import leaves them as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<String>,
}

/// A task's line: what its submitter asked for, as `POST /api/v1/tasks` takes it, and what has become of it since.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct ExportTask {
    /// The task object, with its id.
    pub task: super::NewTask,
    /// Attempts that counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub attempts: Option<u32>,
    /// Whether it is out of attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead: Option<bool>,
    /// Why the last attempt failed; at most 4096 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    pub last_error: Option<String>,
}

/// The last line: `{"end": {...}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportEnd {
    /// What it has.
    pub end: ExportCounts,
}

/// What an export has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportCounts {
    /// How many tasks.
    pub tasks: u64,
    /// How many are left out, since somebody removed their files while they were exported.
    #[serde(default)]
    pub left_out: u64,
}

/// The last line of an export that was given up: `{"failed": "..."}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportFailed {
    /// Why.
    pub failed: String,
}

/// Any of them, as an import reads it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportLine<'a> {
    #[serde(default, deserialize_with = "crate::task::object_or_null")]
    pub(crate) export: Option<ExportHead>,
    #[serde(borrow, default)]
    pub(crate) task: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) attempts: Option<u32>,
    #[serde(default)]
    pub(crate) dead: Option<bool>,
    #[serde(default)]
    pub(crate) last_error: Option<String>,
    #[serde(default, deserialize_with = "crate::task::object_or_null")]
    pub(crate) end: Option<ExportCounts>,
    #[serde(default)]
    pub(crate) failed: Option<String>,
}
