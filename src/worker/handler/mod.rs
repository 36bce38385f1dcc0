//! What is done with a task. A handler knows its task and nothing of leases, claims or reports.

mod cgroup;
mod entrance;
mod exec;
mod http;
mod log;
mod strays;

use std::{io, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{HandlerConfig, WorkerError, backoff::Backoff};
use crate::{api, task::Payload};

pub(super) use entrance::enter;

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

/// Why something was not done that was tried for a while.
enum Untried {
    /// It was stopped from outside.
    Stopped,
    /// This is how the last try failed.
    Failed(io::Error),
}

/// Tries something again and again, for at most `patience`, as long as `may_pass` says that its failure is no fault of the
/// task's: else what the machine lacks would use up the attempts of a whole queue as fast as they can be claimed.
async fn try_for<T, F: Future<Output = io::Result<T>>>(
    patience: Duration,
    stop: &CancellationToken,
    mut may_pass: impl FnMut(&io::Error) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Untried> {
    let until = Instant::now() + patience;
    let mut backoff = Backoff::default();
    loop {
        let error = match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let left = until.saturating_duration_since(Instant::now());
        if !may_pass(&error) || left.is_zero() {
            return Err(Untried::Failed(error));
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Err(Untried::Stopped),
            () = tokio::time::sleep(backoff.next().min(left)) => {}
        }
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
