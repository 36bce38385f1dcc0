//! The library behind `workqueue-worker`: takes tasks, runs a handler for each, reports.
//!
//! `concurrency` tasks run at once, each in a slot of a bounded set. A claim also carries what was completed since the last one, and
//! does not wait then; one that carries nothing is a long poll, and what completes while it waits is reported at once beside it. What
//! has no answer for about a third of a lease is sent again over another connection. A completed task
//! stays in memory until the daemon has taken its report, and the kept ones count as used slots, so a daemon that is gone
//! can't make them grow past `concurrency`.
//!
//! | module | what it is for |
//! |---|---|
//! | `args`, `config` | flags, environment and TOML file to one checked [`Config`] |
//! | `handler` | what is done with a task: `log`, `exec`, `http` |
//! | `attempt` | one task from its claim to its end: runs the handler, extends the lease, fails or releases |
//! | `claims` | the loop: claims, completions, stopping |
//! | `answers` | what an answer says of the completions that its request carried |
//! | `flight` | one request of the loop and the completions that it carries |
//! | `program` | the process: arguments, signals, service manager, exit code |
//!
//! This floor may not know the engine or any file of the daemon: it speaks HTTP through [`crate::client`].

mod answers;
mod args;
mod attempt;
mod backoff;
mod claims;
mod config;
mod flight;
mod handler;
mod program;

pub use args::Args;
pub use claims::Counts;
pub use config::{Config, ConfigError, ExecConfig, HandlerConfig, HttpConfig, LogConfig};
pub use program::main;

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, ClientError};

/// Why a worker could not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The handler can't be used: its file can't be written, its URL not be spoken to.
    #[error("{0}")]
    Handler(String),
    /// The daemon can't be used. Only at the start: later the worker waits for it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// With `until_empty`: the handler gave back as many tasks as can be kept, so what else is due was not looked for.
    #[error(
        "the handler gave {0} tasks back, which are as many as are kept: there may be more that are due"
    )]
    TooManyDeferred(usize),
}

/// Works until `stop` is cancelled, or with `until_empty` until nothing is due.
///
/// With `until_empty` a task that its handler gives back is kept, its lease held, and given back at the end: the daemon would hand it
/// out again at once, before the others. So each attempt is made once.
///
/// After `stop` nothing new is claimed and running handlers have `shutdown_grace` to finish; then, or as soon as `hurry` is
/// cancelled, they are stopped and their tasks released. Returns when all is reported, or a few seconds later when the daemon
/// can't be reached.
pub async fn run(
    config: Config,
    stop: CancellationToken,
    hurry: CancellationToken,
) -> Result<Counts, WorkerError> {
    run_with(config, stop, hurry, |_| {}).await
}

/// [`run`], which tells `observe` its counts, at most once a second.
pub async fn run_with(
    config: Config,
    stop: CancellationToken,
    hurry: CancellationToken,
    observe: impl FnMut(&Counts) + Send,
) -> Result<Counts, WorkerError> {
    let shared = shared(&config, stop)?;
    claims::Claims::new(shared, config, hurry, observe)
        .run()
        .await
}

/// What all attempts of a worker share, at its start.
fn shared(config: &Config, stop: CancellationToken) -> Result<Arc<attempt::Shared>, WorkerError> {
    let mut client = Client::over(config.url.clone(), &config.tls)?;
    if let Some(token) = &config.token {
        client = client.with_bearer(token);
    }
    let handler = handler::Handler::new(&config.handler)?;
    Ok(Arc::new(attempt::Shared {
        client,
        handler,
        lease: config.lease,
        stop,
        kill: CancellationToken::new(),
        let_go: CancellationToken::new(),
        turns: Semaphore::new(attempt::RELEASES),
    }))
}

#[cfg(test)]
mod tests;
