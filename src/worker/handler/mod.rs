//! What is done with a task. A handler knows its task and nothing of leases, claims or reports.

mod cgroup;
mod exec;
mod http;
mod log;
mod strays;

use tokio_util::sync::CancellationToken;

use super::{HandlerConfig, WorkerError};
use crate::{api, task::Payload};

pub(super) use cgroup::enter;

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    /// Done, perhaps with a result.
    Completed(Option<Payload>),
    /// To be given back; the attempt does not count.
    Released,
    /// Not done.
    Failed(Failure),
    /// It was stopped from outside.
    Stopped,
}

/// Why an attempt failed and what is to come of the task.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Failure {
    /// Why.
    pub(super) error: String,
    /// Seconds until the next attempt; `None`: the task's backoff.
    pub(super) retry_in: Option<f64>,
    /// No more attempts.
    pub(super) dead: bool,
}

impl Outcome {
    fn failed(error: impl Into<String>) -> Self {
        Self::Failed(Failure {
            error: error.into(),
            ..Failure::default()
        })
    }
}

/// What is done with a task.
#[derive(Debug)]
pub(super) enum Handler {
    Log(log::Log),
    Exec(exec::Exec),
    Http(Box<http::Http>),
}

impl Handler {
    pub(super) fn new(config: &HandlerConfig) -> Result<Self, WorkerError> {
        Ok(match config {
            HandlerConfig::Log(config) => Self::Log(log::Log::new(config)?),
            HandlerConfig::Exec(config) => Self::Exec(exec::Exec::new(config.clone())),
            HandlerConfig::Http(config) => Self::Http(Box::new(http::Http::new(config.clone())?)),
        })
    }

    /// Does `task`. When `stop` is cancelled, ends soon with [`Outcome::Stopped`], nothing left running.
    pub(super) async fn run(&self, task: &api::ClaimedTask, stop: &CancellationToken) -> Outcome {
        match self {
            Self::Log(log) => log.run(task, stop).await,
            Self::Exec(exec) => exec.run(task, stop).await,
            Self::Http(http) => http.run(task, stop).await,
        }
    }
}

#[cfg(test)]
mod tests;
