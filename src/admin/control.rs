//! [`Control`]: the process, as the admin API sees it.
//!
//! Knows what can be asked of the process, not how it is done.

use axum::extract::{Request, State};

use super::Shared;
use crate::{
    api,
    backend::Backend,
    http::{About, Answer, Problem, json, nothing_to_tell},
};

/// The daemon's process and configuration, as far as the admin API shows and changes them.
pub trait Control: About {
    /// Logs from now on as `directives` say; the error says what is wrong with them.
    fn set_log_level(&self, directives: &str) -> Result<(), String>;
    /// Reads the configuration again; the error says why the old one stays. Blocks its thread: users are looked up.
    fn reload(&self) -> Result<(), String>;
    /// Begins to stop. Returns at once.
    fn shutdown(&self);
}

/// Read the configuration again.
#[utoipa::path(
    post, path = "/reload", tag = "admin", operation_id = "reload",
    responses((status = 200, description = "What can change while the daemon runs has changed", body = api::Done))
)]
pub(super) async fn reload<B: Backend, C: Control>(State(admin): Shared<B, C>) -> Answer {
    let reload = tokio::task::spawn_blocking(move || admin.control.reload());
    match reload.await {
        Ok(done) => done.map_err(|reason| Problem::invalid("config", reason))?,
        Err(ended) => return Err(Problem::of_defect(&ended)),
    }
    Ok(nothing_to_tell())
}

/// Log more or less, until the next start or reload.
#[utoipa::path(
    post, path = "/log-level", tag = "admin", operation_id = "log_level",
    request_body = api::LogLevel,
    responses((status = 200, description = "It is so", body = api::Done))
)]
pub(super) async fn log_level<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let wanted: api::LogLevel = json(request, &admin.http).await?;
    admin
        .control
        .set_log_level(&wanted.level)
        .map_err(|reason| Problem::invalid("level", reason))?;
    Ok(nothing_to_tell())
}

/// Stop the daemon. Answered at once, before it has stopped.
#[utoipa::path(
    post, path = "/shutdown", tag = "admin", operation_id = "shutdown",
    responses((status = 200, description = "It begins to stop", body = api::Done))
)]
pub(super) async fn shutdown<B: Backend, C: Control>(State(admin): Shared<B, C>) -> Answer {
    admin.control.shutdown();
    Ok(nothing_to_tell())
}
