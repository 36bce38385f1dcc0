//! What the admin socket answers and takes, beside what TCP serves too.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Problem, Totals, Trouble, schemas};

/// `GET /status` on the admin socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// `ok`, `paused`, `draining`, `stopping`, `full` (the disk) or `failed`.
    pub status: String,
    /// Why writes have stopped, when they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it started, in Unix seconds.
    pub started: f64,
    /// Seconds since.
    pub uptime: f64,
    /// Its data directory.
    pub data_dir: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Its admin socket.
    pub admin_socket: Option<String>,
    /// `sync`, `interval` or `none`.
    pub durability: String,
    /// Due tasks that wait for a worker.
    pub ready: u64,
    /// Tasks whose exectime is in the future.
    pub scheduled: u64,
    /// Tasks that workers hold.
    pub leased: u64,
    /// Tasks that are out of attempts.
    pub dead: u64,
    /// How many queues there are.
    pub queues: u64,
    /// Whether all queues are paused.
    pub paused: bool,
    /// Whether nothing new is taken anywhere.
    pub draining: bool,
    /// Claims that wait.
    pub waiting_claims: u64,
    /// What happened since the daemon started.
    pub totals: Totals,
    /// Seconds that the oldest file change has been waiting.
    pub spool_lag_seconds: f64,
    /// Files that are to be written or removed.
    pub spool_pending: u64,
    /// File changes that failed and are tried again.
    pub spool_failing: u64,
    /// Dropped files that wait where they are for a limit, or for room.
    #[serde(default)]
    pub drops_waiting: u64,
    /// Tasks whose payloads are in a directory that is not there: they wait for it.
    #[serde(default)]
    pub left_behind: u64,
    /// Bytes in the journal since the last checkpoint.
    pub journal_bytes: u64,
    /// Syncs of the journal since the start.
    pub journal_syncs: u64,
    /// Records written to the journal since the start.
    pub journal_records: u64,
    /// Files rejected since the start.
    pub rejected: u64,
    /// Bytes free on the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free: Option<u64>,
    /// Bytes of the disk in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_size: Option<u64>,
    /// What is not well, the worst first.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
}

/// One lease of `GET /leases` on the admin socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// Which task.
    #[schema(value_type = schemas::TaskId)]
    pub id: String,
    /// In which queue.
    #[schema(value_type = schemas::QueueName)]
    pub queue: String,
    /// To whom.
    #[schema(value_type = Option<schemas::WorkerName>)]
    pub worker: Option<String>,
    /// `v1`, or `legacy` for the original's API.
    pub kind: String,
    /// Which attempt.
    pub attempt: u32,
    /// Since when, in Unix seconds.
    pub since: f64,
    /// Until when, in Unix seconds.
    pub expires: f64,
}

/// `GET /leases` on the admin socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Leases {
    /// In no promised order.
    pub leases: Vec<Lease>,
}

/// One file of `GET /rejected` on the admin socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RejectedFile {
    /// Its name, odd bytes escaped.
    pub name: String,
    /// Why it could not be taken in.
    pub reason: String,
    /// Its size in bytes; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was rejected, or last written where it still is where it was, in Unix seconds; absent
    /// where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<f64>,
    /// Whether it lies in `rejected/`; `false`: it was left where it is, because it is no regular file or can't be moved yet.
    pub moved: bool,
    /// How it begins, as far as that is text.
    #[serde(default)]
    pub beginning: String,
}

/// `GET /rejected` on the admin socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Rejected {
    /// Newest first.
    pub rejected: Vec<RejectedFile>,
}

/// `POST /rejected/retry` and `/rejected/discard` on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectedName {
    /// The file's name, as the list shows it.
    #[schema(min_length = 1)]
    pub name: String,
}

/// One setting of `GET /config` on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Setting {
    /// Its name in the file.
    pub key: String,
    /// Its value; secrets hidden.
    pub value: String,
    /// `default`, `flag --NAME`, `environment NAME` or `FILE:LINE`.
    pub source: String,
    /// What holds, where that is something else: the machine or `max_memory` leaves less, or the value leaves it to the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_effect: Option<String>,
}

impl Setting {
    /// Its value for people, with what holds.
    #[must_use]
    pub fn told(&self) -> String {
        match &self.in_effect {
            Some(holds) => format!("{} ({holds} in effect)", self.value),
            None => self.value.clone(),
        }
    }
}

/// `GET /config` on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Config {
    /// All settings, by key.
    pub settings: Vec<Setting>,
}

/// `POST /pause`, `/resume`, `/drain`, `/undrain`, `/retry-dead` on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueChoice {
    /// One queue; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::QueueName>)]
    pub queue: Option<String>,
}

/// `POST /purge` on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// One queue; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::QueueName>)]
    pub queue: Option<String>,
    /// `dead` (the default), `ready` or `scheduled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schemas::Purgeable>)]
    pub state: Option<String>,
}

/// What came of a retry of all dead tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetriedDead {
    /// How many are back.
    pub count: u64,
    /// How many were looked at and are still dead.
    #[serde(default)]
    pub left: u64,
    /// Why the first of those is, or why the rest was not looked at; absent where all are back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// How many tasks a purge has met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Count {
    /// How many.
    pub count: u64,
}

/// `POST /log-level` on the admin socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, or directives like `info,workqueue::engine=debug`.
    #[schema(min_length = 1, example = "info")]
    pub level: String,
}

/// An answer that has nothing to tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Done {
    /// `ok`.
    pub status: String,
}
