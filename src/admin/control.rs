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
    /// Reads the configuration again; the error says why the old one stays.
    fn reload(&self) -> Result<(), String>;
    /// Begins to stop. Returns at once.
    fn shutdown(&self);
}

/// `POST /reload`.
pub(super) async fn reload<B: Backend, C: Control>(State(admin): Shared<B, C>) -> Answer {
    admin
        .control
        .reload()
        .map_err(|reason| Problem::invalid("config", reason))?;
    Ok(nothing_to_tell())
}

/// `POST /log-level`.
pub(super) async fn log_level<B: Backend, C: Control>(
    State(admin): Shared<B, C>,
    request: Request,
) -> Answer {
    let wanted: api::LogLevel = json(request, &admin.http.limits).await?;
    admin
        .control
        .set_log_level(&wanted.level)
        .map_err(|reason| Problem::invalid("level", reason))?;
    Ok(nothing_to_tell())
}

/// `POST /shutdown`.
pub(super) async fn shutdown<B: Backend, C: Control>(State(admin): Shared<B, C>) -> Answer {
    admin.control.shutdown();
    Ok(nothing_to_tell())
}
