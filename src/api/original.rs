//! The API of the original: what its workers are told and say.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schemas;
use crate::task::Payload;

/// The answer to `GET /api/next`.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OriginalNext {
    /// `ok`.
    pub status: String,
    /// The task; null when none is due.
    pub task: Option<OriginalTask>,
}

/// A task as the original's workers know it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct OriginalTask {
    /// Any JSON value, as it was submitted.
    #[schema(value_type = serde_json::Value)]
    pub payload: Payload,
    /// A higher number is handed out first.
    pub priority: i32,
    /// Not handed out before this Unix second; 0: as soon as possible.
    #[schema(minimum = -62_135_596_800_i64, maximum = 253_402_300_799_i64)]
    pub exectime: i64,
    /// Its UUID.
    #[schema(value_type = schemas::TaskId)]
    pub id: String,
}

/// An error of the original's API: an RFC 9457 document but for its `status`, which is the original's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct OriginalProblem {
    /// `error`.
    pub status: OriginalStatus,
    /// A stable name for this kind of error: `/problems/NAME`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// What is wrong in this case.
    pub detail: String,
    /// The field that is wrong, as the caller wrote it.
    pub field: Option<String>,
    /// The line of what is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column of what is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

/// The word by which the original's workers know an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OriginalStatus {
    /// It was not done.
    Error,
}

/// What the original's worker sends to `POST /api/complete`; what else stands in it is not looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OriginalComplete {
    /// Which task.
    #[schema(value_type = schemas::TaskId)]
    pub id: String,
}
