//! [`Bounds`]: how much the daemon holds in all before it refuses more.

use super::{
    ConfigError, limits,
    reader::{Reader, invalid},
    size,
};

/// How much is held in all. Each is answered by its own refusal, and nothing that was taken is given up for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Unfinished and dead tasks.
    pub max_tasks: u64,
    /// The same of one queue.
    pub max_queue_tasks: u64,
    /// Unique keys of unfinished tasks.
    pub max_unique_keys: u64,
    /// Bytes of payloads of unfinished and dead tasks; zero: any number.
    pub max_spool: u64,
    /// Claims that wait for a task.
    pub max_waiting: u64,
    /// Workers that are remembered.
    pub max_workers: u64,
    /// Listeners to events.
    pub max_listeners: u64,
    /// Bytes of memory above which no new task is taken; zero: as the cgroup has it.
    pub max_memory: u64,
    /// Bytes of submitted tasks that may wait for an answer.
    pub max_submitting: u64,
    /// Bytes of requests that are received and of answers that are not read yet.
    pub max_in_flight: u64,
}

impl Bounds {
    pub(super) fn read(from: &mut Reader, max_payload: u64) -> Result<Self, ConfigError> {
        let tasks = limits::MAX_TASKS_RANGE;
        Ok(Self {
            max_tasks: from.number("max_tasks", limits::MAX_TASKS, tasks.clone())?,
            max_queue_tasks: from.number(
                "max_queue_tasks",
                limits::MAX_QUEUE_TASKS,
                tasks.clone(),
            )?,
            max_unique_keys: from.number("max_unique_keys", limits::MAX_UNIQUE_KEYS, tasks)?,
            max_spool: spool(from, max_payload)?,
            max_waiting: from.number(
                "max_waiting",
                limits::MAX_WAITING,
                limits::MAX_WAITING_RANGE,
            )?,
            max_workers: from.number(
                "max_workers",
                limits::MAX_WORKERS,
                limits::MAX_WORKERS_RANGE,
            )?,
            max_listeners: from.number(
                "max_listeners",
                limits::MAX_LISTENERS,
                limits::MAX_LISTENERS_RANGE,
            )?,
            max_memory: from
                .size("max_memory", limits::MAX_MEMORY, limits::MAX_MEMORIES)?
                .0,
            max_submitting: from
                .size(
                    "max_submitting",
                    limits::MAX_SUBMITTING,
                    limits::MAX_SUBMITTINGS,
                )?
                .0,
            max_in_flight: from
                .size(
                    "max_in_flight",
                    limits::MAX_IN_FLIGHT,
                    limits::MAX_IN_FLIGHTS,
                )?
                .0,
        })
    }
}

/// One payload has to fit.
fn spool(from: &mut Reader, max_payload: u64) -> Result<u64, ConfigError> {
    let (max_spool, origin) = from.size("max_spool", limits::MAX_SPOOL, limits::MAX_SPOOLS)?;
    if max_spool > 0 && max_spool < max_payload {
        let reason = format!(
            "{} is less than max_payload, which is {}; 0B stands for any number",
            size::show(max_spool),
            size::show(max_payload)
        );
        return Err(invalid("max_spool", origin, reason));
    }
    Ok(max_spool)
}
